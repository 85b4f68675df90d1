"""Rows of PNG files, compared with what Pillow reads."""

import io

import numpy as np
import pytest
from PIL import Image

from cp2fast.data.decoding.png_rows import inflated, unfilter
from cp2fast.data.decoding.raster import BadImage

HEIGHT, WIDTH, CHANNELS = 37, 23, 3
LINE = 1 + WIDTH * CHANNELS


@pytest.fixture
def picture() -> np.ndarray:
    """Smooth and noisy rows, for which libpng chooses different filters."""
    smooth = np.add.outer(np.arange(HEIGHT) * 3, np.arange(WIDTH) * 5)[..., None] + [0, 40, 90]
    noise = np.random.default_rng(0).integers(0, 256, smooth.shape)
    return np.where(np.arange(HEIGHT)[:, None, None] % 9 < 7, smooth, noise).astype(np.uint8)


def png_of(picture: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("rows", [1, 5, HEIGHT, HEIGHT + 9])
def test_rows_come_out_as_the_picture_whatever_is_read_at_once(
    picture: np.ndarray, rows: int
) -> None:
    before, found, filters = np.zeros(LINE - 1, np.uint8), [], set[int]()
    for piece in inflated(png_of(picture), rows * LINE):
        lines = np.frombuffer(piece, np.uint8).reshape(-1, LINE).copy()
        filters |= set(lines[:, 0].tolist())
        unfilter(lines, before, CHANNELS)
        before = lines[-1, 1:]
        found.append(lines[:, 1:])
    assert np.array_equal(np.concatenate(found).reshape(picture.shape), picture)
    assert len(filters) > 2


def test_a_filter_that_does_not_exist_is_damage() -> None:
    with pytest.raises(BadImage, match="unknown filter"):
        unfilter(np.full((1, LINE), 5, np.uint8), np.zeros(LINE - 1, np.uint8), CHANNELS)


def test_content_that_cannot_be_inflated_is_damage(picture: np.ndarray) -> None:
    encoded = bytearray(png_of(picture))
    begin = encoded.index(b"IDAT") + 4
    encoded[begin : begin + 2] = b"\xff\xff"
    with pytest.raises(BadImage, match="damaged PNG"):
        list(inflated(bytes(encoded), LINE))
