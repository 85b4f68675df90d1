"""Are composed images distributed like those of the original pipeline?

    python -m benchmarks.augment_statistics FOLDER [RESULT.json] [ORIGINAL.json]

Composes the photos of FOLDER with cp2fast's op and with the original PIL pipeline, and compares the
images: brightness, contrast, sharpness, grey, by channel. Both see the same photos, so the
difference is tested photo by photo: ``z`` is the mean difference in standard errors, within 4 if it
is due to chance. Brightness has a known difference: Pillow truncates to whole grey levels after
each colour operation, which makes the original's jittered images 1.3 levels darker than the same
operations on floats, so means may differ by 1.5 levels. ORIGINAL.json holds statistics of the
published code's own run on other photos; they are compared in the same way.
"""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line; before torch

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn.functional import conv2d

from benchmarks.common import write_result
from cp2fast.batch import RaggedBatch
from cp2fast.bench.peers import original
from cp2fast.config import IMAGENET_MEAN, IMAGENET_STD
from cp2fast.copypaste.op import copy_paste
from cp2fast.copypaste.sampling import sample_parameters
from cp2fast.data.decoding.decode import decode_image
from cp2fast.data.image_sets.listing import list_images

SIZE, EPOCHS, BATCH_SIZE = 224, 8, 50
TRUNCATION = 1.5 / 255 / 0.225
"""1.5 grey levels as normalised values, for Pillow's rounding."""
LUMA = torch.tensor([0.299, 0.587, 0.114])
LAPLACIAN = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]])

Statistics = dict[str, NDArray[np.float64]]
"""One value per image, by name; collected: ``[epochs, photos, 2]``, queries and keys."""


def statistics(images_BCSS: Tensor) -> Statistics:
    """The statistics of each normalised image of ``[B, 3, S, S]``.

    Sharpness is the logarithm of the variance of the 4-neighbour Laplacian of the luma in [0, 255],
    within the border.
    """
    mean, std = (images_BCSS.new_tensor(x) for x in (IMAGENET_MEAN, IMAGENET_STD))
    pixels = (images_BCSS * std[:, None, None] + mean[:, None, None]) * 255
    luma = (pixels * LUMA[:, None, None]).sum(1, keepdim=True)
    edges = conv2d(luma, LAPLACIAN[None, None]).flatten(1)
    spread = pixels.amax(1) - pixels.amin(1)
    found = {
        "mean": images_BCSS.mean((1, 2, 3)),
        "deviation": images_BCSS.flatten(1).std(1),
        "log sharpness": edges.var(1, correction=0).clamp(min=1e-3).log(),
        "wholly grey": (spread.flatten(1).amax(1) < 1.5).float(),
        "grey pixels": (spread < 1.5).float().mean((1, 2)),
    }
    for c, name in enumerate(("red", "green", "blue")):
        found[f"{name} mean"] = images_BCSS[:, c].mean((1, 2))
        found[f"{name} deviation"] = images_BCSS[:, c].flatten(1).std(1)
    return {name: values.double().numpy() for name, values in found.items()}


def of_cp2fast(images: Sequence[Tensor], epoch: int, numbers: Sequence[int]) -> Statistics:
    """The statistics of one batch composed by the op."""
    batch = RaggedBatch.pack([images[i] for i in numbers], list(numbers))
    out = copy_paste(batch, sample_parameters(0, epoch, batch, SIZE), SIZE)
    return _of_pairs(out.query, out.key)


def of_original(images: Sequence[Tensor]) -> Callable[[int, Sequence[int]], Statistics]:
    """The same for the original pipeline."""
    compose = original.composer(images, SIZE)
    return lambda _epoch, numbers: _of_pairs(*compose(numbers)[:2])


