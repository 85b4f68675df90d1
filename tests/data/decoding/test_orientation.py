"""The orientation of a photo, by one parser, and the turn."""

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from cp2fast.batch import RaggedBatch
from cp2fast.data.decoding.decode import decode_image
from cp2fast.data.decoding.orientation import orient, orient_batch, orientation_of
from tests.data import image_files, metadata
from tests.data.metadata import ORIENTATION, exif_segment, in_jpeg, in_png, in_webp, tiff, turned

PHOTO = image_files.photo(20, 12)
JPEG = image_files.encode(PHOTO, "JPEG")
PNG = image_files.encode(PHOTO, "PNG")
TURNS = range(1, 9)


def in_tiff_file(value: int) -> bytes:
    return image_files.encode(PHOTO, "TIFF", tiffinfo={ORIENTATION: value})


CARRIERS = {
    "JPEG": lambda value: in_jpeg(JPEG, exif_segment(turned(value))),
    "JPEG, big endian": lambda value: in_jpeg(
        JPEG, exif_segment(tiff([metadata.orientation(value, ">")], ">"))
    ),
    "PNG": lambda value: in_png(PNG, metadata.chunk(b"eXIf", turned(value))),
    "PNG, after the pixels": lambda value: in_png(
        PNG, metadata.chunk(b"eXIf", turned(value)), before=b"IEND"
    ),
    "PNG, as text": lambda value: in_png(
        PNG,
        metadata.chunk(
            b"zTXt",
            b"Raw profile type exif\0\0"
            + zlib.compress(b"\nexif\n      26\n" + turned(value).hex().encode() + b"\n"),
        ),
    ),
    "WebP": lambda value: in_webp(PHOTO, turned(value)),
    "TIFF": in_tiff_file,
}


@pytest.mark.parametrize("value", TURNS)
@pytest.mark.parametrize("carrier", CARRIERS)
def test_every_format_tells_each_orientation(carrier, value):
    assert orientation_of(CARRIERS[carrier](value)) == value


@pytest.mark.parametrize("value", TURNS)
def test_an_image_is_turned_as_pillow_turns_it(value):
    encoded = in_jpeg(JPEG, exif_segment(turned(value)))
    with Image.open(io.BytesIO(encoded)) as image:
        expected = np.array(ImageOps.exif_transpose(image))
    stored = decode_image(JPEG, 1000)
    assert np.array_equal(orient(stored, value), expected)
    assert orient(stored, value).is_contiguous()
    assert np.array_equal(orient(stored[:, :, 1], value), expected[:, :, 1])


def test_a_batch_is_turned_in_place():
    images = [torch.randint(256, (5 + i, 9, 3), dtype=torch.uint8) for i in range(8)]
    batch = RaggedBatch.pack([torch.zeros(2, 2, 3, dtype=torch.uint8), *images], range(9))
    upright = orient_batch(batch, [1, *TURNS])
    assert upright.pixels.data_ptr() == batch.pixels.data_ptr()
    for position, (image, value) in enumerate(zip(images, TURNS, strict=True), 1):
        assert torch.equal(upright.image(position), orient(image, value))
    assert not upright.image(0).any()


SIX = metadata.orientation(6)
ODD_ENTRIES = {
    "of type 0": (0x0132, 0, 1, b""),
    "of a type that there is not": (0x9999, 99, 1, b""),
    "without values": (0x010E, 2, 0, b""),
    "whose value lies beyond the block": (0x010F, 2, 40, struct.pack("<I", 60_000)),
    "of four thousand million values": (0x010F, 2, 0xFFFFFFFF, struct.pack("<I", 50)),
    "of a maker": (0x927C, 7, 60_000, struct.pack("<I", 8)),
    "that is a directory elsewhere": (0x8769, 4, 1, struct.pack("<I", 60_000)),
    "with a divisor of zero": (0x011A, 5, 1, struct.pack("<II", 72, 0)),
}


@pytest.mark.parametrize("odd", ODD_ENTRIES)
def test_an_odd_entry_costs_nothing_but_itself(odd):
    for entries in ([ODD_ENTRIES[odd], SIX], [SIX, ODD_ENTRIES[odd]]):
        assert orientation_of(in_jpeg(JPEG, exif_segment(tiff(entries)))) == 6


