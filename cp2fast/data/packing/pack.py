"""``cp2fast pack``: convert a folder or shards to a ``.beton`` or shards of smaller images.

    images -> threads: read, decode, reduce, encode -> in order -> writer
                                                   `-> rejects

Everything is written into ``OUT.partial``, with a journal beside the data; OUT appears when it is
complete. A pack that was killed continues after the journal's last line. The result does not
depend on interruptions or on the number of threads.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from itertools import starmap
from pathlib import Path, PurePosixPath
from typing import Any

from cp2fast.config import Root
from cp2fast.data.decoding.decode import BadImage
from cp2fast.data.image_sets.beton import is_beton
from cp2fast.data.image_sets.image_set import ImageSet
from cp2fast.data.image_sets.listing import list_images
from cp2fast.data.image_sets.roots import shown
from cp2fast.data.image_sets.shards import COMPRESSED_SUFFIXES, is_shard
from cp2fast.data.packing.delivery import Delivery, Here, There
from cp2fast.data.packing.packed_jpeg import JpegSettings, PackedJpeg, pack_jpeg
from cp2fast.data.packing.writers import (
    BetonWriter,
    LostError,
    TarWriter,
    Writer,
    WriterState,
    page_size,
)
from cp2fast.data.prefetch import map_ahead
from cp2fast.data.remote.urls import is_url, public
from cp2fast.data.sources.bad_images import line_of
from cp2fast.data.sources.read_ahead import fetched
from cp2fast.data.survey import find_range
from cp2fast.errors import UserError
from cp2fast.files import path_of

_AHEAD_PER_WORKER = 4


@dataclass
class PackSummary:
    """The state of a pack so far."""

    done: int = 0
    """Images of the source that were processed."""
    images: int = 0
    """How many of them were packed."""
    bytes_in: int = 0
    """Total size of their source files."""
    rejects: list[tuple[str, str]] = field(default_factory=list)
    """Name of each image that was not packed, and the reason."""
    writer: WriterState = field(default_factory=lambda: WriterState(images=0, end=0, page=0))
    range_line: str = ""
    """States the range of values, if it was determined automatically."""
    bytes_out: int = 0
    """Size of the result."""


def pack(
    source: Root,
    out: Path | str,
    settings: JpegSettings,
    *,
    shard_size: int,
    workers: int,
    progress: Callable[[int, int], None],
    commit_every: int = 256,
) -> PackSummary:
    """Pack the images of ``source`` into ``out``, or continue an interrupted pack.

    Args:
        source: anything that ``data.root`` may be.
        out: a path or URL that ends in ``.beton`` or ``.tar``, or is a folder of shards.
            ``out.rejects.txt``, beside it, lists images that could not be packed, if any: name,
            tab, reason.
        settings: how to convert the images.
        shard_size: images per shard, if ``out`` is a folder.
        workers: number of threads.
        progress: called with the number of images done and their total.
        commit_every: source images between commits; at most this many are packed again after a
            kill.

    Raises:
        UserError: bad input, ``out`` exists, was started with other settings or is being written by
            another process, no image could be packed, or the disk is full.
    """
    delivery = _delivery(out)
    delivery.refuse_unless_new()
    images = list_images(source, "name as SRC")
    range_, range_line = find_range(
        images, settings.range, settings.bands, settings.max_pixels, workers
    )
    settings = replace(settings, range=range_)
    work, name = delivery.work, delivery.name
    terms = {"images": _fingerprint(images), "settings": asdict(settings), "shard_size": shard_size}
    try:
        with closing(_Journal(work)) as journal:
            summary = journal.restore(terms)
            summary.range_line = range_line
            with closing(_open_writer(work, name, images, shard_size, summary.writer)) as writer:
                _pack_rest(
                    *(images, settings, workers, writer, journal, delivery, summary),
                    *(progress, commit_every),
                )
                if not summary.images:
                    journal.discard()  # so that mended images are tried
                    raise UserError(
                        f"none of the {len(images)} images in {shown(source)} can be packed (the "
                        f"first: {': '.join(summary.rejects[0])}): fix them"
                    )
                writer.finish()
                rejects = "".join(starmap(line_of, summary.rejects))
                summary.bytes_out = delivery.finish(writer.path, rejects)
            journal.discard()
    except LostError as error:
        raise UserError(
            f"{error} is not as the pack that was interrupted left it: remove {work}, and {name} "
            "if there is one, then run the same command again to start anew"
        ) from error
    except OSError as error:
        raise UserError(
            f"cannot write {work} ({error.strerror or error}): make room there or change its "
            "permissions, then run the same command again to continue"
        ) from error
    return summary


def _delivery(out: Path | str) -> Delivery:
    """The delivery for OUT. Raises UserError if pack cannot write such files."""
    public_name = shown(str(out))
    if str(out).startswith("http") and "?" in str(out):
        raise UserError(
            f"{public_name} is signed for one file, and pack writes several: name another"
        )
    name = PurePosixPath(public_name).name
    if name.lower().endswith(COMPRESSED_SUFFIXES):
        raise UserError(
            f"{public_name} would be compressed, which JPEG already is: name a .tar or a folder"
        )
    suffix = PurePosixPath(name).suffix
    if suffix and not is_beton(name) and not is_shard(name):
        raise UserError(
            f"{public_name}: pack writes no {suffix}: name a .beton, a .tar, or for a folder "
            "of shards a name without a dot"
        )
    return There(str(out)) if is_url(str(out)) else Here(path_of(out))


def _pack_rest(
    images: ImageSet,
    settings: JpegSettings,
    workers: int,
    writer: Writer,
    journal: _Journal,
    delivery: Delivery,
    summary: PackSummary,
    progress: Callable[[int, int], None],
    commit_every: int,
) -> None:
    """Pack the images from ``summary.done`` on, updating ``summary`` and ``journal``."""
    new_rejects: list[tuple[str, str]] = []
    with closing(_packed(images, settings, range(summary.done, len(images)), workers)) as packed:
        for number, (size, image) in enumerate(packed, summary.done):
            if isinstance(image, PackedJpeg) and not writer.fits(image):
                image = f"{len(image.encoded)} bytes are more than a page: set --max-side"
            if isinstance(image, PackedJpeg):
                writer.add(_member_name(number, images.name(number)), image)
                summary.images += 1
                summary.bytes_in += size
            else:
                new_rejects.append((images.name(number), image))
            summary.done = number + 1
            if summary.done % commit_every == 0 or summary.done == len(images):
                summary.writer = writer.commit()
                summary.rejects += new_rejects
                journal.append(asdict(summary) | {"rejects": new_rejects})
                delivery.committed(writer.path)
                new_rejects = []
            progress(summary.done, len(images))


def _packed(
    images: ImageSet, settings: JpegSettings, numbers: range, workers: int
) -> Generator[tuple[int, PackedJpeg | str], None, None]:
    """For each image in order: its file size, and its JPEG or the reason why there is none."""

    def pack_one(number: int) -> tuple[int, PackedJpeg | str]:
        try:
            encoded = images.read(number)
            return len(encoded), pack_jpeg(encoded, settings)
        except BadImage as bad:
            return 0, str(bad)

    ahead = workers * _AHEAD_PER_WORKER
    return map_ahead(
        pack_one, fetched(images, numbers), threads=workers, ahead=ahead, name="cp2fast-pack"
    )


def _open_writer(
    work: Path, out: str, images: ImageSet, shard_size: int, state: WriterState
) -> Writer:
    if is_beton(out):
        page = state["page"] or page_size(images.largest())
        return BetonWriter(work, len(images), page, state)
    return TarWriter(work, None if is_shard(PurePosixPath(out).name) else shard_size, state)


def _member_name(number: int, name: str) -> str:
    """Unique in all shards, with one dot: WebDataset takes all after the first as the file type."""
    stem = PurePosixPath(name).stem.replace(".", "_")
    return f"{number:09d}_{stem}.jpg"


class _Journal:
    """The settings of a pack, then a line per commit; locked while it is open."""

    def __init__(self, work: Path) -> None:
        """Create both if needed. Raises UserError if another process uses them."""
        work.mkdir(parents=True, exist_ok=True)
        self._work, self._path = work, work / "journal.jsonl"
        self._file = self._path.open("a+b", buffering=0)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.close()
            raise UserError(f"another process is writing {work}: wait for it") from error

    def restore(self, terms: dict[str, Any]) -> PackSummary:
        """The summary as of the last commit. Raises UserError if begun with other ``terms``."""
        self._file.seek(0)
        *lines, incomplete = self._file.read().split(b"\n")  # that is cut off
        self._file.truncate(self._file.tell() - len(incomplete))
        if not lines:
            self.append(terms)
            return PackSummary()
        begun, *commits = map(json.loads, lines)
        if begun != json.loads(json.dumps(terms)):
            raise UserError(
                f"{self._work} was started with other images or options: repeat that command, or "
                "remove the folder to start anew"
            )
        rejects = [(name, reason) for commit in commits for name, reason in commit["rejects"]]
        return PackSummary(**(commits[-1] | {"rejects": rejects})) if commits else PackSummary()

    def append(self, entry: dict[str, Any]) -> None:
        """Append a line and flush it to disk."""
        line = memoryview(json.dumps(entry).encode() + b"\n")
        while line:
            line = line[self._file.write(line) :]
        os.fsync(self._file.fileno())

    def discard(self) -> None:
        """Remove it, and after it the data, which nothing continues then."""
        self._path.unlink(missing_ok=True)
        shutil.rmtree(self._work, ignore_errors=True)

    def close(self) -> None:
        """Release the lock."""
        self._file.close()


def _fingerprint(images: ImageSet) -> str:
    """A hash of the images' names, order and places, and of the versions of remote ones."""
    folders = "\0".join([images.base, *map(public, images.shards)])
    found = hashlib.sha256(folders.encode(errors="surrogateescape"))
    found.update(images.names.text)
    found.update(images.names.ends)
    for table in (images.places, images.stored, images.versions):
        found.update(table.tobytes())
    return found.hexdigest()
