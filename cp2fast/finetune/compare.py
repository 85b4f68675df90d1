"""``cp2fast finetune-voc --compare``: several starts with the same budget and seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

from rich.table import Table

from cp2fast import recipes
from cp2fast.config import FinetuneModelSettings, FinetuneSettings
from cp2fast.data.scenes import data_root
from cp2fast.errors import UserError
from cp2fast.files import path_of, place_of
from cp2fast.finetune.build import FINETUNE
from cp2fast.finetune.result import read_result, scores_of
from cp2fast.finetune.start import IMAGENET, RANDOM, build_network, load_start, resolve
from cp2fast.run_folder import RunFolder, write_json
from cp2fast.train.processes import joined_processes
from cp2fast.train.run import with_values_found
from cp2fast.train.session import carry_out

COMPARISON = "compare.json"


@dataclass(frozen=True)
class Trial:
    """One fine-tuning of a comparison."""

    start: str
    seed: int
    settings: FinetuneSettings
    folder: RunFolder


@dataclass(frozen=True)
class Comparison:
    """The mIoU, 0 to 1, by start and seed, and the folder of ``compare.json`` and all trials."""

    folder: Path
    miou: dict[str, dict[int, float]]

    def mean(self, start: str) -> float:
        """The mean over the seeds."""
        return fmean(self.miou[start].values())

    def deviation(self, start: str) -> float | None:
        """The sample standard deviation; None for a single seed."""
        values = list(self.miou[start].values())
        return stdev(values) if len(values) > 1 else None


def run_compare(
    settings: FinetuneSettings,
    path: Path,
    starts: Sequence[str],
    seeds: Sequence[int],
    quiet: bool = False,
) -> Comparison | None:
    """Fine-tune from every start with every seed, and print a table of the mIoU.

    Repeating the command continues a comparison: finished trials are skipped, and a stopped one is
    resumed.

    Args:
        settings: settings of every trial, except ``model.init`` and ``train.seed``.
        path: folder for ``compare.json`` and one run folder per trial.
        starts: ``random``, ``imagenet``, or any other value of ``model.init``.
        seeds: seeds of the trials of each start.
        quiet: print nothing.

    Returns:
        The results; None if the comparison was stopped before its end.

    Raises:
        UserError: bad input, or ``path`` holds another comparison.
    """
    trials = plan_trials(settings, path, starts, seeds)
    _check_starts(trials)
    found = Comparison(path, {trial.start: {} for trial in trials})
    with joined_processes(settings.train, quiet) as processes:
        console = processes.console
        for trial in trials:
            result = read_result(trial.folder)
            if result is None:
                console.print(f"{trial.start}, seed {trial.seed}:")
                resuming = trial.folder.holds_run
                run = carry_out(FINETUNE, trial.settings, trial.folder, processes, resuming)
                if not run.is_complete:
                    console.print("stopped and saved; run the same command to continue")
                    return None
                miou = scores_of(run).miou
            else:
                miou = float(result["miou"])
            found.miou[trial.start][trial.seed] = miou
            if processes.is_main:
                _write(found, settings)
    console.print(_table(found))
    console.print(f"{path / COMPARISON}, and one run folder per trial beside it")
    return found


def plan_trials(
    settings: FinetuneSettings, path: Path, starts: Sequence[str], seeds: Sequence[int]
) -> list[Trial]:
    """All trials, ordered by seed, with the same network and values.

    Raises:
        UserError: no start or seed, a repeated start, starts with different networks, or a
            trial's folder that contains a run with other settings.
    """
    if not starts or not seeds or len(set(starts)) < len(starts) or len(set(seeds)) < len(seeds):
        raise UserError(
            "--compare and --seeds each need one or more different values, as in "
            "--compare random,runs/demo --seeds 0,1,2"
        )
    names = {
        start: Path(start).name if place_of(path_of(start)) != "nothing" else start
        for start in starts
    }
    if len(set(names.values())) < len(names):
        raise UserError("--compare names two starts whose last part is the same: rename one folder")
    common = _common(settings, starts).with_values("data", root=data_root(settings.data))
    trials = []
    for seed in seeds:
        for start in starts:
            own = recipes.load(FinetuneSettings, common, {"model.init": start, "train.seed": seed})
            folder = RunFolder(path / f"{names[start]}-seed{seed}")
            _check_unchanged(own, folder)
            trials.append(Trial(start, seed, own, folder))
    return trials


def _common(settings: FinetuneSettings, starts: Sequence[str]) -> FinetuneSettings:
    """The settings with network, range and bands of the first start that has its own.

    Raises:
        UserError: another start has another network.
    """
    own = [start for start in starts if start not in (RANDOM, IMAGENET)] or [RANDOM]
    resolved = {start: resolve(settings.with_values("model", init=start)) for start in own}
    networks = {
        start: each.model.model_copy(update={"init": None}) for start, each in resolved.items()
    }
    first = own[0]
    for start, network in networks.items():
        if network != networks[first]:
            raise UserError(
                f"{start} is another network ({_words(network)}) than {first} "
                f"({_words(networks[first])}): compare starts of one network"
            )
    return resolved[first]


def _words(network: FinetuneModelSettings) -> str:
    return f"{network.backbone}, {network.head}, {network.head_channels} channels"


def _check_unchanged(settings: FinetuneSettings, folder: RunFolder) -> None:
    if not folder.holds_run:
        return
    before = recipes.load(FinetuneSettings, str(folder.config), [])
    differing = recipes.differences(before, with_values_found(settings, folder))
    if differing:
        key, old, new = differing[0]
        raise UserError(
            f"{folder.path} was run with {key}={old}, not {new}: compare under one budget, or "
            "start another comparison with --out DIR"
        )


def _check_starts(trials: Sequence[Trial]) -> None:
    """Load each start that is still needed, to find a missing one before hours of training.

    Raises:
        UserError: its weights are not available or do not fit.
    """
    needed = {trial.start: trial for trial in trials if read_result(trial.folder) is None}
    for trial in needed.values():
        model = trial.settings.model
        load_start(build_network(model, num_classes=2, seed=0), model)


def _write(found: Comparison, settings: FinetuneSettings) -> None:
    content = {
        "starts": {
            start: {
                "miou": {str(seed): miou for seed, miou in by_seed.items()},
                "mean": found.mean(start),
                "deviation": found.deviation(start),
            }
            for start, by_seed in found.miou.items()
            if by_seed
        },
        "settings": settings.model_dump(mode="json"),
    }
    write_json(found.folder / COMPARISON, content)


def _table(found: Comparison) -> Table:
    first, *_ = found.miou
    base = found.miou[first]
    seeds = (f"seed {seed}" for seed in base)
    table = Table("start", *seeds, "mean", "deviation", f"over {first}")
    for column in table.columns[1:]:
        column.justify = "right"
    for start, by_seed in found.miou.items():
        gain = fmean(miou - base[seed] for seed, miou in by_seed.items())
        deviation = found.deviation(start)
        table.add_row(
            start,
            *(f"{miou:.2%}" for miou in by_seed.values()),
            f"{found.mean(start):.2%}",
            "one seed" if deviation is None else f"{deviation:.2%}",
            "" if start == first else f"{gain:+.2%}",
        )
    table.title = "mIoU under the same budget"
    return table
