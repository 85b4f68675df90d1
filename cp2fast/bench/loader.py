"""Photos on disk to composed pairs, beside other ways to do the same, and what limits it.

Every system runs as it would in a training: a stream of batches, with its workers kept alive.
They take turns, so a machine that drifts hits all of them.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader

from cp2fast.batch import RaggedBatch
from cp2fast.bench import ceilings
from cp2fast.bench.peers import dali_all, original, torchvision_v2
from cp2fast.bench.report import Report, build_report
from cp2fast.bench.timing import Rate, Stream, measure_streams
from cp2fast.copypaste.draw import draw
from cp2fast.copypaste.op import copy_paste
from cp2fast.data.bad_images import BadImages
from cp2fast.data.dali_source import open_dali
from cp2fast.data.ffcv_source import open_ffcv
from cp2fast.data.images import ImageSet
from cp2fast.data.order import plan, steps_per_epoch
from cp2fast.data.source import available_sources
from cp2fast.data.torch_source import open_torch
from cp2fast.train.prefetch import prefetch

_WITHOUT_END = 10**9
_CEILING_IMAGES = 512
_COMPOSED_AHEAD = 2
_IN_THE_MAKING = 6
"""Batches in DALI and before it, or in FFCV's place; DataLoader's are two a worker."""
_SEED = 0
_PACKED = "decode packed"
"""The ceiling of a ``.beton`` that holds the photos at another size."""


def bench_loader(
    images: ImageSet,
    beton: ImageSet | None = None,
    *,
    size: int,
    batch_size: int,
    workers: int,
    rounds: int,
    seconds: float,
) -> Report:
    """Measure every system that is installed on the same photos.

    Args:
        images: a folder or shards, of JPEG for the most part.
        beton: the same photos packed, for ``cp2fast-ffcv``; None leaves that out.
        size: side of the composed images.
        batch_size: samples a batch.
        workers: threads or processes of each loader; the cores, to compare fairly.
        rounds: rounds counted.
        seconds: each system is measured for at least this long in each round.

    Raises:
        UserError: fewer images than a batch, or too many of them bad.
    """
    steps_per_epoch(len(images), batch_size)
    missing = _missing(beton)
    scratch = Path(tempfile.mkdtemp(prefix="cp2fast-bench-"))
    bad = BadImages(scratch, max_fraction=1)
    try:
        systems = _peers(images, size, batch_size, workers, missing) | _sources(
            images, beton, size, batch_size, workers, missing, bad
        )
        limits = _limits(images, beton, size, batch_size, workers, bad)
        rates = measure_streams(systems | limits, rounds, seconds)
    finally:
        shutil.rmtree(scratch)
    found = _ceilings(rates, limits)
    measured = {name: rates[name] for name in systems}
    limited_by = _limited_by(systems, found)
    limited = {name: rate for name, rate in measured.items() if limited_by.get(name) == "pairs"}
    return build_report(
        "loader",
        {
            "images": len(images),
            "kind": images.kind,
            "mean_bytes": _mean_bytes(images),
            "size": size,
            "batch_size": batch_size,
            "workers": workers,
            "rounds": rounds,
            "seconds": seconds,
        },
        measured,
        ceilings=found,
        limited_by=limited_by,
        bottleneck=bottleneck(limited, found),
        missing=missing,
        extra={
            "decoder_of_the_ceiling": _fastest_decoder(rates, limits),
            "bad_images": bad.bad,
        },
    )


def bottleneck(rates: dict[str, Rate], found: dict[str, float]) -> str:
    """The stage that limits cp2fast's fastest source, how near it comes, and what to change."""
    composing = {name: rate.median for name, rate in rates.items() if name.startswith("cp2fast-")}
    best = max(composing, key=composing.__getitem__)
    reached = f"{best} reaches {composing[best] / found['pairs']:.0%} of what the cores allow"
    if found["read"] < found["pairs"]:
        return (
            f"reading limits: {found['read']:.0f} images/s from this disk; {reached}; keep the "
            "images on a faster disk, or make them smaller: cp2fast pack --max-side"
        )
    share = found["pairs"] / found["decode"]
    if share >= 0.5:
        return (
            f"decoding limits: it takes {share:.0%} of a sample's time, {found['decode']:.0f} "
            f"images/s alone; {reached}; raise data.workers where there are more cores, make the "
            "images smaller with cp2fast pack --max-side, or set data.decode=gpu"
        )
    return (
        f"augmentation limits: it takes {1 - share:.0%} of a sample's time, "
        f"{found['augment']:.0f} pairs/s alone; {reached}; compose on a GPU with train.device=cuda "
        "or take smaller images with model.size"
    )


def _missing(beton: ImageSet | None) -> dict[str, str]:
    problems = available_sources()
    missing: dict[str, str] = {}
    if problems["dali"]:
        missing |= dict.fromkeys(("dali-all", "cp2fast-dali", "decode-dali"), problems["dali"])
    no_ffcv = problems["ffcv"] or (None if beton else "no .beton: make one with cp2fast pack")
    if no_ffcv:
        missing |= dict.fromkeys(("cp2fast-ffcv", "decode-ffcv"), no_ffcv)
    return missing


