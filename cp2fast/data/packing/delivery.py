"""The destination of a pack: a local name, or a URL to which finished shards are uploaded.

The packing itself is done in a local folder, ``work``. Messages call the destination OUT by its
``name``.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cp2fast.data.image_sets import shard_index
from cp2fast.data.image_sets.indexing import index_of
from cp2fast.data.image_sets.shards import is_shard
from cp2fast.data.remote import objects
from cp2fast.data.remote.disk_cache import default_folder
from cp2fast.data.remote.urls import join, public
from cp2fast.errors import UserError

REJECTS = "rejects.txt"


@dataclass(frozen=True)
class Here:
    """A local file or folder, which appears when it is complete."""

    out: Path

    @property
    def name(self) -> str:
        """Its path."""
        return str(self.out)

    @property
    def work(self) -> Path:
        """A path beside OUT."""
        return beside(self.out, "partial")

    def refuse_unless_new(self) -> None:
        """OUT must not exist, not even as a broken link."""
        if os.path.lexists(self.out):
            raise UserError(f"{self.out} exists already: remove it, or name another")

    def committed(self, packed: Path) -> None:
        """Nothing to do before the end."""

    def finish(self, packed: Path, rejects: str) -> int:
        """Index the shards, then rename the work folder; returns the size in bytes."""
        self.refuse_unless_new()  # It may have appeared meanwhile, as from another pack.
        listed = beside(self.out, REJECTS)
        listed.unlink(missing_ok=True)  # from an earlier OUT of this name
        if rejects:
            listed.write_text(rejects, encoding="utf-8", errors="surrogateescape")
        for shard in shards_in(packed):
            place = shard if packed.is_dir() else self.out
            place.with_name(place.name + shard_index.SUFFIX).write_bytes(_index(shard))
        size = sum(file.stat().st_size for file in shards_in(packed) or [packed])
        packed.rename(self.out)
        folder = os.open(self.out.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return size


@dataclass(frozen=True)
class There:
    """A URL. Shards are uploaded once they are full, then emptied locally.

    An interrupted pack continues: shards that are not at the URL with the right size are sent
    again.
    """

    url: str

    @property
    def name(self) -> str:
        """The URL without its credentials."""
        return public(self.url)

    @property
    def work(self) -> Path:
        """A folder in the user's cache, for this URL of this server alone."""
        name = self.name.rstrip("/")
        server = os.environ.get("AWS_ENDPOINT_URL", "")
        number = hashlib.sha256(f"{server} {name}".encode()).hexdigest()[:16]
        return default_folder() / "packing" / f"{name.rpartition('/')[2]}-{number}"

    def refuse_unless_new(self) -> None:
        """The URL must be empty, unless a pack to it was started on this machine.

        Then what that uploaded must still be there.
        """
        if (self.work / "journal.jsonl").exists():
            packed = self.work / "shards"
            self._sizes([shard for shard in shards_in(packed)[:-1] if _is_sent(shard)], packed)
            return
        is_there = objects.look_up(self.url) or next(objects.find(self.url), None)
        if is_there:
            raise UserError(f"{self.name} exists already: remove it, or name another")

    def committed(self, packed: Path) -> None:
        """Upload all shards in ``packed`` except the newest, which may still grow."""
        for shard in shards_in(packed)[:-1]:
            if not _is_sent(shard):
                self._send(shard, packed)
                # Keep the empty file, because shards are counted when a pack continues.
                os.truncate(shard, 0)

    def finish(self, packed: Path, rejects: str) -> int:
        """Upload the rest and the list of rejects; returns the size in bytes.

        The list of an earlier OUT of this name becomes empty if there are no rejects.
        """
        self.committed(packed)
        files = shards_in(packed) or [packed]
        self._send(files[-1], packed)
        listed = f"{self.url.rstrip('/')}.{REJECTS}"
        if rejects or objects.look_up(listed):
            objects.write(rejects.encode(errors="surrogateescape"), listed)
        return sum(self._sizes(files, packed))

    def _sizes(self, files: Sequence[Path], packed: Path) -> list[int]:
        """Bytes of these files at the URL. Raises UserError if one is not there."""
        sizes = []
        for file in files:
            found = objects.look_up(self._url(file, packed))
            if found is None:
                raise UserError(
                    f"{join(self.name, file.name)} was uploaded and is not there any more: remove "
                    f"{self.work} and what else is at {self.name}, and run the command again"
                )
            sizes.append(found.size)
        return sizes

    def _send(self, file: Path, packed: Path) -> None:
        url = self._url(file, packed)
        objects.send(file, url)
        if is_shard(file.name):
            objects.write(_index(file), url + shard_index.SUFFIX)

    def _url(self, file: Path, packed: Path) -> str:
        return join(self.url, file.name) if packed.is_dir() else self.url


Delivery = Here | There


def shards_in(packed: Path) -> list[Path]:
    """The shards of a folder, sorted; for a file, that file if it is a shard."""
    if packed.is_dir():
        return sorted(path for path in packed.iterdir() if is_shard(path.name))
    return [packed] if is_shard(packed.name) else []


def _is_sent(shard: Path) -> bool:
    return not shard.stat().st_size


def _index(shard: Path) -> bytes:
    with shard.open("rb") as file:
        return index_of(file, str(shard)).encoded()


def beside(out: Path, what: str) -> Path:
    """A path next to ``out``, named after it."""
    return out.with_name(f"{out.name}.{what}")
