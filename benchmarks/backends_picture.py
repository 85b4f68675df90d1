"""One pair composed by every backend of the op, side by side, with the differences.

    python benchmarks/backends_picture.py FOLDER OUT.png

Of the first photos of FOLDER. Without a GPU, NUMBA_ENABLE_CUDASIM=1 has numba's simulator run the
CUDA kernels, which takes minutes.
"""

from __future__ import annotations

import sys
from dataclasses import fields
from io import BytesIO
from pathlib import Path

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numba import config
from torch import Tensor

from cp2fast.batch import RaggedBatch
from cp2fast.copypaste.cpu import copy_paste_cpu
from cp2fast.copypaste.draw import draw
from cp2fast.copypaste.parameters import Parameters
from cp2fast.copypaste.pixel import IMAGENET_MEAN, IMAGENET_STD
from cp2fast.copypaste.reference import copy_paste_reference
from cp2fast.data.decode import decode_image
from cp2fast.data.images import list_images
from cp2fast.run_folder import atomic_write

SIZE, PHOTOS, EPOCH = 96, 3, 8
AMPLIFIED = 300_000
"""Differences are far below one grey level."""


def main() -> None:
    images = list_images(Path(sys.argv[1]))
    decoded = [decode_image(images.read(i), 10**9) for i in range(PHOTOS)]
    batch = RaggedBatch.pack(decoded, range(PHOTOS))
    drawn = draw(0, EPOCH, batch, SIZE, "batch")
    parameters = Parameters(*(getattr(drawn, field.name)[:1] for field in fields(drawn)))
    rows = {name: pair.cpu() for name, pair in composed(batch, parameters).items()}
    reference = rows["reference"]

    figure = Figure(figsize=(8.4, 2.25 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(rows), 4, squeeze=False)
    for axes, (name, pair) in zip(panels, rows.items(), strict=True):
        levels = (pair - reference).abs() * 0.225 * 255
        for view, title in enumerate(("query", "key")):
            axes[view].imshow(visible(pair[view]))
            axes[view].set_title(f"{name}: {title}", fontsize=9)
            difference = (levels[view] * AMPLIFIED / 255).clamp(0, 1).permute(1, 2, 0)
            axes[2 + view].imshow(difference)
            axes[2 + view].set_title(
                f"difference x {AMPLIFIED:,}\nlargest {levels[view].max():.5f} of 255", fontsize=8
            )
    for axes in panels.flat:
        axes.set_axis_off()
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    with atomic_write(Path(sys.argv[2])) as file:
        file.write(buffer.getvalue())


def composed(batch: RaggedBatch, parameters: Parameters) -> dict[str, Tensor]:
    """Query and key ``[2, 3, S, S]`` of one sample, by backend."""

    def run(function, device: str) -> Tensor:  # type: ignore[no-untyped-def]
        there, drawn = batch.to(torch.device(device)), parameters.to(torch.device(device))
        tensors = there.pixels, there.offset, there.height, there.width, *vars(drawn).values()
        query, key, *_ = function(*tensors, SIZE, torch.float32)
        return torch.cat([query, key])

    rows = {"reference": run(copy_paste_reference, "cpu"), "cpu": run(copy_paste_cpu, "cpu")}
    if config.ENABLE_CUDASIM or torch.cuda.is_available():
        from cp2fast.copypaste.cuda import copy_paste_cuda

        name = "cuda, simulated" if config.ENABLE_CUDASIM else "cuda"
        rows[name] = run(copy_paste_cuda, "cpu" if config.ENABLE_CUDASIM else "cuda")
    return rows


def visible(image_CSS: Tensor) -> Tensor:
    mean, std = (
        torch.tensor([float(x) for x in values])[:, None, None]
        for values in (IMAGENET_MEAN, IMAGENET_STD)
    )
    return (image_CSS * std + mean).clamp(0, 1).permute(1, 2, 0)


if __name__ == "__main__":
    main()
