"""What a packed data set stores of each image."""

import io

import numpy as np
import pytest
from PIL import Image

from cp2fast.data.decoding.decode import BadImage
from cp2fast.data.packing.packed_jpeg import JpegSettings, pack_jpeg
from tests.data import image_files

JPEGS, OTHERS = image_files.jpeg_files(), image_files.other_files()


def settings(max_side: int | None = None, keep_bytes: bool = False) -> JpegSettings:
    return JpegSettings(max_side, 95, keep_bytes, max_pixels=1_000_000)


def plain_pixels(encoded: bytes) -> np.ndarray:
    """As a decoder reads it that knows no EXIF and converts no colours."""
    with Image.open(io.BytesIO(encoded)) as image:
        assert (image.format, image.mode) == ("JPEG", "RGB")
        return np.array(image).astype(int)


@pytest.mark.parametrize("name", [*JPEGS, *OTHERS])
def test_every_kind_becomes_an_upright_rgb_jpeg(name: str) -> None:
    encoded = (JPEGS | OTHERS)[name]
    packed = pack_jpeg(encoded, settings())
    pixels, expected = plain_pixels(packed.encoded), image_files.as_pillow_reads(encoded)
    assert pixels.shape == expected.shape == (packed.height, packed.width, 3)
    reference = image_files.encode(Image.fromarray(expected), "JPEG", quality=95)
    assert np.abs(pixels - plain_pixels(reference)).mean() < 0.5


@pytest.mark.parametrize(
    ("size", "max_side", "expected"),
    [
        ((300, 200), 150, (150, 100)),
        ((200, 301), 150, (100, 150)),
        ((300, 200), 300, (300, 200)),
        ((2000, 3), 100, (100, 1)),
        ((90, 60), 1000, (90, 60)),
    ],
)
def test_no_side_is_longer_than_asked_for(size, max_side, expected) -> None:
    photo = image_files.photo(*size)
    packed = pack_jpeg(image_files.encode(photo, "JPEG"), settings(max_side, keep_bytes=True))
    assert (packed.width, packed.height) == expected
    with Image.open(io.BytesIO(packed.encoded)) as image:
        assert image.size == expected


def test_bytes_are_kept_where_nothing_has_to_change() -> None:
    keep = settings(max_side=100, keep_bytes=True)
    for name in ("exif 1", "4:2:0", "4:4:4", "progressive", "restart markers", "1 x 1"):
        packed = pack_jpeg(JPEGS[name], keep)
        assert packed.encoded == JPEGS[name]
        assert plain_pixels(packed.encoded).shape == (packed.height, packed.width, 3)


def test_bytes_are_not_kept_where_something_has_to() -> None:
    keep = settings(max_side=100, keep_bytes=True)
    changed = ["grey", "YCCK", "CMYK, inverted by Adobe", *(f"exif {i}" for i in range(2, 9))]
    for name in changed:
        packed = pack_jpeg(JPEGS[name], keep)
        assert packed.encoded != JPEGS[name]
        assert plain_pixels(packed.encoded).shape == (packed.height, packed.width, 3)
    assert pack_jpeg(JPEGS["4:2:0"], settings(82, keep_bytes=True)).encoded != JPEGS["4:2:0"]


@pytest.mark.parametrize("keep_bytes", [False, True])
def test_what_cannot_be_read_is_refused(keep_bytes: bool) -> None:
    whole = JPEGS["4:2:0"]
    for encoded in (b"", b"text", whole[: len(whole) // 2]):
        with pytest.raises(BadImage):
            pack_jpeg(encoded, settings(keep_bytes=keep_bytes))
    with pytest.raises(BadImage, match="are more than"):
        pack_jpeg(whole, JpegSettings(None, 90, keep_bytes, max_pixels=100))


def test_what_is_too_long_for_a_jpeg_is_refused_unless_it_is_reduced() -> None:
    for size, is_too_long in ((65_500, False), (65_501, True)):
        encoded = image_files.encode(Image.new("RGB", (1, size)), "PNG")
        assert pack_jpeg(encoded, settings(max_side=100)).height == 100
        if is_too_long:
            with pytest.raises(BadImage, match=r"at most 65,500 pixels a side: set --max-side"):
                pack_jpeg(encoded, settings())
        else:
            assert pack_jpeg(encoded, settings()).height == size
