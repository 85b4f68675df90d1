"""The images of a data set: every image file below a folder, in an order that never changes."""

from __future__ import annotations

import os
from pathlib import Path

from cp2fast.errors import UserError

_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
_VOC_PHOTOS = "JPEGImages"


def list_images(root: Path) -> list[Path]:
    """Every JPEG, PNG and WebP file below ``root``, sorted by its relative path.

    An image's number in the data set is its place in this list. Folders may be nested and may be
    symbolic links; each real folder is read once, so a link to a folder above is harmless.
    Hidden files and folders are skipped. Of a folder in PASCAL VOC layout only ``JPEGImages`` is
    taken: the masks beside it are not photos.

    Raises:
        UserError: ``root`` is missing, is not a folder, holds no image, or a folder below it
            cannot be read.
    """
    if not root.exists():
        raise UserError(f"there is no folder {root}: set data.root to your folder of images")
    if not root.is_dir():
        raise UserError(
            f"{root} is not a folder: set data.root to the folder that holds the images"
        )
    photos = root / _VOC_PHOTOS
    found = _walk(str(photos if photos.is_dir() else root))
    if not found:
        raise UserError(
            f"no images in {root}: it needs .jpg, .jpeg, .png or .webp files, at any depth"
        )
    found.sort()  # All begin with the same root, so this is the order of the relative paths.
    return [Path(path) for path in found]


def _walk(root: str) -> list[str]:
    """The paths of the image files below ``root``, in no order.

    Real folders go before linked ones, so that what a link repeats is found under its own name.
    """
    found: list[str] = []
    folders, links = [root], list[str]()
    seen: set[tuple[int, int]] = set()
    while folders or links:
        folder = folders.pop() if folders else links.pop()
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as entries:
                inside = [entry for entry in entries if not entry.name.startswith(".")]
        except OSError as error:
            raise UserError(
                f"the folder {folder} cannot be read ({error.strerror}): allow it, or move it out"
            ) from error
        for entry in inside:
            if entry.is_dir():
                (links if entry.is_symlink() else folders).append(entry.path)
            elif entry.name.lower().endswith(_SUFFIXES):
                found.append(entry.path)
        links.sort(reverse=True)
    return found
