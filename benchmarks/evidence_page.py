"""Tables in Markdown and a chart of what evidence.py found.

python benchmarks/evidence_page.py benchmarks/results/evidence_h100.json [CHART.png]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from evidence_report import Spread, difference, spread
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

NAMES = {
    "random": "random",
    "cp2": "CP2",
    "no-dense": "no dense loss",
    "no-paste": "MoCo v2",
    "dense-5": "CP2, dense weight 5",
    "imagenet": "ImageNet",
    "imagenet-cp2": "ImageNet, CP2",
}
COLOURS = {"random": "#7a828c", "cp2": "#1769e0", "no-dense": "#12a150", "no-paste": "#e8590c"}
SIGNALS = {
    "loss_instance": "instance loss",
    "loss_dense": "dense loss",
    "similarity_gap": "similarity gap",
    "effective_rank": "rank of instance vectors",
    "effective_rank_dense": "of dense features",
}


def markdown(content: dict[str, Any]) -> Iterator[str]:
    """All tables, each with an empty line behind it."""
    for table in (recipe_table, finetune_table, comparison_tables, signals_table):
        yield from table(content)
        yield ""


def recipe_table(content: dict[str, Any]) -> Iterator[str]:
    """What was tried, best first; the gain is over each arm's own base, paired by draw."""
    rows = {row["change"]: row for row in content["recipe"]}
    if "base" not in rows:
        return
    base = rows["base"]["arms"]
    yield "| change | CP2 | MoCo v2 | over the base, mean | steps |"
    yield "|---|---|---|---|---|"
    for name, row in rows.items():
        arms = row["arms"]
        tried = [arm for arm in arms if arm in base]
        cells = [_of(arms[arm]["linear"]) if arm in arms else "" for arm in ("cp2", "no-paste")]
        gain, steps = "", ""
        if tried:
            gained = [
                100 * fmean(arms[arm]["draws"][n] - base[arm]["draws"][n] for arm in tried)
                for n in range(len(base["cp2"]["draws"]))
            ]
            gain = "" if name == "base" else f"{fmean(gained):+.1f} ± {stdev(gained):.1f}"
            steps = str(arms[tried[0]].get("steps", ""))
        elif "random" in arms:
            cells = [_of(arms["random"]["linear"])] * 2
        yield f"| `{name}` | {' | '.join(cells)} | {gain} | {steps} |"


def finetune_table(content: dict[str, Any]) -> Iterator[str]:
    rows = content["recipe_finetune"]
    if not rows:
        return
    arms = [arm for arm in NAMES if any(arm in row["arms"] for row in rows)]
    yield f"| fine-tuning | {' | '.join(NAMES[arm] for arm in arms)} |"
    yield "|---" * (len(arms) + 1) + "|"
    for row in rows:
        yield f"| `{row['change']}` | {' | '.join(_of(row['arms'].get(arm)) for arm in arms)} |"


def comparison_tables(content: dict[str, Any]) -> Iterator[str]:
    """Of each set: the means, and the differences with their spreads over draws and seeds."""
    for set_ in sorted({one["set"] for one in content["comparisons"]}):
        judged = [one for one in content["comparisons"] if one["set"] == set_]
        arms = [arm for arm in NAMES if any(arm in one["miou"] for one in judged)]
        yield f"**{set_}**"
        yield ""
        names = " | ".join(NAMES[arm] for arm in arms)
        yield f"| labels | judge | {names} | CP2 over random | CP2 over MoCo v2 | pretrainings |"
        yield "|---" * (len(arms) + 5) + "|"
        for one in judged:
            miou = one["miou"]
            means = [_of(spread(miou[arm]).mean) if arm in miou else "" for arm in arms]
            cp2 = miou.get("cp2", {})
            over = [difference(cp2, miou.get(base, {})) for base in ("random", "no-paste")]
            pairs = over[0].seeds if over[0] else 0
            cells = [one["labels"], one["judge"], *means, *map(_difference, over), str(pairs)]
            yield f"| {' | '.join(cells)} |"
        yield ""


