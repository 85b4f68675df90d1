"""The pictures of a run: what the network sees, and how the training went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from cp2fast.batch import CopyPasteBatch
from cp2fast.config import AugmentSettings
from cp2fast.run_folder import atomic_write
from cp2fast.train.shares_picture import draw_shares

_FEW_POINTS = 30
"""A line through so few logged steps shows them as dots too; through one it shows nothing."""


def draw_pairs(batch: CopyPasteBatch, path: Path, augment: AugmentSettings, count: int = 6) -> None:
    """Draw the first ``count`` composed pairs, query above key, with the foreground outlined."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (augment.mean, augment.std))
    count = min(count, len(batch))
    figure = Figure(figsize=(2 * count, 4.2), layout="constrained")
    axes = figure.subplots(2, count, squeeze=False)
    rows = (("query", batch.query, batch.query_mask), ("key", batch.key, batch.key_mask))
    for row, (name, images, masks) in enumerate(rows):
        for column in range(count):
            axis = axes[row, column]
            image = images[column].float().cpu() * std + mean
            axis.imshow(image.clamp(0, 1).permute(1, 2, 0).numpy(), interpolation="nearest")
            axis.add_patch(_outline(masks[column].cpu()))
            axis.set_axis_off()
            axis.set_title(f"{name} {column}", fontsize=8)
    _save(figure, path)


def draw_curves(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw losses, accuracies, similarity gap and speed over the steps of ``metrics.jsonl``."""
    figure = Figure(figsize=(10, 6), layout="constrained")
    panels = {
        "loss": ("loss", "loss_instance"),
        "dense loss": ("loss_dense",),
        "accuracy": ("accuracy_instance", "accuracy_dense"),
        "similarity gap": ("similarity_gap",),
        "images/s": ("images_per_second",),
    }
    marker = "o" if len(rows) <= _FEW_POINTS else None
    axes = figure.subplots(2, 3).flat
    draw_shares(axes[-1], rows)
    for axis, (title, names) in zip(axes, panels.items(), strict=False):
        for name in names:
            here = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
            steps, values = [step for step, _ in here], [value for _, value in here]
            axis.plot(steps, values, label=name, linewidth=1, marker=marker, markersize=3)
        axis.set_title(title, fontsize=9, loc="left")
        axis.set_xlabel("step", fontsize=8)
        axis.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
        axis.tick_params(labelsize=7)
        if len(names) > 1:
            _legend_beside_title(axis)
    _save(figure, path)


def _legend_beside_title(axis: Axes) -> None:
    """Above the panel, where no curve can be."""
    axis.legend(
        loc="lower right",
        bbox_to_anchor=(1, 1),
        ncols=2,
        fontsize=7,
        frameon=False,
        handlelength=1,
        columnspacing=0.8,
        handletextpad=0.4,
        borderaxespad=0.2,
    )


def _outline(mask_SS: torch.Tensor) -> Rectangle:
    rows, columns = mask_SS.any(1).nonzero().flatten(), mask_SS.any(0).nonzero().flatten()
    top, left = int(rows[0]), int(columns[0])
    height, width = int(rows[-1]) - top + 1, int(columns[-1]) - left + 1
    return Rectangle((left - 0.5, top - 0.5), width, height, fill=False, edgecolor="yellow")


def _save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=100)
