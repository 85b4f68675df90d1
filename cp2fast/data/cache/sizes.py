"""The sizes of images after decoding, read from their headers alone."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cp2fast.data.cache.known_sizes import KnownSizes
from cp2fast.data.decoding.decode import BadImage, check_size, image_size
from cp2fast.data.decoding.shrink import fitted
from cp2fast.data.image_sets.image_set import OWN_FILE, ImageSet
from cp2fast.data.progress_line import ProgressLine
from cp2fast.data.remote.objects import CONNECTIONS, Remote
from cp2fast.data.remote.urls import public

_HEADS = (4 << 10, 256 << 10)
"""Bytes to read: each in turn until the header is included, then the whole file. A camera's preview
and profile come before the header."""
_AT_ONCE = 256
MOST_ASKED = 50_000
"""The most remote images whose headers are requested before a run begins, in about a minute. The
next start requests as many more."""


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
        images = self._images
        holder = images.holder(number)
        is_indexed = len(images.pixels) and images.pixels[number, 0]
        if holder is None or self._known is None or is_indexed:
            return _header_size(images, number, self._max_pixels)
        _, offset, length = images.places[number].tolist()
        item = holder
        if offset != OWN_FILE:  # A member of a shard is known by its place there.
            item = Remote(f"{public(holder.url)}!{offset}", length, holder.version)
        known = self._known.get(item)
        if known is None:
            known = self._new[item] = self._asked(number, holder, is_own=item is holder)
        check_size(*known, self._max_pixels)
        return known

    def keep(self) -> None:
        """Keep what was found for the next time."""
        if self._known is not None:
            self._known.add(self._new)

    def _asked(self, number: int, holder: Remote, *, is_own: bool) -> tuple[int, int]:
        disk = self._images.disk
        is_here = disk is not None and disk.holds(holder)
        if not is_here:
            with self._lock:
                self.left_out = self.asked >= MOST_ASKED
                self.asked += not self.left_out
            if self.left_out:
                raise BadImage("too many remote images to ask for the sizes of all")
        self._progress.advance()
        # Of a shard that is not here only heads are read: all of its images would be its whole.
        return _header_size(self._images, number, self._max_pixels, whole=is_here or is_own)


def _header_size(
    images: ImageSet, number: int, max_pixels: int, *, whole: bool = True
) -> tuple[int, int]:
    height, width, _ = images.pixels[number].tolist() if len(images.pixels) else (0, 0, 0)
    if height:
        check_size(height, width, max_pixels)
        return height, width
    for length in _HEADS:
        head = images.read_raw(number, length)
        try:
            return image_size(head, max_pixels)
        except BadImage:
            if len(head) < length or (length == _HEADS[-1] and not whole):
                raise
    return image_size(_whole(images, number), max_pixels)


def _whole(images: ImageSet, number: int) -> bytes:
    """The encoded image; a remote one is kept on the disk, where the first epoch finds it."""
    holder = images.holder(number)
    if holder is not None and images.disk is not None:
        images.disk.fetch(holder, verify=False)
    return images.read(number)
