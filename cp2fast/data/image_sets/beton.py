"""FFCV's file format, version 2: the positions of the images in a ``.beton``.

    header | fields | one row per sample | pages of data | a table of (sample, offset, size)

The rows give the start of a sample's data, the table its size; no sample crosses the end of a page.
Source: ffcv 1.0.2, ``ffcv/types.py``, ``writer.py`` and ``memory_allocator.py``.
"""

from __future__ import annotations

import io
import os
from io import FileIO
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cp2fast.errors import UserError
from cp2fast.files import open_plain

SUFFIX = ".beton"
VERSION = 2
JPEG, RAW = 0, 1
RGB_IMAGE = 2
"""The type of an image field."""

HEADER = np.dtype(
    [
        ("version", "<u2"),
        ("num_fields", "<u2"),
        ("page_size", "<u4"),
        ("num_samples", "<u8"),
        ("alloc_table_ptr", "<u8"),
    ],
    align=True,
)
FIELD = np.dtype([("type_id", "u1"), ("name", "S16"), ("arguments", "V1024")], align=True)
IMAGE_ROW = np.dtype([("mode", "u1"), ("width", "<u2"), ("height", "<u2"), ("data_ptr", "<u8")])
ALLOCATION = np.dtype([("sample_id", "<u8"), ("ptr", "<u8"), ("size", "<u8")])

_BYTES_ROW = np.dtype([("ptr", "<u8"), ("size", "<u8")])
_ROWS: dict[int, Any] = {
    0: "<f8",  # float
    1: "<i8",  # int
    RGB_IMAGE: IMAGE_ROW,
    3: _BYTES_ROW,  # bytes
    4: "<u8",  # array
    5: _BYTES_ROW,  # JSON
    6: "<u8",  # tensor
}

SAMPLE = np.dtype(
    [("offset", "<i8"), ("size", "<i8"), ("height", "<i8"), ("width", "<i8"), ("mode", "<i8")]
)
"""An image in the file: offset and size of its bytes, height and width, and JPEG or RAW."""
ROW_COLUMNS = {"data_ptr": "offset", "height": "height", "width": "width", "mode": "mode"}
"""The common columns of IMAGE_ROW and SAMPLE: the name in each."""


def list_samples(path: Path) -> NDArray[np.void]:
    """The images in the first image field of a ``.beton``: SAMPLE ``[N]``, in the file's order.

    Raises:
        UserError: it cannot be read, is not a complete ``.beton``, or holds no images.
    """
    try:
        with open_plain(path) as file:
            samples = _list_samples(path, file)
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}): change its permissions"
        ) from error
    if not len(samples):
        raise UserError(
            f"no images in {path}: pack it again, with cp2fast pack SRC {quote(path.name)}"
        )
    return samples


def is_beton(name: str) -> bool:
    """Whether the name is that of a ``.beton`` file."""
    return name.lower().endswith(SUFFIX)


def encoded_image(data: bytes, height: int, width: int, mode: int) -> bytes:
    """A sample as an image file: JPEG as it is, raw pixels as PNG; empty if incomplete."""
    if mode == JPEG:
        return data
    if len(data) != height * width * 3:
        return b""
    buffer = io.BytesIO()
    Image.frombytes("RGB", (width, height), data).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _list_samples(path: Path, file: FileIO) -> NDArray[np.void]:
    length = os.fstat(file.fileno()).st_size

    def read(dtype: np.dtype[Any], count: int, offset: int) -> NDArray[Any]:
        """Read an array, checking that it lies inside the file."""
        if offset > length or offset + count * dtype.itemsize > length:
            raise _incomplete(path)
        file.seek(offset)
        return np.frombuffer(file.read(count * dtype.itemsize), dtype)

    (header,) = read(HEADER, 1, 0)
    if header["version"] != VERSION:
        raise UserError(
            f"{path} is not a .beton of FFCV's format {VERSION} (it says {header['version']}): "
            "pack it again, with cp2fast pack"
        )
    fields = read(FIELD, int(header["num_fields"]), HEADER.itemsize)
    types = fields["type_id"].tolist()
    if RGB_IMAGE not in types or not set(types) <= _ROWS.keys():
        what = "no image field" if RGB_IMAGE not in types else "a field of a type of its own"
        raise UserError(f"{path} has {what}: write it with ffcv's RGBImageField and its own fields")
    row = np.dtype([(str(i), _ROWS[type_]) for i, type_ in enumerate(types)], align=True)
    rows = read(row, int(header["num_samples"]), HEADER.itemsize + fields.nbytes)
    images = rows[str(types.index(RGB_IMAGE))]
    begin = int(header["alloc_table_ptr"])
    if begin == 0:  # written last
        raise _incomplete(path)
    table = read(ALLOCATION, (length - begin) // ALLOCATION.itemsize, begin)
    samples = np.zeros(len(images), SAMPLE)
    for theirs, ours in ROW_COLUMNS.items():
        samples[ours] = images[theirs]
    # If several entries have the same offset, the longest is last: the others are empty fields.
    table = table[np.lexsort((table["size"], table["ptr"]))]
    entry = np.searchsorted(table["ptr"], images["data_ptr"], "right") - 1
    if len(samples) and (len(table) == 0 or (table["ptr"][entry] != images["data_ptr"]).any()):
        raise _incomplete(path)
    samples["size"] = table["size"][entry]
    if (samples["size"] > begin - samples["offset"]).any():
        raise _incomplete(path)
    return samples


def _incomplete(path: Path) -> UserError:
    return UserError(f"{path} is not complete: pack or fetch it again")