def collect(
    batch_of: Callable[[int, Sequence[int]], Statistics], count: int, epochs: int, batch_size: int
) -> Statistics:
    """Statistics of every composed image, ``[epochs, count, 2]``, in batches of nearly one size."""
    shares = np.array_split(np.arange(count), -(-count // batch_size))
    rows = [[batch_of(epoch, share.tolist()) for share in shares] for epoch in range(epochs)]
    return {
        name: np.stack([np.concatenate([batch[name] for batch in row]) for row in rows])
        for name in rows[0][0]
    }


def z_scores(ours: Statistics, theirs: Statistics) -> dict[str, float]:
    """Mean difference over the photos, in standard errors of that mean."""
    scores = {}
    for name, values in ours.items():
        difference = values.mean((0, 2)) - theirs[name].mean((0, 2))
        error = difference.std(ddof=1) / np.sqrt(len(difference))
        scores[name] = float(difference.mean() / error) if error > 0 else 0.0
    return scores


def _of_pairs(query: Tensor, key: Tensor) -> Statistics:
    one, other = statistics(query), statistics(key)
    return {name: np.stack([one[name], other[name]], axis=-1) for name in one}


def published_scores(ours: Statistics, published: dict[str, Any]) -> dict[str, float]:
    """How far our quantiles are from the published code's on other photos, in standard errors.

    The photos are the sample: composed images of one photo resemble each other.
    """
    scores = {}
    share = 1 / len(published["images"]) + 1 / ours["mean"].shape[1]
    for name, values, expected in (
        ("mean", ours["mean"], published["composed_image_mean"]),
        ("deviation", ours["deviation"], published["composed_image_std"]),
        ("sharpness", np.exp(ours["log sharpness"]), published["laplacian_variance"]["composed"]),
    ):
        for probability in ("0.05", "0.25", "0.5", "0.75", "0.95"):
            p = float(probability)
            below = (values < expected["quantiles"][probability]).mean()
            scores[f"{name}, quantile {p}"] = float((below - p) / np.sqrt(p * (1 - p) * share))
    for c, colour in enumerate(("red", "green", "blue")):
        values = ours[f"{colour} mean"]
        error = values.mean((0, 2)).std() * np.sqrt(share)
        difference = values.mean() - published["composed_channel_mean"][c]
        scores[f"{colour} mean"] = float(difference / error)
    return scores


def show(title: str, rows: Mapping[str, tuple[float, ...]], *columns: str) -> None:
    table = Table("", *columns, title=title)
    for name, values in rows.items():
        table.add_row(name, *(f"{value:.3f}" for value in values))
    Console().print(table)


def main() -> None:
    torch.manual_seed(0)
    random.seed(0)
    photos = list_images(Path(sys.argv[1]))
    images = [decode_image(photos.read(number), 10**9) for number in range(len(photos))]
    composed = collect(partial(of_cp2fast, images), len(images), EPOCHS, BATCH_SIZE)
    expected = collect(of_original(images), len(images), EPOCHS, BATCH_SIZE)
    scores = z_scores(composed, expected)
    rows = {name: (expected[name].mean(), composed[name].mean(), scores[name]) for name in scores}
    show(f"{len(images)} photos, {EPOCHS} epochs", rows, "original", "cp2fast", "z")
    result: dict[str, Any] = {
        "settings": {"photos": len(images), "epochs": EPOCHS, "size": SIZE, "seed": 0},
        "results": {
            n: dict(zip(("original", "cp2fast", "z"), v, strict=True)) for n, v in rows.items()
        },
    }
    if len(sys.argv) > 3:
        published = published_scores(composed, json.loads(Path(sys.argv[3]).read_text()))
        show("compared with the published run", {n: (s,) for n, s in published.items()}, "z")
        result["published"] = published
    if len(sys.argv) > 2:
        write_result(Path(sys.argv[2]), result)
    apart = [name for name, row in rows.items() if not is_same(name, *row)]
    print(f"different: {', '.join(apart)}" if apart else "all the same")
    sys.exit(bool(apart))


def is_same(name: str, expected: float, composed: float, score: float) -> bool:
    truncated = name.endswith("mean") and abs(composed - expected) < TRUNCATION
    return abs(score) < 4 or truncated


if __name__ == "__main__":
    main()
