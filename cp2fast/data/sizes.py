"""The sizes of images after decoding, read from their headers alone."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cp2fast.data.decode import BadImage, check_size, image_size
from cp2fast.data.image_set import ImageSet
from cp2fast.data.shrink import fitted

_HEADS = (4 << 10, 256 << 10)
"""Bytes to read, one size after the other until they include the header, then the whole file. A
camera's preview and profile come before the header."""
_AT_ONCE = 256


class Sizes(NamedTuple):
    """Sizes of decoded images.

    Attributes:
        bytes: int64 ``[N]``.
        complete: whether no image was left out for lack of room.
    """

    bytes: NDArray[np.int64]
    complete: bool


def decoded_bytes(
    images: ImageSet,
    order: NDArray[np.int64],
    budget: int,
    *,
    threads: int,
    max_pixels: int,
    max_side: int | None,
) -> Sizes:
    """Bytes of the decoded pixels of as many images as fit.

    Args:
        images: the data set.
        order: image numbers, in the order in which they are to fit.
        budget: bytes for all images.
        threads: number of threads that read headers.
        max_pixels: larger images are bad.
        max_side: images with a longer side are shrunk to it.

    Returns:
        The size of every image; 0 for images that are bad or beyond the budget.
    """
    size = np.zeros(len(images), np.int64)

    def measure(number: int) -> int:
        try:
            height, width = _header_size(images, number, max_pixels)
        except BadImage:
            return 0
        height, width = fitted(height, width, max_side)
        return 3 * height * width

    with ThreadPoolExecutor(threads, "cp2fast-headers") as pool:
        for begin in range(0, len(order), _AT_ONCE):
            numbers = order[begin : begin + _AT_ONCE]
            found = np.fromiter(pool.map(measure, numbers.tolist()), np.int64, len(numbers))
            fits = found.cumsum() <= budget
            size[numbers[fits]] = found[fits]
            budget -= int(found.sum())
            if budget < 0:
                return Sizes(size, complete=False)
    return Sizes(size, complete=True)


def _header_size(images: ImageSet, number: int, max_pixels: int) -> tuple[int, int]:
    height, width, _ = images.pixels[number].tolist() if len(images.pixels) else (0, 0, 0)
    if height:
        check_size(height, width, max_pixels)
        return height, width
    heads: Sequence[int | None] = (*_HEADS, None)
    for length in heads:
        try:
            head = images.read(number) if length is None else images.read_head(number, length)
            return image_size(head, max_pixels)
        except OSError as error:
            raise BadImage(f"cannot be read: {error.strerror}") from error
        except BadImage:
            if length is None or len(head) < length:
                raise
    raise BadImage("no header")
