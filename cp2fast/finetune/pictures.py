"""The pictures of a fine-tuning: crops, curves, confusion matrix and predictions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from cp2fast.config import FinetuneSettings
from cp2fast.figure import save_figure
from cp2fast.finetune.inference import segment
from cp2fast.finetune.loader import CropBatch
from cp2fast.labels.classes import palette_of
from cp2fast.labels.dataset import LabelledData, evenly, read_example
from cp2fast.labels.pictures import draw_grid
from cp2fast.model.segmenter import Segmenter

_MANY_CLASSES = 12
"""With more classes, the cells of the confusion picture are too small for numbers."""


CURVES = {
    "loss": ("loss",),
    "evaluation": ("miou", "dice", "boundary_f", "pixel_accuracy"),
    "learning rate": ("lr",),
    "images/s": ("images_per_second",),
}
"""Panels that ``train.curves`` draws for a fine-tuning."""


def draw_crops(
    batch: CropBatch, network: Segmenter, data: LabelledData, path: Path, count: int = 6
) -> None:
    """Draw the first ``count`` crops, as ``network`` sees them, each above its labels."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (network.mean, network.std))
    images = (batch.images[:count].float().cpu() * std + mean).clamp(0, 1).permute(0, 2, 3, 1)
    labels = palette_of(data.colours)[batch.labels[:count].cpu().numpy()]
    titles = {(0, 0): "crop", (1, 0): "labels"}
    draw_grid([list(images.numpy()), list(labels)], titles, path, data)


@torch.no_grad()
def draw_predictions(
    network: Segmenter,
    data: LabelledData,
    settings: FinetuneSettings,
    device: torch.device,
    path: Path,
    count: int = 6,
) -> None:
    """Draw images spread over the evaluated split: photo, labels and prediction."""
    palette, columns = palette_of(data.colours), []
    network.eval()
    for example in evenly(data.val, count):
        image, labels = read_example(example, data)
        predicted = segment(network, image[None].to(device), settings)[0].cpu()
        columns.append([image.numpy(), palette[labels.numpy()], palette[predicted.numpy()]])
    titles = {(0, 0): "image", (1, 0): "labels", (2, 0): "predicted"}
    draw_grid(list(zip(*columns, strict=True)), titles, path, data)


def draw_confusion(confusion_KK: Tensor, classes: Sequence[str], path: Path) -> None:
    """Draw the confusion matrix; each row shows shares of a true class's pixels."""
    confusion = confusion_KK.double().cpu()
    share = (confusion / confusion.sum(dim=1, keepdim=True).clamp(min=1)).numpy()
    side = 2.5 + 0.35 * len(classes)
    figure = Figure(figsize=(side, side), layout="constrained")
    axis = figure.subplots()
    axis.imshow(share, vmin=0, vmax=1, cmap="Blues")
    axis.set_xticks(range(len(classes)), list(classes), rotation=90, fontsize=7)
    axis.set_yticks(range(len(classes)), list(classes), fontsize=7)
    axis.set_xlabel("predicted", fontsize=8)
    axis.set_ylabel("true", fontsize=8)
    if len(classes) <= _MANY_CLASSES:
        for row, column in np.ndindex(share.shape):
            value = share[row, column]
            colour = "white" if value > 0.5 else "black"
            axis.text(
                column, row, f"{value:.0%}", ha="center", va="center", fontsize=6, color=colour
            )
    save_figure(figure, path)
