"""The content of a folder, local or remote: images, shards, and other files by suffix."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
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

_VOC_PHOTOS = "JPEGImages"


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

    Real folders are visited before linked ones, so that files reachable both ways keep their real
    path. Each real folder is read once, so links that form a loop end. Entries are read one by one,
    so a folder of a million files needs no more memory than their names.

    Raises:
        UserError: a folder cannot be read.
    """
    found = Found()
    folders, links = [""], list[str]()
    seen: set[tuple[int, int]] = set()
    while folders or links:
        folder = folders.pop() if folders else links.pop()
        path = os.path.join(root, folder) if folder else root
        prefix = f"{folder}/" if folder else ""
        try:
            status = os.stat(path)
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            for entry in _entries(path):
                if _is_folder(entry):
                    (links if entry.is_symlink() else folders).append(prefix + entry.name)
                elif not is_shard(entry.name) and _is_special(entry):
                    found.skipped["no plain file"] += 1
                else:
                    found.add(entry.name, prefix + entry.name)
        except OSError as error:
            raise UserError(
                f"the folder {path} cannot be read ({error.strerror}): change its permissions, "
                "or move it out"
            ) from error
        links.sort(reverse=True)
    found.drop_companions()
    return found


def sort_in(paths: Iterable[str]) -> Found:
    """The same for remote objects, by their paths below the folder."""
    found = Found()
    paths = [path for path in paths if not any(map(is_hidden, path.split("/")))]
    voc = [path for path in paths if path.startswith(f"{_VOC_PHOTOS}/")]
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