BLOCKS = {
    "cut after the orientation": (turned(6)[:-4], 6),
    "cut within it": (turned(6)[:18], 1),
    "cut within the header": (turned(6)[:4], 1),
    "without a byte": (b"", 1),
    "of garbage": (b"\x99" * 60, 1),
    "that counts too many entries": (turned(6)[:8] + b"\5\0" + turned(6)[10:], 6),
    "whose directory comes later": (b"II*\0\x10\0\0\0" + bytes(8) + turned(6)[8:], 6),
    "whose directory lies in its header": (b"II*\0\4\0\0\0" + turned(6)[8:], 1),
    "whose directory lies beyond it": (b"II*\0\xff\0\0\0" + turned(6)[8:], 1),
    "with its identifier once more": (b"Exif\0\0" + turned(6), 6),
    "with it twice more": (b"Exif\0\0Exif\0\0" + turned(6), 6),
    "whose second directory is turned": (
        tiff([(0x0110, 2, 4, b"abc\0")], next_directory=26)
        + struct.pack("<HHHIII", 1, ORIENTATION, 3, 1, 6, 0),
        1,
    ),
    "that says it twice": (tiff([SIX, metadata.orientation(3)]), 6),
    "that says 0": (turned(0), 1),
    "that says 9": (turned(9), 1),
    "that says 65535": (turned(65535), 1),
    "as long": (tiff([(ORIENTATION, 4, 1, struct.pack("<I", 6))]), 6),
    "as float": (tiff([(ORIENTATION, 11, 1, struct.pack("<f", 6.0))]), 6),
    "as a float between two": (tiff([(ORIENTATION, 11, 1, struct.pack("<f", 6.5))]), 1),
    "as NaN": (tiff([(ORIENTATION, 11, 1, struct.pack("<f", float("nan")))]), 1),
    "as double": (tiff([(ORIENTATION, 12, 1, struct.pack("<d", 6.0))]), 6),
    "as ratio": (tiff([(ORIENTATION, 5, 1, struct.pack("<II", 12, 2))]), 6),
    "as a ratio to zero": (tiff([(ORIENTATION, 5, 1, struct.pack("<II", 6, 0))]), 1),
    "as byte": (tiff([(ORIENTATION, 1, 1, b"\6")]), 1),
    "as text": (tiff([(ORIENTATION, 2, 2, b"6\0")]), 1),
    "with a second value": (tiff([(ORIENTATION, 3, 2, struct.pack("<HH", 6, 1))]), 6),
    "whose value lies beyond it": (tiff([(ORIENTATION, 3, 90, struct.pack("<I", 8))]), 1),
}


@pytest.mark.parametrize("carrier", ["JPEG", "PNG", "WebP"])
@pytest.mark.parametrize("block", BLOCKS)
def test_a_block(block, carrier):
    content, expected = BLOCKS[block]
    encoded = {
        "JPEG": lambda: in_jpeg(JPEG, exif_segment(content)),
        "PNG": lambda: in_png(PNG, metadata.chunk(b"eXIf", content)),
        "WebP": lambda: in_webp(PHOTO, content),
    }[carrier]()
    assert orientation_of(encoded) == expected
    image = decode_image(encoded, 1000)
    assert image.shape == ((20, 12, 3) if expected == 6 else (12, 20, 3))


SEGMENTS = {
    "6, then 3": ([turned(6), turned(3)], 6),
    "1, then 6": ([turned(1), turned(6)], 1),
    "none, then 6": ([tiff([(0x0110, 2, 4, b"abc\0")]), turned(6)], 1),
    "garbage, then 6": ([b"\x99" * 60, turned(6)], 6),
    "a cut header, then 6": ([turned(3)[:6], turned(6)], 6),
    "6, then none": ([turned(6), b""], 6),
}


@pytest.mark.parametrize("case", SEGMENTS)
def test_of_several_blocks_the_first_valid_one_counts(case):
    blocks, expected = SEGMENTS[case]
    assert orientation_of(in_jpeg(JPEG, *map(exif_segment, blocks))) == expected
    chunks = [metadata.chunk(b"eXIf", block) for block in blocks]
    assert orientation_of(in_png(PNG, *chunks)) == expected


def test_what_comes_before_the_block_does_not_hide_it():
    before = {
        "XMP": metadata.xmp_segment(metadata.xmp(1)),
        "extended XMP": metadata.segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + b"x" * 50),
        "FLIR": metadata.segment(0xE1, b"FLIR\0\1\0\0" + b"x" * 50),
        "a profile": metadata.segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(200)),
        "Photoshop's": metadata.segment(0xED, b"Photoshop 3.0\0" + bytes(50)),
        "a comment": metadata.segment(0xFE, b"hello"),
        "fill bytes": b"\xff" * 7,
        "junk": b"\0\0\0",
        "a segment without length": b"\xff\xe5\0\0",
    }
    for name, segment in before.items():
        if name != "junk":  # A JPEG's third byte belongs to its signature.
            assert orientation_of(in_jpeg(JPEG, segment, exif_segment(turned(6)))) == 6, name
    later = in_jpeg(JPEG, metadata.segment(0xFE, b""), before["junk"], exif_segment(turned(6)))
    assert orientation_of(later) == 6


def test_xmp_never_counts():
    packet = metadata.xmp(6)
    text = metadata.chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet)
    for encoded in (
        in_jpeg(JPEG, metadata.xmp_segment(packet)),
        in_jpeg(JPEG, exif_segment(tiff([])), metadata.xmp_segment(packet)),
        in_png(PNG, text),
        image_files.encode(PHOTO, "WEBP", lossless=True, xmp=packet),
        in_jpeg(image_files.encode(PHOTO.convert("CMYK"), "JPEG"), metadata.xmp_segment(packet)),
    ):
        assert orientation_of(encoded) == 1
        assert decode_image(encoded, 1000).shape == (12, 20, 3)


def test_a_chunk_with_a_wrong_checksum_is_none():
    chunk = metadata.chunk(b"eXIf", turned(6))
    assert orientation_of(in_png(PNG, chunk[:-1] + bytes([chunk[-1] ^ 1]))) == 1
