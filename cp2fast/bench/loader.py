"""From photos on disk to composed pairs: cp2fast compared with others, and what limits it.

Every system runs as in a training: as a stream of batches, with its workers kept alive. The systems
take turns, so a drift of the machine affects all of them. On a machine that trains on a GPU,
everything that works on whole batches uses the GPU.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from cp2fast.bench import ceilings
from cp2fast.bench.bottleneck import describe_loading, find_limit
from cp2fast.bench.loader_sources import IN_THE_MAKING, sources
from cp2fast.bench.loader_task import SEED, Task, find_missing
from cp2fast.bench.peers import (
    dali_all,
    ffcv_kornia,
    lightly_train,
    original,
    spdl_v2,
    torchvision_v2,
)
from cp2fast.bench.report import Report, build_report
from cp2fast.bench.timing import Rate, Say, Stream, finish, measure_streams, silent
from cp2fast.config import DataSettings
from cp2fast.data.image_sets.image_set import ImageSet
from cp2fast.data.sources.bad_images import BadImages
from cp2fast.data.sources.loading import DecodeSettings
from cp2fast.data.sources.torch_source import START_METHOD, open_torch

_CEILING_IMAGES = 512
_WITH_PROCESSES = ("original", "torchvision", "lightly-train", "cp2fast-torch", "decode-torch")
"""They run first: forking is safest before there are many threads, and FFCV's break on it."""
_CPU = torch.device("cpu")
_PACKED = "decode packed"
"""The ceiling for a ``.beton`` with the photos in another size."""


def bench_loader(
    images: ImageSet,
    beton: ImageSet | None = None,
    device: torch.device = _CPU,
    *,
    size: int,
    batch_size: int,
    workers: int,
    rounds: int,
    seconds: float,
    say: Say = silent,
    data: DataSettings | None = None,
) -> Report:
    """Measure every installed system on the same photos.

    Args:
        images: a folder or shards, mostly of JPEG.
        beton: the same photos packed, for ``cp2fast-ffcv`` and ``ffcv-kornia``; None skips these.
        device: device of the training; a GPU also composes the batches, after their transfer.
        size: side of the composed images.
        batch_size: samples per batch.
        workers: threads or processes of each loader; for a fair comparison, the number of cores.
        rounds: measured rounds.
        seconds: minimum time for each system in each round.
        say: called with a line after every round.
        data: range, bands and limits of the images; by default those of ``DataSettings``.

    Raises:
        UserError: fewer images than a batch, or too many bad images.
    """
    data = data or DataSettings()
    task = Task(images, beton, device, size, batch_size, workers, data)
    missing = find_missing(task)
    scratch = Path(tempfile.mkdtemp(prefix="cp2fast-bench-"))
    bad = BadImages(scratch, max_fraction=1)
    try:
        systems = _peers(task, missing) | sources(task, missing, bad)
        limits = _limits(task, bad)
        forking = {name: systems[name] for name in _WITH_PROCESSES if name in systems}
        rates = measure_streams(forking | systems | limits, rounds, seconds, say)
    finally:
        shutil.rmtree(scratch)
    found = _ceilings(rates, limits)
    measured = {name: rates[name] for name in systems}
    limited_by = _limited_by(systems, found)
    composing = {n: rate.median for n, rate in measured.items() if limited_by.get(n) == "pairs"}
    stages = {name: rate for name, rate in found.items() if name not in ("pairs", _PACKED)}
    return build_report(
        "loader",
        {
            "images": len(images),
            "kind": images.kind,
            "mean_bytes": _mean_bytes(images),
            "size": size,
            "batch_size": batch_size,
            "workers": workers,
            "device": str(device),
            "rounds": rounds,
            "seconds": seconds,
            "seed": SEED,
        },
        measured,
        ceilings=found,
        limited_by=limited_by,
        bottleneck=describe_loading(composing, stages),
        missing=missing,
        extra={
            "decoder_of_the_ceiling": _fastest_decoder(rates, limits),
            "bad_images": bad.bad,
        },
    )