def _peers(
    images: ImageSet, size: int, batch_size: int, workers: int, missing: dict[str, str]
) -> dict[str, Stream]:
    def numbers() -> Iterator[list[int]]:
        return (step.tolist() for step in _plan(images, batch_size))

    def stream(dataset: Any, collate: Callable[[Any], Any] | None = None) -> Stream:
        loader = DataLoader(
            dataset, batch_sampler=numbers(), num_workers=workers, collate_fn=collate
        )
        return Stream((len(query) for query, *_ in loader), ahead=2 * workers)

    # Those with processes of their own first: forking is safest before there are many threads.
    peers = {
        "original": stream(original.pairs_of_files(images, size)),
        "torchvision": stream(torchvision_v2.Views(images, size), torchvision_v2.paste),
    }
    if "dali-all" not in missing:
        composed = dali_all.composed(images, numbers(), batch_size, size, workers)
        peers["dali-all"] = Stream((len(query) for query, *_ in composed), ahead=_IN_THE_MAKING)
    return peers


def _sources(
    images: ImageSet,
    beton: ImageSet | None,
    size: int,
    batch_size: int,
    workers: int,
    missing: dict[str, str],
    bad: BadImages,
) -> dict[str, Stream]:
    """cp2fast's: decoded and composed, and decoded only."""
    common: dict[str, Any] = {"seed": _SEED, "max_pixels": 10**9, "bad": bad}
    sources: dict[str, tuple[Callable[[], Iterator[RaggedBatch]], int]] = {
        "torch": (
            lambda: open_torch(images, _plan(images, batch_size), workers=workers, **common),
            2 * workers,
        ),
        "dali": (
            lambda: open_dali(
                images, _plan(images, batch_size), threads=workers, gpu=None, **common
            ),
            _IN_THE_MAKING,
        ),
    }
    if beton is not None:
        sources["ffcv"] = (
            lambda: open_ffcv(beton, _plan(beton, batch_size), threads=workers, **common),
            _IN_THE_MAKING,
        )
    streams = {}
    for kind in ("cp2fast", "decode"):
        for name, (source, ahead) in sources.items():
            if f"{kind}-{name}" in missing:
                continue
            if kind == "decode":
                stream = Stream((len(batch) for batch in source()), ahead)
            else:
                composed = prefetch(_compose(source(), size), _COMPOSED_AHEAD)
                stream = Stream(composed, ahead + _COMPOSED_AHEAD + 1)
            streams[f"{kind}-{name}"] = stream
    return streams


def _limited_by(systems: Iterable[str], found: Mapping[str, float]) -> dict[str, str]:
    """The ceiling above each system; that of photos packed smaller is another one."""
    limited_by = {}
    for name in systems:
        packed = name.endswith("-ffcv") and _PACKED in found
        if name.startswith("decode-"):
            limited_by[name] = _PACKED if packed else "decode"
        elif name.startswith("cp2fast-") and not packed:
            limited_by[name] = "pairs"
    return limited_by


def _limits(
    images: ImageSet,
    beton: ImageSet | None,
    size: int,
    batch_size: int,
    workers: int,
    bad: BadImages,
) -> dict[str, Stream]:
    few = open_torch(
        images, _plan(images, batch_size, 4), seed=_SEED, workers=0, max_pixels=10**9, bad=bad
    )
    return {
        **{
            f"ceiling decode {name}": stream
            for name, stream in ceilings.decoders(images, _CEILING_IMAGES, workers).items()
        },
        **{
            f"ceiling {_PACKED} {name}": stream
            for other in ([] if beton is None or beton is images else [beton])
            for name, stream in ceilings.decoders(other, _CEILING_IMAGES, workers).items()
        },
        "ceiling augment": ceilings.augmentation(list(few), size),
        "ceiling read": ceilings.reading(images, workers),
    }


def _ceilings(rates: dict[str, Rate], limits: dict[str, Stream]) -> dict[str, float]:
    """By stage; ``pairs`` is decoding and augmenting together, which share the cores."""
    decode = rates[f"ceiling decode {_fastest_decoder(rates, limits)}"].median
    augment = rates["ceiling augment"].median
    packed = [rates[name].median for name in limits if name.startswith(f"ceiling {_PACKED} ")]
    return ({_PACKED: max(packed)} if packed else {}) | {
        "read": rates["ceiling read"].median,
        "decode": decode,
        "augment": augment,
        "pairs": 1 / (1 / decode + 1 / augment),
    }


def _fastest_decoder(rates: dict[str, Rate], limits: dict[str, Stream]) -> str:
    decoders = [
        name
        for name in limits
        if name.startswith("ceiling decode ") and not name.startswith(f"ceiling {_PACKED} ")
    ]
    fastest = max(decoders, key=lambda name: rates[name].median)
    return fastest.removeprefix("ceiling decode ")


def _compose(batches: Iterator[RaggedBatch], size: int) -> Generator[int, None, None]:
    for step, batch in enumerate(batches):
        yield len(copy_paste(batch, draw(_SEED, step, batch, size, "batch"), size))


def _plan(images: ImageSet, batch_size: int, stop: int = _WITHOUT_END) -> Iterator[Any]:
    return plan(seed=_SEED, count=len(images), batch_size=batch_size, start=0, stop=stop)


def _mean_bytes(images: ImageSet) -> int:
    some: Sequence[int] = range(min(_CEILING_IMAGES, len(images)))
    return round(sum(len(images.read(number)) for number in some) / len(some))
