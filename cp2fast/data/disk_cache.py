"""Remote objects kept on a local disk (``data.disk_cache``), shared by all processes of a machine.

    DIR/objects/XX/KEY   whole objects; the key is made of URL, size and ETag, so that an object
                         that has changed is another one
    DIR/locks/NNN        who holds one fetches the objects that it stands for; the system takes it
                         away from a process that dies
    DIR/bytes            how many there are; who adds, renames or removes an object locks this file

An object appears under its name whole or not at all. The least recently used go when there is no
more room; those that are being fetched stay, so that there may be too many bytes for as long as
several are fetched into a cache that cannot hold them all. Who still reads one that goes reads it
to its end, and then from where it came from.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO

from cp2fast.config import DataSettings
from cp2fast.data import remote
from cp2fast.data.remote import Remote, public
from cp2fast.errors import UserError

PART = 16 << 20
"""Bytes asked for at once: as much is fetched again at most after a fault."""
_LOCKS = 1024
_SHARE = 0.8
"""Of the room on the disk, where ``data.disk_gib`` sets no limit."""
_FILLED_TO = 0.9
"""Of the limit, after something had to go."""
_GIB = 1 << 30


def default_folder() -> Path:
    """Where users expect caches: ``$XDG_CACHE_HOME``, else ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cp2fast"