def _peers(task: Task, missing: dict[str, str]) -> dict[str, Stream]:
    images, size, workers, device = task.images, task.size, task.workers, task.device

    def numbers() -> Iterator[list[int]]:
        return (step.tolist() for step in task.plan(images))

    def by_workers(dataset: Any, collate: Callable[[Any], Any] | None = None) -> Stream:
        loader = DataLoader(
            dataset,
            batch_sampler=numbers(),
            num_workers=workers,
            collate_fn=collate,
            multiprocessing_context=START_METHOD if workers else None,
        )
        return Stream((len(query) for query, *_ in loader), ahead=2 * workers)

    def by_threads(composed: Iterator[tuple[Tensor, ...]], ahead: int) -> Stream:
        def samples() -> Iterator[int]:
            for query, *_ in composed:
                finish(device)
                yield len(query)

        return Stream(samples(), ahead)

    peers = {}
    if "original" not in missing:
        peers["original"] = by_workers(original.pairs_of_files(images, size))
    if "torchvision" not in missing:
        views = torchvision_v2.Views(images, size)
        peers["torchvision"] = by_workers(views, torchvision_v2.paste)
    if "lightly-train" not in missing:
        theirs = lightly_train.loader(images, numbers(), size, workers)
        counts = (len(batch["views"][0]) for batch in theirs)
        peers["lightly-train"] = Stream(counts, ahead=2 * workers)
    if "spdl" not in missing:
        pairs = spdl_v2.composed(images, numbers(), task.batch_size, size, workers)
        peers["spdl"] = by_threads(pairs, spdl_v2.BATCHES_AHEAD + 3)
    if "dali-all" not in missing:
        gpu = device.index or 0 if device.type == "cuda" else None
        composed = dali_all.composed(images, numbers(), task.batch_size, size, workers, gpu)
        peers["dali-all"] = by_threads(composed, IN_THE_MAKING)
    if task.beton and "ffcv-kornia" not in missing:
        pairs = ffcv_kornia.composed(task.beton, task.batch_size, size, workers, device)
        peers["ffcv-kornia"] = by_threads(pairs, ffcv_kornia.BATCHES_AHEAD + 1)
    return peers


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


def _limits(task: Task, bad: BadImages) -> dict[str, Stream]:
    images, packed = task.images, task.beton
    settings = DecodeSettings(SEED, task.data.max_pixels, levels=task.levels)
    few = list(open_torch(images, task.plan(images, 4), settings, bad, workers=0))
    limits = {f"ceiling decode {name}": stream for name, stream in _decoders(images, task).items()}
    if packed is not None and packed is not images:
        of_packed = _decoders(packed, task)
        limits |= {f"ceiling {_PACKED} {name}": stream for name, stream in of_packed.items()}
    if task.device.type == "cuda":
        limits["ceiling transfer"] = ceilings.transfer(few, task.device)
    return limits | {
        "ceiling augment": ceilings.augmentation(few, task.size, task.device, task.dtype),
        "ceiling read": ceilings.reading(images, task.workers),
    }


def _decoders(images: ImageSet, task: Task) -> dict[str, Stream]:
    return ceilings.decoders(images, _CEILING_IMAGES, task.workers, task.levels)


def _ceilings(rates: dict[str, Rate], limits: dict[str, Stream]) -> dict[str, float]:
    """The ceilings by stage; ``pairs`` is for all stages except reading together."""
    packed = [rates[name].median for name in limits if name.startswith(f"ceiling {_PACKED} ")]
    making = {"decode": rates[f"ceiling decode {_fastest_decoder(rates, limits)}"].median} | {
        stage: rates[f"ceiling {stage}"].median
        for stage in ("transfer", "augment")
        if f"ceiling {stage}" in limits
    }
    return (
        ({_PACKED: max(packed)} if packed else {})
        | {"read": rates["ceiling read"].median}
        | making
        | {"pairs": find_limit(making).rate}
    )


def _fastest_decoder(rates: dict[str, Rate], limits: dict[str, Stream]) -> str:
    decoders = [
        name
        for name in limits
        if name.startswith("ceiling decode ") and not name.startswith(f"ceiling {_PACKED} ")
    ]
    fastest = max(decoders, key=lambda name: rates[name].median)
    return fastest.removeprefix("ceiling decode ")


def _mean_bytes(images: ImageSet) -> int:
    some: Sequence[int] = range(min(_CEILING_IMAGES, len(images)))
    return round(sum(len(images.read(number)) for number in some) / len(some))
