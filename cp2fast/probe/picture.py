"""The picture of a comparison by probes: photos, their masks, and the probes' predictions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from cp2fast.figure import save_figure
from cp2fast.labels.classes import palette_of
from cp2fast.labels.coding import IGNORED
from cp2fast.labels.dataset import LabelledData, read_example
from cp2fast.model.segmenter import Segmenter
from cp2fast.probe.features import Place, dense_features, prepare
from cp2fast.probe.labelled import evenly
from cp2fast.probe.probe import Classifier, segment

_ROWS = 4
_LEGEND = 12


def draw_probes(
    probes: Mapping[str, tuple[Segmenter, Classifier]],
    data: LabelledData,
    short_side: int,
    place: Place,
    device: torch.device,
    path: Path,
) -> None:
    """Draw four images of ``data.val``: photo, mask, and the prediction of each linear probe.

    Args:
        probes: the network and the classifier of its features, by name.
        data: labelled images.
        short_side: short side of the images in pixels.
        place: layer from which features are taken.
        device: device of the networks.
        path: PNG file to write.
    """
    palette = palette_of(data.colours)
    examples = evenly(data.val, _ROWS)
    columns = ["photo", "mask", *probes]
    figure = Figure(figsize=(2.4 * len(columns), 1.9 * len(examples) + 0.5), layout="constrained")
    axes = figure.subplots(len(examples), len(columns), squeeze=False)
    for row, example in zip(axes, examples, strict=True):
        image, labels = read_example(example, data)
        shown = [image.numpy(), palette[labels.numpy()]]
        for network, classify in probes.values():
            inputs = prepare([image], short_side, network, device)
            predicted = segment(classify, dense_features(network, inputs, place), labels.shape)
            known = torch.where(labels == IGNORED, IGNORED, predicted[0].cpu())
            shown.append(palette[known.numpy()])
        for axis, picture in zip(row, shown, strict=True):
            axis.imshow(picture, interpolation="nearest")
            axis.set_axis_off()
    for axis, name in zip(axes[0], columns, strict=True):
        axis.set_title(name[-28:], fontsize=8, loc="left")
    figure.legend(
        handles=[
            Patch(color=tuple(palette[label] / 255), label=name)
            for label, name in enumerate(data.classes[:_LEGEND])
        ],
        loc="outside lower left",
        ncols=6,
        fontsize=7,
        frameon=False,
    )
    save_figure(figure, path)
