"""libjpeg-turbo's decoder gives the pixels of the other decoders, or says that it does not."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from cp2fast.data.decoding import turbojpeg
from tests.data import image_files

FILES = image_files.jpeg_files()
RARE = ("exif", "CMYK", "YCCK", "arithmetic")  # Rotated, refused, or up to the library's build.
COMMON = [name for name in FILES if not name.startswith(RARE)]


def decode(encoded: bytes, height: int, width: int) -> np.ndarray | None:
    pixels = np.full((height, width, 3), 77, np.uint8)
    return pixels if turbojpeg.decode_into(encoded, pixels) else None


@pytest.mark.parametrize("name", COMMON)
def test_the_pixels_are_pillows(name: str) -> None:
    expected = image_files.as_pillow_reads(FILES[name])
    decoded = decode(FILES[name], *expected.shape[:2])
    assert decoded is not None
    difference = np.abs(decoded.astype(int) - expected)
    assert difference.max() == 0


def test_a_rotation_in_the_exif_data_is_ignored() -> None:
    upright = decode(FILES["exif 1"], 61, 83)
    rotated = decode(FILES["exif 6"], 61, 83)
    assert upright is not None
    assert rotated is not None
    assert np.array_equal(upright, rotated)


def test_another_size_is_refused_and_nothing_is_written_beyond_the_image() -> None:
    memory = np.full(3 * 61 * 83 + 1000, 77, np.uint8)
    image = memory[: 3 * 30 * 40].reshape(30, 40, 3)
    assert not turbojpeg.decode_into(FILES["4:2:0"], image)
    image = memory[: 3 * 61 * 83].reshape(61, 83, 3)
    assert turbojpeg.decode_into(FILES["4:2:0"], image)
    assert (memory[3 * 61 * 83 :] == 77).all()


def test_damaged_files_are_refused() -> None:
    whole = FILES["4:2:0"]
    assert decode(whole[: len(whole) // 2], 61, 83) is None
    assert decode(b"", 61, 83) is None
    assert decode(b"not a JPEG", 61, 83) is None
    assert decode(whole, 61, 83) is not None


def test_threads_decode_at_the_same_time() -> None:
    encoded = [image_files.encode(image_files.photo(300, 200, i), "JPEG") for i in range(40)]
    with ThreadPoolExecutor(8) as pool:
        decoded = list(pool.map(lambda data: decode(data, 200, 300), encoded * 5))
    for image, data in zip(decoded, encoded * 5, strict=True):
        assert image is not None
        assert np.array_equal(image, image_files.as_pillow_reads(data))
