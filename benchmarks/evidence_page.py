"""Tables and the chart of docs/evidence.md, from an evidence.json.

python benchmarks/evidence_page.py benchmarks/results/evidence_gpu.json docs/evidence.png
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

COLOURS = {"random": "#7a828c", "cp2": "#1769e0", "no-dense": "#12a150", "no-paste": "#e8590c"}


NAMES = {"random": "random", "cp2": "CP2", "no-dense": "no dense loss", "no-paste": "MoCo v2"}


def compared(content: dict[str, Any]) -> list[dict[str, Any]]:
    """What was judged on more than one arm: the rest compares nothing."""
    return [one for one in content["comparisons"] if len(one["arms"]) > 1]


def markdown(content: dict[str, Any]) -> Iterator[str]:
    yield from recipe_tables(content)
    for set_ in sorted({one["set"] for one in compared(content)}):
        judged = [one for one in compared(content) if one["set"] == set_]
        arms = [arm for arm in NAMES if any(arm in one["arms"] for one in judged)]
        yield f"**{set_}**"
        yield ""
        names = [NAMES[arm] for arm in arms]
        over = "CP2 over random | CP2 over MoCo v2 | pretrainings x draws"
        yield f"| labels | judge | {' | '.join(names)} | {over} |"
        yield "|---" * (len(arms) + 5) + "|"
        for one in judged:
            cp2 = one["arms"].get("cp2")
            pairs = cp2["pairs"] if cp2 else 0
            # One pretraining has no spread of its own: then it is that of the draws of labels.
            spread = one if pairs > 1 else one["by_draw_of_labels"]
            cells = [_spread(*_mean(spread["arms"].get(arm))) for arm in arms]
            over = _difference(spread["arms"].get("cp2"), "random")
            over_moco = _difference(spread["cp2_over_no_paste"], "no-paste")
            draws = one["by_draw_of_labels"]["arms"].get("cp2", {"pairs": 0})["pairs"]
            yield (
                f"| {one['labels']} | {one['judge']} | {' | '.join(cells)} | {over} | "
                f"{over_moco} | {pairs} x {draws // max(1, pairs)} |"
            )
        yield ""


def recipe_tables(content: dict[str, Any]) -> Iterator[str]:
    """What was tried, best first, and what it gave over the base."""
    base = next((row for row in content["recipe"] if row["change"] == "base"), None)
    if base:
        yield "| change | linear probe | over the base | CP2 | MoCo v2 | steps | seconds a run |"
        yield "|---|---|---|---|---|---|---|"
    for row in content["recipe"] if base else []:
        arms = [row["arms"].get(arm) for arm in ("cp2", "no-paste")]
        there = [arm for arm in arms if arm]
        alone = [base["arms"]["cp2"]["linear"]] if len(there) == 1 else [base["linear"]]
        over = f"{100 * (row['linear'] - alone[0]):+.1f}"
        each = " | ".join(_of(arm["linear"]) if arm else "" for arm in arms)
        seconds = max(arm["seconds"] for arm in there)
        yield (
            f"| `{row['change']}` | {_of(row['linear'])} | {over} | {each} | "
            f"{there[0]['steps']} | {seconds:.0f} |"
        )
    yield ""
    if content.get("recipe_finetune"):
        yield "| fine-tuning | random | CP2 | MoCo v2 | mean |"
        yield "|---|---|---|---|---|"
    for row in content.get("recipe_finetune", []):
        each = " | ".join(_of(row["arms"].get(arm)) for arm in ("random", "cp2", "no-paste"))
        yield f"| `{row['change']}` | {each} | {_of(row['miou'])} |"
    yield ""


def draw(content: dict[str, Any], path: Path) -> None:
    """A row of panels a set and share of labels; in each, every draw and the mean of each arm."""
    places = sorted({(one["set"], one["labels"]) for one in compared(content)})
    if not places:
        return
    named: set[str] = set()
    figure = Figure(figsize=(4.2 * len(places), 4.2), layout="constrained")
    for axis, place in zip(figure.subplots(1, len(places), squeeze=False)[0], places, strict=True):
        judges = [one for one in compared(content) if (one["set"], one["labels"]) == place]
        for row, one in enumerate(judges):
            draws = one["by_draw_of_labels"]["arms"]
            for number, (arm, found) in enumerate(draws.items()):
                height = row + 0.16 * (number - 1.5)
                values = [100 * value for value in found["miou"].values()]
                colour = COLOURS.get(arm, "black")
                axis.plot(values, [height] * len(values), "o", ms=3, alpha=0.35, color=colour)
                label = NAMES.get(arm, arm) if arm not in named else None
                named.add(arm)
                axis.plot(
                    100 * found["mean"], height, "|", ms=12, mew=2.5, color=colour, label=label
                )
        axis.set_yticks(range(len(judges)), [one["judge"] for one in judges], fontsize=8)
        axis.invert_yaxis()
        axis.set_xlabel("mIoU, %", fontsize=8)
        axis.set_title(f"{place[0]}, {place[1]} of the labels", fontsize=9, loc="left")
        axis.tick_params(labelsize=8)
    figure.legend(loc="outside lower left", ncols=6, fontsize=8, frameon=False)
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=100)


def _spread(mean: float | None, deviation: float | None, sign: str = "") -> str:
    if mean is None:
        return ""
    around = "" if deviation is None else f" ± {100 * deviation:.1f}"
    return f"{100 * mean:{sign}.1f}{around}"


def _mean(row: dict[str, Any] | None) -> tuple[float | None, float | None]:
    return (row["mean"], row["deviation"]) if row else (None, None)


def _difference(row: dict[str, Any] | None, base: str) -> str:
    return _spread(row[f"over_{base}"], row[f"over_{base}_deviation"], "+") if row else ""


def _of(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


if __name__ == "__main__":
    report = json.loads(Path(sys.argv[1]).read_text())
    print("\n".join(markdown(report)))
    draw(report, Path(sys.argv[2]))
