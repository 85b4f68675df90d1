"""libjpeg-turbo's decoder gives the pixels of the other decoders, or says that it does not."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from cp2fast.data import turbojpeg
from tests.data import image_files

if problem := turbojpeg.problem():
    pytest.skip(problem, allow_module_level=True)

FILES = image_files.jpeg_files()
RARE = ("exif", "CMYK", "YCCK", "arithmetic")  # Rotated, refused, or up to the library's build.
COMMON = [name for name in FILES if not name.startswith(RARE)]


def decode(encoded: bytes, height: int, width: int) -> torch.Tensor | None:
    pixels = torch.full((height, width, 3), 77, dtype=torch.uint8)
    return pixels if turbojpeg.decode_into(encoded, pixels) else None


@pytest.mark.parametrize("name", COMMON)
def test_the_pixels_are_pillows(name: str) -> None:
    expected = image_files.as_pillow_reads(FILES[name])
    decoded = decode(FILES[name], *expected.shape[:2])
    assert decoded is not None
    difference = np.abs(decoded.numpy().astype(int) - expected)
    assert difference.max() == 0


def test_a_rotation_in_the_exif_data_is_ignored() -> None:
    upright = decode(FILES["exif 1"], 61, 83)
    rotated = decode(FILES["exif 6"], 61, 83)
    assert upright is not None
    assert rotated is not None
    assert torch.equal(upright, rotated)


@pytest.mark.parametrize("name", ["CMYK, inverted by Adobe", "YCCK"])
def test_other_colours_are_refused(name: str) -> None:
    assert decode(FILES[name], 61, 83) is None


def test_another_size_is_refused_and_nothing_is_written_beyond_the_image() -> None:
    memory = torch.full((3 * 61 * 83 + 1000,), 77, dtype=torch.uint8)
    image = memory[: 3 * 30 * 40].view(30, 40, 3)
    assert not turbojpeg.decode_into(FILES["4:2:0"], image)
    image = memory[: 3 * 61 * 83].view(61, 83, 3)
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
        assert np.array_equal(image.numpy(), image_files.as_pillow_reads(data))


FIRST_DECODES_AT_ONCE = """
import importlib, sys, threading
from pathlib import Path
import torch
from cp2fast.data import turbojpeg

encoded = Path(sys.argv[1]).read_bytes()
wrong = []

def decode(together):
    pixels = torch.empty((61, 83, 3), dtype=torch.uint8)
    together.wait()
    if not turbojpeg.decode_into(encoded, pixels):
        wrong.append(pixels)

for _ in range(500):
    importlib.reload(turbojpeg)
    together = threading.Barrier(8)
    threads = [threading.Thread(target=decode, args=[together]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
sys.exit(len(wrong))
"""


def test_threads_may_begin_at_the_same_time(tmp_path: Path) -> None:
    """In a process of its own, which a decoder that is freed while in use would end."""
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(FILES["4:2:0"])
    command = [sys.executable, "-c", FIRST_DECODES_AT_ONCE, str(photo)]
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