def signals_table(content: dict[str, Any]) -> Iterator[str]:
    """Means of the last tenth of the pretrainings of each arm, over its seeds."""
    if not content["signals"]:
        return
    yield f"| set, arm | {' | '.join(SIGNALS.values())} | pretrainings |"
    yield "|---" * (len(SIGNALS) + 2) + "|"
    by_arm: dict[tuple[str, str], list[dict[str, float]]] = {}
    for key, last in content["signals"].items():
        set_, arm, _ = key.split("/")
        by_arm.setdefault((set_, arm), []).append(last)
    for (set_, arm), each in by_arm.items():
        cells = []
        for name in SIGNALS:
            is_of_pasting = name in ("loss_dense", "similarity_gap")
            digits = 1 if "rank" in name else 2
            value = f"{fmean(last[name] for last in each):.{digits}f}"
            cells.append("" if is_of_pasting and arm == "no-paste" else value)
        yield f"| {set_}, {NAMES[arm]} | {' | '.join(cells)} | {len(each)} |"


def draw(contents: dict[str, dict[str, Any]], path: Path) -> None:
    """With few labels: every draw as a dot, the mean of each arm as a line, a row a machine."""
    sets = sorted({one["set"] for content in contents.values() for one in content["comparisons"]})
    figure = Figure(figsize=(4.8 * len(sets), 3.6 * len(contents)), layout="constrained")
    axes = figure.subplots(len(contents), len(sets), squeeze=False)
    named: set[str] = set()
    for row, (machine, content) in zip(axes, contents.items(), strict=True):
        for axis, set_ in zip(row, sets, strict=True):
            of_set = [one for one in content["comparisons"] if one["set"] == set_]
            judged = [one for one in of_set if one["labels"] == "1/8" and len(one["miou"]) > 1]
            axis.set_visible(bool(judged))
            for height, one in enumerate(judged):
                arms = [arm for arm in NAMES if arm in one["miou"]]
                for number, arm in enumerate(arms):
                    at = height + 0.17 * (number - (len(arms) - 1) / 2)
                    values = one["miou"][arm]
                    dots = [100 * v for draws in values.values() for v in draws.values()]
                    colour = COLOURS.get(arm, "black")
                    axis.plot(dots, [at] * len(dots), "o", ms=3, alpha=0.4, color=colour)
                    label = None if arm in named else NAMES[arm]
                    named.add(arm)
                    mean = 100 * spread(values).mean
                    axis.plot(mean, at, "|", ms=11, mew=2.5, color=colour, label=label)
            axis.set_yticks(range(len(judged)), [one["judge"] for one in judged], fontsize=8)
            axis.invert_yaxis()
            axis.set_xlabel("mIoU on val, %", fontsize=8)
            axis.set_title(f"{set_}, 1/8 of the labels, {machine}", fontsize=9, loc="left")
            axis.tick_params(labelsize=8)
    figure.legend(loc="outside lower left", ncols=6, fontsize=8, frameon=False)
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=100)


def _difference(found: Spread | None) -> str:
    """Mean, standard deviation over draws, and over pretrainings where there are several."""
    if found is None:
        return ""
    spreads = [found.over_draws, found.over_seeds]
    of = [f"{100 * each:.1f}" if each is not None else "-" for each in spreads]
    return f"{100 * found.mean:+.1f} ({', '.join(of)})"


def _of(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


if __name__ == "__main__":
    *files, chart = [Path(word) for word in sys.argv[1:]]
    if chart.suffix == ".json":
        files.append(chart)
    read = {file.stem.removeprefix("evidence_"): json.loads(file.read_text()) for file in files}
    for name, content in read.items():
        print("\n".join([f"## {name}", "", *markdown(content)]))
    if chart.suffix != ".json":
        draw(read, chart)
