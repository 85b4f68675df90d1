"""How evidence.py chooses its settings: one change at a time, on training images alone.

A trial is a short pretraining with both ``RECIPE_ARMS``, judged by probing its backbone: an eighth
of the labels of the first three quarters of the training images, scored on the last one. The
settings of fine-tuning are chosen by fine-tuning on the same images, from random weights and from
both arms of the base. What helps the mean of the arms is taken, so neither is tuned more.
"""

from __future__ import annotations

from typing import Any

from evidence_arms import (
    BASE,
    CHANGES,
    FINETUNE_CHANGES,
    ONLY_SHOWN,
    RECIPE_ARMS,
    change_name,
    chosen,
    finetune_words,
    pretrain_words,
    recipe_probe_data,
)
from evidence_jobs import Job
from evidence_pool import Evidence, plan_of, save
from evidence_report import finetune_rows, read_results, recipe_rows


def choose_recipe(
    evidence: Evidence, base: dict[str, Any], samples_a_second: float, until: float
) -> dict[str, Any]:
    """Try each change with both arms on the first set; keep what helps by more than ``GAIN``."""
    a, plan = evidence.arguments, plan_of(evidence.out)
    if "recipe_steps" not in plan:
        seconds = 0.7 * (until - evidence.budget.spent)
        runs = len(RECIPE_ARMS) * (1 + len(CHANGES))
        samples = samples_a_second * (seconds - a.run_seconds * runs / a.jobs) / runs
        steps = a.recipe_steps or max(a.least_steps, int(samples / base["data.batch_size"]))
        plan |= {"recipe_steps": steps}
        save(evidence.out / "plan.json", plan)
    steps = plan["recipe_steps"]
    evidence.run(trials(evidence, base, steps), until=until)
    if a.explore_finetune:
        evidence.run(finetune_trials(evidence, base), until=evidence.budget.seconds)
    results = read_results(evidence.out)
    recipe = chosen(base, recipe_rows(results))
    finetune = [row["change"] for row in finetune_rows(results) if row["miou"] is not None]
    save(evidence.out / "recipe.json", recipe)
    evidence.console.print(f"recipe {recipe}; fine-tuning {finetune[:1]}", markup=False)
    return recipe


def trials(evidence: Evidence, base: dict[str, Any], steps: int) -> list[Job]:
    """The base first, then every change; those that are only shown come last."""
    a, jobs = evidence.arguments, []
    for change, arms in [
        ({}, RECIPE_ARMS),
        *((change, RECIPE_ARMS) for change in CHANGES[: a.trials]),
        *ONLY_SHOWN,
    ]:
        recipe = base | change
        own = recipe.pop("train.steps", steps)
        for arm in arms:
            key = f"recipe/{change_name(change)}/{arm}"
            words = (*pretrain_words(a, recipe, a.sets[0], arm, 0), f"train.steps={own}")
            jobs.append(Job("trial", key, words, data=recipe_probe_data(a)))
    return jobs


def finetune_trials(evidence: Evidence, base: dict[str, Any]) -> list[Job]:
    """Each change of the fine-tuning from random weights and from the base's runs."""
    a, jobs = evidence.arguments, []
    for change in [{}, *FINETUNE_CHANGES]:
        for arm in ("random", *RECIPE_ARMS):
            run = evidence.out / "runs" / "recipe" / "base" / arm
            if arm != "random" and not (run / "config.yaml").exists():
                continue
            words = finetune_words(a, BASE | base, a.sets[0], "recipe_few", 0)
            own = tuple(f"{key}={value}" for key, value in change.items())
            splits = ("data.train_split=recipe_few", "data.val_split=recipe_val")
            key = f"recipe/{change_name(change)}/{arm}"
            start = None if arm == "random" else str(run)
            jobs.append(Job("finetune", key, (*words, *own, *splits), start))
    return jobs
