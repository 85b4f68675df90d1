"""The formats of image files: their suffixes, and the packages that they need."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

from cp2fast.data.decoding.raster import BadImage


class Format(NamedTuple):
    """A kind of image file.

    Attributes:
        name: common name.
        suffixes: in lower case.
        modules: modules needed in addition to the libraries that are always installed.
        extra: extra of this package that installs the modules; empty if there is none.
    """

    name: str
    suffixes: tuple[str, ...]
    modules: tuple[str, ...] = ()
    extra: str = ""

    @property
    def install(self) -> str:
        """The command that installs what the format needs."""
        return f"pip install 'cp2fast[{self.extra}]'"

    def module(self, name: str) -> Any:
        """Import one of its modules. Raises BadImage if that is missing or broken."""
        try:
            return import_module(name)
        except Exception as error:  # Importing a broken library can raise anything.
            broken = "" if isinstance(error, ModuleNotFoundError) else ", which is broken"
            raise BadImage(f"{self.name} needs {name}{broken}: {self.install}") from error


JPEG_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif")
TIFF = Format("TIFF", (".tif", ".tiff"), ("tifffile", "imagecodecs"), "tiff")
HEIF = Format("HEIF", (".heic", ".heif"), ("pillow_heif",), "heif")
DICOM = Format("DICOM", (".dcm",), ("pydicom",), "dicom")
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
"""Suffixes of files that may hold more than 8 bits per channel, or more than three bands."""


def import_problem(module: str, install: str) -> str | None:
    """Why a library cannot be used, with the command that installs it; None if it can."""
    try:
        import_module(module)
    except ModuleNotFoundError:
        return f"{module} is not installed: {install}"
    except Exception as error:  # Importing a broken library can raise anything.
        return f"{module} is installed but broken ({error}): {install}"
    return None


def without_companions(paths: Sequence[str]) -> Sequence[str]:
    """Leave out arrays beside an image of the same name: these are its labels or features."""
    if not any(path.lower().endswith(_ARRAY) for path in paths):
        return paths
    images = {stem_of(path) for path in paths if not path.lower().endswith(_ARRAY)}
    return [p for p in paths if not (p.lower().endswith(_ARRAY) and stem_of(p) in images)]


def stem_of(path: str) -> str:
    """The name of a sample in WebDataset: the path up to the first dot of the file name."""
    folder, slash, name = path.rpartition("/")
    return folder + slash + name.partition(".")[0]


@cache
def readable_suffixes() -> frozenset[str]:
    """The suffixes of images that can be read with the installed packages."""
    return frozenset(suffix for one in FORMATS if is_installed(one) for suffix in one.suffixes)


@cache
def is_installed(one: Format) -> bool:
    """Whether everything that a format needs is installed."""
    return all(find_spec(module) is not None for module in one.modules)


@cache
def what_reads(suffix: str) -> str | None:
    """The command that makes files of a suffix readable; None if there is none."""
    for one in FORMATS:
        if suffix in one.suffixes and not is_installed(one):
            return one.install
    return None
