"""Open files named by users: never block, and report problems in one line.

Reading a pipe, a socket or a device where a file is expected could block or never end.
"""

from __future__ import annotations

import errno
import os
import stat
from io import FileIO
from pathlib import Path
from typing import Literal

from cp2fast.errors import UserError

Name = str | bytes | Path

Place = Literal["file", "folder", "nothing", "other"]
"""What is at a path, following links; ``other`` is a pipe, socket or device."""

_BOMS = {b"\xef\xbb\xbf": "utf-8", b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}


def path_of(named: str | Path) -> Path:
    """The path that a user named; ``~`` at its start is the home folder, as in a shell."""
    return Path(os.path.expanduser(named))


def open_plain(path: Name) -> FileIO:
    """Open a regular file for reading, unbuffered.

    Raises:
        OSError: not a regular file, or it cannot be opened; ``strerror`` says why.
    """
    return FileIO(path, opener=lambda *_: _open_plain(path)[0])


def read_bytes(path: Name) -> bytes:
    """The content of a regular file, in four system calls.

    Each system call gives up Python's lock, and ``FileIO.read`` makes twice as many: this is the
    reading of a decoding thread.

    Raises:
        OSError: as ``open_plain``.
    """
    descriptor, size = _open_plain(path)
    try:
        content = os.read(descriptor, size + 1)
        if len(content) == size:  # One byte less than was asked for: this is its end.
            return content
        with FileIO(descriptor, closefd=False) as rest:  # It grows, or is larger than a read.
            return content + rest.read()
    finally:
        os.close(descriptor)


def _open_plain(path: Name) -> tuple[int, int]:
    """Descriptor and size of a regular file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode):
            return descriptor, status.st_size
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        raise OSError(errno.EINVAL, "not a plain file", path)
    except BaseException:
        os.close(descriptor)
        raise


def read_text(path: Path) -> str:
    """The content of a text file: UTF-8, with or without a byte order mark, or UTF-16 with one.

    Raises:
        UserError: it cannot be read, or has another encoding.
    """
    try:
        content = read_bytes(path)
    except (OSError, ValueError) as error:
        raise cannot_read(path, error) from error
    mark = next((mark for mark in _BOMS if content.startswith(mark)), b"")
    try:
        text = content[len(mark) :].decode(_BOMS.get(mark, "utf-8"))
    except UnicodeDecodeError as error:
        line = error.object[: error.start].decode(error.encoding).count("\n") + 1
        raise UserError(f"{path} is not UTF-8 (line {line}): save it as UTF-8") from error
    if "\0" in text:
        raise UserError(f"{path} holds zeros, so it is not UTF-8 text: save it as UTF-8")
    return text


def without_mark(content: bytes) -> bytes:
    """Text without its byte order mark, UTF-16 as UTF-8; other content as it is.

    For lists of file names, which may be no valid text.
    """
    for mark, encoding in _BOMS.items():
        if content.startswith(mark):
            rest = content[len(mark) :]
            return rest if encoding == "utf-8" else rest.decode(encoding, "replace").encode()
    return content


def place_of(path: Path) -> Place:
    """What is at ``path``.

    Raises:
        UserError: this cannot be determined: a folder on the way is not accessible, or links form a
            loop.
    """
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return "nothing"
    except (OSError, ValueError) as error:
        raise cannot_read(path, error) from error
    if stat.S_ISREG(mode):
        return "file"
    return "folder" if stat.S_ISDIR(mode) else "other"


def is_file(path: Path) -> bool:
    """Whether there is a file at ``path``.

    Raises:
        UserError: something else is there, or this cannot be determined.
    """
    place = place_of(path)
    if place in ("folder", "other"):
        what = "a folder" if place == "folder" else "not a plain file"
        raise UserError(f"{path} is {what}: a file belongs there")
    return place == "file"


def list_folder(path: Path) -> list[Path]:
    """The content of a folder, sorted; empty if there is no such folder.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return sorted(path / name for name in os.listdir(path))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except (OSError, ValueError) as error:
        raise cannot_read(path, error) from error


def cannot_read(path: Path, error: Exception) -> UserError:
    """The user's message for an operating system error on a file or folder."""
    code = getattr(error, "errno", None)
    reason = getattr(error, "strerror", None) or str(error)
    if code in (errno.EACCES, errno.EPERM):
        fix = "change the permissions of the file and of every folder above it"
    elif code == errno.ELOOP:
        fix = "the links go round in a circle: remove one"
    elif code == errno.EISDIR:
        fix = "a file belongs there"
    else:
        fix = "name another"
    return UserError(f"{path} cannot be read ({reason}): {fix}")


def refuse_target(path: Path | None, option: str = "--out") -> None:
    """Refuse a file that a command could not write, before anything is computed.

    Args:
        path: the new file; None if there is none to write.
        option: option that names it, for the message.

    Raises:
        UserError: as ``refuse_taken``; or its folder does not exist or may not be written to.
    """
    if path is None:
        return
    refuse_taken(path, option)
    folder = path.parent
    if place_of(folder) != "folder":
        raise UserError(
            f"there is no folder {folder} for {path.name}: make it first, or name another place "
            f"with {option}"
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(
            f"{folder} may not be written to: change its permissions, or name another with {option}"
        )


def refuse_taken(path: Path, option: str = "--out") -> None:
    """Refuse a name for a new file that is taken, even by a broken link, or that no file can have.

    Raises:
        UserError: the name is refused, or what is there cannot be determined.
    """
    if place_of(path) != "nothing" or path.is_symlink():
        raise UserError(f"{path} exists already: remove it, or name another file with {option}")


def make_folder(folder: Path, option: str = "--out") -> None:
    """Create a folder for results, with its parents; one that exists is fine.

    Args:
        folder: the folder.
        option: option that names it, for the message.

    Raises:
        UserError: it cannot be created, or may not be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"cannot make the folder {folder}: {reason}; choose another {option}"
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(
            f"{folder} may not be written to: change its permissions, or choose another {option}"
        )
