"""Does the pretraining help? Four arms under one budget, judged by probes and by fine-tuning.

python benchmarks/evidence.py --prepare SOURCE DATA      # small copies of the sets, once
python benchmarks/evidence.py DATA --gpu-minutes 5       # or --cpu-hours 2

    random     the weights that the others start from
    cp2        copy-paste, instance and dense loss
    no-dense   copy-paste, instance loss alone
    no-paste   instance loss on uncomposed crops: MoCo v2 on the same network

With --imagenet FILE also that file alone and with CP2's Quick Tuning. The pretrained arms take the
same recipe, images, seeds and number of steps, which follows from the budget and from rates that
are measured first, or is given by --steps. The recipe is chosen before, one change at a time, by
the linear probe on the last quarter of the training images, as the mean of cp2 and no-paste, so
that it favours neither (evidence_recipe.py); with --recipe FILE it is given. Each set's val is read
by the final judges alone.

What is done is in OUT/results, one file a job, and is not done again: the same command goes on with
one that was stopped. GPU minutes are minutes of the clock; CPU hours are those that the processes
used, whatever else the machine does. Work that no longer fits is left out and counted.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import fmean
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from evidence_arms import BASE, finetune_words, pretrain_words, pretrained_arms, probe_data
from evidence_data import FEW, SETS, prepare
from evidence_jobs import Job
from evidence_keep import keep_network, pack
from evidence_pool import Evidence, open_budget, plan_of, save
from evidence_recipe import choose_recipe
from evidence_report import show
from rich.console import Console

CAUTION = 0.85
"""Of the steps that the rate promises: arms that are cut short would be worth nothing."""


def main() -> None:
    arguments = parse()
    if arguments.prepare:
        prepare(*arguments.prepare, range(max(3, arguments.seeds)))
        return
    from cp2fast.machine import machine, versions

    arguments.out.mkdir(parents=True, exist_ok=True)
    budget, console = open_budget(arguments), Console(soft_wrap=True, highlight=False)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    os.environ["NUMBA_NUM_THREADS"] = str(arguments.threads)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.jobs, mp_context=spawn) as pool:
        evidence = Evidence(arguments, budget, pool, console)
        gather(evidence)
        content = evidence.write() | {"machine": machine(), "versions": versions()}
        pool.shutdown(wait=False, cancel_futures=True)
        for process in multiprocessing.active_children():
            process.kill()  # a run would take a mere request to stop for its own
    save(arguments.out / "evidence.json", content)
    if arguments.keep:
        save(arguments.keep / "evidence.json", content)
        pack(arguments.out, arguments.keep)
    show(content, console)
    console.print(
        f"spent {budget.spent:.0f} of {budget.seconds:.0f} s; {len(evidence.not_done)} jobs left "
        f"out; {arguments.out / 'evidence.json'}"
    )


def gather(evidence: Evidence) -> None:
    """Rates, recipe, pretraining, probes, fine-tuning, each within its share of the budget."""
    a, total = evidence.arguments, evidence.budget.seconds
    recipe = BASE | (json.loads(a.recipe.read_text()) if a.recipe else {})
    explores = bool(a.explore) and not a.recipe
    are_steps_given = (a.recipe_steps or not explores) and (a.steps or a.explore_only)
    rates = {} if are_steps_given else measure(evidence, recipe, total)
    if explores:
        until = evidence.budget.spent + a.explore * total
        recipe = choose_recipe(evidence, recipe, rates.get("samples", 0.0), until)
    if a.explore_only:
        return
    judging = (a.finetune + a.probes) * total
    plan = plan_of(evidence.out)
    if "pretrain_steps" not in plan:
        runs = sum(len(pretrained_arms(a, set_)) for set_ in a.sets) * a.seeds
        beside = a.run_seconds * runs / a.jobs
        left = total - evidence.budget.spent - judging - beside
        samples = CAUTION * rates.get("samples", 0.0) * max(0.0, left)
        steps = a.steps or max(a.least_steps, int(samples / runs / recipe["data.batch_size"]))
        plan |= {"pretrain_steps": steps, "recipe": recipe, "rates": rates}
        plan |= {"samples_an_arm": steps * recipe["data.batch_size"]}
        save(evidence.out / "plan.json", plan)
    recipe = plan["recipe"]
    seeds = range(a.seeds)
    keys = [(s, arm, seed) for seed in seeds for s in a.sets for arm in pretrained_arms(a, s)]
    steps = f"train.steps={plan['pretrain_steps']}"
    jobs = [
        Job("pretrain", f"{s}/{arm}/seed{seed}", (*pretrain_words(a, recipe, s, arm, seed), steps))
        for s, arm, seed in keys
    ]
    evidence.run(jobs, until=total - 0.5 * judging)
    first = evidence.out / "runs" / a.sets[0] / "cp2" / "seed0"
    if a.keep and a.keep_network and (first / "checkpoints").exists():
        keep_network(first, a.keep)
    evidence.run(probe_jobs(evidence, recipe), until=total - 0.5 * a.finetune * total)
    evidence.run(picture_jobs(evidence, recipe), until=total - 0.5 * a.finetune * total)
    finetunes = finetune_jobs(evidence, recipe)
    evidence.run(finetunes, until=total, cost=a.finetune_seconds)


def measure(evidence: Evidence, recipe: dict[str, Any], total: float) -> dict[str, float]:
    """How fast this machine is with all workers busy: samples a second over all of them."""
    a, plan = evidence.arguments, plan_of(evidence.out)
    if "rates" in plan:
        return plan["rates"]
    steps = f"train.steps={a.rate_steps}"
    words = pretrain_words(a, recipe, a.sets[0], "cp2", 0)
    jobs = [Job("rate", f"worker{n}", (*words, steps)) for n in range(a.jobs)]
    found = evidence.run(jobs, until=0.4 * total)
    if not found:
        raise SystemExit("no run could be timed: " + "; ".join(evidence.left_out))
    if evidence.budget.of_clock:
        samples = len(found) * fmean(one["images_per_second"] for one in found)
    else:
        samples = recipe["data.batch_size"] / fmean(one["cpu_seconds_a_step"] for one in found)
    rates = {"samples": samples}
    save(evidence.out / "plan.json", plan | {"rates": rates})
    return rates


def probe_jobs(evidence: Evidence, recipe: dict[str, Any]) -> list[Job]:
    a = evidence.arguments
    jobs = []
    for seed in range(a.seeds):
        for set_ in a.sets:
            draws = (seed,) if a.one_draw else (0, 1, 2)
            labels = ((FEW, draws), *(((1.0, (0,)),) if a.all_labels else ()))
            data = probe_data(a, set_, ("train", "val"), labels)
            for arm, start in starts(evidence, set_, seed):
                words = pretrain_words(a, recipe, set_, "cp2", seed)
                jobs.append(Job("probe", f"{set_}/{arm}/seed{seed}", words, start, data))
    return jobs


def picture_jobs(evidence: Evidence, recipe: dict[str, Any]) -> list[Job]:
    """Of each set one picture: what the linear probes of the first seed's arms make of photos."""
    a = evidence.arguments
    jobs = []
    for set_ in a.sets:
        data = probe_data(a, set_, ("train", "val"), ((FEW, (0,)),))
        begun = tuple(starts(evidence, set_, 0))
        words = pretrain_words(a, recipe, set_, "cp2", 0)
        jobs.append(Job("picture", set_, words, data=(*data, ("starts", begun))))
    return jobs


