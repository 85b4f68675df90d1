"""Segmentation of images at their own size: as a whole, or tile by tile if too large for one pass.

    picture.open_picture -> rows of tiles, whose margins are cut off -> bands of probabilities

Each tile is segmented as a separate picture, and memory is needed for only one band at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import reduce
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from cp2fast.config import IMAGENET_MEAN, IMAGENET_STD, FinetuneSettings
from cp2fast.copypaste.reference import normalise
from cp2fast.finetune.augment import resize, resize_scale
from cp2fast.model.segmenter import Segmenter

MARGIN = 1 / 8
"""Share of a tile's side that is cut off next to a neighbour: edges of tiles lack context."""
_AT_ONCE = 4
"""Tiles per forward pass."""
MOST_AT_ONCE = 1 << 27
"""Number of probabilities upsampled at once: half a gigabyte."""


class Band(NamedTuple):
    """A band of rows of a picture.

    Attributes:
        top: number of the first row.
        image: uint8 ``[h, W, 3]``.
        labels: uint8 ``[h, W]``.
        probabilities: float16 ``[K, h, W]``, on the host; None if not requested.
    """

    top: int
    image: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    probabilities: NDArray[np.float16] | None


def segment(
    network: Segmenter, images_BHW3: Tensor, settings: FinetuneSettings, most: int = MOST_AT_ONCE
) -> Tensor:
    """The most probable label of each pixel.

    The image is resized (short side ``evaluation.short_side``) and the logits are upsampled to the
    resized image, then to the image's own size, as in mmsegmentation. With several scales or a
    flip, the probabilities are averaged.

    Args:
        network: in evaluation mode.
        images_BHW3: uint8 RGB of any size, on the network's device.
        settings: settings; ``evaluation``, ``data.short_side`` and the sizes and colours of
            ``model`` are used.
        most: number of probabilities that are upsampled at once.

    Returns:
        int64 ``[B, H, W]``.
    """
    found = probability_bands(network, images_BHW3, settings, most=most)
    return torch.stack([torch.cat([band.argmax(dim=0) for band in bands]) for bands in found])


def probability_bands(
    network: Segmenter,
    images_BHW3: Tensor,
    settings: FinetuneSettings,
    side: int | None = None,
    most: int = MOST_AT_ONCE,
) -> Iterator[Iterator[Tensor]]:
    """The probability of each class at each pixel, for each image; see ``segment``.

    The network sees the whole images; only its small logits are upsampled image by image, and in
    bands of rows where an image has more than ``most`` probabilities.

    Args:
        network: as for ``segment``.
        images_BHW3: as for ``segment``.
        settings: as for ``segment``.
        side: the length in pixels that is scaled to the short side; None is the images' own.
        most: as for ``segment``.

    Returns:
        The bands of each image from top to bottom, float32 ``[K, h, W]``.
    """
    images = images_BHW3.permute(0, 3, 1, 2).float() / 255
    views = [
        (_logits(network, images, settings, scale, mirrored, side), mirrored)
        for scale in settings.evaluation.scales
        for mirrored in ((False,) if settings.evaluation.flip == "none" else (False, True))
    ]
    size = images.shape[2:]
    return (
        _bands([(logits[number, None], mirrored) for logits, mirrored in views], size, most)
        for number in range(len(images))
    )


