"""The files that are taken for images: their suffixes, and what has to be installed for them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from typing import NamedTuple


class Format(NamedTuple):
    """A kind of image file.

    Attributes:
        name: as people say it.
        suffixes: lower case.
        modules: what reads it beyond the libraries that are always there.
        extra: of the package, that brings the modules; empty where there are none.
    """

    name: str
    suffixes: tuple[str, ...]
    modules: tuple[str, ...] = ()
    extra: str = ""

    @property
    def install(self) -> str:
        """The command that makes it readable."""
        return f"pip install 'cp2fast[{self.extra}]'"


JPEG_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif")
TIFF = Format("TIFF", (".tif", ".tiff"), ("tifffile", "imagecodecs"), "tiff")
HEIF = Format("HEIF", (".heic", ".heif"), ("pillow_heif",), "heif")
DICOM = Format("DICOM", (".dcm",), ("pydicom",), "dicom")
WIDE_PNG = Format("PNG of 16 bits", (), ("imagecodecs",), "tiff")
WIDE_JPEG2000 = Format("JPEG 2000 of more than 8 bits or 4 bands", (), ("imagecodecs",), "tiff")
FORMATS = (
    Format("JPEG", JPEG_SUFFIXES),
    Format("PNG", (".png",)),
    Format("WebP", (".webp",)),
    Format("BMP", (".bmp",)),
    Format("GIF", (".gif",)),
    Format("AVIF", (".avif",)),
    Format("JPEG 2000", (".jp2",)),
    Format("PPM, PGM", (".ppm", ".pgm")),
    Format("numpy", (".npy",)),
    TIFF,
    HEIF,
    DICOM,
)
IMAGE_SUFFIXES = tuple(suffix for one in FORMATS for suffix in one.suffixes)
_ARRAY = ".npy"
WIDE_SUFFIXES = (".png", ".jp2", ".ppm", ".pgm", ".npy", *TIFF.suffixes, *DICOM.suffixes)
"""Of files that may hold more than 8 bits a channel, or more bands than three."""


def without_companions(paths: Sequence[str]) -> Sequence[str]:
    """Without arrays that lie beside an image of their name: those are its labels or features."""
    if not any(path.lower().endswith(_ARRAY) for path in paths):
        return paths
    images = {_stem(path) for path in paths if not path.lower().endswith(_ARRAY)}
    return [p for p in paths if not (p.lower().endswith(_ARRAY) and _stem(p) in images)]


def _stem(path: str) -> str:
    """A sample's name, as WebDataset has it: up to the first dot of the last part."""
    folder, slash, name = path.rpartition("/")
    return folder + slash + name.partition(".")[0]


@cache
def readable_suffixes() -> frozenset[str]:
    """The suffixes of images that can be read with what is installed."""
    return frozenset(suffix for one in FORMATS if is_installed(one) for suffix in one.suffixes)


@cache
def is_installed(one: Format) -> bool:
    """Whether everything that reads a format is there."""
    return all(find_spec(module) is not None for module in one.modules)


@cache
def what_reads(suffix: str) -> str | None:
    """The command that makes files of a suffix readable; None where nothing would."""
    for one in FORMATS:
        if suffix in one.suffixes and not is_installed(one):
            return one.install
    return None
