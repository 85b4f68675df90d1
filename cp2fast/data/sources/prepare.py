"""Read images by number, parse their headers, and remember which are bad."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cp2fast.data.decoding import jpeg, turbojpeg
from cp2fast.data.decoding.decode import (
    BadImage,
    check_jpeg,
    check_size,
    decode_image,
)
from cp2fast.data.decoding.levels import BY_TYPE, Levels
from cp2fast.data.decoding.orientation import UPRIGHT, jpeg_orientation
from cp2fast.data.decoding.shrink import fitted, shrink
from cp2fast.data.image_sets.beton import RAW
from cp2fast.data.image_sets.image_set import ImageSet

Pixels = NDArray[np.uint8]


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
    """

    def __init__(
        self,
        images: ImageSet,
        max_pixels: int,
        max_side: int | None,
        levels: Levels = BY_TYPE,
    ) -> None:
        """Images of more than ``max_pixels`` are bad; sides longer than ``max_side`` are shrunk.

        ``levels`` determines how values of more than 8 bits are converted.
        """
        self.images = images
        self.max_pixels = max_pixels
        self.max_side = max_side
        self.levels = levels
        self.is_bad = np.zeros(len(images), np.bool_)
        self._reasons: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self.images)

    def check(self, index: int) -> None:
        """Raise BadImage if the image is known to be bad."""
        if index in self._reasons:
            raise BadImage(self._reasons[index])

    def prepare(self, index: int) -> Prepared:
        """Read an image, and decode it unless it is a common JPEG. Raises BadImage."""
        self.check(index)
        try:
            return self._prepare(index)
        except BadImage as bad:
            self.remember(index, bad)
            raise

    def decode(self, index: int) -> Pixels:
        """Decode any image to pixels. Raises BadImage."""
        self.check(index)
        try:
            return self.decode_rare(self.images.read(index))
        except BadImage as bad:
            self.remember(index, bad)
            raise

    def decode_rare(self, encoded: bytes) -> Pixels:
        """Decode an image with the decoder for all formats. Raises BadImage."""
        return decode_image(encoded, self.max_pixels, self.max_side, self.levels).numpy()

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

    def _decode_jpeg(self, encoded: bytes, prepared: Prepared, room: Pixels | None) -> Pixels:
        header = prepared.header
        stored = (prepared.height, prepared.width) if header is None else header[:2]
        if stored != (prepared.height, prepared.width) or room is None:
            room = np.empty((*stored, 3), np.uint8)
        if turbojpeg.decode_into(encoded, room):
            return shrink(room, self.max_side)
        return self.decode_rare(encoded)

    def _prepare(self, index: int) -> Prepared:
        if len(self.images.pixels) and self.images.pixels[index, 2] == RAW:
            return Prepared.of_pixels(self._raw(index))
        encoded = self.images.read(index)
        if not encoded.startswith(jpeg.SIGNATURE):
            return Prepared.of_pixels(self.decode_rare(encoded))
        header = check_jpeg(encoded, self.max_pixels)
        if not (header.is_common and jpeg_orientation(encoded, header) == UPRIGHT):
            return Prepared.of_pixels(self.decode_rare(encoded))
        return Prepared(encoded, *fitted(header.height, header.width, self.max_side), header)

    def _raw(self, index: int) -> Pixels:
        height, width, _ = self.images.pixels[index].tolist()
        check_size(height, width, self.max_pixels)
        data = self.images.read_raw(index)
        if len(data) != height * width * 3:
            raise BadImage("incomplete pixels")
        return shrink(np.frombuffer(data, np.uint8).reshape(height, width, 3), self.max_side)

    def remember(self, index: int, bad: BadImage) -> None:
        """Mark the image as bad."""
        self._reasons[index] = str(bad)
        self.is_bad[index] = True