def _bands(
    views_1Khw: Sequence[tuple[Tensor, bool]], size: Sequence[int], most: int
) -> Iterator[Tensor]:
    height, width = size
    rows = max(1, most // (views_1Khw[0][0].shape[1] * width))
    for top in range(0, height, rows):
        found = (
            _flipped(upsampled_rows(logits, size, top, rows).softmax(dim=1), mirrored)
            for logits, mirrored in views_1Khw
        )
        total = reduce(torch.add, found)[0]
        yield total if len(views_1Khw) == 1 else total / len(views_1Khw)


def _logits(
    network: Segmenter,
    images_B3HW: Tensor,
    settings: FinetuneSettings,
    scale: float,
    mirrored: bool,
    side: int | None,
) -> Tensor:
    """Logits of the resized images, at their size: ``[B, K, h, w]``."""
    height, width = images_B3HW.shape[2:]
    short_side = max(1, round(scale * (settings.evaluation.short_side or settings.data.short_side)))
    factor = resize_scale(height, width, short_side) if side is None else short_side / side
    resized = resize(images_B3HW, [max(1, round(length * factor)) for length in (height, width)])
    mean, std = settings.model.mean or IMAGENET_MEAN, settings.model.std or IMAGENET_STD
    inputs = normalise(_flipped(resized, mirrored), mean, std)
    if settings.evaluation.mode == "whole":
        return _upsampled_logits(network, inputs)
    return _sliding(network, inputs, settings.model.size, settings.evaluation.stride)


def _flipped(maps: Tensor, mirrored: bool) -> Tensor:
    return maps.flip(-1) if mirrored else maps


def upsampled_rows(logits_BKhw: Tensor, size: Sequence[int], top: int, rows: int) -> Tensor:
    """Some rows of the logits upsampled to ``size``, equal to those of ``interpolate``."""
    height, width = size
    if rows >= height:
        return interpolate(logits_BKhw, (height, width), mode="bilinear")
    h = logits_BKhw.shape[2]
    wanted = torch.arange(top, min(top + rows, height), device=logits_BKhw.device)
    source = ((wanted + 0.5) * (h / height) - 0.5).clamp(min=0)
    above = source.long().clamp(max=h - 1)
    below = (above + 1).clamp(max=h - 1)
    share = (source - above)[:, None]
    lines = torch.lerp(logits_BKhw[:, :, above], logits_BKhw[:, :, below], share)
    return interpolate(lines, (len(wanted), width), mode="bilinear")


def _upsampled_logits(network: Segmenter, inputs_B3HW: Tensor) -> Tensor:
    return network.upsample(network(inputs_B3HW), inputs_B3HW.shape[2:])


def _sliding(network: Segmenter, inputs_B3HW: Tensor, window: int, stride: float) -> Tensor:
    """Mean logits of overlapping windows; the last windows end at the image's edge."""
    height, width = inputs_B3HW.shape[2:]
    total, count = None, inputs_B3HW.new_zeros(height, width)
    for top in _starts(height, window, stride):
        for left in _starts(width, window, stride):
            place = (..., slice(top, top + window), slice(left, left + window))
            logits = _upsampled_logits(network, inputs_B3HW[place])
            if total is None:
                total = logits.new_zeros(*logits.shape[:2], height, width)
            total[place] += logits
            count[place] += 1
    if total is None:
        raise ValueError("inputs_B3HW is empty")
    return total / count


def _starts(length: int, window: int, stride: float) -> Iterator[int]:
    """Start positions of the windows along one side."""
    last = max(0, length - window)
    step = max(1, int(window * stride))
    return (min(number * step, last) for number in range(math.ceil(last / step) + 1))


class _Span(NamedTuple):
    """One side of a tile in the picture, the part of it that is kept, and that within the tile."""

    tile: slice
    kept: slice
    inside: slice


def segment_tiles(
    network: Segmenter,
    picture_HW3: NDArray[np.uint8],
    settings: FinetuneSettings,
    tile: int,
    device: torch.device,
    wants_probabilities: bool,
) -> Iterator[Band]:
    """Segment a picture and yield its bands from top to bottom.

    Args:
        network: in evaluation mode, on ``device``.
        picture_HW3: the picture, read once, band by band.
        settings: as for ``segment``; a tile is scaled to the short side of an image.
        tile: side of the tiles, in pixels of the picture.
        device: the network's.
        wants_probabilities: whether the bands include probabilities.
    """
    height, width = picture_HW3.shape[:2]
    for row in _spans(height, tile):
        columns = list(_spans(width, tile))
        band = np.array(picture_HW3[row.tile])  # a copy in memory
        image = band[row.inside]
        labels = np.empty((len(image), width), np.uint8)
        kept: NDArray[np.float16] | None = None
        for begin in range(0, len(columns), _AT_ONCE):
            group = columns[begin : begin + _AT_ONCE]
            tiles = torch.stack([torch.from_numpy(band[:, column.tile]) for column in group])
            found = probability_bands(network, tiles.to(device), settings, side=tile)
            for column, bands in zip(group, found, strict=True):
                inside = torch.cat(list(bands), dim=1)[:, row.inside, column.inside]
                place = (..., column.kept)
                labels[place] = inside.argmax(dim=0).byte().cpu().numpy()
                if wants_probabilities:
                    if kept is None:
                        kept = np.empty((len(inside), *labels.shape), np.float16)
                    kept[place] = inside.half().cpu().numpy()
        yield Band(row.kept.start, image, labels, kept)


def _spans(length: int, tile: int) -> Iterator[_Span]:
    """Tiles along one side of the picture, of length ``tile`` unless the picture is shorter."""
    tile = min(tile, length)
    margin = round(tile * MARGIN)
    count = math.ceil((length - 2 * margin) / (tile - 2 * margin))
    kept = 0
    for number in range(count):
        begin = min(number * (tile - 2 * margin), length - tile)
        end = length if number == count - 1 else begin + tile - margin
        yield _Span(slice(begin, begin + tile), slice(kept, end), slice(kept - begin, end - begin))
        kept = end
