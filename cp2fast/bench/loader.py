"""From photos on disk to composed pairs: cp2fast compared with others, and what limits it.

Every system runs as in a training: as a stream of batches, with its workers kept alive. The systems
take turns, so a drift of the machine affects all of them. On a machine that trains on a GPU,
everything that works on whole batches uses the GPU.
"""

from __future__ import annotations

import shutil
import tempfile
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset

from cp2fast.batch import RaggedBatch
from cp2fast.bench import ceilings
from cp2fast.bench.bottleneck import describe_loading, find_limit
from cp2fast.bench.loader_sources import IN_PROGRESS, sources
from cp2fast.bench.loader_task import SEED, Task, find_missing
from cp2fast.bench.peers import (
    dali_all,
    ffcv_kornia,
    lightly_train,
    original,
    spdl_v2,
    torchvision_v2,
)
from cp2fast.bench.report import Report, results_of
from cp2fast.bench.timing import Rate, Say, Stream, measure, silent, stream_of_pairs
from cp2fast.data.decoding.decode import BadImage
from cp2fast.data.image_sets.image_set import ImageSet
from cp2fast.data.sources.bad_images import BadImages
from cp2fast.data.sources.torch_source import START_METHOD, open_torch

_CEILING_IMAGES = 512
_WITH_PROCESSES = ("original", "torchvision", "lightly-train", "cp2fast-torch", "decode-torch")
"""They start first: forking is safest before there are many threads, and it breaks FFCV's."""
_PACKED = "decode packed"
"""The ceiling for a ``.beton`` with the photos in another size."""


def bench_loader(task: Task, rounds: int, seconds: float, say: Say = silent) -> Report:
    """Measure every installed system on the same photos; see ``measure`` for the arguments."""
    missing = find_missing(task)
    scratch = Path(tempfile.mkdtemp(prefix="cp2fast-bench-"))
    bad = BadImages(scratch, max_fraction=1)
    try:
        systems = _peers(task, missing) | sources(task, missing, bad)
        limits = _limits(task, bad)
        forking = {name: systems[name] for name in _WITH_PROCESSES if name in systems}
        rates = measure(forking | systems | limits, rounds, seconds, say)
    finally:
        shutil.rmtree(scratch)
    found = _ceilings(rates)
    decoders = _decoder_rates("decode", rates)
    measured = {name: rates[name] for name in systems if name not in missing}
    limited_by = _limited_by(systems, found)
    composing = {n: rate.median for n, rate in measured.items() if limited_by.get(n) == "pairs"}
    stages = {name: rate for name, rate in found.items() if name not in ("pairs", _PACKED)}
    return Report(
        "loader",
        {
            "images": len(task.images),
            "kind": task.images.kind,
            "mean_bytes": _mean_bytes(task.images),
            "size": task.size,
            "batch_size": task.batch_size,
            "workers": task.workers,
            "device": str(task.device),
            "rounds": rounds,
            "seconds": seconds,
            "seed": SEED,
        },
        results_of(measured, found, limited_by),
        ceilings=found,
        bottleneck=describe_loading(composing, stages),
        missing=missing,
        extra={
            "decoder_of_the_ceiling": max(decoders, key=decoders.__getitem__),
            "bad_images": bad.bad,
        },
    )


def _peers(task: Task, missing: dict[str, str]) -> dict[str, Stream]:
    images, size, workers, device = task.images, task.size, task.workers, task.device

    def numbers() -> Iterator[list[int]]:
        return (step.tolist() for step in task.plan(images))

    def loaded(dataset: Dataset[Any], collate: Callable[[Any], Any] | None = None) -> Any:
        return DataLoader(
            dataset,
            batch_sampler=numbers(),
            num_workers=workers,
            collate_fn=collate,
            multiprocessing_context=START_METHOD if workers else None,
        )

    peers = {}
    if "original" not in missing:
        pairs = loaded(original.pairs_of_files(images, size))
        peers["original"] = stream_of_pairs(pairs, ahead=2 * workers)
    if "torchvision" not in missing:
        pairs = loaded(torchvision_v2.Views(images, size), torchvision_v2.paste)
        peers["torchvision"] = stream_of_pairs(pairs, ahead=2 * workers)
    if "lightly-train" not in missing:
        batches = loaded(lightly_train.dataset(images, size))
        counts = (len(batch["views"][0]) for batch in batches)
        peers["lightly-train"] = Stream(counts, ahead=2 * workers)
    if "spdl" not in missing:
        pairs = spdl_v2.composed(images, numbers(), task.batch_size, size, workers)
        peers["spdl"] = stream_of_pairs(pairs, spdl_v2.BATCHES_AHEAD + 3)
    if "dali-all" not in missing:
        gpu = device.index or 0 if device.type == "cuda" else None
        composed = dali_all.composed(
            lambda number: np.frombuffer(images.read(number), np.uint8),
            *(numbers(), task.batch_size, size, workers, gpu),
        )
        peers["dali-all"] = stream_of_pairs(composed, IN_PROGRESS)
    if task.beton and "ffcv-kornia" not in missing:
        pairs = ffcv_kornia.composed(task.beton, task.batch_size, size, workers, device)
        peers["ffcv-kornia"] = stream_of_pairs(pairs, ffcv_kornia.BATCHES_AHEAD + 1)
    return {name: _until_it_fails(name, peer, missing) for name, peer in peers.items()}


