"""The sizes of images after decoding, read from their headers alone."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cp2fast.data.decode import BadImage, check_size, image_size
from cp2fast.data.image_set import ImageSet
from cp2fast.data.known_sizes import KnownSizes
from cp2fast.data.progress_line import ProgressLine
from cp2fast.data.remote import CONNECTIONS, Remote
from cp2fast.data.shrink import fitted

_HEADS = (4 << 10, 256 << 10)
"""Bytes to read, one size after the other until they include the header, then the whole file. A
camera's preview and profile come before the header."""
_AT_ONCE = 256
MOST_ASKED = 50_000
"""The most remote images whose headers are asked for before a run begins, about a minute's worth.
The next start asks for as many more."""


class Sizes(NamedTuple):
    """Sizes of decoded images.

    Attributes:
        bytes: int64 ``[N]``.
        complete: whether no image was left out for lack of room.
        asked: number of remote images whose headers were asked for.
    """

    bytes: NDArray[np.int64]
    complete: bool
    asked: int = 0


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
        threads: number of threads that read headers on this machine.
        max_pixels: larger images are bad.
        max_side: images with a longer side are shrunk to it.

    Returns:
        The size of every image; 0 for images that are bad, beyond the budget, or remote and beyond
        ``MOST_ASKED``.
    """
    size = np.zeros(len(images), np.int64)
    headers = _Headers(images, max_pixels)

    def measure(number: int) -> int:
        try:
            height, width = headers.size(number)
        except BadImage:
            return 0
        height, width = fitted(height, width, max_side)
        return 3 * height * width

    threads = threads if images.disk is None else CONNECTIONS
    complete = True
    with ThreadPoolExecutor(threads, "cp2fast-headers") as pool:
        for begin in range(0, len(order), _AT_ONCE):
            numbers = order[begin : begin + _AT_ONCE]
            found = np.fromiter(pool.map(measure, numbers.tolist()), np.int64, len(numbers))
            fits = found.cumsum() <= budget
            size[numbers[fits]] = found[fits]
            budget -= int(found.sum())
            if budget < 0:
                complete = False
                break
    headers.keep()
    return Sizes(size, complete and not headers.left_out, headers.asked)


class _Headers:
    """Reads the sizes of images from their headers, those of remote ones only once."""

    def __init__(self, images: ImageSet, max_pixels: int) -> None:
        self._images, self._max_pixels = images, max_pixels
        self._known = None if images.disk is None else KnownSizes(images.disk)
        self._new: dict[Remote, tuple[int, int]] = {}
        self._progress = ProgressLine("reading headers of remote images", len(images))
        self._lock = threading.Lock()
        self.asked = 0
        self.left_out = False

    def size(self, number: int) -> tuple[int, int]:
        """Height and width of the upright image. Raises BadImage."""
        item = self._images.own_object(number)
        known = None if item is None or self._known is None else self._known.get(item)
        if known is None and item is not None:
            known = self._new[item] = self._asked(number, item)
        if known is not None:
            check_size(*known, self._max_pixels)
            return known
        return _header_size(self._images, number, self._max_pixels)

    def keep(self) -> None:
        """Keep what was found for the next time."""
        if self._known is not None:
            self._known.add(self._new)

    def _asked(self, number: int, item: Remote) -> tuple[int, int]:
        disk = self._images.disk
        if disk is not None and not disk.holds(item):
            if self.asked >= MOST_ASKED:
                self.left_out = True
                raise BadImage("too many remote images to ask for the sizes of all")
            with self._lock:
                self.asked += 1
        found = _header_size(self._images, number, self._max_pixels)
        self._progress.advance()
        return found


def _header_size(images: ImageSet, number: int, max_pixels: int) -> tuple[int, int]:
    height, width, _ = images.pixels[number].tolist() if len(images.pixels) else (0, 0, 0)
    if height:
        check_size(height, width, max_pixels)
        return height, width
    heads: Sequence[int | None] = (*_HEADS, None)
    for length in heads:
        try:
            head = _whole(images, number) if length is None else images.read_head(number, length)
            return image_size(head, max_pixels)
        except OSError as error:
            raise BadImage(f"cannot be read: {error.strerror}") from error
        except BadImage:
            if length is None or len(head) < length:
                raise
    raise BadImage("no header")


def _whole(images: ImageSet, number: int) -> bytes:
    """The encoded image; a remote one is kept on the disk, where the first epoch finds it."""
    item = images.own_object(number)
    if item is not None and images.disk is not None:
        images.disk.fetch(item, verify=False)
    return images.read(number)
