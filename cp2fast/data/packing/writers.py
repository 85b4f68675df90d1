"""Writers for packed data sets, which can continue after being killed.

A writer's ``commit`` flushes everything to disk and returns a state. A new writer continues from
that state and cuts off what was written after it; it raises ``LostError`` if something was lost.
"""

from __future__ import annotations

import os
import tarfile
from pathlib import Path
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from cp2fast.data.image_sets import beton
from cp2fast.data.image_sets.tar import BLOCK
from cp2fast.data.packing.packed_jpeg import PackedJpeg

SHARD = "shard-{:06d}.tar"
_ROW = np.dtype([("image", beton.IMAGE_ROW)], align=True)
_LARGEST_PAGE = 1 << 31
_SMALLEST_PAGE = 1 << 23
"""FFCV's default."""


class LostError(Exception):
    """A file that a writer should continue is not there, or has become shorter; names it."""


class WriterState(TypedDict):
    """The position of a writer: images written, and the end of the newest file.

    Of a ``.beton`` also the size of the pages in which its samples lie, else 0.
    """

    images: int
    end: int
    page: int


class BetonWriter:
    """A ``.beton`` with one field, ``image``: JPEG only.

    The rows come before the data, but their number is known only at the end, so space is reserved
    for one row per image of the source. ``path`` is the file that it writes.
    """

    def __init__(self, folder: Path, capacity: int, page_size: int, state: WriterState) -> None:
        """Continue at ``state`` in ``folder``, for at most ``capacity`` images."""
        self.path = folder / "packed.beton"
        self._page = page_size
        self._rows_begin = beton.HEADER.itemsize + beton.FIELD.itemsize
        data_begin = _align(self._rows_begin + capacity * _ROW.itemsize, page_size)
        self._file = _Appender(self.path, state["end"] or data_begin, new=not state["images"])
        # The data of the rows and the table, in a file of its own until the end.
        self._index = _Appender(folder / "index", state["images"] * beton.SAMPLE.itemsize)

    def fits(self, image: PackedJpeg) -> bool:
        """Whether the image fits in a page, as no sample may cross a page's end."""
        return len(image.encoded) <= self._page

    def add(self, name: str, image: PackedJpeg) -> None:
        """Append an image; the format does not store ``name``."""
        left = -self._file.end % self._page
        if len(image.encoded) > left:
            self._file.end += left
        sample = (self._file.end, len(image.encoded), image.height, image.width, beton.JPEG)
        self._file.append(image.encoded)
        self._index.append(np.array(sample, beton.SAMPLE).tobytes())

    def commit(self) -> WriterState:
        """Flush the data, then the index to disk."""
        self._file.sync()
        self._index.sync()
        images = self._index.end // beton.SAMPLE.itemsize
        return {"images": images, "end": self._file.end, "page": self._page}

    def finish(self) -> None:
        """Write the table, the rows, and last the header, which makes the file a valid .beton."""
        samples = np.fromfile(self._index.path, beton.SAMPLE)
        table_begin = _align(self._file.end, self._page)
        self._file.end = table_begin
        self._file.append(_table(samples).tobytes())
        self._file.write_at(self._rows_begin, _rows(samples).tobytes())
        field = np.zeros(1, beton.FIELD)
        field["type_id"], field["name"] = beton.RGB_IMAGE, b"image"
        self._file.write_at(beton.HEADER.itemsize, field.tobytes())
        self._file.sync()
        header = (beton.VERSION, 1, self._page, len(samples), table_begin)
        self._file.write_at(0, np.array(header, beton.HEADER).tobytes())
        self._file.sync()

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        self._index.close()


class TarWriter:
    """Tar shards with WebDataset's names, or one tar file; ``path`` is the folder or the file."""

    def __init__(self, folder: Path, shard_size: int | None, state: WriterState) -> None:
        """Continue at ``state`` in ``folder``; a ``shard_size`` of None is one tar for all."""
        self.path = folder / ("shards" if shard_size else "packed.tar")
        self._shard_size = shard_size
        self._images = state["images"]
        if shard_size:
            self.path.mkdir(exist_ok=True)
            newest = max(0, self._images - 1) // shard_size
            older = [self.path / SHARD.format(number) for number in range(newest)]
            if lost := next((shard for shard in older if not shard.exists()), None):
                raise LostError(lost)
            for beyond in sorted(self.path.glob("*.tar"))[newest + 1 :]:
                beyond.unlink()
            self._file = _Appender(self.path / SHARD.format(newest), state["end"])
        else:
            self._file = _Appender(self.path, state["end"])

    def fits(self, image: PackedJpeg) -> bool:
        """Any image fits."""
        return True

    def add(self, name: str, image: PackedJpeg) -> None:
        """Append an image as ``name``, in a new shard if the newest is full."""
        if self._shard_size and self._images and self._images % self._shard_size == 0:
            self.finish()
            self._file.close()
            shard = SHARD.format(self._images // self._shard_size)
            self._file = _Appender(self.path / shard, 0)
        member = tarfile.TarInfo(name)
        member.size = len(image.encoded)
        self._file.append(member.tobuf(tarfile.PAX_FORMAT))
        self._file.append(image.encoded + bytes(-len(image.encoded) % BLOCK))
        self._images += 1

    def commit(self) -> WriterState:
        """Flush the newest shard to disk; the others already are."""
        self._file.sync()
        return {"images": self._images, "end": self._file.end, "page": 0}

    def finish(self) -> None:
        """Write the end marker of the newest shard."""
        self._file.append(bytes(2 * BLOCK))
        self._file.sync()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


Writer = BetonWriter | TarWriter
"""Takes the images of a packed data set one by one; its methods raise OSError."""


def page_size(largest_image: int) -> int:
    """The page size, as FFCV requires it, for images of up to twice ``largest_image`` bytes."""
    wanted = 1 << (2 * largest_image - 1).bit_length()
    return min(max(_SMALLEST_PAGE, wanted), _LARGEST_PAGE)


class _Appender:
    """A file that grows from ``end``; anything beyond that is cut off at first."""

    def __init__(self, path: Path, end: int, new: bool = False) -> None:
        self.path, self.end = path, end
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        if os.fstat(self._descriptor).st_size < end and not new:  # truncating would add zeros
            os.close(self._descriptor)
            raise LostError(path)
        os.ftruncate(self._descriptor, end)

    def append(self, data: bytes) -> None:
        self.write_at(self.end, data)
        self.end += len(data)

    def write_at(self, offset: int, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            written = os.pwrite(self._descriptor, rest, offset)
            rest, offset = rest[written:], offset + written

    def sync(self) -> None:
        os.fsync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)


def _align(offset: int, page: int) -> int:
    return -(-offset // page) * page


def _rows(samples: NDArray[np.void]) -> NDArray[np.void]:
    rows = np.zeros(len(samples), _ROW)
    for theirs, ours in beton.ROW_COLUMNS.items():
        rows["image"][theirs] = samples[ours]
    return rows


def _table(samples: NDArray[np.void]) -> NDArray[np.void]:
    table = np.zeros(len(samples), beton.ALLOCATION)
    table["sample_id"] = np.arange(len(samples))
    table["ptr"], table["size"] = samples["offset"], samples["size"]
    return table
