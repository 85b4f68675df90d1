"""What evidence.py found, from the results of its jobs: means, deviations, paired differences."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from rich.console import Console
from rich.table import Table

Judged = dict[tuple[str, str, str], dict[str, dict[str, float]]]
"""By (set, labels, judge): by arm: mIoU by seed."""


def read_results(out: Path) -> list[dict[str, Any]]:
    files = sorted((out / "results").rglob("*.json"))
    return [json.loads(file.read_text()) for file in files]


def judged(results: Iterable[dict[str, Any]], by_draw: bool = False) -> Judged:
    """By what was judged, arm and seed: the mIoU, of a probe the mean over its draws of labels.

    Draws of labels judge the same weights, so they are no pairs of their own; ``by_draw`` keeps
    them apart for the spread that they alone make.
    """
    found: dict[tuple[str, str, str], dict[str, dict[str, list[float]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    for set_, arm, labels, judge, seed, draw, miou in _values(results):
        found[set_, labels, judge][arm][seed + draw if by_draw else seed].append(miou)
    return {
        key: {
            arm: {seed: fmean(draws) for seed, draws in by_seed.items()}
            for arm, by_seed in by_arm.items()
        }
        for key, by_arm in found.items()
    }


def _values(
    results: Iterable[dict[str, Any]],
) -> Iterator[tuple[str, str, str, str, str, str, float]]:
    for result in results:
        job = result["job"]
        if job["kind"] == "probe":
            set_, arm, seed = job["key"].split("/")
            for one in result["probes"]:
                labels = "1/8" if one["labels"] < 1 else "all"
                for judge in ("knn", "linear"):
                    name, draw = f"{judge} probe, {one['place']}", f" labels{one['seed']}"
                    yield set_, arm, labels, name, seed, draw, one[judge]
        elif job["kind"] == "finetune":
            set_, arm, labels, seed = job["key"].split("/")
            share = "1/8" if labels == "few" else "all"
            yield set_, arm, share, "fine-tuning", seed, "", result["miou"]


def compare(by_arm: dict[str, dict[str, float]], base: str, arms: Iterable[str]) -> dict[str, Any]:
    """Each arm's mean and deviation, and its differences from ``base`` seed by seed."""
    rows = {}
    for arm in arms:
        values = by_arm.get(arm, {})
        if not values:
            continue
        paired = [
            values[seed] - by_arm[base][seed] for seed in values if seed in by_arm.get(base, {})
        ]
        rows[arm] = {
            "miou": values,
            "mean": fmean(values.values()),
            "deviation": _deviation(list(values.values())),
            f"over_{base}": fmean(paired) if paired and arm != base else None,
            f"over_{base}_deviation": _deviation(paired) if arm != base else None,
            "pairs": len(paired),
        }
    return rows


def report(out: Path, arms: list[str]) -> dict[str, Any]:
    """All comparisons, from random weights and from the arm without paste, and the signals."""
    results = read_results(out)
    final = [result for result in results if not _is_recipe(result)]
    table, draws = judged(final), judged(final, by_draw=True)
    comparisons = [
        {
            "set": key[0],
            "labels": key[1],
            "judge": key[2],
            "arms": compare(by_arm, "random", arms),
            "cp2_over_no_paste": compare(by_arm, "no-paste", ["cp2"]).get("cp2"),
            "by_draw_of_labels": {
                "arms": compare(draws[key], "random", arms),
                "cp2_over_no_paste": compare(draws[key], "no-paste", ["cp2"]).get("cp2"),
            },
        }
        for key, by_arm in sorted(table.items())
    ]
    signals = {r["job"]["key"]: r["last"] for r in results if r["job"]["kind"] == "pretrain"}
    return {
        "comparisons": comparisons,
        "signals": signals,
        "recipe": recipe_rows(results),
        "recipe_finetune": finetune_rows(results),
    }


def recipe_rows(results: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """What was tried for the recipe: probes on the last quarter of train, by arm, and the cost."""
    rows: dict[str, dict[str, Any]] = {}
    for result in results:
        if result["job"]["kind"] == "trial":
            _, change, arm = result["job"]["key"].split("/")
            row = rows.setdefault(change, {"change": change, "arms": {}})
            probes = result["probes"]
            row["arms"][arm] = {j: fmean(p[j] for p in probes) for j in ("linear", "knn")}
            row["arms"][arm] |= {
                "draws": [p["linear"] for p in probes],
                "steps": result["steps"],
                "seconds": result["pretrain_seconds"],
                "signals": result["last"],
            }
    for row in rows.values():
        row["linear"] = fmean(arm["linear"] for arm in row["arms"].values())
    return sorted(rows.values(), key=lambda row: -row["linear"])


def finetune_rows(results: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """What was tried for fine-tuning, on the same images: mIoU by start."""
    rows: dict[str, dict[str, Any]] = {}
    for result in results:
        if result["job"]["kind"] == "finetune" and _is_recipe(result):
            _, change, arm = result["job"]["key"].split("/")
            row = rows.setdefault(change, {"change": change, "arms": {}})
            row["arms"][arm] = result["miou"]
    most = max((len(row["arms"]) for row in rows.values()), default=0)
    for row in rows.values():
        is_whole = len(row["arms"]) == most
        row["miou"] = fmean(row["arms"].values()) if is_whole else None
    return sorted(rows.values(), key=lambda row: -(row["miou"] or 0))


def show(content: dict[str, Any], console: Console) -> None:
    for row in content["recipe"]:
        each = ", ".join(f"{arm} {found['linear']:.1%}" for arm, found in row["arms"].items())
        console.print(f"recipe {row['change']:32} linear {row['linear']:.1%} ({each})")
    for row in content["recipe_finetune"]:
        each = ", ".join(f"{arm} {miou:.1%}" for arm, miou in row["arms"].items())
        console.print(f"fine-tuning {row['change']:27} {each}")
    for one in content["comparisons"]:
        title = f"{one['set']}, {one['labels']} of the labels, {one['judge']}: mIoU"
        table = Table("arm", "mean", "σ", "over random", "σ of the differences", title=title)
        for arm, row in one["arms"].items():
            table.add_row(
                arm,
                f"{row['mean']:.1%}",
                _percent(row["deviation"]),
                _percent(row["over_random"], "+"),
                _percent(row["over_random_deviation"]),
            )
        console.print(table)
        against = one["cp2_over_no_paste"]
        if against and against["over_no-paste"] is not None:
            console.print(
                f"cp2 over no-paste: {against['over_no-paste']:+.1%} "
                f"(σ {_percent(against['over_no-paste_deviation'])}, {against['pairs']} pairs)"
            )


def _is_recipe(result: dict[str, Any]) -> bool:
    return bool(result["job"]["key"].startswith("recipe/"))


def _percent(value: float | None, sign: str = "") -> str:
    return "" if value is None else f"{value:{sign}.1%}"


def _deviation(values: list[float]) -> float | None:
    return stdev(values) if len(values) > 1 else None
