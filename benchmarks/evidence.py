"""Does the pretraining help? Four arms under one budget, judged by probes and by fine-tuning.

python benchmarks/evidence.py --prepare SOURCE DATA      # small copies of the sets, once
python benchmarks/evidence.py DATA --gpu-minutes 60      # or --cpu-hours 4 --jobs 2
python benchmarks/evidence_page.py runs/evidence/evidence.json chart.png

    random     the weights that the others start from
    cp2        copy-paste, instance and dense loss
    no-dense   copy-paste, instance loss alone
    no-paste   instance loss on uncomposed crops: MoCo v2 on the same network

With --imagenet FILE also that file alone and with CP2's Quick Tuning. The pretrained arms share
recipe, images, seeds and number of steps, which follows from the budget and from a rate that is
measured first, or is given by --steps. The recipe is chosen before (evidence_plan.py), one change
at a time, on training images alone, by the mean of cp2 and no-paste. With --recipe FILE it is
given; with --explore-only too, the changes are tried on that recipe.

What is done is in OUT/results, one file a job, and is not done again: the same command continues a
call that was stopped. GPU minutes are minutes of the clock; CPU hours are those that the processes
used, whatever else the machine does. Work that no longer fits is left out and named.
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

from evidence_arms import BASE, chosen, pretrain_words
from evidence_data import SETS, prepare
from evidence_jobs import Job
from evidence_keep import pack
from evidence_page import markdown
from evidence_plan import final_jobs, pretrained_arms, recipe_trials
from evidence_pool import Workers, open_budget, read, save
from evidence_report import report
from rich.console import Console

CAUTION = 0.85
"""Of the steps that the rate promises: arms that are cut short would be worth nothing."""
RATE_STEPS = 100
RUN_SECONDS = 5
"""Of a run besides its steps, about."""


def main() -> None:
    a = parse()
    if a.prepare:
        prepare(*a.prepare, range(max(3, a.seeds)))
        return
    a.out.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ["OMP_NUM_THREADS"] = os.environ["NUMBA_NUM_THREADS"] = str(a.threads)
    console = Console(soft_wrap=True, highlight=False)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(a.jobs, mp_context=spawn) as pool:
        workers = Workers(a, open_budget(a), pool, console)
        workers.on_result = lambda: write(workers)
        gather(workers)
        pool.shutdown(wait=False, cancel_futures=True)
        for process in multiprocessing.active_children():
            process.kill()  # a run would take a mere request to stop for its own
    content = write(workers)
    console.print("\n".join(markdown(content)), markup=False)
    console.print(
        f"spent {workers.budget.spent:.0f} of {workers.budget.seconds:.0f} s; "
        f"{len(content['left_out'])} jobs left out; {a.out / 'evidence.json'}"
    )


def gather(workers: Workers) -> None:
    """Rate, recipe, and the comparison in the order of its importance."""
    a, total = workers.arguments, workers.budget.seconds
    recipe = BASE | (json.loads(a.recipe.read_text()) if a.recipe else {})
    explores = a.explore_only or (a.explore > 0 and not a.recipe)
    is_planned = (a.recipe_steps or not explores) and (a.steps or a.explore_only)
    rate = 0.0 if is_planned else measure(workers, recipe)
    if explores:
        recipe = choose_recipe(workers, recipe, rate)
    if a.explore_only:
        return
    plan = read(a.out / "plan.json")
    if "pretrain_steps" not in plan:
        runs = len(pretrained_arms(a)) * len(a.sets) * a.seeds
        left = (1 - a.judging) * total - workers.budget.spent - RUN_SECONDS * runs / a.jobs
        steps = a.steps or max(20, int(CAUTION * rate * left / runs / recipe["data.batch_size"]))
        plan |= {"pretrain_steps": steps, "recipe": recipe, "finetune_steps": a.finetune_steps}
        save(a.out / "plan.json", plan)
    workers.run(final_jobs(a, a.out, plan["recipe"], plan["pretrain_steps"]), until=total)


def measure(workers: Workers, recipe: dict[str, Any]) -> float:
    """Samples that all workers together pretrain on in a second of the budget."""
    a, plan = workers.arguments, read(workers.arguments.out / "plan.json")
    if "samples_a_second" not in plan:
        words = pretrain_words(a, recipe, a.sets[0], "cp2", 0)
        words = (*words, f"train.steps={2 if a.tiny else RATE_STEPS}")
        jobs = [Job("rate", f"worker{number}", words) for number in range(a.jobs)]
        found = workers.run(jobs, until=0.4 * workers.budget.seconds)
        if not found:
            raise SystemExit("no run could be timed: " + "; ".join(workers.left_out))
        if workers.budget.of_clock:
            rate = len(found) * fmean(one["images_per_second"] for one in found)
        else:
            rate = recipe["data.batch_size"] / fmean(one["cpu_seconds_a_step"] for one in found)
        plan |= {"samples_a_second": rate}
        save(a.out / "plan.json", plan)
    return float(plan["samples_a_second"])


def choose_recipe(workers: Workers, base: dict[str, Any], rate: float) -> dict[str, Any]:
    """Try each change on the first set; keep what helps both arms together."""
    a, plan = workers.arguments, read(workers.arguments.out / "plan.json")
    share = 1.0 if a.explore_only else a.explore
    until = workers.budget.spent + share * (workers.budget.seconds - workers.budget.spent)
    if "recipe_steps" not in plan:
        runs = len(list(recipe_trials(a, a.out, base, 1)))
        left = 0.7 * (until - workers.budget.spent) - RUN_SECONDS * runs / a.jobs
        steps = a.recipe_steps or max(20, int(rate * left / runs / base["data.batch_size"]))
        plan |= {"recipe_steps": steps, "recipe_base": base}
        save(a.out / "plan.json", plan)
    workers.run(recipe_trials(a, a.out, base, plan["recipe_steps"]), until=until)
    recipe = chosen(base, report(a.out)["recipe"])
    save(a.out / "recipe.json", recipe)
    workers.console.print(f"recipe {recipe}", markup=False)
    return recipe


def write(workers: Workers) -> dict[str, Any]:
    """The report so far, for those who end this script by force too."""
    from cp2fast.machine import machine, versions

    a = workers.arguments
    content: dict[str, Any] = {
        "budget": {
            "kind": "GPU minutes" if workers.budget.of_clock else "CPU hours",
            "given_seconds": workers.budget.seconds,
            "spent_seconds": workers.budget.spent,
            "worker_processes": a.jobs,
        },
        "plan": read(a.out / "plan.json"),
        "settings": {"pretrain": a.set, "finetune": a.set_finetune},
        "left_out": workers.not_done,
        **report(a.out),
        "machine": machine(),
        "versions": versions(),
    }
    save(a.out / "evidence.json", content)
    save(a.out / "spent.json", {"seconds": workers.budget.spent})
    if a.keep:
        a.keep.mkdir(parents=True, exist_ok=True)
        save(a.keep / "evidence.json", content)
        pack(a.out, a.keep)
    return content


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, nargs="?", help="folder that --prepare has made")
    parser.add_argument("--prepare", type=Path, nargs=2, metavar=("SOURCE", "DATA"))
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--gpu-minutes", type=float, help="of the clock, all in all")
    budget.add_argument("--cpu-hours", type=float, help="used by all processes together")
    parser.add_argument("--out", type=Path, default=Path("runs/evidence"))
    parser.add_argument("--keep", type=Path, help="folder that gets an archive of what is small")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--seeds", type=int, default=3, help="pretrainings of each arm")
    parser.add_argument("--jobs", type=int, help="worker processes: 9 on a GPU, else 1")
    parser.add_argument("--threads", type=int, default=1, help="of each worker")
    parser.add_argument("--recipe", type=Path, help="JSON of settings; none is chosen then")
    parser.add_argument("--explore", type=float, default=0.25, help="share, to choose a recipe")
    parser.add_argument("--explore-only", action="store_true", help="end with the recipe")
    parser.add_argument("--explore-finetune", action="store_true", help="try fine-tuning's too")
    parser.add_argument("--trials", type=int, help="changes that are tried, of those there are")
    parser.add_argument("--recipe-steps", type=int, help="of each trial, whatever the rate says")
    parser.add_argument("--judging", type=float, default=0.35, help="share, to judge the arms")
    parser.add_argument("--steps", type=int, help="of each pretraining, whatever the rate says")
    parser.add_argument("--finetune-steps", type=int, default=300)
    parser.add_argument("--no-all-labels", dest="all_labels", action="store_false")
    parser.add_argument("--extra", action="store_true", help="a heavier dense loss too")
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
    a.explore = 0.0
    a.recipe_steps, a.trials, a.steps, a.finetune_steps = 2, 2, 2, 2
    network = ["model.backbone=test_resnet", "model.head_channels=8", "model.size=32"]
    a.set += [*network, "model.queue=16", "data.batch_size=4"]
    a.set_finetune += [*network, "data.batch_size=2", "data.short_side=32"]


if __name__ == "__main__":
    main()
