"""The pictures of a pretraining: the network's input, and the course of the training."""

from __future__ import annotations

from pathlib import Path

import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cp2fast.batch import CopyPasteBatch
from cp2fast.config import AugmentSettings
from cp2fast.figure import save_figure

CURVES = {
    "loss": ("loss", "loss_instance"),
    "dense loss": ("loss_dense",),
    "accuracy": ("accuracy_instance", "accuracy_dense"),
    "similarity gap": ("similarity_gap",),
    "images/s": ("images_per_second",),
}
"""Panels that ``train.curves`` draws for a pretraining."""


def draw_pairs(batch: CopyPasteBatch, path: Path, augment: AugmentSettings, count: int = 6) -> None:
    """Draw the first ``count`` composed pairs, query above key, with outlined foreground."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (augment.mean, augment.std))
    count = min(count, len(batch))
    figure = Figure(figsize=(2 * count, 4.2))
    figure.subplots_adjust(0.01, 0.01, 0.99, 0.95, wspace=0.04, hspace=0.12)
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
    save_figure(figure, path)


def _outline(mask_SS: torch.Tensor) -> Rectangle:
    rows, columns = mask_SS.any(1).nonzero().flatten(), mask_SS.any(0).nonzero().flatten()
    top, left = int(rows[0]), int(columns[0])
    height, width = int(rows[-1]) - top + 1, int(columns[-1]) - left + 1
    return Rectangle((left - 0.5, top - 0.5), width, height, fill=False, edgecolor="yellow")
