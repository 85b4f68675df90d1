"""The same steps using only DALI's operators, with one decode per sample, or none.

They are as close as the operators allow: the colour operations have a fixed order, the blur's
window has a fixed side, the foreground's rectangle is drawn by side lengths rather than area and
ratio, and the backgrounds come from neighbours in the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from cp2fast.config import IMAGENET_MEAN, IMAGENET_STD


def composed(
    read: Callable[[int], Any],
    numbers: Iterator[Sequence[int]],
    batch_size: int,
    size: int,
    threads: int,
    gpu: int | None,
    encoded: bool = True,
) -> Iterator[tuple[Tensor, ...]]:
    """Query, key and their masks, batch after batch.

    Args:
        read: an image by number, as an array: the bytes of a JPEG, or uint8 ``[H, W, 3]``.
        numbers: image numbers of each batch.
        batch_size: B.
        size: S.
        threads: DALI's threads, which decode.
        gpu: number of the GPU for all steps but decoding; None for the CPU.
        encoded: whether images are to be decoded.
    """

    def batch() -> list[Any]:
        return [read(number) for number in next(numbers)]

    pipeline = _pipeline(batch, encoded, batch_size, size, threads, gpu)
    pipeline.build()
    while True:
        yield tuple(from_dlpack(output.as_tensor()) for output in pipeline.run())


def _pipeline(
    batch: Callable[[], list[Any]],
    encoded: bool,
    batch_size: int,
    size: int,
    threads: int,
    gpu: int | None,
) -> Any:
    from nvidia.dali import fn, pipeline_def, types

    def view(image: Any) -> Any:
        crop = fn.random_resized_crop(
            image, size=(size, size), random_area=(0.2, 1.0), random_aspect_ratio=(3 / 4, 4 / 3)
        )
        jitter = fn.random.coin_flip(probability=0.8, dtype=types.BOOL)
        if jitter:
            crop = fn.color_twist(
                crop,
                brightness=fn.random.uniform(range=(0.6, 1.4)),
                contrast=fn.random.uniform(range=(0.6, 1.4)),
                saturation=fn.random.uniform(range=(0.6, 1.4)),
                hue=fn.random.uniform(range=(-36.0, 36.0)),
            )
        grey = fn.random.coin_flip(probability=0.2, dtype=types.BOOL)
        if grey:
            crop = fn.saturation(crop, saturation=0)
        blur = fn.random.coin_flip(probability=0.5, dtype=types.BOOL)
        if blur:
            crop = fn.gaussian_blur(crop, sigma=fn.random.uniform(range=(0.1, 2.0)), window_size=13)
        return fn.flip(crop, horizontal=fn.random.coin_flip())

    def paste(foreground: Any, background: Any) -> tuple[Any, Any]:
        side = fn.random.uniform(range=(0.71, 0.89), shape=(2,))
        place = {
            "anchor": fn.random.uniform(range=(0.0, 1.0), shape=(2,)) * (1 - side),
            "shape": side,
            "normalized": True,
            "axis_names": "HW",
        }
        outside = fn.erase(background, **place)
        inside = foreground - fn.erase(foreground, **place)
        ones = types.Constant(1, dtype=types.UINT8, shape=(size, size, 1), layout="HWC")
        mask = ones - fn.erase(ones, **place)
        image = fn.crop_mirror_normalize(
            outside + inside,
            mean=[255 * mean for mean in IMAGENET_MEAN],
            std=[255 * std for std in IMAGENET_STD],
            output_layout="CHW",
        )
        return image, mask

    @pipeline_def(enable_conditionals=True)  # type: ignore[untyped-decorator]
    def pipeline() -> tuple[Any, ...]:
        layout = {"ndim": 1} if encoded else {"ndim": 3, "layout": "HWC"}
        given = fn.external_source(source=batch, batch=True, dtype=types.UINT8, **layout)
        pixels = fn.decoders.image(given, output_type=types.RGB) if encoded else given
        image = pixels if gpu is None else pixels.gpu()
        query_behind, key_behind = (
            fn.permute_batch(view(image), indices=_neighbours(fn, types, batch_size, distance))
            for distance in (1, 2)
        )
        query, query_mask = paste(view(image), query_behind)
        key, key_mask = paste(view(image), key_behind)
        return query, key, query_mask, key_mask

    return pipeline(
        batch_size=batch_size, num_threads=threads, device_id=gpu, prefetch_queue_depth=2
    )


def _neighbours(fn: Any, types: Any, batch_size: int, distance: int) -> Any:
    """For each position in the batch, the position ``distance`` after it, cyclically."""
    places = [np.array((i + distance) % batch_size, np.int32) for i in range(batch_size)]
    return fn.external_source(source=lambda: places, batch=True, dtype=types.INT32, ndim=0)