def _until_it_fails(name: str, peer: Stream, missing: dict[str, str]) -> Stream:
    """The stream of a peer; where it fails, as at a damaged photo, it ends and is missing."""

    def samples() -> Iterator[int]:
        try:
            yield from peer.samples
        except Exception as error:  # The others are still measured.
            reason = traceback.format_exception_only(error)[-1].strip()
            missing[name] = f"it failed: {reason.splitlines()[-1]}"

    return Stream(samples(), peer.ahead)


def _limited_by(systems: Iterable[str], found: Mapping[str, float]) -> dict[str, str]:
    """The ceiling for each system; photos packed at a smaller size have another one."""
    limited_by = {}
    for name in systems:
        packed = name.endswith("-ffcv") and _PACKED in found
        if name.startswith(("decode-dali-gpu", "decode-both")):
            continue  # its ceiling is for the CPU cores only
        if name.startswith("decode-"):
            limited_by[name] = _PACKED if packed else "decode"
        elif name.startswith("cp2fast-cached"):
            limited_by[name] = "augment"
        elif name.startswith("cp2fast-") and not packed:
            limited_by[name] = "pairs"
    return limited_by


def few_batches(task: Task, bad: BadImages) -> list[RaggedBatch]:
    """Batches as the sources of cp2fast decode them, for the ceilings that begin with pixels."""
    plan = task.plan(task.images, 4)
    return list(open_torch(task.images, plan, task.decoding, bad, workers=0))


def _limits(task: Task, bad: BadImages) -> dict[str, Stream]:
    """Each stage alone; decoding by each library that can do it."""
    images, packed = task.images, task.beton
    few = few_batches(task, bad)
    limits = _decoders("decode", images, task)
    if packed is not None and packed is not images:
        limits |= _decoders(_PACKED, packed, task)
    if task.device.type == "cuda":
        limits["transfer"] = ceilings.transfer(few, task.device)
    return limits | {
        "augment": ceilings.augmentation(few, task.size, task.device),
        "read": ceilings.reading(images, task.workers),
    }


def _decoders(stage: str, images: ImageSet, task: Task) -> dict[str, Stream]:
    streams = ceilings.decoders(images, _CEILING_IMAGES, task.workers, task.decoding)
    return {f"{stage} by {library}": stream for library, stream in streams.items()}


def _decoder_rates(stage: str, rates: Mapping[str, Rate]) -> dict[str, float]:
    """Images per second by library; empty if this stage was not measured."""
    by = f"{stage} by "
    return {n.removeprefix(by): rate.median for n, rate in rates.items() if n.startswith(by)}


def _ceilings(rates: Mapping[str, Rate]) -> dict[str, float]:
    """The ceilings by stage; ``pairs`` is for all stages except reading together."""
    packed = _decoder_rates(_PACKED, rates)
    found = {_PACKED: max(packed.values())} if packed else {}
    making = {"decode": max(_decoder_rates("decode", rates).values())}
    making |= {stage: rates[stage].median for stage in ("transfer", "augment") if stage in rates}
    return found | {"read": rates["read"].median} | making | {"pairs": find_limit(making).rate}


def _mean_bytes(images: ImageSet) -> int:
    sizes = []
    for number in range(min(_CEILING_IMAGES, len(images))):
        with suppress(BadImage):
            sizes.append(len(images.read(number)))
    return round(mean(sizes))
