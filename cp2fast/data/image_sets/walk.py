"""The content of a folder, local or remote: images, shards, and other files by suffix."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from cp2fast.data.decoding.formats import without_companions
from cp2fast.data.image_sets.shard_index import is_index
from cp2fast.data.image_sets.shards import (
    COMPRESSED_SUFFIXES,
    is_hidden,
    is_image,
    is_shard,
    suffix_of,
)
from cp2fast.errors import UserError

VOC_PHOTOS = "JPEGImages"
"""The folder of photos in the layout of PASCAL VOC."""


@dataclass(frozen=True)
class Found:
    """Paths relative to the folder, unordered, and the number of other files by suffix."""

    images: list[str] = field(default_factory=list)
    shards: list[str] = field(default_factory=list)
    compressed: list[str] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)

    def drop_companions(self) -> None:
        """Count arrays that belong to an image of the same name as skipped files."""
        kept = without_companions(self.images)
        if len(kept) < len(self.images):
            self.skipped[".npy"] += len(self.images) - len(kept)
            self.images[:] = kept

    def add(self, name: str, path: str) -> None:
        """Classify the file ``name`` at ``path``."""
        if is_image(name):
            self.images.append(path)
        elif is_shard(name):
            self.shards.append(path)
        elif not is_index(name):
            if name.lower().endswith(COMPRESSED_SUFFIXES):
                self.compressed.append(path)
            self.skipped[suffix_of(name)] += 1


def walk(root: str) -> Found:
    """The content of a local folder, recursively.

    Raises:
        UserError: a folder cannot be read.
    """

    def refuse(folder: str, error: OSError) -> None:
        raise UserError(
            f"the folder {folder} cannot be read ({error.strerror}): change its permissions, "
            "or move it out"
        ) from error

    found, prefix = Found(), ""
    for folder, entry in files_below(root, refuse):
        if entry is None:
            inside = folder[len(root) :].lstrip("/")
            prefix = f"{inside}/" if inside else ""
        elif not is_shard(entry.name) and _is_special(entry):
            found.skipped["no plain file"] += 1
        else:
            found.add(entry.name, prefix + entry.name)
    found.drop_companions()
    return found


def files_below(
    root: str, refuse: Callable[[str, OSError], None]
) -> Iterator[tuple[str, os.DirEntry[str] | None]]:
    """The files of a local folder and of all below it, except hidden ones.

    Real folders are visited before linked ones, so that files reachable both ways keep their real
    path. Each real folder is read once, so links that form a loop end. Entries are read one by one,
    so a folder of a million files needs no more memory than their names. A folder that cannot be
    read is given to ``refuse``, with the error.

    Yields:
        Each folder with None, then with each file in it.
    """
    folders, links = [root], list[str]()
    seen: set[tuple[int, int]] = set()
    while folders or links:
        folder = folders.pop() if folders else links.pop()
        try:
            status = os.stat(folder or ".")
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            yield folder, None
            for entry in _entries(folder or "."):
                if _is_folder(entry):
                    found = links if entry.is_symlink() else folders
                    found.append(os.path.join(folder, entry.name))
                else:
                    yield folder, entry
        except OSError as error:
            refuse(folder, error)
        links.sort(reverse=True)


def classify(paths: Iterable[str]) -> Found:
    """The content of a remote folder, from the relative paths of all objects below it."""
    found = Found()
    paths = [path for path in paths if not any(map(is_hidden, path.split("/")))]
    voc = [path for path in paths if path.startswith(f"{VOC_PHOTOS}/")]
    for path in voc or paths:
        found.add(path.rpartition("/")[2], path)
    found.drop_companions()
    return found


def _entries(path: str) -> Iterator[os.DirEntry[str]]:
    with os.scandir(path) as entries:
        yield from (entry for entry in entries if not is_hidden(entry.name))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder; False for a broken link, which is reported when it is read."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _is_special(entry: os.DirEntry[str]) -> bool:
    """Whether it is a pipe, socket or device; links are only checked when they are read."""
    return not entry.is_symlink() and not entry.is_file()
