"""A PNG cut into bands of rows has the pixels of the whole."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from cp2fast.data.decoding import png_bands
from cp2fast.data.decoding.decode import decode_image
from cp2fast.data.decoding.raster import BadImage

ANY = 1 << 40


def smooth() -> np.ndarray:
    """Pixels for which Pillow chooses all kinds of filters."""
    noise = np.random.default_rng(0).integers(0, 256, (37, 53, 4), dtype=np.uint8)
    return np.asarray(Image.fromarray(noise).filter(ImageFilter.GaussianBlur(2)))


def picture(mode: str) -> Image.Image:
    pixels = smooth()
    match mode:
        case "P":
            return Image.fromarray(pixels[..., :3]).quantize(13)
        case "1":
            return Image.fromarray(pixels[..., 0]).convert("1")
        case "I;16":
            return Image.fromarray(pixels[..., 0].astype(np.uint16) * 251)
        case _:
            return Image.fromarray(pixels).convert(mode)


def encoded(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "I;16"])
@pytest.mark.parametrize("rows", [1, 8, 100])
def test_bands_join_to_the_whole(mode: str, rows: int) -> None:
    file = encoded(picture(mode))
    assert png_bands.can_cut(file)
    bands = [decode_image(band, ANY) for band in png_bands.bands(file, rows)]
    assert [len(band) for band in bands[:-1]] == [rows] * (len(bands) - 1)
    assert torch.equal(torch.cat(bands), decode_image(file, ANY))


def test_a_file_that_ends_early_is_refused() -> None:
    file = encoded(picture("RGB"))
    with pytest.raises(BadImage, match=r"ends after \d+ of 37 rows"):
        list(png_bands.bands(file[: len(file) // 2], 8))


def test_a_damaged_file_is_refused() -> None:
    file = bytearray(encoded(picture("RGB")))
    file[200:260] = bytes(60)
    with pytest.raises(BadImage, match=r"damaged PNG image|ends after"):
        list(png_bands.bands(bytes(file), 8))


def test_what_is_interlaced_or_no_png_is_not_cut() -> None:
    file = bytearray(encoded(picture("L")))
    file[28] = 1
    assert not png_bands.can_cut(bytes(file))
    assert not png_bands.can_cut(b"GIF89a")
