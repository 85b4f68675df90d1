"""Small data sets of other kinds than photos: aerial tiles, x-rays, a phone's pictures."""

from pathlib import Path

import numpy as np
import pillow_heif
import tifffile

from tests.data import image_files
from tests.data.dicom_files import dicom, x_ray

BANDS = 13
NODATA = 0
GDAL_NODATA = 42113


def tile(number, height=70, width=90):
    """Thirteen bands of reflectances, uint16 ``[H, W, 13]``; a corner without data."""
    y, x = np.mgrid[:height, :width][:, :, :, None]
    band = np.arange(BANDS)
    values = 1500 + 700 * np.sin(x / (6 + band) + number) + 400 * np.cos(y / (4 + band))
    values = (values + np.random.default_rng(number).normal(0, 40, values.shape)).clip(1, 10_000)
    values[: height // 4, : width // 4] = NODATA
    return values.astype(np.uint16)


def write_tile(path, values):
    """As GDAL writes a GeoTIFF: bands without a name, compressed, the value of no data in a tag."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(
        path,
        values,
        photometric="minisblack",
        planarconfig="contig",
        compression="lzw",
        extratags=[(GDAL_NODATA, "s", 0, str(NODATA), True)],
    )


def aerial(folder: Path, count: int = 8) -> Path:
    for number in range(count):
        write_tile(folder / f"tile_{number}.TIF", tile(number))
    return folder


def x_rays(folder: Path, count: int = 8) -> Path:
    """Of 12 bits in 16, every other with white for the lowest value."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        kind = "MONOCHROME1" if number % 2 else "MONOCHROME2"
        values = x_ray(80, 64, number)
        (folder / f"{number}.dcm").write_bytes(dicom(values, bits=12, photometric=kind))
    return folder


def phone(folder: Path, count: int = 8) -> Path:
    """HEIC, one of them under the name of a JPEG."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        photo = pillow_heif.from_pillow(image_files.photo(80, 60, seed=number))
        photo.save(folder / f"IMG_{number}.HEIC", quality=80)
    (folder / "IMG_0.HEIC").rename(folder / "IMG_0.JPG")
    return folder
