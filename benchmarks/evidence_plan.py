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

    Of each seed CP2 and MoCo v2 come first, judged with few labels; the rest of the arms on other
    sets than the first, and all labels, follow when every seed is done.
    """
    others = tuple(arm for arm in pretrained_arms(a) if arm not in RECIPE_ARMS)
    for seed in range(a.seeds):
        for set_ in a.sets:
            arms = (*RECIPE_ARMS, *(others if set_ == a.sets[0] else ()))
            yield from _pretraining(a, recipe, steps, set_, arms, seed)
        for set_ in a.sets:
            arms = (*RECIPE_ARMS, *(others if set_ == a.sets[0] else ()))
            yield from _judging(a, out, recipe, set_, arms, seed, "few")
        if seed == 0:
            yield from (_picture(a, out, recipe, set_) for set_ in a.sets)
    for seed in range(a.seeds):
        for set_ in a.sets[1:]:
            yield from _pretraining(a, recipe, steps, set_, others, seed)
            yield from _judging(a, out, recipe, set_, others, seed, "few")
    if a.all_labels:
        for seed in range(a.seeds):
            for set_ in a.sets:
                yield from _judging(a, out, recipe, set_, pretrained_arms(a), seed, "all")


def pretrained_arms(a: argparse.Namespace) -> tuple[str, ...]:
    return (*ARMS, *(("imagenet-cp2",) if a.imagenet else ()))


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
    a: argparse.Namespace,
    out: Path,
    recipe: dict[str, Any],
    set_: str,
    arms: tuple[str, ...],
    seed: int,
    labels: str,
) -> Iterator[Job]:
    """Probes of each arm and of the random weights that it started from, then fine-tuning."""
    words = pretrain_words(a, recipe, set_, "cp2", seed)
    data = probe_data(a, set_)
    if labels == "all":
        data = probe_data(a, set_, labels=1.0, seeds=(0,))
    finetune = finetune_words(a, recipe, set_, "train" if labels == "all" else f"few{seed}", seed)
    fresh: list[tuple[str, str | None, tuple[str, ...]]] = []
    if set(RECIPE_ARMS) & set(arms):
        fresh.append(("random", None, ()))
        fresh += [("imagenet", str(a.imagenet), ())] if a.imagenet else []
    for kind in ("probe", "finetune"):
        for arm, start, needs in (*fresh, *(_start(out, set_, arm, seed) for arm in arms)):
            key = f"{set_}/{arm}/{labels}/seed{seed}"
            if kind == "probe":
                yield Job("probe", key, words, start, data, needs)
            else:
                yield Job("finetune", key, finetune, start, needs=needs)


def _start(out: Path, set_: str, arm: str, seed: int) -> tuple[str, str, tuple[str, ...]]:
    key = f"{set_}/{arm}/seed{seed}"
    return arm, str(out / "runs" / key), (f"pretrain-{key}",)


def _picture(a: argparse.Namespace, out: Path, recipe: dict[str, Any], set_: str) -> Job:
    """What the linear probes of the first seed's arms make of photos of ``val``."""
    words = pretrain_words(a, recipe, set_, "cp2", 0)
    starts = [_start(out, set_, arm, 0) for arm in RECIPE_ARMS]
    begun = (("random", None), *((arm, start) for arm, start, _ in starts))
    data = (*probe_data(a, set_, seeds=(0,), places=("backbone",)), ("starts", begun))
    return Job("picture", set_, words, data=data, needs=tuple(n for *_, ns in starts for n in ns))
