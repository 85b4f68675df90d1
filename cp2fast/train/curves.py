"""``curves.png``: the metrics of a run over its steps, and where its time went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cp2fast.figure import save_figure
from cp2fast.train.accounts import ACCOUNTS

_FEW_POINTS = 30
"""Up to this many logged steps are also drawn as dots: a line through one point is invisible."""

_COLOURS = {
    "step": "#1f77b4",
    "data": "#ff7f0e",
    "save": "#2ca02c",
    "evaluate": "#9467bd",
    "log": "#8c564b",
    "start": "#c7c7c7",
}


def draw_curves(
    rows: Sequence[Mapping[str, Any]], panels: Mapping[str, Sequence[str]], path: Path
) -> None:
    """Draw up to five panels of metrics, and the shares of time in the sixth.

    Args:
        rows: rows of ``metrics.jsonl``.
        panels: names of the metrics in each panel, by its title.
        path: path of the PNG.
    """
    figure = Figure(figsize=(10, 6), layout="constrained")
    axes = list(figure.subplots(2, 3).flat)
    for axis, (title, names) in zip(axes, panels.items(), strict=False):
        for name in names:
            here = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
            steps, values = [step for step, _ in here], [value for _, value in here]
            marker = "o" if len(here) <= _FEW_POINTS else None
            axis.plot(steps, values, label=name, linewidth=1, marker=marker, markersize=3)
        axis.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
        _label(axis, title, has_legend=len(names) > 1)
    for axis in axes[len(panels) : -1]:
        axis.set_axis_off()
    _draw_shares(axes[-1], rows)
    save_figure(figure, path)


def _draw_shares(axis: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    """Draw the shares of ``time``, stacked over the steps, with the step's own at the bottom."""
    timed = [row for row in rows if "time" in row]
    order = ["step", *(account for account in ACCOUNTS if account != "step")]
    # A row's shares cover the steps since the previous row, so draw them as stairs.
    axis.stackplot(
        [0, *(row["step"] for row in timed)],
        *([0.0, *(row["time"].get(account, 0.0) for row in timed)] for account in order),
        labels=order,
        colors=[_COLOURS[account] for account in order],
        step="pre",
    )
    axis.set_ylim(0, 1)
    _label(axis, "time", has_legend=True)


def _label(axis: Axes, title: str, has_legend: bool) -> None:
    axis.set_title(title, fontsize=9, loc="left")
    axis.set_xlabel("step", fontsize=8)
    axis.tick_params(labelsize=7)
    if not has_legend:
        return
    axis.legend(  # above the panel, so that it hides no curve
        loc="lower right",
        bbox_to_anchor=(1, 1),
        ncols=3,
        fontsize=6,
        frameon=False,
        handlelength=1,
        columnspacing=0.8,
        handletextpad=0.4,
        borderaxespad=0.2,
    )
