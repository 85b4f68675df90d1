"""``cp2fast bench``: prepare the benchmarks and run one after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from cp2fast import recipes
from cp2fast.bench.augment import bench_augment
from cp2fast.bench.bottleneck import describe_training, stages_of_training
from cp2fast.bench.loader import bench_loader
from cp2fast.bench.loader_task import Task
from cp2fast.bench.report import Report
from cp2fast.bench.run import bench_run
from cp2fast.bench.timing import Say
from cp2fast.bench.train import bench_train
from cp2fast.config import DataSettings, PretrainSettings, RangeSetting, check_root
from cp2fast.cores import decoding_workers
from cp2fast.data.decoding.decode import BadImage, decode_image
from cp2fast.data.decoding.levels import Levels
from cp2fast.data.image_sets.beton import is_beton
from cp2fast.data.image_sets.image_set import ImageSet
from cp2fast.data.image_sets.listing import list_images
from cp2fast.data.remote.disk_cache import DiskCache
from cp2fast.data.scenes import data_root
from cp2fast.data.survey import find_range
from cp2fast.errors import UserError
from cp2fast.files import path_of
from cp2fast.model.cp2 import build_cp2
from cp2fast.recipes import Overrides
from cp2fast.train.distributed import ALONE, device_of

BENCHMARKS = ("loader", "augment", "train", "run")
_DECODED_IMAGES = 256
_SCENES = 320

_Measure: TypeAlias = Callable[..., Report]
"""A benchmark that is ready to run; ``say`` receives progress messages."""


def benchmark(
    what: str = "all",
    overrides: Overrides = (),
    *,
    rounds: int = 5,
    seconds: float = 4.0,
    beton: str | Path | None = None,
    say: Callable[[str, str], None] = lambda name, line: None,
    on_report: Callable[[Report], None] = lambda report: None,
) -> list[Report]:
    """Measure speed on this machine, compared with other libraries, and name the bottleneck.

    Args:
        what: ``loader`` (photos on disk to composed pairs), ``augment`` (decoded photos to composed
            pairs), ``train`` (composed pairs to updated weights), ``run`` (whole runs and their
            parts), or ``all``.
        overrides: settings by key; the defaults use all cores and small batches.
        rounds: measured rounds, in which all systems take turns.
        seconds: minimum time for each system in each round.
        beton: the photos of ``data.root`` in a packed file, to measure FFCV too.
        say: called with a benchmark's name and a line about its progress.
        on_report: called with each report once it is complete.

    Returns:
        The reports, in the order measured. ``combine`` makes one result of them.

    Raises:
        UserError: bad input, detected before anything is measured.
    """
    if what not in (*BENCHMARKS, "all"):
        raise UserError(f"no benchmark '{what}': there are {', '.join(BENCHMARKS)} and all")
    if rounds < 1:
        raise UserError(f"rounds={rounds}: must be 1 or more")
    if not seconds >= 0:
        raise UserError(f"seconds={seconds:g}: must be 0 or more")
    chosen = BENCHMARKS if what == "all" else (what,)
    settings = {name: _settings(name, overrides) for name in chosen}
    packed = None if beton is None else path_of(beton)
    _check_beton(packed)
    reports = []
    for name, measure in _prepare(chosen, settings, packed, rounds, seconds).items():
        reports.append(measure(say=partial(say, name)))
        on_report(reports[-1])
    return reports


def combine(reports: Sequence[Report]) -> dict[str, Any]:
    """One result for all reports; rows and ceilings are prefixed with their benchmark's name.

    ``stages`` and ``bottleneck`` are there once ``loader`` and ``train`` are.
    """
    of = {report.benchmark: report for report in reports}
    stages: dict[str, Any] = {}
    if "loader" in of and "train" in of:
        stages["stages"] = stages_of_training(of["loader"], of["train"])
        stages["bottleneck"] = describe_training(of["loader"], of["train"])
    rows = [
        {"benchmark": report.benchmark, **row}
        for report in reports
        for row in report.to_json()["results"]
    ]
    return {
        "benchmark": "all",
        "machine": reports[0].machine,
        "versions": reports[0].versions,
        "ceilings": {
            f"{report.benchmark}: {stage}": rate
            for report in reports
            for stage, rate in report.ceilings.items()
        },
        **stages,
        "results": rows,
        "reports": [report.to_json() for report in reports],
    }


def _settings(name: str, overrides: Overrides) -> PretrainSettings:
    """The settings, by default with batches that a laptop can handle."""
    gpu = torch.cuda.is_available()
    batch = 32 if name in ("loader", "augment") else 256 if gpu else 8
    defaults = PretrainSettings.model_validate({"data": {"batch_size": batch, "scenes": _SCENES}})
    settings = recipes.load(PretrainSettings, defaults, overrides)
    check_root(settings.data)
    if name in ("train", "run"):
        with torch.device("meta"):  # only to learn whether it can be built
            build_cp2(settings.model, settings.train.seed)
    return settings


def _prepare(
    chosen: Sequence[str],
    settings: Mapping[str, PretrainSettings],
    beton: Path | None,
    rounds: int,
    seconds: float,
) -> dict[str, _Measure]:
    """The benchmarks by name, ready to be run one after the other."""
    of_photos = [name for name in chosen if name != "train"]
    images = None
    if of_photos:
        images, levels = _photos(settings[of_photos[0]])
        settings = {name: one.with_values("data", range=levels) for name, one in settings.items()}
    jobs: dict[str, _Measure] = {}
    for name in chosen:
        one = settings[name]
        device = device_of(one.train.device, ALONE)
        job: _Measure
        if images is None or name == "train":
            job = partial(bench_train, one, device)
        elif name == "run":
            job = partial(bench_run, one, images, device)
        elif name == "augment":
            job = partial(_augment, one, images)
        else:
            job = partial(bench_loader, _loader_task(one, images, device, beton))
        jobs[name] = partial(job, rounds=rounds, seconds=seconds)
    return jobs


def _photos(settings: PretrainSettings) -> tuple[ImageSet, RangeSetting]:
    """The images, and the range of their values."""
    data = settings.data
    images = list_images(data_root(data), disk=DiskCache.of(data))
    threads = decoding_workers(data.workers)
    range_, _ = find_range(images, data.range, data.bands, data.max_pixels, threads)
    return images, range_


def _loader_task(
    settings: PretrainSettings, images: ImageSet, device: torch.device, beton: Path | None
) -> Task:
    packed = images if images.kind == "beton" else None
    return Task(
        images=images,
        beton=packed if beton is None else list_images(beton),
        device=device,
        size=settings.model.size,
        batch_size=settings.data.batch_size,
        workers=decoding_workers(settings.data.workers),
        data=settings.data,
    )


def _augment(
    settings: PretrainSettings, images: ImageSet, rounds: int, seconds: float, say: Say
) -> Report:
    size, batch_size = settings.model.size, settings.data.batch_size
    decoded = _decode(images, settings.data)
    if len(decoded) < batch_size:
        raise UserError(
            f"data.batch_size={batch_size}, but {settings.data.root or 'the demo'} gives "
            f"{len(decoded)} images: set data.batch_size to that or less"
        )
    return bench_augment(
        decoded, size=size, batch_size=batch_size, rounds=rounds, seconds=seconds, say=say
    )


def _decode(images: ImageSet, data: DataSettings) -> list[Tensor]:
    """Decode some of the images, skipping bad ones."""
    levels = Levels.of(data.range, data.bands)
    decoded = []
    for number in range(min(_DECODED_IMAGES, len(images))):
        try:
            encoded = images.read(number)
            decoded.append(decode_image(encoded, data.max_pixels, data.max_side, levels))
        except BadImage:
            continue
    return decoded


def _check_beton(file: Path | None) -> None:
    """Check this here, as ``list_images`` would blame data.root and also accept a folder."""
    if file is not None and not (is_beton(file.name) and file.is_file()):
        raise UserError(
            f"--beton {file}: there is no such .beton file; make one with cp2fast pack DIR "
            "FILE.beton"
        )