@dataclass(frozen=True)
class DiskCache:
    """Any number of threads and processes may use one folder; nothing is made before it is needed.

    Attributes:
        folder: folder of the cache.
        gib: how large it may become; None is a share of the disk's free room.
    """

    folder: Path
    gib: float | None = None

    @staticmethod
    def of(settings: DataSettings) -> DiskCache:
        """As the settings say."""
        return DiskCache(settings.disk_cache or default_folder(), settings.disk_gib)

    def read(self, item: Remote, begin: int, end: int) -> bytes:
        """Bytes of an object: from the disk if it is there, else from where it is.

        Raises:
            UserError: as ``remote.read``.
        """
        data = self.read_kept(item, begin, end)
        if data is not None:
            return data
        if item.size < 0:
            return remote.read(item.url, 0, -1)[begin : None if end < 0 else end]
        return remote.read(item.url, begin, item.size if end < 0 else end)

    def read_kept(self, item: Remote, begin: int, end: int) -> bytes | None:
        """Bytes of an object that is on the disk; None if it is not."""
        try:
            descriptor = os.open(self.path(item), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            length = (item.size if end < 0 else end) - begin
            data = os.pread(descriptor, length, begin)
            while 0 < len(data) < length:
                more = os.pread(descriptor, length - len(data), begin + len(data))
                if not more:
                    break
                data += more
            return data if len(data) == length else None
        finally:
            os.close(descriptor)

    def path(self, item: Remote) -> Path:
        """Where the object is, if it is there."""
        key = _key(item)
        return self.folder / "objects" / key[:2] / key

    def holds(self, item: Remote) -> bool:
        """Whether the object is there, whole."""
        try:
            return os.stat(self.path(item)).st_size == item.size
        except OSError:
            return False

    def fetch(self, item: Remote, *, verify: bool = True) -> None:
        """Bring the object to the disk, unless it is there; it counts as used now.

        Args:
            item: to fetch; one of unknown size is left where it is.
            verify: whether to ask, once it is here, if it is still what was listed.

        Raises:
            UserError: it is not what was listed any more, cannot be read, or there is no room.
        """
        if item.size < 0:
            return
        path = self.path(item)
        try:
            if self.holds(item):
                with suppress(FileNotFoundError):
                    os.utime(path)
                return
            with self._fetching(path.name):
                if not self.holds(item):
                    self._fetch(item, path, verify)
        except OSError as error:
            raise UserError(
                f"the cache {self.folder} cannot be written ({error.strerror or error}): make room "
                "or allow it, or name another with data.disk_cache=DIR"
            ) from error

    def open(self, item: Remote) -> IO[bytes]:
        """The object, on the disk, however soon it has to go from there."""
        while True:
            self.fetch(item)
            with suppress(FileNotFoundError):
                return self.path(item).open("rb")

    @cached_property
    def budget(self) -> int:
        """Bytes that all objects together may take."""
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
                    end = min(begin + PART, item.size)
                    file.write(remote.read(item.url, begin, end))
                file.flush()
                os.fsync(file.fileno())
            if verify:
                self._check_unchanged(item)
            with self._locked():  # Who counts the files meanwhile might meet it under neither name.
                aside.replace(path)
        except BaseException:
            with self._locked() as count:
                aside.unlink(missing_ok=True)
                _write_number(count, _read_number(count) - item.size)
            raise
        with self._locked() as count:
            self._take_room(count, 0)  # Others that were being fetched may have had to stay.

    def _begin(self, aside: Path, size: int) -> None:
        """Make the file of an object to be fetched, as long as it will be, and count it."""
        if size > self.budget:
            raise UserError(
                f"an object of {size / _GIB:.2f} GiB does not fit into {self.folder}, which may "
                f"take {self.budget / _GIB:.2f} GiB: set data.disk_gib higher"
            )
        # At one go: who counts the files in between would forget what is not a file yet.
        with self._locked() as count:
            self._take_room(count, size)
            with aside.open("wb") as file:
                file.truncate(size)

    def _check_unchanged(self, item: Remote) -> None:
        """The parts are of one object only if it is still the one that was listed."""
        now = remote.look_up(item.url)
        if now is None or (now.size, now.version) != (item.size, item.version):
            raise UserError(
                f"{public(item.url)} has changed since the run began: start again, or go on with "
                "--resume"
            )

    def _take_room(self, count: int, size: int) -> None:
        """Count ``size`` bytes more; the least recently used objects make room for them."""
        total = _read_number(count) + size
        if total > self.budget:
            total = self._bytes_after_eviction(self.budget * _FILLED_TO - size) + size
        _write_number(count, total)

    def _bytes_after_eviction(self, wanted: float) -> int:
        """Remove objects until no more than ``wanted`` bytes are left, if that can be."""
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
        """When each file was last used, its size and its path; what the dead have left goes."""
        for folder in (self.folder / "objects").glob("*"):
            for entry in os.scandir(folder):
                with suppress(FileNotFoundError):
                    if _is_partial(entry.path) and self._is_leftover(entry.name):
                        os.unlink(entry.path)
                        continue
                    status = entry.stat()
                    yield status.st_mtime, status.st_size, entry.path

    def _is_leftover(self, name: str) -> bool:
        """Whether nobody is fetching into this file any more."""
        try:
            with self._fetching(name[1:], wait=False):
                return True
        except BlockingIOError:
            return False

    @contextmanager
    def _fetching(self, key: str, *, wait: bool = True) -> Iterator[None]:
        """Nobody else fetches the object meanwhile. Raises BlockingIOError instead of waiting."""
        folder = self.folder / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / f"{int(key[:8], 16) % _LOCKS:03x}", os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            yield
        finally:
            os.close(descriptor)

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """The file that says how many bytes there are, for this process alone."""
        descriptor = os.open(self.folder / "bytes", os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)

    def _bytes(self) -> int:
        try:
            descriptor = os.open(self.folder / "bytes", os.O_RDONLY)
        except OSError:
            return 0
        try:
            return _read_number(descriptor)
        finally:
            os.close(descriptor)


def _is_partial(path: str) -> bool:
    return path.endswith(".partial")


def _key(item: Remote) -> str:
    """Of an object's name without its signatures, which change, and of its content."""
    text = f"{public(item.url)}\0{item.size}\0{item.version}"
    return hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=20).hexdigest()


def _read_number(descriptor: int) -> int:
    return int(os.pread(descriptor, 32, 0).strip() or b"0")


def _write_number(descriptor: int, number: int) -> None:
    os.pwrite(descriptor, b"%31d\n" % max(0, number), 0)
