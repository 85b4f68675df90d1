"""The images of a data set, by number in an order that never changes, and how to read them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, islice
from operator import attrgetter
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cp2fast.data.decoding.raster import BadImage
from cp2fast.data.image_sets import shard_index
from cp2fast.data.image_sets.beton import JPEG, encoded_image, is_beton, list_samples
from cp2fast.data.image_sets.digest import digest, file_size
from cp2fast.data.image_sets.names import Names
from cp2fast.data.image_sets.shards import Member, read_member
from cp2fast.data.remote.disk_cache import DiskCache
from cp2fast.data.remote.objects import Remote
from cp2fast.data.remote.retry import LOCAL_PATIENCE, is_passing, retrying
from cp2fast.data.remote.urls import join, public
from cp2fast.errors import UserError
from cp2fast.files import open_plain, read_bytes

HERE = -2
"""Size recorded for local containers in a set that has remote ones too."""
OWN_FILE = -1
"""Offset recorded for an image that is a separate file."""


@dataclass(frozen=True)
class ImageSet:
    """Encoded images by number; any thread or process may read them.

    It consists of a few arrays instead of a million objects: it is sent to worker processes
    quickly, and there are no reference counts whose updates would make a forked worker copy shared
    memory.

    Attributes:
        kind: what holds the images; ``mixed`` is several kinds, or single remote images.
        names: paths of files relative to ``base`` or to their remote folder, or of members inside
            their shard; a ``.beton`` has numbers instead.
        shards: paths or URLs of the containers: shards, ``.beton`` files, or folders of single
            images; empty for a local folder.
        places: int64 ``[N, 3]``: number in ``shards``, ascending, offset (-1 if it is a separate
            file there) and size of each image; ``[0, 3]`` for a local folder.
        pixels: int64 ``[N, 3]``: height, width and mode if known, from a ``.beton`` or an index;
            else ``[0, 3]``. A height of 0 is unknown.
        skipped: the other files in a folder or in shards, counted by suffix.
        stored: int64 ``[S, 2]``: size and version of each of ``shards``; the size is -1 for remote
            folders and -2 for local ones. ``[0, 2]`` if nothing is remote.
        versions: int64 ``[N]``, version of single remote images; ``[0]`` if there are none.
        disk: cache of remote objects; None if nothing is remote.
        base: folder of the names, for a local folder.
    """

    kind: Literal["folder", "shards", "beton", "mixed"]
    names: Names
    shards: tuple[str, ...]
    places: NDArray[np.int64]
    pixels: NDArray[np.int64] = field(default_factory=lambda: np.empty((0, 3), np.int64))
    skipped: Counter[str] = field(default_factory=Counter)
    stored: NDArray[np.int64] = field(default_factory=lambda: np.empty((0, 2), np.int64))
    versions: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    disk: DiskCache | None = None
    base: str = ""

    @staticmethod
    def of_files(paths: Iterable[str | Path], base: str = "") -> ImageSet:
        """Local images in separate files, at ``paths`` below ``base``."""
        return ImageSet("folder", Names.of(paths), (), np.empty((0, 3), np.int64), base=base)

    @staticmethod
    def of_objects(
        base: str, names: Sequence[str], items: Sequence[Remote], disk: DiskCache
    ) -> ImageSet:
        """Remote images in separate files, at ``names`` below the URL ``base``."""
        return ImageSet(
            "mixed",
            Names.of(names),
            (base,),
            np.array([(0, OWN_FILE, item.size) for item in items], np.int64),
            stored=np.array([(-1, 0)], np.int64),
            versions=np.array([item.version for item in items], np.int64),
            disk=disk,
        )

    @staticmethod
    def of_members(members: Sequence[Member]) -> ImageSet:
        """Images inside local shards; one that is named again after others counts as another."""
        shards, places = list[str](), list[tuple[int, int, int]]()
        for number, (shard, adjacent) in enumerate(groupby(members, attrgetter("shard"))):
            shards.append(str(shard))
            places += [(number, member.offset, member.size) for member in adjacent]
        pixels = np.array([(m.height, m.width, JPEG) for m in members], np.int64)
        return ImageSet(
            "shards",
            Names.of(member.name for member in members),
            tuple(shards),
            np.array(places, np.int64),
            pixels if pixels[:, 0].any() else np.empty((0, 3), np.int64),
        )

    @staticmethod
    def of_beton(path: Path) -> ImageSet:
        """The images of a file in FFCV's format."""
        samples = list_samples(path)
        suffixes = np.where(samples["mode"] == JPEG, ".jpg", ".png")
        return ImageSet(
            "beton",
            Names.of(f"{number}{suffix}" for number, suffix in enumerate(suffixes.tolist())),
            (str(path),),
            np.stack([np.zeros(len(samples), np.int64), samples["offset"], samples["size"]], 1),
            np.stack([samples["height"], samples["width"], samples["mode"]], 1),
        )

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        """The image's name in messages and ``bad_images.txt``: its path, or SHARD/MEMBER."""
        name = os.fsdecode(self.names[index])
        if not len(self.places):
            return join(self.base, name)
        shard = self.shards[self.places[index, 0]]
        return public(f"{shard.rstrip('/')}/{name}" if shard else name)

    def short_name(self, index: int, root: object) -> str:
        """The name relative to the data set's root, for pictures and tables."""
        return self.name(index).removeprefix(f"{root}/")

    def own_file(self, index: int) -> Path | None:
        """The local file that holds this image alone; None if it is in a shard or remote."""
        path = self._own_path(index)
        return None if path is None else Path(path)

    def read(self, index: int) -> bytes:
        """The encoded image.

        Raises:
            BadImage, UserError: as ``read_raw``.
        """
        data = self.read_raw(index)
        if len(self.pixels) and self.pixels[index, 2] != JPEG:
            return encoded_image(data, *self.pixels[index].tolist())
        return data

    def read_raw(self, index: int, most: int | None = None) -> bytes:
        """An image's bytes as stored, which are pixels for raw images of a ``.beton``.

        Of its beginning only, if ``most`` limits them.

        Raises:
            BadImage: it cannot be read.
            UserError: it is remote and cannot be read, even after retries.
        """
        try:
            return retrying(lambda: self._read_once(index, most), is_passing, LOCAL_PATIENCE)
        except OSError as error:
            raise BadImage(f"cannot be read: {error.strerror}") from error

    def digest(self, root: object) -> str:
        """A hash of the names below ``root`` and of the sizes, to recognise the data set."""
        below = os.fsencode(f"{root}/")
        base = os.fsencode(f"{self.base}/" if self.base else "")
        names = ((base + name).removeprefix(below) for name in self.names)
        return digest(names, len(self), self._size)

    def largest(self) -> int:
        """Bytes of the largest encoded image; an unreadable image counts as 0."""
        return max(map(self._size, range(len(self))))

    def needs(self, numbers: NDArray[np.int64]) -> list[int]:
        """The distinct remote objects that hold these images, as numbers for ``remote``."""
        if self.disk is None:
            return []
        shard, offset, _ = self.places[numbers].T
        is_file = offset == OWN_FILE
        is_remote = self.stored[shard, 0] != HERE
        own = numbers[is_file & is_remote] + len(self.shards)
        return [*np.unique(shard[~is_file & is_remote]).tolist(), *own.tolist()]

    def remote(self, number: int) -> Remote:
        """A remote object by its number: shards first, then single images."""
        if number < len(self.shards):
            size, version = self.stored[number].tolist()
            return Remote(self.shards[number], size, version)
        index = number - len(self.shards)
        shard, _, size = self.places[index].tolist()
        name = os.fsdecode(self.names[index])
        return Remote(join(self.shards[shard], name), size, int(self.versions[index]))

    def holder(self, index: int) -> Remote | None:
        """The remote object that holds this image: its own, or a shard; None if it is local."""
        if not len(self.places):
            return None
        shard, offset, _ = self.places[index].tolist()
        if not self._is_remote(shard):
            return None
        return self.remote(index + len(self.shards) if offset == OWN_FILE else shard)

    def check_index(self, number: int) -> None:
        """Check the index of a remote shard against its headers, once the shard is on disk.

        Raises:
            UserError: the index belongs to another shard.
        """
        if self.disk is None or is_beton(self.shards[number].partition("?")[0]):
            return
        begin, end = np.searchsorted(self.places[:, 0], (number, number + 1))
        _, offsets, sizes = self.places[begin:end].T.tolist()
        with self.disk.open(self.remote(number)) as file:
            if shard_index.fits(file.fileno(), offsets, sizes):
                return
        name = public(self.shards[number])
        raise UserError(
            f"{name}{shard_index.SUFFIX} is not the index of {name}: remove it, or write both "
            "again with cp2fast pack"
        )

    @property
    def shard_of_image(self) -> NDArray[np.int64]:
        """int64 ``[N]``, number of each image's shard, for ``plan``."""
        return self.places[:, 0] if len(self.places) else np.zeros(len(self), np.int64)

    @property
    def has_remote_shards(self) -> bool:
        """Whether some images are members of remote shards."""
        return self.disk is not None and bool((self.stored[:, 0] >= 0).any())

    def first(self, count: int) -> ImageSet:
        """The first ``count`` images."""
        return replace(
            self,
            names=Names.of(islice(self.names, count)),
            places=self.places[:count],
            pixels=self.pixels[:count],
            versions=self.versions[:count],
        )

    def _own_path(self, index: int) -> str | None:
        base = self.base
        if len(self.places):
            shard, offset, _ = self.places[index].tolist()
            if offset != OWN_FILE or self._is_remote(shard):
                return None
            base = self.shards[shard]
        return join(base, os.fsdecode(self.names[index]))

    def _read_once(self, index: int, most: int | None) -> bytes:
        path = self._own_path(index)
        if path is not None:
            return _read_file(path, most)
        shard, offset, size = self.places[index].tolist()
        length = size if most is None or size < 0 else min(size, most)
        item = self.holder(index)
        if item is None or self.disk is None:
            return read_member(self.shards[shard], offset, length)
        begin = 0 if offset == OWN_FILE else offset
        return self.disk.read(item, begin, -1 if size < 0 else begin + length)[:most]

    def _is_remote(self, shard: int) -> bool:
        return self.disk is not None and bool(self.stored[shard, 0] != HERE)

    def _size(self, index: int) -> int:
        path = self._own_path(index)
        return max(0, int(self.places[index, 2])) if path is None else file_size(path)


def _read_file(path: str, most: int | None) -> bytes:
    if most is None:
        return read_bytes(path)
    with open_plain(path) as file:
        return file.read(most)
