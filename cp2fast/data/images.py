"""The images of a data set, in an order that never changes: of a folder, shards or a ``.beton``."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cp2fast.data.beton import JPEG, encoded_image, is_beton, list_samples
from cp2fast.data.shards import (
    COMPRESSED_SUFFIXES,
    Member,
    is_image,
    is_shard,
    list_members,
    read_member,
)
from cp2fast.errors import UserError

_VOC_PHOTOS = "JPEGImages"


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
    """

    kind: Literal["folder", "shards", "beton"]
    names: NDArray[np.bytes_]
    shards: tuple[str, ...]
    places: NDArray[np.int64]
    pixels: NDArray[np.int64] = field(default_factory=lambda: np.empty((0, 3), np.int64))

    @staticmethod
    def of_files(paths: Iterable[str | Path]) -> ImageSet:
        """Images that are files of their own."""
        return ImageSet("folder", _encode(paths), (), np.empty((0, 3), np.int64))

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
            return _read_file(self.names[index])
        data = self.read_raw(index)
        return encoded_image(data, *self.pixels[index].tolist()) if self.kind == "beton" else data

    def read_head(self, index: int, length: int) -> bytes:
        """The first ``length`` bytes of an image in a folder or a shard, or all that there are.

        Raises:
            OSError: it cannot be read.
        """
        if self.kind == "folder":
            return _read_file(self.names[index], length)
        shard, offset, size = self.places[index].tolist()
        return read_member(self.shards[shard], offset, min(size, length))

    def read_raw(self, index: int) -> bytes:
        """An image's bytes as they lie in a shard or a ``.beton``: pixels, where its mode is raw.

        Raises:
            OSError: it cannot be read.
        """
        shard, offset, size = self.places[index].tolist()
        return read_member(self.shards[shard], offset, size)

    def largest(self) -> int:
        """Bytes of the largest encoded image; an unreadable one counts as empty."""
        if self.kind == "folder":
            return max(map(_file_size, self.names))
        return int(self.places[:, 2].max())


def list_images(root: Path, name_it: str = "set data.root to") -> ImageSet:
    """The images that ``root`` holds; an image's number is its place among them.

    Of a folder, every JPEG, PNG and WebP file below it, sorted by its relative path. Folders may
    be nested and may be symbolic links; each real folder is read once, so a link to a folder
    above is harmless. Hidden files and folders are skipped. Of a folder in PASCAL VOC layout only
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
    if root.is_dir():
        photos = root / _VOC_PHOTOS
        return _list_folder(photos if photos.is_dir() else root, name_it)
    if is_beton(root.name):
        return ImageSet.of_beton(root)
    if not is_shard(root.name) and not root.name.lower().endswith(COMPRESSED_SUFFIXES):
        raise UserError(
            f"{root} is neither a folder nor a .tar shard nor a .beton: {name_it} what holds the "
            "images"
        )
    return _list_shards(root)


def check_exists(root: Path, name_it: str = "set data.root to") -> None:
    """Refuse a folder that is not there, as ``list_images`` does, which takes longer.

    Raises:
        UserError: there is none.
    """
    if not root.exists():
        raise UserError(f"there is no folder {root}: {name_it} your folder of images")


def _list_folder(root: Path, name_it: str) -> ImageSet:
    found = _walk(str(root))
    inside = sorted(entry.name for entry in root.iterdir() if entry.is_file())
    shards = [name for name in inside if is_shard(name)]
    if found and shards:
        raise UserError(
            f"{root} holds both images ({min(found)}) and shards ({shards[0]}): keep one kind "
            f"there, or {name_it} a single shard"
        )
    if shards:
        return _list_shards(root)
    if not found:
        compressed = [name for name in inside if name.lower().endswith(COMPRESSED_SUFFIXES)]
        raise UserError(
            f"no images in {root}: it needs .jpg, .jpeg, .png or .webp files, at any depth, or "
            f".tar shards{f' (unpack {compressed[0]})' if compressed else ''}"
        )
    found.sort()  # All begin with the same root, so this is the order of the relative paths.
    return ImageSet.of_files(found)


def _list_shards(root: Path) -> ImageSet:
    members = list_members(root)
    if not members:
        raise UserError(f"no images in {root}: its members end in none of .jpg, .jpeg, .png, .webp")
    return ImageSet.of_members(members)


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
            elif is_image(entry.name):
                found.append(entry.path)
        links.sort(reverse=True)
    return found


def _encode(names: Iterable[str | Path]) -> NDArray[np.bytes_]:
    return np.array([os.fsencode(name) for name in names], np.bytes_)


def _read_file(path: bytes, length: int = -1) -> bytes:
    """The bytes of a plain file, or the first ``length``; of anything else reading might never end."""
    with open(path, "rb", buffering=0, opener=_open_without_waiting) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a plain file")
        return file.read(length)


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def _file_size(path: bytes) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
