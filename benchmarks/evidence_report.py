"""What evidence.py found: mIoU by arm, pretraining and draw of labels, and what follows from it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from statistics import fmean, stdev, variance
from typing import Any

Values = dict[str, dict[str, float]]
"""Of one arm and one judge: mIoU by seed of the pretraining and draw of the labels."""


@dataclass(frozen=True)
class Spread:
    """A mean and its two spreads, which have different causes.

    Attributes:
        mean: over the pretrainings, of each the mean over its draws.
        over_draws: standard deviation over the draws of labels, for one pretraining (pooled);
            None with one draw.
        over_seeds: standard deviation of the means of the pretrainings; None with one.
        seeds: number of pretrainings.
    """

    mean: float
    over_draws: float | None
    over_seeds: float | None
    seeds: int


def spread(values: Values) -> Spread:
    """Mean and spreads of some values or of some paired differences."""
    draws = [list(by_draw.values()) for by_draw in values.values()]
    means = [fmean(each) for each in draws]
    variances = [variance(each) for each in draws if len(each) > 1]
    return Spread(
        fmean(means),
        sqrt(fmean(variances)) if variances else None,
        stdev(means) if len(means) > 1 else None,
        len(means),
    )


def difference(of: Values, base: Values) -> Spread | None:
    """Of ``of`` over ``base``, paired by pretraining and draw; None without pairs."""
    pairs = {
        seed: {draw: value - base[seed][draw] for draw, value in draws.items()}
        for seed, draws in of.items()
        if seed in base and draws.keys() == base[seed].keys()
    }
    return spread(pairs) if pairs else None


def report(out: Path) -> dict[str, Any]:
    """All that the jobs of a folder found."""
    files = sorted((out / "results").rglob("*.json"))
    results = [json.loads(file.read_text()) for file in files]
    tried = [result for result in results if result["job"]["key"].startswith("recipe/")]
    final = [result for result in results if not result["job"]["key"].startswith("recipe/")]
    return {
        "comparisons": comparisons(final),
        "signals": {r["job"]["key"]: r["last"] for r in final if r["job"]["kind"] == "pretrain"},
        "recipe": recipe_rows(tried),
        "recipe_finetune": finetune_rows(tried),
    }


def comparisons(results: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """By set, share of labels and judge: the values of each arm."""
    found: dict[tuple[str, str, str], dict[str, Values]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(dict))
    )
    for set_, labels, judge, arm, seed, draw, miou in _values(results):
        found[set_, labels, judge][arm][seed][draw] = miou
    return [
        {"set": key[0], "labels": key[1], "judge": key[2], "miou": by_arm}
        for key, by_arm in sorted(found.items())
    ]


def _values(
    results: Iterable[dict[str, Any]],
) -> Iterator[tuple[str, str, str, str, str, str, float]]:
    for result in results:
        if result["job"]["kind"] not in ("probe", "finetune"):
            continue
        set_, arm, labels, seed = result["job"]["key"].split("/")
        share = {"few": "1/8", "all": "all"}[labels]
        for one in result.get("probes", ()):
            for judge, name in (("linear", "linear"), ("knn", "k-NN")):
                draw = f"labels{one['seed']}"
                yield set_, share, f"{name}, {one['place']}", arm, seed, draw, one[judge]
        if "miou" in result:
            yield set_, share, "fine-tuning", arm, seed, seed, result["miou"]


def recipe_rows(results: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """What was tried for the recipe, the best first: linear probes by arm, cost and signals."""
    rows: dict[str, dict[str, Any]] = {}
    for result in results:
        job, probes = result["job"], result.get("probes")
        if probes:
            _, change, *arm = job["key"].split("/")
            row = rows.setdefault(change, {"change": change, "arms": {}})
            found = {j: fmean(p[j] for p in probes) for j in ("linear", "knn")}
            row["arms"][arm[0] if arm else "random"] = found | {
                "draws": [p["linear"] for p in probes],
                "cpu_seconds": result["cpu_seconds"],
                **{key: result[key] for key in ("steps", "last") if key in result},
            }
    for row in rows.values():
        row["linear"] = fmean(arm["linear"] for arm in row["arms"].values())
    return sorted(rows.values(), key=lambda row: -row["linear"])


def finetune_rows(results: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """What was tried for fine-tuning: mIoU by start."""
    rows: dict[str, dict[str, Any]] = {}
    for result in results:
        if result["job"]["kind"] == "finetune":
            _, change, arm = result["job"]["key"].split("/")
            row = rows.setdefault(change, {"change": change, "arms": {}})
            row["arms"][arm] = result["miou"]
    return list(rows.values())
