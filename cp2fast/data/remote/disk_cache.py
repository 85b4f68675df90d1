"""A local disk cache of remote objects (``data.disk_cache``), shared by a machine's processes.

    DIR/objects/XX/KEY   whole objects; the key depends on URL, size and ETag, so a changed object
                         gets another key
    DIR/locks/NNN        locked while fetching an object whose key gives this number; the system
                         releases it if the process dies
    DIR/bytes            total size of the objects; locked while one is added, renamed or removed

An object appears under its name complete or not at all. When space runs out, the least recently
used objects are removed, but never those being fetched: while several are fetched into a cache too
small for all of them, it may exceed its limit. A process that has a removed object open can read it
to its end, and afterwards reads from the remote.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO

from cp2fast.config import DataSettings
from cp2fast.data.remote import objects
from cp2fast.data.remote.objects import Remote
from cp2fast.data.remote.urls import public
from cp2fast.errors import UserError

PART = 16 << 20
"""Bytes per request, and so the most that is fetched again after a fault."""
_LOCKS = 1024
_SHARE = 0.8
"""Share of the free disk space that is used if ``data.disk_gib`` sets no limit."""
_FILLED_TO = 0.9
"""Share of the limit that is kept when objects have to be removed."""
_GIB = 1 << 30


def default_folder() -> Path:
    """The user's cache folder: in ``$XDG_CACHE_HOME``, else ``~/.cache``.

    For a user without a home, as in a container, it is a temporary one.
    """
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cp2fast"
    except RuntimeError:
        return Path(tempfile.gettempdir()) / f"cp2fast-{os.getuid()}"


@dataclass(frozen=True)
class DiskCache:
    """A cache folder, safe for any number of threads and processes; created on first use."""

    folder: Path
    gib: float | None = None
    """Maximum size in GiB; None is a share of the free disk space."""

    @staticmethod
    def of(settings: DataSettings) -> DiskCache:
        """The cache for these settings."""
        return DiskCache(settings.disk_cache or default_folder(), settings.disk_gib)

    def read(self, item: Remote, begin: int, end: int) -> bytes:
        """Read bytes of an object, from the disk if cached, else from the remote.

        Raises:
            UserError: as ``objects.read``.
        """
        end = item.size if end < 0 else end
        with suppress(OSError), self.path(item).open("rb") as file:
            file.seek(begin)
            data = file.read(end - begin)
            if len(data) == end - begin:
                return data
        if item.size < 0:
            return objects.read(item.url, 0, -1)[begin : None if end < 0 else end]
        return objects.read(item.url, begin, end)

    def path(self, item: Remote) -> Path:
        """The path of the object if it is cached."""
        key = key_of(item)
        return self.folder / "objects" / key[:2] / key

    def holds(self, item: Remote) -> bool:
        """Whether the complete object is cached."""
        try:
            return os.stat(self.path(item)).st_size == item.size
        except OSError:
            return False

    def fetch(self, item: Remote, *, verify: bool = True) -> None:
        """Fetch the object unless it is cached or of unknown size, and mark it as just used.

        With ``verify``, an object that was fetched must still be the one listed.

        Raises:
            UserError: it has changed since it was listed, cannot be read, or there is no room.
        """
        if item.size < 0:
            return
        path = self.path(item)
        try:
            if self.holds(item):
                with suppress(OSError):  # It was removed, or the folder may only be read.
                    os.utime(path)
                return
            with self._fetching(path.name):
                if not self.holds(item):
                    self._fetch(item, path, verify)
        except OSError as error:
            raise UserError(
                f"the cache {self.folder} cannot be written ({error.strerror or error}): make room "
                "or change its permissions, or name another with data.disk_cache=DIR"
            ) from error

    def open(self, item: Remote) -> IO[bytes]:
        """Open the object from the disk; the file stays readable even if it is removed."""
        if item.size < 0:
            what = f"{public(item.url)}: the server does not say how long it is"
            raise UserError(f"{what}: copy it to this machine")
        while True:
            self.fetch(item)
            with suppress(FileNotFoundError):
                return self.path(item).open("rb")

    @cached_property
    def budget(self) -> int:
        """The most bytes that all objects together may use."""
        if self.gib is not None:
            return int(self.gib * _GIB)
        place = next(folder for folder in (self.folder, *self.folder.parents) if folder.exists())
        return int((shutil.disk_usage(place).free + self._bytes()) * _SHARE)

    def _fetch(self, item: Remote, path: Path, verify: bool) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}.partial")
        self._begin(aside, item.size)
        try:
            with aside.open("r+b") as file:
                for begin in range(0, item.size, PART):
                    file.write(self._read_part(item, begin, min(begin + PART, item.size)))
                file.flush()
                os.fsync(file.fileno())
            if verify:
                self.check_unchanged(item)
            with self._counting():  # A count of the files could miss one that is being renamed.
                aside.replace(path)
        except BaseException:
            with self._counting() as count:
                aside.unlink(missing_ok=True)
                _write_number(count, (_read_number(count) or 0) - item.size)
            raise
        with self._counting() as count:
            self._take_room(count, 0)  # Objects that were being fetched may have had to stay.

    def _read_part(self, item: Remote, begin: int, end: int) -> bytes:
        try:
            return objects.read(item.url, begin, end)
        except UserError:
            self.check_unchanged(item)  # One that became shorter cannot be read to its old end.
            raise

    def _begin(self, aside: Path, size: int) -> None:
        """Reserve the bytes of an object to be fetched, and create its file in full length."""
        if size > self.budget:
            raise UserError(
                f"an object of {size / _GIB:.2f} GiB does not fit into {self.folder}, which may "
                f"take {self.budget / _GIB:.2f} GiB: set data.disk_gib higher"
            )
        # Under one lock: a count of the files in between would miss the one not created yet.
        with self._counting() as count:
            self._take_room(count, size)
            with aside.open("wb") as file:
                file.truncate(size)

    def check_unchanged(self, item: Remote) -> None:
        """Check that the object is still the one listed, else its parts may not match."""
        now = objects.look_up(item.url)
        if now is None:
            raise UserError(f"{public(item.url)} is not there any more (404): restore it")
        if (now.size, now.version) != (item.size, item.version):
            raise UserError(
                f"{public(item.url)} has changed since the run began: start again, or continue "
                "with --resume"
            )

    def _take_room(self, count: int, size: int) -> None:
        """Reserve ``size`` bytes, removing the least recently used objects if needed."""
        known = _read_number(count)
        if known is None:
            known = sum(size for _, size, _ in self._objects())
        total = known + size
        if total > self.budget:
            total = self._bytes_after_eviction(self.budget * _FILLED_TO - size) + size
        _write_number(count, total)

    def _bytes_after_eviction(self, wanted: float) -> int:
        """Remove objects until at most ``wanted`` bytes are left, if possible; the new total."""
        found = sorted(self._objects())
        total = sum(size for _, size, _ in found)
        for _, size, path in found:
            if total <= wanted:
                break
            if not _is_partial(path):
                with suppress(FileNotFoundError):
                    os.unlink(path)
                total -= size
        return total

    def _objects(self) -> Iterator[tuple[float, int, str]]:
        """Last use, size and path of each file; files left by dead processes are deleted."""
        for folder in (self.folder / "objects").glob("*"):
            for entry in os.scandir(folder):
                with suppress(FileNotFoundError):
                    if _is_partial(entry.path) and self._is_leftover(entry.name):
                        os.unlink(entry.path)
                        continue
                    status = entry.stat()
                    yield status.st_mtime, status.st_size, entry.path

    def _is_leftover(self, name: str) -> bool:
        """Whether no process is fetching into this file any more."""
        try:
            with self._fetching(name[1:], wait=False):
                return True
        except BlockingIOError:
            return False

    def _fetching(self, key: str, *, wait: bool = True) -> AbstractContextManager[int]:
        """Lock the fetching of an object. If not ``wait``, may raise BlockingIOError."""
        folder = self.folder / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        return _locked(folder / f"{int(key[:8], 16) % _LOCKS:03x}", wait)

    def _counting(self) -> AbstractContextManager[int]:
        """Lock and open the file that holds the total size of the objects."""
        return _locked(self.folder / "bytes")

    def _bytes(self) -> int:
        try:
            with (self.folder / "bytes").open("rb") as count:
                return _read_number(count.fileno()) or 0
        except OSError:
            return 0


@contextmanager
def _locked(path: Path, wait: bool = True) -> Iterator[int]:
    """Open a file, created if missing, that no other process or thread has locked."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield descriptor
    finally:
        os.close(descriptor)


def _is_partial(path: str) -> bool:
    return path.endswith(".partial")


def key_of(item: Remote) -> str:
    """A hash of the object's name, without signatures, which change, and of its version."""
    text = f"{public(item.url)}\0{item.size}\0{item.version}"
    return hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=20).hexdigest()


def _read_number(descriptor: int) -> int | None:
    """The number in a file; None if a crash of the machine damaged it."""
    digits = os.pread(descriptor, 32, 0).strip() or b"0"
    return int(digits) if digits.isdigit() else None


def _write_number(descriptor: int, number: int) -> None:
    os.pwrite(descriptor, b"%31d\n" % max(0, number), 0)
