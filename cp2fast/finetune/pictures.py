"""The pictures of a fine-tuning: crops, curves, confusion matrix and predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray
from torch import Tensor

from cp2fast.config import FinetuneSettings, Rgb
from cp2fast.figure import save_figure
from cp2fast.finetune.inference import segment
from cp2fast.finetune.loader import CropBatch
from cp2fast.labels.classes import palette_of
from cp2fast.labels.coding import IGNORED
from cp2fast.labels.dataset import LabelledData, evenly, read_example
from cp2fast.model.segmenter import Segmenter

_MANY_CLASSES = 12
"""With more classes, the cells of the confusion picture are too small for numbers."""
_CLASSES_A_LINE = 7
"""Classes per line of a legend."""
_MOST_NAMED = 42
"""Most classes in a legend."""


CURVES = {
    "loss": ("loss",),
    "evaluation": ("miou", "dice", "boundary_f", "pixel_accuracy"),
    "learning rate": ("lr",),
    "images/s": ("images_per_second",),
}
"""Panels that ``train.curves`` draws for a fine-tuning."""


def overlay(
    image_HW3: NDArray[np.uint8], labels_HW: NDArray[Any], colours: Sequence[Rgb] = ()
) -> NDArray[np.uint8]:
    """Blend the labels, in the colours of their classes, half transparently over the image.

    Args:
        image_HW3: RGB image, uint8.
        labels_HW: integers from 0 to 255; where the class is ignored (255) or black, such as
            VOC's background, the image is unchanged.
        colours: colours by label; VOC's if empty.

    Returns:
        uint8 ``[H, W, 3]``.
    """
    palette = palette_of(colours)
    mixed = (image_HW3.astype(np.uint16) + palette[labels_HW]) // 2
    clear = ((palette[labels_HW] == 0).all(axis=-1) | (labels_HW == IGNORED))[..., None]
    return np.where(clear, image_HW3, mixed).astype(np.uint8)


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


def draw_grid(
    rows: Sequence[Sequence[NDArray[Any]]],
    titles: Mapping[tuple[int, int], str],
    path: Path,
    data: LabelledData | None = None,
    cell: tuple[float, float] = (2, 2.1),
) -> None:
    """Draw rows of pictures, and below them the legend of the classes.

    Args:
        rows: pictures that matplotlib shows, row by row.
        titles: titles by row and column.
        path: the file, replaced atomically.
        data: data set with the classes; without it there is no legend.
        cell: width and height of a picture with its title, in inches.
    """
    width, height = cell
    columns = len(rows[0])
    size = (width * columns, height * len(rows) + (0.6 if data is not None else 0))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for row, pictures in zip(axes, rows, strict=True):
        for axis, picture in zip(row, pictures, strict=True):
            axis.imshow(picture, interpolation="nearest")
    for place, title in titles.items():
        axes[place].set_title(title[-32:], fontsize=8, loc="left")
    if data is not None:
        _draw_legend(figure, data)
    save_figure(figure, path)


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


def _draw_legend(figure: Figure, data: LabelledData) -> None:
    """Name the colours of the first classes, and of what is ignored, below a figure."""
    palette = palette_of(data.colours) / 255
    named = [*enumerate(data.classes[:_MOST_NAMED]), (IGNORED, "ignored")]
    figure.legend(
        handles=[Patch(color=tuple(palette[label]), label=name) for label, name in named],
        loc="outside lower left",
        ncols=_CLASSES_A_LINE,
        fontsize=7,
        frameon=False,
    )
