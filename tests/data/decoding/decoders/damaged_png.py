"""Damaged PNG files of 16 bits, decoded; for a process that may die of it."""

from __future__ import annotations

import random
import struct
import zlib
from collections import Counter

import numpy as np

from cp2fast.data.decoding import png
from cp2fast.data.decoding.decode import BadImage, decode_image
from tests.data import image_files


def main() -> None:
    """Print what became of the files; flipped bits under a right checksum may go unnoticed."""
    random.seed(0)
    y, x, _ = np.mgrid[:60, :80, :1]
    encoded = image_files.write_png(x * 400 + y * 97, 16, 0)
    damaged = [*(flipped(encoded) for _ in range(60)), *(taller(encoded) for _ in range(60))]
    for _ in range(60):
        outcome(whole(flipped(encoded)))
    print(dict(Counter(map(outcome, damaged))))


def outcome(encoded: bytes) -> str:
    try:
        decode_image(encoded, 10**6)
    except BadImage:
        return "BadImage"
    return "decoded"


def flipped(encoded: bytes) -> bytes:
    """One bit of the compressed pixels changed."""
    damaged = bytearray(encoded)
    place = random.randrange(encoded.find(b"IDAT") + 4, len(encoded) - 16)
    damaged[place] ^= 1 << random.randrange(8)
    return bytes(damaged)


def taller(encoded: bytes) -> bytes:
    """More rows in the header than there are, with the right checksum."""
    damaged = bytearray(encoded)
    damaged[20:24] = struct.pack(">I", random.randrange(61, 200))
    return whole(bytes(damaged))


def whole(encoded: bytes) -> bytes:
    """With the right checksum of every chunk."""
    mended = bytearray(encoded)
    for chunk in png.chunks(encoded):
        checksum = zlib.crc32(encoded[chunk.begin + 4 : chunk.end - 4])
        struct.pack_into(">I", mended, chunk.end - 4, checksum)
    return bytes(mended)
