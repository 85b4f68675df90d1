"""The images of a data set, in an order that never changes: of a folder, shards or a ``.beton``."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cp2fast.data.beton import JPEG, encoded_image, is_beton, list_samples
from cp2fast.data.digest import digest, file_size
from cp2fast.data.formats import what_reads
from cp2fast.data.shards import (
    COMPRESSED_SUFFIXES,
    Member,
    is_hidden,
    is_image,
    is_shard,
    list_members,
    read_member,
    suffix_of,
)
from cp2fast.errors import UserError
from cp2fast.files import open_plain, place_of, read_bytes

_VOC_PHOTOS = "JPEGImages"
_SHOWN = 5
"""Suffixes named in a message."""


@dataclass(frozen=True)
class ImageSet:
    """Encoded images by their number; reading is safe from any thread or process.

    A few arrays rather than a million objects: it travels to a worker process at once, and there
    are no reference counts whose change would make a forked worker copy the memory it shares.

    Attributes:
        kind: what holds the images.
        names: bytes ``[N]``: paths of files, or of members inside their shard; a
            ``.beton`` knows no names, so numbers.
        shards: paths of the shards, or of the ``.beton``; none in a folder.
        places: int64 ``[N, 3]``: shard, offset and size of each image; ``[0, 3]`` in a folder.
        pixels: int64 ``[N, 3]``: height, width and mode in a ``.beton``; else ``[0, 3]``.
        skipped: of the files in a folder or shards that are none of the images, how many have
            each suffix, the most frequent first.
    """

    kind: Literal["folder", "shards", "beton"]
    names: NDArray[np.bytes_]
    shards: tuple[str, ...]
    places: NDArray[np.int64]
    pixels: NDArray[np.int64] = field(default_factory=lambda: np.empty((0, 3), np.int64))
    skipped: tuple[tuple[str, int], ...] = ()

    @staticmethod
    def of_files(
        paths: Iterable[str | Path], skipped: tuple[tuple[str, int], ...] = ()
    ) -> ImageSet:
        """Images that are files of their own."""
        nowhere = np.empty((0, 3), np.int64)
        return ImageSet("folder", _encode(paths), (), nowhere, skipped=skipped)

    @staticmethod
    def of_members(members: Sequence[Member]) -> ImageSet:
        """Images inside shards."""
        shards = {member.shard: None for member in members}
        number = {shard: number for number, shard in enumerate(shards)}
        return ImageSet(
            "shards",
            _encode(member.name for member in members),
            tuple(map(str, shards)),
            np.array([(number[m.shard], m.offset, m.size) for m in members], np.int64),
        )

    @staticmethod
    def of_beton(path: Path) -> ImageSet:
        """The images of a file in FFCV's format."""
        samples = list_samples(path)
        suffixes = np.where(samples["mode"] == JPEG, b".jpg", b".png").astype(np.bytes_)
        return ImageSet(
            "beton",
            np.char.add(np.arange(len(samples)).astype(np.bytes_), suffixes),
            (str(path),),
            np.stack([np.zeros(len(samples), np.int64), samples["offset"], samples["size"]], 1),
            np.stack([samples["height"], samples["width"], samples["mode"]], 1),
        )

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        """What messages and ``bad_images.txt`` call the image: its path, or SHARD/MEMBER."""
        name = os.fsdecode(self.names[index])
        if self.kind == "folder":
            return name
        return f"{self.shards[self.places[index, 0]]}/{name}"

    def read(self, index: int) -> bytes:
        """The encoded image.

        Raises:
            OSError: it cannot be read.
        """
        if self.kind == "folder":
            return read_bytes(self.names[index].item())
        data = self.read_raw(index)
        return encoded_image(data, *self.pixels[index].tolist()) if self.kind == "beton" else data

    def read_head(self, index: int, length: int) -> bytes:
        """The first ``length`` bytes of an image in a folder or a shard, or all that there are.

        Raises:
            OSError: it cannot be read.
        """
        if self.kind == "folder":
            with open_plain(self.names[index]) as file:
                return file.read(length)
        shard, offset, size = self.places[index].tolist()
        return read_member(self.shards[shard], offset, min(size, length))

    def read_raw(self, index: int) -> bytes:
        """An image's bytes as they lie in a shard or a ``.beton``: pixels, where its mode is raw.

        Raises:
            OSError: it cannot be read.
        """
        shard, offset, size = self.places[index].tolist()
        return read_member(self.shards[shard], offset, size)

    def digest(self, root: Path | None) -> str:
        """Of names below ``root`` and of sizes: another data set has another one."""
        below = os.fsencode(f"{root}/")
        names = (name.removeprefix(below) for name in self.names.tolist())
        return digest(names, len(self), self._size)

    def _size(self, index: int) -> int:
        return file_size(self.names[index]) if self.kind == "folder" else int(self.places[index, 2])

    def largest(self) -> int:
        """Bytes of the largest encoded image; an unreadable one counts as empty."""
        if self.kind == "folder":
            return max(map(file_size, self.names))
        return int(self.places[:, 2].max())


