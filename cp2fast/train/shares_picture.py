"""The time accounts of a run as a panel of its curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from cp2fast.train.accounts import ACCOUNTS

_COLOURS = {
    "step": "#1f77b4",
    "data": "#ff7f0e",
    "save": "#2ca02c",
    "evaluate": "#9467bd",
    "log": "#8c564b",
    "start": "#c7c7c7",
}


def draw_shares(axis: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    """Stack the shares of ``time`` over the steps, the step's own lowest.

    Args:
        axis: drawn in.
        rows: of ``metrics.jsonl``; those without ``time``, of an older version, are left out.
    """
    timed = [row for row in rows if "time" in row]
    order = ["step", *(account for account in ACCOUNTS if account != "step")]
    # A row's shares hold from the row before to it: steps of a staircase.
    axis.stackplot(
        [0, *(row["step"] for row in timed)],
        *([0.0, *(row["time"].get(account, 0.0) for row in timed)] for account in order),
        labels=order,
        colors=[_COLOURS[account] for account in order],
        step="pre",
    )
    axis.set_ylim(0, 1)
    axis.set_title("time", fontsize=9, loc="left")
    axis.set_xlabel("step", fontsize=8)
    axis.tick_params(labelsize=7)
    axis.legend(
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
