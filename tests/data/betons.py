"""Files in FFCV's format, for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cp2fast.data.image_sets import beton
from cp2fast.data.packing.packed_jpeg import PackedJpeg
from cp2fast.data.packing.writers import BetonWriter, WriterState
from tests.data import image_files


def write_beton(path: Path, images: list[PackedJpeg], page_size: int = 1 << 21) -> Path:
    """A ``.beton`` of these very bytes; they need not be JPEG."""
    folder = path.with_name(f"{path.name}.made")
    folder.mkdir(parents=True)
    writer = BetonWriter(folder, len(images), page_size, WriterState(images=0, end=0, page=0))
    for image in images:
        writer.add("", image)
    writer.commit()
    writer.finish()
    writer.close()
    writer.path.rename(path)
    return path


def photos(count: int) -> list[PackedJpeg]:
    """Photos of many sizes."""
    images = []
    for number in range(count):
        width, height = 40 + 7 * (number % 13), 90 - 3 * (number % 17)
        photo = image_files.photo(width, height, seed=number)
        images.append(PackedJpeg(image_files.encode(photo, "JPEG"), height, width))
    return images


def row(number: int) -> int:
    """Where the file says of an image: mode (1 byte), width (2), height (2), place (8)."""
    return beton.HEADER.itemsize + beton.FIELD.itemsize + number * beton.IMAGE_ROW.itemsize


def overwrite(path: Path, number: int, data: bytes) -> None:
    """Put ``data`` where an image's bytes begin."""
    with path.open("r+b") as file:
        file.seek(int(beton.list_samples(path)["offset"][number]))
        file.write(data)


def as_raw(path: Path, number: int, pixels: np.ndarray) -> None:
    """Make raw pixels of an image whose place in the file has just their size."""
    overwrite(path, number, pixels.tobytes())
    with path.open("r+b") as file:
        file.seek(row(number))
        file.write(bytes([beton.RAW]))
