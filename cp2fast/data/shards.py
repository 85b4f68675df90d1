"""Images inside tar files, as WebDataset writes them: where each lies, and its bytes.

Only uncompressed tars: of these any image can be read by itself, in any order, so shards are
shuffled as thoroughly as a folder. A listing reads the headers and skips the contents.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import lru_cache
from io import FileIO
from pathlib import Path
from typing import NamedTuple

from cp2fast.data import shard_index
from cp2fast.data.formats import readable_suffixes, what_reads, without_companions
from cp2fast.data.kinds import kind_of
from cp2fast.data.shard_index import ShardIndex
from cp2fast.data.tar import TarError, read_entries
from cp2fast.errors import UserError
from cp2fast.files import open_plain, read_bytes

_NO_PHOTOS = (
    *("seg", "segm", "segmentation", "semantic", "instance", "panoptic"),
    *("mask", "masks", "label", "labels", "depth"),
)
"""What stands before the suffix where an image is no photo but belongs to one of the same name."""
_MASKS = (".png", ".tif", ".tiff", ".npy")

_NO_PHOTO_FOLDERS = frozenset(
    ("@eaDir", "#recycle", "@Recycle", "__MACOSX", "$RECYCLE.BIN", "lost+found")
)
"""Thumbnails of Synology, and what was deleted, or is of the file system."""

COMPRESSED_SUFFIXES = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_COMPRESSED_SIGNATURES = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")
_HEAD = 1 << 10
"""Bytes from which the kind of a file is told."""
_OPEN_SHARDS = 64
"""Shards kept open by a process; far below the usual limit of 1,024 open files."""


class Member(NamedTuple):
    """An image inside a shard."""

    name: str
    """Its path inside the shard."""
    shard: Path | str
    offset: int
    """Where its bytes begin in the shard."""
    size: int
    """Of the encoded image, in bytes."""
    height: int = 0
    """Of its pixels, where an index says so; else 0."""
    width: int = 0


def list_members(path: Path, left_out: Counter[str] | None = None) -> list[Member]:
    """Every image in a tar file, or in the tar files of a folder.

    Images are members with an image's suffix; hidden ones, masks (``x.seg.png``) and all else
    (``.json``, ``.cls``, links) are left out. They are sorted by the shard's name, then by their
    position in it.

    A damaged shard is refused as a whole, before a run begins: it is most often an incomplete
    download, and a run on the part that can be read would see fewer images than it was given.

    Args:
        path: a ``.tar`` file, or a folder with such files directly in it.
        left_out: counts, by suffix, the images whose library is not installed.

    Raises:
        UserError: a shard that is compressed, truncated, damaged or cannot be read.
    """
    if path.is_dir():
        shards = sorted(
            shard for shard in path.iterdir() if is_shard(shard.name) and not shard.is_dir()
        )
    else:
        shards = [path]
    return [member for shard in shards for member in photos_among(list(_members(shard, left_out)))]


def photos_among(members: list[Member]) -> list[Member]:
    """The members of a shard without arrays that belong to an image of their name."""
    names = [member.name for member in members]
    kept = without_companions(names)
    if len(kept) == len(names):
        return members
    names_kept = set(kept)
    return [member for member in members if member.name in names_kept]


def is_image(name: str) -> bool:
    """Whether a file of this name, without its folder, is taken for an image."""
    suffix = suffix_of(name)
    return suffix in readable_suffixes() and not is_hidden(name)


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is passed over without a word."""
    return name.startswith(".") or name in _NO_PHOTO_FOLDERS


def suffix_of(name: str) -> str:
    """The suffix of a file's name, in lower case; of masks and the like both, as ``.seg.png``."""
    stem, suffix = os.path.splitext(name.lower())
    kind = os.path.splitext(stem)[1]
    if suffix in _MASKS and kind[1:] in _NO_PHOTOS:
        return kind + suffix
    return suffix or "without suffix"


def is_shard(name: str) -> bool:
    """Whether a file of this name is taken for a shard."""
    return name.lower().endswith(".tar") and not name.startswith(".")


def is_photo(name: str) -> bool:
    """Whether a member of this path is taken for an image."""
    *folders, last = name.split("/")
    return is_image(last) and _NO_PHOTO_FOLDERS.isdisjoint(folders)


def members_of(shard: Path | str, index: ShardIndex) -> Iterator[Member]:
    """The images of a shard by its index."""
    columns = (index.name, index.offset, index.size, index.height, index.width)
    for name, offset, size, height, width in zip(*columns, strict=True):
        if is_photo(name):
            yield Member(name, shard, offset, size, height, width)


def _index_beside(shard: Path, file: FileIO) -> ShardIndex | None:
    """The index of an open shard; None where there is none that is as new and fits."""
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
    """The bytes of an image in a shard; any number of threads may read at once.

    Raises:
        OSError: the shard is gone, or has become shorter.
    """
    file = _open(shard)
    data = os.pread(file.descriptor, size, offset)
    while len(data) < size:
        more = os.pread(file.descriptor, size - len(data), offset + len(data))
        if not more:
            raise OSError(0, "the shard ends before the image does")
        data += more
    return data


class _OpenFile:
    """A descriptor that is closed when nobody reads from it any more."""

    def __init__(self, path: str) -> None:
        self.descriptor = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)


@lru_cache(_OPEN_SHARDS)
def _open(path: str) -> _OpenFile:
    return _OpenFile(path)


def _members(shard: Path, left_out: Counter[str] | None) -> Iterator[Member]:
    head = b""
    try:
        with open_plain(shard) as file:
            head = os.pread(file.fileno(), _HEAD, 0)
            if head.startswith(_COMPRESSED_SIGNATURES):
                raise damaged(str(shard), head, None)
            index = _index_beside(shard, file)
            if index is not None:
                _count_unreadable(index.name, left_out)
                yield from members_of(shard, index)
                return
            for name, offset, size in read_entries(file.fileno()):
                if is_photo(name):
                    yield Member(name, shard, offset, size)
                else:
                    _count_unreadable((name,), left_out)
    except TarError as error:
        raise damaged(str(shard), head, error) from error
    except OSError as error:
        raise UserError(
            f"{shard} cannot be read ({error.strerror}): allow it, or move it out"
        ) from error


def _count_unreadable(names: Iterable[str], left_out: Counter[str] | None) -> None:
    """Count members that would be images with a library more; labels and texts are expected."""
    if left_out is None:
        return
    for name in names:
        suffix = suffix_of(name.rpartition("/")[2])
        if what_reads(suffix) is not None:
            left_out[suffix] += 1


def damaged(shard: str, head: bytes, error: TarError | None) -> UserError:
    """The message for a shard that cannot be listed.

    Args:
        shard: its name.
        head: its first bytes.
        error: what is wrong with it.
    """
    if head.startswith(_COMPRESSED_SIGNATURES):
        return UserError(
            f"{shard} is compressed: unpack it to a plain .tar (the images in it are compressed "
            "already)"
        )
    kind = kind_of(head)
    if kind not in ("a tar archive", "a file of no known kind"):
        return UserError(f"{shard} is {kind}, and no tar: fetch it again, or move it out")
    return UserError(
        f"{shard} is damaged or incomplete ({error}): fetch or write it again, or move it out"
    )
