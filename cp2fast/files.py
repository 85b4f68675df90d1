"""Files that users name, opened in one way: without ever waiting, and refused in one line.

A pipe, a socket or a device where a file is expected would be waited for, or read for ever.
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
"""What lies at a path, links followed; other is what may not be read to its end."""

_BOMS = {b"\xef\xbb\xbf": "utf-8", b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}


def open_plain(path: Name) -> FileIO:
    """Open a plain file to read, unbuffered.

    Raises:
        OSError: it is none, or cannot be opened; ``strerror`` says why.
    """
    file = open(path, "rb", buffering=0, opener=_without_waiting)  # noqa: SIM115
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    file.close()
    raise OSError(errno.EINVAL, "not a plain file", path)


def read_bytes(path: Name) -> bytes:
    """The content of a plain file.

    Raises:
        OSError: as ``open_plain``.
    """
    with open_plain(path) as file:
        return file.read()


def read_text(path: Path) -> str:
    """A file of text: UTF-8, with a byte order mark or without, or UTF-16 with one.

    Raises:
        UserError: it cannot be read, or is in another encoding.
    """
    try:
        content = read_bytes(path)
    except OSError as error:
        raise cannot_read(path, error) from error
    mark = next((mark for mark in _BOMS if content.startswith(mark)), b"")
    try:
        text = content[len(mark) :].decode(_BOMS.get(mark, "utf-8"))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path} is not UTF-8 (line {line}): save it as UTF-8") from error
    if "\0" in text:
        raise UserError(f"{path} holds zeros, so it is no UTF-8 text: save it as UTF-8")
    return text


def place_of(path: Path) -> Place:
    """What lies at ``path``.

    Raises:
        UserError: that is not to be known: a folder on the way may not be entered, or links go
            round in a circle.
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
    """Whether there is a file.

    Raises:
        UserError: there is something else in its place, or what there is cannot be known.
    """
    place = place_of(path)
    if place in ("folder", "other"):
        what = "a folder" if place == "folder" else "no plain file"
        raise UserError(f"{path} is {what}: a file belongs there")
    return place == "file"


def list_folder(path: Path) -> list[Path]:
    """What is inside a folder, sorted; nothing if there is none.

    Raises:
        UserError: it may not be read.
    """
    try:
        return sorted(path / name for name in os.listdir(path))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise cannot_read(path, error) from error


def cannot_read(path: Path, error: Exception) -> UserError:
    """The message for what the system says about a file or a folder."""
    code = getattr(error, "errno", None)
    reason = getattr(error, "strerror", None) or str(error)
    if code in (errno.EACCES, errno.EPERM):
        fix = "allow it, for the file and for every folder above it"
    elif code == errno.ELOOP:
        fix = "the links go round in a circle: remove one"
    elif code == errno.EISDIR:
        fix = "a file belongs there"
    else:
        fix = "name another"
    return UserError(f"{path} cannot be read ({reason}): {fix}")


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
