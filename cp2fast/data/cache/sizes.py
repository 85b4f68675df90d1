"""The sizes of images after decoding, read from their headers alone.

Those of remote images are kept by name and version in the disk cache, so a server is asked once:

    DIR/sizes    records of 16 bytes: a hash of the object, height and width of its pixels

Records are only appended, under a lock, and an incomplete one at the end is cut off.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cp2fast.data.decoding.decode import BadImage, check_size, image_size
from cp2fast.data.decoding.shrink import fitted
from cp2fast.data.image_sets.image_set import OWN_FILE, ImageSet
from cp2fast.data.progress_line import ProgressLine
from cp2fast.data.remote.disk_cache import DiskCache, key_of
from cp2fast.data.remote.objects import CONNECTIONS, Remote
from cp2fast.data.remote.urls import public

_HEADS = (4 << 10, 256 << 10)
"""Bytes to read: each in turn until the header is included, then the whole file. A camera's preview
and profile come before the header."""
_AT_ONCE = 256
MOST_ASKED = 50_000
"""The most remote images whose headers are requested before a run begins, in about a minute. The
next start requests as many more."""
_RECORD = np.dtype([("object", "<u8"), ("height", "<u4"), ("width", "<u4")])


class Sizes(NamedTuple):
    """Sizes of decoded images."""

    bytes: NDArray[np.int64]
    """int64 ``[N]``."""
    complete: bool
    """Whether no image was left out for lack of room."""
    asked: int = 0
    """Number of remote images whose headers were asked for."""


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
    with ThreadPoolExecutor(threads, "cp2fast-headers") as pool:
        for begin in range(0, len(order), _AT_ONCE):
            numbers = order[begin : begin + _AT_ONCE]
            found = np.fromiter(pool.map(measure, numbers.tolist()), np.int64, len(numbers))
            fits = found.cumsum() <= budget
            size[numbers[fits]] = found[fits]
            budget -= int(found.sum())
            if budget < 0:
                break
    headers.keep()
    return Sizes(size, budget >= 0 and not headers.left_out, headers.asked)


class _Headers:
    """Reads the sizes of images from their headers, those of remote ones only once."""

    def __init__(self, images: ImageSet, max_pixels: int) -> None:
        self._images, self._max_pixels = images, max_pixels
        self._known = None if images.disk is None else _KnownSizes(images.disk)
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


class _KnownSizes:
    """The sizes that were found here before; any number of processes may add some."""

    def __init__(self, disk: DiskCache) -> None:
        self._path, content = disk.folder / "sizes", b""
        with suppress(OSError):
            content = self._path.read_bytes()
        records = np.frombuffer(content, _RECORD, len(content) // _RECORD.itemsize)
        self._records = records[np.argsort(records["object"], kind="stable")]

    def get(self, item: Remote) -> tuple[int, int] | None:
        """Height and width; None if unknown."""
        number = _number(item)
        place = int(np.searchsorted(self._records["object"], number))
        if place == len(self._records) or self._records["object"][place] != number:
            return None
        _, height, width = self._records[place].tolist()
        return height, width

    def add(self, found: Mapping[Remote, tuple[int, int]]) -> None:
        """Keep more sizes for the next time; without effect if the folder cannot be written."""
        rows = [(_number(item), height, width) for item, (height, width) in found.items()]
        if not rows:
            return
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                length = os.fstat(file.fileno()).st_size
                file.truncate(length - length % _RECORD.itemsize)
                file.write(np.array(rows, _RECORD).tobytes())


def _number(item: Remote) -> int:
    return int(key_of(item)[:16], 16)


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
    holder = images.holder(number)
    if holder is not None and images.disk is not None:  # The first epoch finds it on the disk.
        images.disk.fetch(holder, verify=False)
    return image_size(images.read(number), max_pixels)
