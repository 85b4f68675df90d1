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
from cp2fast.data.sources.loading import DecodeSettings

Pixels = NDArray[np.uint8]
Content = TypeVar("Content")


class Prepared(NamedTuple):
    """An image that was read, but perhaps not decoded.

    Attributes:
        content: the encoded bytes of a common, upright JPEG; the pixels ``[H, W, 3]`` of any other
            image.
        height: height of the decoded pixels.
        width: width of the decoded pixels.
        header: header of the JPEG; None for any other image.
    """

    content: bytes | Pixels
    height: int
    width: int
    header: jpeg.Header | None

    @staticmethod
    def of_pixels(pixels: Pixels) -> Prepared:
        """An image that is already decoded."""
        height, width, _ = pixels.shape
        return Prepared(pixels, height, width, None)


class Reader:
    """Reads the images of a data set; bad ones are remembered and not read again.

    Any number of threads may use it at the same time.

    Attributes:
        is_bad: bool ``[N]``, images that are known to be bad.
    """

    def __init__(self, images: ImageSet, settings: DecodeSettings) -> None:
        self.is_bad = np.zeros(len(images), np.bool_)
        self._images = images
        self._settings = settings
        self._reasons: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._images)

    def check(self, index: int) -> None:
        """Raise BadImage if the image is known to be bad."""
        if index in self._reasons:
            raise BadImage(self._reasons[index])

    def remember(self, index: int, bad: BadImage) -> None:
        """Mark the image as bad."""
        self._reasons[index] = str(bad)
        self.is_bad[index] = True

    def read(self, index: int, read: Callable[[int], Content]) -> Content:
        """The result of ``read`` for an image. Raises BadImage, at once if it did so before."""
        self.check(index)
        try:
            return read(index)
        except BadImage as bad:
            self.remember(index, bad)
            raise

    def prepare(self, index: int) -> Prepared:
        """Read an image, and decode it unless it is a common JPEG. Raises BadImage."""
        return self.read(index, self._prepare)

    def decode(self, index: int) -> Pixels:
        """Read any image and decode it to pixels. Raises BadImage."""
        return self.read(index, lambda index: self._decode(self._images.read(index)))

    def decode_into(self, prepared: Prepared, room: Pixels | None) -> Pixels:
        """Decode an image to ``[H, W, 3]``; into ``room`` if given and of the right shape.

        Raises:
            BadImage: it cannot be decoded.
        """
        content = prepared.content
        if isinstance(content, bytes):
            content = self._decode_jpeg(content, prepared, room)
        if room is None or content is room or content.shape != room.shape:
            return content
        room[...] = content
        return room

    def _decode(self, encoded: bytes) -> Pixels:
        return self._settings.decode(encoded).numpy()

    def _decode_jpeg(self, encoded: bytes, prepared: Prepared, room: Pixels | None) -> Pixels:
        header = prepared.header
        stored = (prepared.height, prepared.width) if header is None else header[:2]
        if stored != (prepared.height, prepared.width) or room is None:
            room = np.empty((*stored, 3), np.uint8)
        if turbojpeg.decode_into(encoded, room):
            return shrink(room, self._settings.max_side)
        return self._decode(encoded)

    def _prepare(self, index: int) -> Prepared:
        if len(self._images.pixels) and self._images.pixels[index, 2] == RAW:
            return Prepared.of_pixels(self._raw(index))
        encoded = self._images.read(index)
        if not encoded.startswith(jpeg.SIGNATURE):
            return Prepared.of_pixels(self._decode(encoded))
        header = check_jpeg(encoded, self._settings.max_pixels)
        if not (header.is_common and jpeg_orientation(encoded, header) == UPRIGHT):
            return Prepared.of_pixels(self._decode(encoded))
        size = fitted(header.height, header.width, self._settings.max_side)
        return Prepared(encoded, *size, header)

    def _raw(self, index: int) -> Pixels:
        height, width, _ = self._images.pixels[index].tolist()
        check_size(height, width, self._settings.max_pixels)
        data = self._images.read_raw(index)
        if len(data) != height * width * 3:
            raise BadImage("incomplete pixels")
        pixels = np.frombuffer(data, np.uint8).reshape(height, width, 3)
        return shrink(pixels, self._settings.max_side)