def list_images(root: Path, name_it: str = "set data.root to") -> ImageSet:
    """The images that ``root`` holds; an image's number is its place among them.

    Of a folder, every image below it (``formats.py``), sorted by its relative path. Folders may
    be nested and may be symbolic links; each real folder is read once, so a link to a folder
    above is harmless. Hidden files and folders are skipped, and those in which systems keep
    thumbnails and deleted files; so are masks and depths by the names that WebDataset gives them
    (``x.seg.png``). Of a folder in PASCAL VOC layout only
    ``JPEGImages`` is taken: the masks beside it are not photos.

    Of a ``.tar`` file, or of a folder with such files in it, the images inside (``shards.py``).
    Of a ``.beton``, its samples (``beton.py``).

    Args:
        root: see there.
        name_it: how the user says which, for the messages.

    Raises:
        UserError: ``root`` is missing, is neither a folder nor a shard, holds no image or both
            images and shards, a folder below it cannot be read, or a shard is damaged.
    """
    check_exists(root, name_it)
    if place_of(root) == "folder":
        photos = root / _VOC_PHOTOS
        return _list_folder(photos if place_of(photos) == "folder" else root, name_it)
    if is_beton(root.name):
        return ImageSet.of_beton(root)
    if not is_shard(root.name) and not root.name.lower().endswith(COMPRESSED_SUFFIXES):
        raise UserError(
            f"{root} is neither a folder nor a .tar shard nor a .beton: {name_it} what holds the "
            "images"
        )
    return _list_shards(root)


def check_exists(root: Path, name_it: str = "set data.root to") -> None:
    """Refuse what is not there or may not be read, as ``list_images`` does, which takes longer.

    Raises:
        UserError: there is nothing, or no folder or file.
    """
    place = place_of(root)
    if place == "nothing":
        raise UserError(f"there is no folder {root}: {name_it} your folder of images")
    if place == "other":
        raise UserError(f"{root} is neither a folder nor a file: {name_it} your folder of images")


def skipped_in_words(images: ImageSet) -> str | None:
    """What lies beside the images, for a message; None if nothing does."""
    if not images.skipped:
        return None
    shown = ", ".join(_counted(suffix, count) for suffix, count in images.skipped[:_SHOWN])
    return f"skipped: {shown}{', and others' if len(images.skipped) > _SHOWN else ''}"


def _counted(suffix: str, count: int) -> str:
    """How many files of a suffix there are, and what would make images of them."""
    command = what_reads(suffix)
    return f"{count:,} {suffix}" + (f" (to read them: {command})" if command else "")


def _list_folder(root: Path, name_it: str) -> ImageSet:
    found = _walk(str(root))
    shards = sorted(path for path in found.shards if os.path.dirname(path) == str(root))
    if found.images and shards:
        raise UserError(
            f"{root} holds both images ({min(found.images)}) and shards "
            f"({os.path.basename(shards[0])}): keep one kind there, or {name_it} a single shard"
        )
    if shards:
        return _list_shards(root)
    if not found.images:
        raise UserError(f"no images in {root}: {_instead(root, found, name_it)}")
    if found.shards:
        found.skipped[".tar"] += len(found.shards)
    # All begin with the same root, so this is the order of the relative paths.
    return ImageSet.of_files(sorted(found.images), found.skipped_most_first())


def _instead(root: Path, found: _Found, name_it: str) -> str:
    """What a folder without images holds, and what to do about it."""
    if found.shards:
        folders = sorted({os.path.dirname(path) for path in found.shards})
        more = f" (and {len(folders) - 1} more such folders)" if len(folders) > 1 else ""
        return f"its shards are in {folders[0]}{more}, so {name_it} that folder"
    advice = "it needs images (.jpg, .png, .tif and others), at any depth, or .tar shards"
    if found.compressed:
        return f"{advice} (unpack {os.path.relpath(min(found.compressed), root)})"
    most = found.skipped_most_first()[:_SHOWN]
    there = ", ".join(_counted(suffix, count) for suffix, count in most)
    return f"{advice} (there are {there})" if there else advice


def _list_shards(root: Path) -> ImageSet:
    members = list_members(root)
    if not members:
        raise UserError(f"no images in {root}: its members end in no image's suffix, such as .jpg")
    return ImageSet.of_members(members)


@dataclass(frozen=True)
class _Found:
    """The files below a folder: paths, and by suffix the number of those that are none of these."""

    images: list[str] = field(default_factory=list)
    shards: list[str] = field(default_factory=list)
    compressed: list[str] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)

    def add(self, name: str, path: str) -> None:
        if is_image(name):
            self.images.append(path)
        elif is_shard(name):
            self.shards.append(path)
        else:
            if name.lower().endswith(COMPRESSED_SUFFIXES):
                self.compressed.append(path)
            self.skipped[suffix_of(name)] += 1

    def skipped_most_first(self) -> tuple[tuple[str, int], ...]:
        return tuple(sorted(self.skipped.items(), key=lambda item: (-item[1], item[0])))


def _walk(root: str) -> _Found:
    """What lies below ``root``, in no order.

    Real folders go before linked ones, so that what a link repeats is found under its own name.
    """
    found = _Found()
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
                inside = [entry for entry in entries if not is_hidden(entry.name)]
        except OSError as error:
            raise UserError(
                f"the folder {folder} cannot be read ({error.strerror}): allow it, or move it out"
            ) from error
        for entry in inside:
            if _is_folder(entry):
                (links if entry.is_symlink() else folders).append(entry.path)
            else:
                found.add(entry.name, entry.path)
        links.sort(reverse=True)
    return found


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """False too of a link whose end cannot be looked at: what it is shows when it is read."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _encode(names: Iterable[str | Path]) -> NDArray[np.bytes_]:
    return np.array([os.fsencode(name) for name in names], np.bytes_)
