"""The jobs of evidence.py, the most important first.

A trial of the recipe is a short pretraining with one setting changed, judged by a linear probe of
its backbone: an eighth of the labels of the first three quarters of the training images, scored on
the last quarter. The settings of fine-tuning are tried on the same images. ``val`` is read by the
jobs of ``judging`` alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evidence_arms import (
    ARMS,
    CHANGES,
    CP2_CHANGES,
    EXTRA_ARMS,
    FINETUNE_ARMS,
    FINETUNE_CHANGES,
    RECIPE_ARMS,
    change_name,
    finetune_words,
    pretrain_words,
    probe_data,
)
from evidence_jobs import Job

TRIAL_SEED = 0


def recipe_trials(
    a: argparse.Namespace, out: Path, base: dict[str, Any], steps: int
) -> Iterator[Job]:
    """Random weights, the base, every change, those of CP2 alone, fine-tuning from the base."""
    set_ = a.sets[0]
    splits = ("recipe_train", "recipe_val")
    data = probe_data(a, set_, splits=splits, places=("backbone",))
    words = pretrain_words(a, base, set_, "cp2", TRIAL_SEED)
    yield Job("probe", "recipe/random", words, data=data)
    tried = [
        ({}, RECIPE_ARMS),
        *((change, RECIPE_ARMS) for change in CHANGES[: a.trials]),
        *((change, ("cp2",)) for change in CP2_CHANGES),
    ]
    for change, arms in tried:
        recipe = base | change
        own = max(1, round(steps * recipe.pop("train.steps", 1)))
        for arm in arms:
            words = (*pretrain_words(a, recipe, set_, arm, TRIAL_SEED), f"train.steps={own}")
            yield Job("trial", f"recipe/{change_name(change)}/{arm}", words, data=data)
    if a.explore_finetune:
        yield from _finetune_trials(a, out, base)


def _finetune_trials(a: argparse.Namespace, out: Path, base: dict[str, Any]) -> Iterator[Job]:
    for change in [{}, *FINETUNE_CHANGES]:
        for arm in FINETUNE_ARMS:
            words = (
                *finetune_words(a, base, a.sets[0], "recipe_few", TRIAL_SEED),
                *(f"{key}={value}" for key, value in change.items()),
                "data.val_split=recipe_val",
            )
            key = f"recipe/{change_name(change)}/{arm}"
            if arm == "random":
                yield Job("finetune", key, words)
            else:
                start = str(out / "runs" / "recipe" / "base" / arm)
                yield Job("finetune", key, words, start, needs=(f"trial-recipe/base/{arm}",))


def final_jobs(
    a: argparse.Namespace, out: Path, recipe: dict[str, Any], steps: int
) -> Iterator[Job]:
    """One seed after the other, so that whatever time is left out, all arms have the same seeds.

    Of each seed come first: all arms on the first set, CP2 and MoCo v2 on the others, probes with
    few labels, fine-tuning of random weights, CP2 and MoCo v2. What is left of the arms and all
    labels follow when every seed is done.
    """
    others = tuple(arm for arm in pretrained_arms(a) if arm not in RECIPE_ARMS)
    starts = ("random", *(("imagenet",) if a.imagenet else ()), *RECIPE_ARMS)
    first, *rest = a.sets
    seeds = range(a.seeds)
    for seed in seeds:
        yield from _pretraining(a, recipe, steps, first, (*RECIPE_ARMS, *others), seed)
        for set_ in rest:
            yield from _pretraining(a, recipe, steps, set_, RECIPE_ARMS, seed)
        yield from _judging("probe", a, out, recipe, first, (*starts, *others), seed)
        for set_ in rest:
            yield from _judging("probe", a, out, recipe, set_, starts, seed)
        for set_ in a.sets:
            yield from _judging("finetune", a, out, recipe, set_, starts, seed)
        if seed == 0:
            yield from (_picture(a, out, recipe, set_) for set_ in a.sets)
    for seed in seeds:
        for set_ in rest:
            yield from _pretraining(a, recipe, steps, set_, others, seed)
            yield from _judging("probe", a, out, recipe, set_, others, seed)
    for seed in seeds:
        for set_ in a.sets:
            yield from _judging("finetune", a, out, recipe, set_, others, seed)
    if a.all_labels:
        every = (*starts, *others)
        for kind in ("probe", "finetune"):
            for seed in seeds:
                for set_ in a.sets:
                    yield from _judging(kind, a, out, recipe, set_, every, seed, labels="all")


def pretrained_arms(a: argparse.Namespace) -> tuple[str, ...]:
    return (*ARMS, *(EXTRA_ARMS if a.extra else ()), *(("imagenet-cp2",) if a.imagenet else ()))


def _pretraining(
    a: argparse.Namespace,
    recipe: dict[str, Any],
    steps: int,
    set_: str,
    arms: tuple[str, ...],
    seed: int,
) -> Iterator[Job]:
    for arm in arms:
        words = (*pretrain_words(a, recipe, set_, arm, seed), f"train.steps={steps}")
        yield Job("pretrain", f"{set_}/{arm}/seed{seed}", words)


def _judging(
    kind: str,
    a: argparse.Namespace,
    out: Path,
    recipe: dict[str, Any],
    set_: str,
    arms: tuple[str, ...],
    seed: int,
    labels: str = "few",
) -> Iterator[Job]:
    """Probes or fine-tuning of each arm; ``random`` is what those of that seed started from."""
    data = probe_data(a, set_)
    if labels == "all":
        data = probe_data(a, set_, labels=1.0, seeds=(0,))
    probe = pretrain_words(a, recipe, set_, "cp2", seed)
    finetune = finetune_words(a, recipe, set_, "train" if labels == "all" else f"few{seed}", seed)
    for arm in arms:
        start, needs = _start(a, out, set_, arm, seed)
        key = f"{set_}/{arm}/{labels}/seed{seed}"
        if kind == "probe":
            yield Job("probe", key, probe, start, data, needs)
        else:
            yield Job("finetune", key, finetune, start, needs=needs)


def _start(
    a: argparse.Namespace, out: Path, set_: str, arm: str, seed: int
) -> tuple[str | None, tuple[str, ...]]:
    """The weights of an arm, and the job that they come from."""
    if arm == "random":
        return None, ()
    if arm == "imagenet":
        return str(a.imagenet), ()
    key = f"{set_}/{arm}/seed{seed}"
    return str(out / "runs" / key), (f"pretrain-{key}",)


def _picture(a: argparse.Namespace, out: Path, recipe: dict[str, Any], set_: str) -> Job:
    """What the linear probes of the first seed's arms make of photos of ``val``."""
    words = pretrain_words(a, recipe, set_, "cp2", 0)
    starts = {arm: _start(a, out, set_, arm, 0) for arm in ("random", *RECIPE_ARMS)}
    begun = tuple((arm, start) for arm, (start, _) in starts.items())
    data = (*probe_data(a, set_, seeds=(0,), places=("backbone",)), ("starts", begun))
    needs = tuple(name for _, names in starts.values() for name in names)
    return Job("picture", set_, words, data=data, needs=needs)