def finetune_jobs(evidence: Evidence, recipe: dict[str, Any]) -> list[Job]:
    """With few labels first; each seed draws its own, the order and the crops too."""
    a = evidence.arguments
    jobs = []
    for labels in ("few", "all") if a.all_labels else ("few",):
        for set_ in a.sets:
            for seed in range(a.seeds):
                for arm, start in starts(evidence, set_, seed):
                    words = finetune_words(a, recipe, set_, labels, seed)
                    jobs.append(Job("finetune", f"{set_}/{arm}/{labels}/seed{seed}", words, start))
    return jobs


def starts(evidence: Evidence, set_: str, seed: int) -> list[tuple[str, str | None]]:
    """The arms whose weights are there, and where; None is random."""
    a = evidence.arguments
    found: list[tuple[str, str | None]] = [("random", None)]
    for arm in pretrained_arms(a, set_):
        key = f"{set_}/{arm}/seed{seed}"
        if (evidence.out / "results" / f"pretrain-{key}.json").exists():
            found.append((arm, str(evidence.out / "runs" / key)))
    if a.imagenet:
        found.append(("imagenet", str(a.imagenet)))
    return found


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, nargs="?", help="of --prepare")
    parser.add_argument("--prepare", type=Path, nargs=2, metavar=("SOURCE", "DATA"))
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--gpu-minutes", type=float, help="of the clock, all in all")
    budget.add_argument("--cpu-hours", type=float, help="used by all processes together")
    parser.add_argument("--out", type=Path, default=Path("runs/evidence"))
    parser.add_argument("--keep", type=Path, help="folder that gets an archive of what is small")
    parser.add_argument("--keep-network", action="store_true", help="and CP2's first, in fp16")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--seeds", type=int, default=3, help="pretrainings of each arm")
    parser.add_argument("--jobs", type=int, help="worker processes: 9 on a GPU, else 1")
    parser.add_argument("--threads", type=int, default=1, help="of each worker")
    parser.add_argument("--workers", type=int, default=1, help="data.workers")
    parser.add_argument("--recipe", type=Path, help="JSON of settings to take; none is chosen then")
    parser.add_argument("--explore", type=float, default=0.25, help="share, to choose a recipe")
    parser.add_argument("--explore-only", action="store_true", help="end with the recipe")
    parser.add_argument("--explore-finetune", action="store_true", help="try fine-tuning's too")
    parser.add_argument("--trials", type=int, help="changes that are tried, of those there are")
    parser.add_argument("--recipe-steps", type=int, help="of each trial, whatever the rate says")
    parser.add_argument("--probes", type=float, default=0.1, help="share, for probes")
    parser.add_argument("--finetune", type=float, default=0.25, help="share, for fine-tuning")
    parser.add_argument("--finetune-steps", type=int, default=300)
    parser.add_argument("--finetune-seconds", type=float, default=15, help="of one, as a guess")
    parser.add_argument("--run-seconds", type=float, default=5, help="of a run beside its steps")
    parser.add_argument("--rate-steps", type=int, default=100, help="that the rate is measured on")
    parser.add_argument("--steps", type=int, help="of each pretraining, whatever the rate says")
    parser.add_argument("--least-steps", type=int, default=20)
    parser.add_argument("--places", nargs="+", default=["backbone", "head"])
    parser.add_argument("--probe-side", type=int, default=240, help="short side, pixels")
    parser.add_argument("--extra", action="store_true", help="a heavier dense loss too")
    parser.add_argument("--fewer-arms", action="store_true", help="cp2 and no-paste on set 2")
    parser.add_argument("--one-draw", action="store_true", help="of labels for each seed's probes")
    parser.add_argument("--no-all-labels", dest="all_labels", action="store_false")
    parser.add_argument("--imagenet", type=Path, help="weights for two more arms")
    parser.add_argument("--set", action="append", default=[], help="KEY=VALUE of each pretraining")
    parser.add_argument("--set-finetune", action="append", default=[], help="of each fine-tuning")
    parser.add_argument("--tiny", action="store_true", help="a rehearsal on generated scenes")
    a = parser.parse_args(words)
    if a.tiny:
        make_tiny(a)
    if a.prepare is None and (a.data is None or (a.gpu_minutes is None and a.cpu_hours is None)):
        parser.error("name DATA and --gpu-minutes or --cpu-hours, or --prepare SOURCE DATA")
    if a.data is not None and not all((a.data / name / "classes.txt").exists() for name in a.sets):
        parser.error(f"{a.data} does not hold {', '.join(a.sets)}: make it with --prepare")
    if a.jobs is None:
        a.jobs = 1 if a.gpu_minutes is None else 9
    return a


def make_tiny(a: argparse.Namespace) -> None:
    """Every stage in seconds of a CPU, on one set of generated scenes that stands for nuclei."""
    from cp2fast.data.scenes import generate_scenes

    source, a.data = a.out / "tiny-source", a.out / "tiny"
    if not source.exists():
        generate_scenes(source / "nuclei-voc", 24, seed=0)
        prepare(source, a.data, range(3), long_side=80)
    a.sets, a.seeds, a.jobs, a.all_labels = ["nuclei"], 1, 1, False
    a.places, a.probe_side = ["backbone"], 32
    a.explore, a.recipe_steps = (1.0, 2) if a.explore_only else (0.0, None)
    a.trials = 2
    a.rate_steps, a.steps, a.finetune_steps, a.finetune_seconds = 3, 2, 2, 1.0
    network = ["model.backbone=test_resnet", "model.head_channels=8", "model.size=32"]
    a.set += [*network, "model.queue=16", "data.batch_size=4"]
    a.set_finetune += [*network, "data.batch_size=2", "data.short_side=32"]


if __name__ == "__main__":
    main()
