"""Read images by number, parse their headers, and remember which are bad."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from cp2fast.data.decoding import jpeg, turbojpeg
from cp2fast.data.decoding.decode import BadImage, check_jpeg, check_size
from cp2fast.data.decoding.orientation import UPRIGHT, jpeg_orientation
from cp2fast.data.decoding.shrink import fitted, shrink
from cp2fast.data.image_sets.beton import RAW
from cp2fast.data.image_sets.image_set import ImageSet
from cp2fast.data.sources.loading import DecodeSettings, Loaded, read_or_replace

Pixels = NDArray[np.uint8]
Content = TypeVar("Content")


class Prepared(NamedTuple):
    """An image that was read, but perhaps not decoded."""

    content: bytes | Pixels
    """The bytes of a common, upright JPEG; the pixels ``[H, W, 3]`` of any other image."""
    size: tuple[int, int]
    """Height and width of the decoded pixels."""
    stored: tuple[int, int]
    """Height and width in the file, before ``data.max_side`` is applied."""

    @staticmethod
    def of_pixels(pixels: Pixels) -> Prepared:
        """An image that is already decoded."""
        size = pixels.shape[0], pixels.shape[1]
        return Prepared(pixels, size, size)


class Reader:
    """Reads the images of a data set; bad ones are remembered and not read again.

    Any number of threads may use it at the same time.

    Attributes:
        is_bad: bool ``[N]``, images that are known to be bad.
    """

    def __init__(self, images: ImageSet, settings: DecodeSettings) -> None:
        self.is_bad = np.zeros(len(images), np.bool_)
        self._images, self._settings = images, settings
        self._reasons: dict[int, str] = {}

    def check(self, index: int) -> None:
        """Raise BadImage if the image is known to be bad."""
        if index in self._reasons:
            raise BadImage(self._reasons[index])

    def remember(self, index: int, bad: BadImage) -> None:
        """Mark the image as bad."""
        self._reasons[index] = str(bad)
        self.is_bad[index] = True

    def read_or_replace(self, planned: int, read: Callable[[int], Content]) -> Loaded[Content]:
        """What ``read`` gives for an image, or for the first of its substitutes that is not bad."""

        def once(index: int) -> Content:
            self.check(index)
            try:
                return read(index)
            except BadImage as bad:
                self.remember(index, bad)
                raise

        return read_or_replace(planned, once, self._settings.seed, len(self._images))

    def prepare(self, index: int) -> Prepared:
        """Read an image, and decode it unless it is a common JPEG. Raises BadImage."""
        if len(self._images.pixels) and self._images.pixels[index, 2] == RAW:
            return Prepared.of_pixels(self._raw(index))
        encoded = self._images.read(index)
        if not encoded.startswith(jpeg.SIGNATURE):
            return Prepared.of_pixels(self._decode(encoded))
        header = check_jpeg(encoded, self._settings.max_pixels)
        if not (header.is_common and jpeg_orientation(encoded, header) == UPRIGHT):
            return Prepared.of_pixels(self._decode(encoded))
        stored = header.height, header.width
        return Prepared(encoded, fitted(*stored, self._settings.max_side), stored)

    def decode(self, index: int) -> Pixels:
        """Read any image and decode it to pixels. Raises BadImage."""
        return self._decode(self._images.read(index))

    def decode_into(self, prepared: Prepared, room: Pixels) -> Pixels:
        """Decode an image into ``room``, uint8 ``[*prepared.size, 3]``.

        Returns:
            ``room``, or other pixels ``[H, W, 3]`` if the header gave a wrong size.

        Raises:
            BadImage: it cannot be decoded.
        """
        pixels = prepared.content
        if isinstance(pixels, bytes):
            pixels = self._decode_jpeg(pixels, prepared.stored, room)
        if pixels is room or pixels.shape != room.shape:
            return pixels
        room[...] = pixels
        return room

    def _decode(self, encoded: bytes) -> Pixels:
        return self._settings.decode(encoded).numpy()

    def _decode_jpeg(self, encoded: bytes, stored: tuple[int, int], room: Pixels) -> Pixels:
        if room.shape[:2] != stored:
            room = np.empty((*stored, 3), np.uint8)
        if turbojpeg.decode_into(encoded, room):
            return shrink(room, self._settings.max_side)
        return self._decode(encoded)

    def _raw(self, index: int) -> Pixels:
        height, width, _ = self._images.pixels[index].tolist()
        check_size(height, width, self._settings.max_pixels)
        data = self._images.read_raw(index)
        if len(data) != height * width * 3:
            raise BadImage("incomplete pixels")
        pixels = np.frombuffer(data, np.uint8).reshape(height, width, 3)
        return shrink(pixels, self._settings.max_side)
