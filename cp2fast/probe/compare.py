"""``cp2fast probe``: compare the quality of the frozen features of several networks."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import torch

from cp2fast import recipes
from cp2fast.config import ModelSettings, ProbeSettings
from cp2fast.data.decoding.levels import Levels
from cp2fast.errors import UserError
from cp2fast.files import list_folder, make_folder, path_of, place_of
from cp2fast.labels.classes import palette_of
from cp2fast.labels.dataset import LabelledData, evenly, range_of, read_example
from cp2fast.labels.masks import IGNORED
from cp2fast.labels.open import open_labelled
from cp2fast.labels.pictures import draw_grid
from cp2fast.machine import machine, versions
from cp2fast.model.segmenter import Segmenter, build_segmenter
from cp2fast.probe.classify import Classifier
from cp2fast.probe.features import Extractor, Place, check_place
from cp2fast.probe.probe import ProbeScores, probe, segment
from cp2fast.recipes import Overrides
from cp2fast.run_folder import write_json
from cp2fast.train.distributed import device_of, ranks_from_environment
from cp2fast.weights.load import load_weights
from cp2fast.weights.trained import Trained, UnknownNetwork, open_trained

RANDOM = "random"
_JUDGES: tuple[Literal["knn", "linear"], ...] = ("knn", "linear")
RESULT, PICTURE = "probe.json", "probe.png"
_DRAWN = 4


@dataclass(frozen=True)
class Probed:
    """The scores of one network for each seed, and the time that they took."""

    name: str
    scores: list[ProbeScores]
    seconds: float

    def values(self, judge: Literal["knn", "linear"]) -> list[float]:
        """The mIoU for each seed."""
        return [float(getattr(one, judge).miou) for one in self.scores]


def compare_probes(
    networks: Sequence[str],
    settings: ProbeSettings | None = None,
    overrides: Overrides = (),
    *,
    labels: float = 0.125,
    seeds: int = 3,
    place: Place = "backbone",
    out: str | Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> list[Probed]:
    """Compare what the frozen features of several networks are worth with few labels.

    Args:
        networks: run folders, checkpoints, files of weights, or ``random``.
        settings: settings of the labelled images and of random weights.
        overrides: settings by key; ``data.root`` is the labelled images.
        labels: share of the labelled images whose labels are used, above 0, at most 1.
        seeds: number of random subsets of the labels.
        place: layer from which features are taken.
        out: new folder for ``probe.json`` and ``probe.png``; None writes nothing.
        say: called with a line about the data, and one for each network that is done.

    Returns:
        The results, in the order of ``networks``.

    Raises:
        UserError: bad input; nothing was written.
    """
    settings = recipes.load(ProbeSettings, settings, overrides)
    folder = None if out is None else path_of(out)
    if folder is not None and (
        list_folder(folder) or place_of(folder) not in ("nothing", "folder")
    ):
        raise UserError(f"{folder} exists already: remove it, or name another folder with --out")
    if not networks:
        raise UserError("name what to probe: run folders, files of weights, or random")
    if not 0 < labels <= 1:
        raise UserError(f"--labels {labels:g}: must be above 0 and at most 1")
    if not isinstance(seeds, int) or seeds < 1:
        raise UserError(f"--seeds {seeds}: must be a whole number, 1 or more")
    check_place(place)
    if settings.data.root is None:
        raise UserError("data.root is not set: name your images with masks with data.root=DIR")
    data = open_labelled(settings.data, settings.data.root, settings.data.workers)
    runs = _open_runs(networks)
    first = next((run for run in runs.values() if run is not None), None)
    data, range_line = _with_levels(data, settings, first)
    model = _model(settings, first)
    opened = {
        name: _untrained(name, model, settings.model.seed) if run is None else run.network
        for name, run in runs.items()
    }
    device = device_of(settings.model.device, ranks_from_environment())
    if folder is not None:
        make_folder(folder)
    say(f"{settings.data.root}: {data.said}")
    if range_line:
        say(range_line)
    say(
        f"{labels:.3g} of the labels of {len(data.train)} images, scored on {len(data.val)} of "
        f"{settings.data.root} ({len(data.classes)} classes; {device}); features of the {place}"
    )
    probed, shown = [], {}
    for name, network in opened.items():
        began = time.perf_counter()
        network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        extractor = Extractor(network, place, settings.data.short_side)
        scores = probe(extractor, data, labels=labels, seeds=range(seeds))
        probed.append(Probed(name, scores, time.perf_counter() - began))
        shown[name] = extractor, scores[0].classify
        say(f"  {name}: {probed[-1].seconds:.0f} s")
    if folder is not None:
        _write(folder / RESULT, probed, data, settings, labels, place)
        draw_probes(shown, data, folder / PICTURE)
    return probed


def draw_probes(
    probes: Mapping[str, tuple[Extractor, Classifier]], data: LabelledData, path: Path
) -> None:
    """Draw four images of ``data.val``: photo, mask, and what each of the probes predicts."""
    palette, rows = palette_of(data.colours), []
    for example in evenly(data.val, _DRAWN):
        image, labels = read_example(example, data)
        row = [image.numpy(), palette[labels.numpy()]]
        for extractor, classify in probes.values():
            predicted = segment(classify, extractor([image]), labels.shape)
            known = torch.where(labels == IGNORED, IGNORED, predicted[0].cpu())
            row.append(palette[known.numpy()])
        rows.append(row)
    titles = {(0, column): name for column, name in enumerate(["photo", "mask", *probes])}
    draw_grid(rows, titles, path, data, cell=(2.4, 1.9))


def _open_runs(names: Sequence[str]) -> dict[str, Trained | None]:
    """The run of each name; None for random weights, and for files of weights alone.

    Raises:
        UserError: a file cannot be read, or a network is named twice.
    """
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"{twice} is named twice: name each network once")
    runs: dict[str, Trained | None] = dict.fromkeys(names)
    for name in names:
        if name != RANDOM:
            with suppress(UnknownNetwork):
                runs[name] = open_trained(name)
    return runs


def _with_levels(
    data: LabelledData, settings: ProbeSettings, first: Trained | None
) -> tuple[LabelledData, str]:
    """The data with levels shared by all networks: as set, else as for the first named run."""
    range_, bands = settings.data.range, settings.data.bands
    if first is not None:
        range_, bands = range_ or first.values[0], bands or first.values[1]
    range_, line = range_of(data, range_, bands)
    return replace(data, levels=Levels.of(range_, bands)), line


def _model(settings: ProbeSettings, first: Trained | None) -> ModelSettings:
    """The model of other weights: as set, else as in the first named run, else the default."""
    known = (ModelSettings() if first is None else first.model).model_dump()
    given = settings.model.model_dump(exclude={"seed", "device"})
    return ModelSettings(**known | {key: value for key, value in given.items() if value})


def _untrained(name: str, model: ModelSettings, seed: int) -> Segmenter:
    """A network with random weights, or with those of a file, as far as the file has them."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        network = build_segmenter(model).eval()
    if name != RANDOM:
        load_weights(network, name)
    return network


def _write(
    path: Path,
    probed: Sequence[Probed],
    data: LabelledData,
    settings: ProbeSettings,
    labels: float,
    place: Place,
) -> None:
    results = [
        {
            "network": one.name,
            "seconds": one.seconds,
            **{
                judge: {
                    "miou": one.values(judge),
                    "mean": fmean(one.values(judge)),
                    "per_class": [getattr(each, judge).per_class for each in one.scores],
                }
                for judge in _JUDGES
            },
        }
        for one in probed
    ]
    content: dict[str, Any] = {
        "results": results,
        "labels": labels,
        "seeds": [each.seed for each in probed[0].scores],
        "labelled_images": probed[0].scores[0].images,
        "val_images": len(data.val),
        "place": place,
        "settings": settings.model_dump(mode="json"),
        "machine": machine(),
        "versions": versions(),
    }
    write_json(path, content)
