"""Images inside tar files in WebDataset's format: list them and read their bytes.

Only uncompressed tars: their images can be read individually in any order, so shards are shuffled
as thoroughly as a folder. Listing a shard reads its headers and skips the contents.
"""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from io import FileIO
from pathlib import Path
from typing import NamedTuple

from cp2fast.data.decoding.formats import readable_suffixes, stem_of, what_reads, without_companions
from cp2fast.data.decoding.kinds import kind_of
from cp2fast.data.image_sets import shard_index
from cp2fast.data.image_sets.shard_index import ShardIndex
from cp2fast.data.image_sets.tar import TarError, read_entries
from cp2fast.errors import UserError
from cp2fast.files import open_plain, read_bytes

_NO_PHOTOS = (
    *("seg", "segm", "segmentation", "semantic", "instance", "panoptic"),
    *("mask", "masks", "label", "labels", "depth"),
)
"""Names before the suffix of images that are not photos but belong to a photo of that name."""
_MASKS = (".png", ".tif", ".tiff", ".npy")

_NO_PHOTO_FOLDERS = frozenset(
    ("@eaDir", "#recycle", "@Recycle", "__MACOSX", "$RECYCLE.BIN", "lost+found")
)
"""Folders of thumbnails (Synology), deleted files, and file system data."""

COMPRESSED_SUFFIXES = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_COMPRESSED_SIGNATURES = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")
_HEAD = 1 << 10
"""Bytes needed to recognise the kind of a file."""
_SHOWN = 5
"""How many suffixes of other files a message names."""
_OPEN_SHARDS = 64
"""Shards that a process keeps open; far below the usual limit of 1,024 open files."""


class Member(NamedTuple):
    """An image inside a shard: its path, data and, if an index gives it, size in pixels."""

    name: str
    shard: Path | str
    offset: int
    size: int
    height: int = 0
    width: int = 0


def list_members(shard: Path, left_out: Counter[str]) -> list[Member]:
    """List the images in a tar file, in the order in which they lie there.

    Images are members with an image suffix; hidden files, masks (``x.seg.png``) and everything else
    (``.json``, ``.cls``, links) are left out.

    A damaged shard is refused as a whole before a run begins. It is usually an incomplete download,
    and a run on its readable part would silently use fewer images.

    Raises:
        UserError: the shard is compressed, truncated, damaged or unreadable.
    """
    head = b""
    try:
        with open_plain(shard) as file:
            head = os.pread(file.fileno(), _HEAD, 0)
            if head.startswith(_COMPRESSED_SIGNATURES):
                raise damaged(str(shard), head, None)
            index = _index_beside(shard, file)
            if index is None:
                rows = ((*entry, 0, 0) for entry in read_entries(file.fileno()))
                index = ShardIndex.of(os.fstat(file.fileno()).st_size, rows)
            return photos_of(shard, index, left_out)
    except TarError as error:
        raise damaged(str(shard), head, error) from error
    except OSError as error:
        raise UserError(
            f"{shard} cannot be read ({error.strerror}): change its permissions, or move it out"
        ) from error


def photos_of(shard: Path | str, index: ShardIndex, left_out: Counter[str]) -> list[Member]:
    """The images of a shard, from its index; arrays beside an image of their name are left out.

    ``left_out`` counts, by suffix, files that are neither images nor, like labels, have the name of
    one.
    """
    photos = set(filter(is_photo, index.name))
    kept = set(without_companions(list(photos)))
    _count((name for name in index.name if name not in photos), kept, left_out)
    columns = (index.name, index.offset, index.size, index.height, index.width)
    return [
        Member(name, shard, *rest) for name, *rest in zip(*columns, strict=True) if name in kept
    ]


