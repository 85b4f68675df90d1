"""One pair composed by every backend of the op, side by side, with the differences.

    python -m benchmarks.backends_picture FOLDER OUT.png

The pair is made from the first photos of FOLDER; the CUDA backend takes part where there is a GPU.
"""

from __future__ import annotations

import sys
from dataclasses import fields
from pathlib import Path
from typing import cast

import torch
from matplotlib.figure import Figure
from torch import Tensor

from cp2fast.batch import RaggedBatch
from cp2fast.config import IMAGENET_STD, AugmentSettings
from cp2fast.copypaste.backends import Backend, available_backends
from cp2fast.copypaste.op import copy_paste
from cp2fast.copypaste.parameters import Parameters
from cp2fast.copypaste.sampling import sample_parameters
from cp2fast.data.decoding.decode import decode_image
from cp2fast.data.image_sets.listing import list_images
from cp2fast.figure import save_figure
from cp2fast.inspection.pairs import displayable

SIZE, PHOTOS, EPOCH = 96, 3, 8
AMPLIFIED = 300_000
"""Factor for the differences, which are far below one grey level."""


def main() -> None:
    images = list_images(Path(sys.argv[1]))
    decoded = [decode_image(images.read(i), 10**9) for i in range(PHOTOS)]
    batch = RaggedBatch.pack(decoded, range(PHOTOS))
    drawn = sample_parameters(0, EPOCH, batch, SIZE)
    parameters = Parameters(*(getattr(drawn, field.name)[:1] for field in fields(drawn)))
    rows = {name: pair.cpu() for name, pair in composed(batch, parameters).items()}
    reference = rows["reference"]

    figure = Figure(figsize=(8.4, 2.25 * len(rows)), layout="constrained")
    figure.suptitle(f"Each backend and its differences from the reference, x {AMPLIFIED:,}")
    panels = figure.subplots(len(rows), 4, squeeze=False)
    for axes, (name, pair) in zip(panels, rows.items(), strict=True):
        levels = (pair - reference).abs() * 255 * torch.tensor(IMAGENET_STD).view(3, 1, 1)
        for view, title in enumerate(("query", "key")):
            axes[view].imshow(displayable(pair[view], AugmentSettings()))
            axes[view].set_title(f"{name}: {title}", fontsize=9)
            difference = (levels[view] * AMPLIFIED / 255).clamp(0, 1).permute(1, 2, 0)
            axes[2 + view].imshow(difference)
            largest = f"difference, largest {levels[view].max():.5f} of 255"
            axes[2 + view].set_title(largest, fontsize=7)
    for axes in panels.flat:
        axes.set_axis_off()
    save_figure(figure, Path(sys.argv[2]), dpi=110)


def composed(batch: RaggedBatch, parameters: Parameters) -> dict[str, Tensor]:
    """Query and key ``[2, 3, S, S]`` of one sample, by backend."""
    pairs = {}
    for name, problem in available_backends().items():
        if problem is None:
            device = torch.device("cuda" if name == "cuda" else "cpu")
            made = copy_paste(batch, parameters, SIZE, backend=cast(Backend, name), device=device)
            pairs[name] = torch.cat([made.query, made.key])
    return pairs


if __name__ == "__main__":
    main()
