"""Write the results of ``predict``: a palette mask, an overlay, and probabilities.

They arrive in bands of rows and are collected in mapped files, so only one band needs memory. Each
file appears once it is complete.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cp2fast.config import Rgb
from cp2fast.finetune.inference import Band
from cp2fast.finetune.outputs import Outputs
from cp2fast.finetune.picture import mapped
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
    """Write all files of a picture from its bands; their folder exists.

    Raises:
        OSError: a file cannot be written; the mask, which is written last, does not exist then.
    """
    folder, step = outputs.mask.parent, -(-max(size) // OVERLAY_SIDE)
    labels = mapped(folder, np.uint8, size)
    kept = None
    if outputs.probabilities is not None:
        kept = mapped(folder, np.float16, (len(classes.names), *size))
    mixed: list[NDArray[np.uint8]] = []
    for band in bands:
        rows = slice(band.top, band.top + len(band.labels))
        labels[rows] = band.labels
        if kept is not None and band.probabilities is not None:
            kept[:, rows] = band.probabilities
        thin = slice(-band.top % step, None, step), slice(None, None, step)
        mixed.append(overlay(band.image[thin], band.labels[thin], classes.colours))
    _write_image(outputs.overlay, Image.fromarray(np.concatenate(mixed)), "JPEG", quality=92)
    if outputs.probabilities is not None and kept is not None:
        _write_npz(outputs.probabilities, kept, classes.names)
    mask = Image.fromarray(labels)
    mask.putpalette(palette_of(classes.colours).tobytes())
    _write_image(outputs.mask, mask, "PNG")


def _write_npz(path: Path, probabilities: NDArray[np.float16], names: Sequence[str]) -> None:
    """Same as ``numpy.savez_compressed``, but written one array at a time and in pieces."""
    arrays = {"probabilities": probabilities, "classes": np.array(names)}
    with atomic_write(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def _write_image(path: Path, image: Image.Image, kind: str, **options: int) -> None:
    encoded = io.BytesIO()  # Pillow's own writing to a full disk does not say why it failed
    image.save(encoded, format=kind, **options)
    with atomic_write(path) as file:
        file.write(encoded.getbuffer())
