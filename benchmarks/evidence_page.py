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


def markdown(content: dict[str, Any]) -> Iterator[str]:
    if content["recipe"]:
        yield "| change | linear probe | CP2 | no paste |"
        yield "|---|---|---|---|"
        for row in content["recipe"]:
            arms = [row["arms"].get(arm, {}).get("linear") for arm in ("cp2", "no-paste")]
            yield f"| {row['change']} | {_of(row['linear'])} | {' | '.join(map(_of, arms))} |"
        yield ""
    for one in content["comparisons"]:
        yield f"**{one['set']}, {one['labels']} of the labels, {one['judge']}**"
        yield ""
        yield "| arm | mIoU | over random, pair by pair | pairs |"
        yield "|---|---|---|---|"
        for arm, row in one["arms"].items():
            over = _spread(row["over_random"], row["over_random_deviation"], "+")
            pairs = "" if arm == "random" else row["pairs"]
            yield f"| {arm} | {_spread(row['mean'], row['deviation'])} | {over} | {pairs} |"
        against = one["cp2_over_no_paste"]
        if against and against["over_no-paste"] is not None:
            over = _spread(against["over_no-paste"], against["over_no-paste_deviation"], "+")
            yield f"\nCP2 over no paste: {over}, {against['pairs']} pairs."
        yield ""


def draw(content: dict[str, Any], path: Path) -> None:
    """A row of panels a set and share of labels; in each, every value and the mean of each arm."""
    places = sorted({(one["set"], one["labels"]) for one in content["comparisons"]})
    figure = Figure(figsize=(4.2 * len(places), 4.2), layout="constrained")
    for axis, place in zip(figure.subplots(1, len(places), squeeze=False)[0], places, strict=True):
        judges = [one for one in content["comparisons"] if (one["set"], one["labels"]) == place]
        for row, one in enumerate(judges):
            for number, (arm, found) in enumerate(one["arms"].items()):
                height = row + 0.16 * (number - 1.5)
                values = [100 * value for value in found["miou"].values()]
                colour = COLOURS.get(arm, "black")
                axis.plot(values, [height] * len(values), "o", ms=3, alpha=0.35, color=colour)
                label = arm if row == 0 and place == places[0] else None
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


def _of(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


if __name__ == "__main__":
    report = json.loads(Path(sys.argv[1]).read_text())
    print("\n".join(markdown(report)))
    draw(report, Path(sys.argv[2]))
