"""The picture of a comparison by probes: photos, their masks, and the probes' predictions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from matplotlib.figure import Figure

from cp2fast.figure import save_figure
from cp2fast.finetune.pictures import draw_legend
from cp2fast.labels.classes import palette_of
from cp2fast.labels.coding import IGNORED
from cp2fast.labels.dataset import LabelledData, evenly, read_example
from cp2fast.probe.features import Extractor
from cp2fast.probe.probe import Classifier, segment

_ROWS = 4


def draw_probes(
    probes: Mapping[str, tuple[Extractor, Classifier]], data: LabelledData, path: Path
) -> None:
    """Draw four images of ``data.val``: photo, mask, and what each of the probes predicts."""
    palette = palette_of(data.colours)
    examples = evenly(data.val, _ROWS)
    columns = ["photo", "mask", *probes]
    figure = Figure(figsize=(2.4 * len(columns), 1.9 * len(examples) + 0.5), layout="constrained")
    axes = figure.subplots(len(examples), len(columns), squeeze=False)
    for row, example in zip(axes, examples, strict=True):
        image, labels = read_example(example, data)
        shown = [image.numpy(), palette[labels.numpy()]]
        for extractor, classify in probes.values():
            predicted = segment(classify, extractor([image]), labels.shape)
            known = torch.where(labels == IGNORED, IGNORED, predicted[0].cpu())
            shown.append(palette[known.numpy()])
        for axis, picture in zip(row, shown, strict=True):
            axis.imshow(picture, interpolation="nearest")
            axis.set_axis_off()
    for axis, name in zip(axes[0], columns, strict=True):
        axis.set_title(name[-28:], fontsize=8, loc="left")
    draw_legend(figure, data)
    save_figure(figure, path)
