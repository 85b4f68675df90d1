"""Write the results of ``predict``: a palette mask, an overlay, and probabilities.

Everything is written in bands of rows, so only one band needs memory. Each file appears once it is
complete.
"""

from __future__ import annotations

import io
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cp2fast.config import Rgb
from cp2fast.data.decoding import png
from cp2fast.finetune.large import Band
from cp2fast.finetune.mapped import mapped
from cp2fast.finetune.outputs import Outputs
from cp2fast.finetune.pictures import overlay
from cp2fast.labels.classes import palette_of
from cp2fast.run_folder import atomic_write

OVERLAY_SIDE = 8192
"""Longest side of an overlay in pixels; overlays of larger pictures are reduced."""


class Classes(NamedTuple):
    """Names and colours by label; VOC's colours if there are none."""

    names: tuple[str, ...]
    colours: tuple[Rgb, ...]


def write_bands(
    outputs: Outputs, size: tuple[int, int], bands: Iterator[Band], classes: Classes
) -> None:
    """Write all files of a picture.

    Args:
        outputs: new files, in existing folders.
        size: height and width of the picture.
        bands: bands from top to bottom.
        classes: classes of the labels.

    Raises:
        OSError: a file cannot be written; the mask, which is written last, does not exist then.
    """
    height, width = size
    step = -(-max(size) // OVERLAY_SIDE)
    mixed: list[NDArray[np.uint8]] = []
    with (
        atomic_write(outputs.mask) as mask,
        _probabilities_file(outputs.probabilities, len(classes.names), size) as kept,
    ):
        lines = _PaletteLines(mask, height, width, classes.colours)
        for band in bands:
            lines.write(band.labels)
            thin = slice(-band.top % step, None, step), slice(None, None, step)
            mixed.append(overlay(band.image[thin], band.labels[thin], classes.colours))
            if kept is not None and band.probabilities is not None:
                kept[:, band.top : band.top + len(band.labels)] = band.probabilities
        lines.end()
        _write_overlay(outputs.overlay, np.concatenate(mixed))
        if outputs.probabilities is not None and kept is not None:
            _write_npz(outputs.probabilities, kept, classes.names)


class _PaletteLines:
    """A palette PNG, written a few rows at a time (ISO/IEC 15948)."""

    def __init__(self, file: IO[bytes], height: int, width: int, colours: Sequence[Rgb]) -> None:
        self._file = file
        self._pack = zlib.compressobj(6)
        file.write(png.SIGNATURE)
        self._chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0))
        self._chunk(b"PLTE", palette_of(colours).tobytes())

    def write(self, labels_hW: NDArray[np.uint8]) -> None:
        """Write the next rows, each preceded by its filter byte, none."""
        filtered = np.pad(labels_hW, ((0, 0), (1, 0)))
        self._data(self._pack.compress(filtered.tobytes()))

    def end(self) -> None:
        """Finish the file."""
        self._data(self._pack.flush())
        self._chunk(b"IEND", b"")

    def _data(self, packed: bytes) -> None:
        if packed:
            self._chunk(b"IDAT", packed)

    def _chunk(self, name: bytes, data: bytes) -> None:
        checksum = zlib.crc32(name + data)
        self._file.write(struct.pack(">I", len(data)) + name + data + struct.pack(">I", checksum))


@contextmanager
def _probabilities_file(
    path: Path | None, classes: int, size: tuple[int, int]
) -> Iterator[NDArray[np.float16] | None]:
    """A temporary array for the probabilities on the target disk; None if not requested."""
    if path is None:
        yield None
        return
    with tempfile.TemporaryFile(dir=path.parent) as file:
        yield mapped(file, np.float16, (classes, *size))


def _write_npz(path: Path, probabilities: NDArray[np.float16], names: Sequence[str]) -> None:
    """Same as ``numpy.savez_compressed``, but written one array at a time and in pieces."""
    arrays = {"probabilities": probabilities, "classes": np.array(names)}
    with atomic_write(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def _write_overlay(path: Path, mixed: NDArray[np.uint8]) -> None:
    encoded = io.BytesIO()  # Pillow's own writing to a full disk does not say why it failed
    Image.fromarray(mixed).save(encoded, format="JPEG", quality=92)
    with atomic_write(path) as file:
        file.write(encoded.getbuffer())
