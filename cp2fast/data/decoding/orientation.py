"""The orientation of a photo: read it from the metadata, and rotate the photo upright.

Metadata is read only here, and decoders get files without it or are told to ignore it, because they
disagree on malformed blocks and some crash on them. JPEG, PNG, WebP and TIFF use Exif; XMP is
ignored. HEIC and AVIF use the transformations in their container and nothing else: pillow-heif
applies these itself, Pillow reports them. If there are several Exif blocks, the first valid one
counts. A block is valid if its TIFF header points to a first directory inside the block; any other
error only affects the entry concerned, never the whole photo.

Sources: Exif 2.32 (CIPA DC-008), sections 4.5 and 4.6.4; TIFF 6.0, section 2; the WebP container
specification. Where these leave a choice, this follows Pillow.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from PIL import Image
from torch import Tensor

from cp2fast.batch import RaggedBatch
from cp2fast.data.decoding import jpeg, png

UPRIGHT = 1

_ORIENTATION = 0x0112
_BYTE_ORDERS = {b"II*\0": "<", b"II\0*": "<", b"MM\0*": ">", b"MM*\0": ">"}
_BIG_BYTE_ORDERS = {b"II+\0": "<", b"MM\0+": ">"}
"""Of BigTIFF, which no Exif block is."""
_IDENTIFIER = b"Exif\0"

_FORMATS = {1: "B", 2: "c", 3: "H", 4: "I", 5: "II", 6: "b", 7: "c", 8: "h", 9: "i", 10: "ii"} | {
    11: "f", 12: "d", 13: "I", 16: "Q"
}  # fmt: skip
"""Format of each of TIFF's types; if there are several values, the first counts."""
_NO_NUMBERS = (1, 2, 7)
"""Bytes, text, and undefined bytes."""

_WEBP_HAS_EXIF = 0x08


def orientation_of(encoded: bytes) -> int:
    """The orientation of an image file, in Exif's numbering: 1 (upright) to 8.

    Args:
        encoded: the whole file, of any format, even if damaged.
    """
    if encoded[:4] in _BIG_BYTE_ORDERS:
        order = _BIG_BYTE_ORDERS[encoded[:4]]
        return _in_directory(encoded, order, at=8, offset="Q", count="Q") or UPRIGHT
    return _first_valid(_blocks(encoded))


def jpeg_orientation(encoded: bytes, header: jpeg.Header) -> int:
    """``orientation_of`` for a JPEG file whose header was already read."""
    return _first_valid(jpeg.exif_blocks(encoded, header)) if header.metadata else UPRIGHT


def of_avif(image: Image.Image) -> int:
    """The orientation of an AVIF file opened with Pillow.

    It comes from the container (``irot`` and ``imir``, ISO/IEC 23008-12) and overrides any Exif
    block. Pillow reports it in the image's Exif and does not rotate the pixels.
    """
    value = image.getexif().get(_ORIENTATION, UPRIGHT)
    return value if value in range(1, 9) else UPRIGHT


def orient(image: Tensor, orientation: int) -> Tensor:
    """Rotate an image ``[H, W]`` or ``[H, W, C]`` upright; the result is contiguous."""
    if orientation >= 5:
        image = image.transpose(0, 1)
    if orientation in (2, 3, 6, 7):
        image = image.flip(1)
    if orientation in (3, 4, 7, 8):
        image = image.flip(0)
    return image.contiguous()


def orient_batch(batch: RaggedBatch, orientations: Sequence[int]) -> RaggedBatch:
    """Rotate the images of a batch upright, in place; the offset of each stays the same."""
    turned = [position for position, one in enumerate(orientations) if one != UPRIGHT]
    if not turned:
        return batch
    height, width = batch.height.clone(), batch.width.clone()
    for position in turned:
        image = batch.image(position)
        image.view(-1).copy_(orient(image.clone(), orientations[position]).view(-1))
        if orientations[position] >= 5:
            height[position], width[position] = image.shape[1], image.shape[0]
    return replace(batch, height=height, width=width)


def upright_size(height: int, width: int, orientation: int) -> tuple[int, int]:
    """Height and width of an image after rotating it upright."""
    return (width, height) if orientation >= 5 else (height, width)


def _blocks(encoded: bytes) -> Iterable[bytes]:
    """The Exif blocks of a file, in order."""
    if encoded.startswith(jpeg.SIGNATURE):
        header = jpeg.read_header(encoded)
        return () if header is None else jpeg.exif_blocks(encoded, header)
    if encoded.startswith(png.SIGNATURE):
        return png.exif_blocks(encoded)
    if encoded.startswith(b"RIFF") and encoded[8:12] == b"WEBP":
        return _webp_blocks(encoded)
    return (encoded,) if encoded[:4] in _BYTE_ORDERS else ()


def _webp_blocks(encoded: bytes) -> Iterator[bytes]:
    """The EXIF chunks of a WebP file, if its first chunk announces them."""
    if encoded[12:16] != b"VP8X" or not encoded[20:21] or not encoded[20] & _WEBP_HAS_EXIF:
        return
    begin = 12
    while begin + 8 <= len(encoded):
        size = int.from_bytes(encoded[begin + 4 : begin + 8], "little")
        if encoded[begin : begin + 4] == b"EXIF":
            yield encoded[begin + 8 : begin + 8 + size]
        begin += 8 + size + size % 2


def _first_valid(blocks: Iterable[bytes]) -> int:
    for block in blocks:
        while block.startswith(_IDENTIFIER):  # present where it should not be, or repeated
            block = block[len(_IDENTIFIER) + 1 :]
        order = _BYTE_ORDERS.get(block[:4])
        if order is not None:
            found = _in_directory(block, order, at=4, offset="I", count="H")
            if found is not None:
                return found
    return UPRIGHT


def _in_directory(block: bytes, order: str, at: int, offset: str, count: str) -> int | None:
    """The orientation in the first directory of a TIFF block; None if the block is invalid.

    Args:
        block: the block.
        order: byte order, in the notation of ``struct``.
        at: where the block says where the directory begins.
        offset: format of that, and of other offsets and numbers of values.
        count: format of the number of entries.
    """
    room = struct.calcsize(f"={offset}")
    if len(block) < at + room:
        return None
    (begin,) = struct.unpack_from(order + offset, block, at)
    first = begin + struct.calcsize(f"={count}")
    if begin < at + room or first > len(block):
        return None
    (entries,) = struct.unpack_from(order + count, block, begin)
    entry = f"{order}HH{offset}{room}s"
    size = struct.calcsize(entry)
    listed = block[first : first + size * entries]
    for tag, kind, values, field in struct.iter_unpack(entry, listed[: len(listed) // size * size]):
        if tag == _ORIENTATION:
            found = _value(block, order, offset, kind, values, field)
            if found is not None:
                return found
    return UPRIGHT


def _value(
    block: bytes, order: str, offset: str, kind: int, count: int, field: bytes
) -> int | None:
    """The orientation in an entry: 1 if it is invalid, None if the block is cut short before it."""
    form = order + _FORMATS.get(kind, "")
    size = struct.calcsize(form) * count
    if not size:
        return None
    if size > len(field):
        (begin,) = struct.unpack(order + offset, field)
        field = block[begin : begin + size]
        if len(field) < size:
            return None
    if kind in _NO_NUMBERS:
        return UPRIGHT
    value, *divisor = struct.unpack_from(form, field)
    if divisor:
        value = value / divisor[0] if divisor[0] else 0
    return int(value) if value in range(1, 9) else UPRIGHT