def is_image(name: str) -> bool:
    """Whether a file name, without its folder, is that of an image."""
    suffix = suffix_of(name)
    return suffix in readable_suffixes() and not is_hidden(name)


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is silently skipped."""
    return name.startswith(".") or name in _NO_PHOTO_FOLDERS


def suffix_of(name: str) -> str:
    """The suffix of a file name, in lower case; for masks and the like two, as ``.seg.png``."""
    stem, suffix = os.path.splitext(name.lower())
    kind = os.path.splitext(stem)[1]
    if suffix in _MASKS and kind[1:] in _NO_PHOTOS:
        return kind + suffix
    return suffix or "without suffix"


def is_shard(name: str) -> bool:
    """Whether a file name is that of a shard."""
    return name.lower().endswith(".tar") and not name.startswith(".")


def is_photo(name: str) -> bool:
    """Whether a member's path is that of an image."""
    *folders, last = name.split("/")
    return is_image(last) and _NO_PHOTO_FOLDERS.isdisjoint(folders)


def _index_beside(shard: Path, file: FileIO) -> ShardIndex | None:
    """The index beside an open shard; None if it is missing, older or does not match."""
    path = shard.with_name(shard.name + shard_index.SUFFIX)
    status = os.fstat(file.fileno())
    try:
        if os.stat(path).st_mtime < status.st_mtime:
            return None
        index = shard_index.decoded(read_bytes(path), status.st_size)
    except OSError:
        return None
    if index is None:
        return None
    ends = slice(None, None, max(1, len(index.name) - 1))
    is_right = shard_index.fits(file.fileno(), index.offset[ends], index.size[ends])
    return index if is_right else None


def read_member(shard: str, offset: int, size: int) -> bytes:
    """The bytes of an image in a shard; may be called from any number of threads.

    Raises:
        OSError: the shard is missing or shorter than before.
    """
    try:
        file = _open(shard)  # referenced, so that it stays open while it is read
        return _read(file.descriptor, offset, size)
    except OSError as error:
        if error.errno == errno.ESTALE:  # The next try needs another descriptor.
            _open.cache_clear()
        raise


def _read(descriptor: int, offset: int, size: int) -> bytes:
    data = os.pread(descriptor, size, offset)
    while len(data) < size:  # A single read ends at 2 GiB.
        more = os.pread(descriptor, size - len(data), offset + len(data))
        if not more:
            raise OSError(0, "the shard ends before the image does")
        data += more
    return data


class _OpenFile:
    """A file descriptor that is closed once nobody uses it."""

    def __init__(self, path: str) -> None:
        self.descriptor = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)


@lru_cache(_OPEN_SHARDS)
def _open(path: str) -> _OpenFile:
    return _OpenFile(path)


def _count(others: Iterable[str], images: Iterable[str], left_out: Counter[str]) -> None:
    """Count files, except labels and the like: those have the name of an image up to a dot."""
    stems = {stem_of(name) for name in images}
    for name in others:
        last = name.rpartition("/")[2]
        suffix = suffix_of(last)
        is_expected = stem_of(name) in stems and what_reads(suffix) is None
        if not is_expected and not is_hidden(last):
            left_out[suffix] += 1


def left_out_in_words(left_out: Counter[str]) -> str:
    """The most frequent suffixes with their counts, and what would make these files readable."""
    most = sorted(left_out.items(), key=lambda item: (-item[1], item[0]))
    named = []
    for suffix, count in most[:_SHOWN]:
        command = what_reads(suffix)
        named.append(f"{count:,} {suffix}" + (f" (to read them: {command})" if command else ""))
    return ", ".join(named + ["and others"] * (len(most) > _SHOWN))


def no_members(where: str, left_out: Counter[str]) -> UserError:
    """The error for shards without images; ``left_out`` counts what they hold instead."""
    there = left_out_in_words(left_out)
    reason = f"there are {there}" if there else "no member ends in an image's suffix, as .jpg"
    return UserError(f"no images in {where}: {reason}")


def damaged(shard: str, head: bytes, error: TarError | None) -> UserError:
    """The message for a shard, with these first bytes, that cannot be listed."""
    if head.startswith(_COMPRESSED_SIGNATURES):
        return UserError(
            f"{shard} is compressed: unpack it to a plain .tar (the images in it are compressed "
            "already)"
        )
    kind = kind_of(head)
    if kind not in ("a tar archive", "a file of no known kind"):
        return UserError(f"{shard} is {kind}, not a tar: fetch it again, or move it out")
    return UserError(
        f"{shard} is damaged or incomplete ({error}): fetch or write it again, or move it out"
    )
