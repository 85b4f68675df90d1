"""The positions of the files in an uncompressed tar, read from its headers alone.

The formats are POSIX ustar and pax (IEEE Std 1003.1, "pax"), and GNU tar's. The standard library's
``tarfile`` takes twenty times as long, which means minutes for a million images, and mistakes a
damaged header for the end.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

BLOCK = 512
_PLAIN = b"07\0"  # regular file; contiguous file, which is the same; file in old archives
_GNU_LONG_NAME, _PAX, _PAX_GLOBAL, _GNU_LONG_LINK = b"L", b"x", b"g", b"K"
_WITHOUT_DATA = b"123456"  # links, devices, folders, pipes: their size field is meaningless
_ZEROS_AT_ONCE = 1 << 20
"""Bytes read at a time to skip zeros after an end marker; a multiple of ``BLOCK``."""


class TarError(Exception):
    """The archive is truncated or damaged; the message gives the position."""


class Entry(NamedTuple):
    """A regular file in the archive."""

    name: str
    offset: int
    """Start of its data."""
    size: int


Read = Callable[[int, int], bytes]
"""Reads bytes of an archive, given their position and number; fewer at its end."""


def read_entries(descriptor: int) -> Iterator[Entry]:
    """The regular files of the archive open as ``descriptor``; see ``entries``."""
    length = os.fstat(descriptor).st_size
    return entries(lambda position, size: os.pread(descriptor, size, position), length)


def entries(read: Read, length: int) -> Iterator[Entry]:
    """The regular files of an archive of ``length`` bytes, in order.

    If archives were joined with ``cat``, the files of all of them.

    Raises:
        TarError: the archive has no end marker, or a header is invalid.
    """
    position, long_name, pax = 0, b"", dict[bytes, bytes]()
    while True:
        header = read(position, BLOCK)
        if len(header) < BLOCK:
            raise TarError(f"it ends at byte {length} without an end mark")
        kind, data = header[156:157], position + BLOCK
        if kind == b"\0" and not any(header):
            position = _next_archive(read, position, length)
            if position == length:
                return
            continue
        if not _checksum_holds(header):
            raise TarError(f"no header where one belongs, at byte {position}")
        size = _decimal(pax[b"size"]) if b"size" in pax else _number(header[124:136])
        if kind in _WITHOUT_DATA:
            size = 0
        position = data + -(-size // BLOCK) * BLOCK
        if data + size > length:
            raise TarError(f"it ends at byte {length}, inside a file that ends at {data + size}")
        if kind == _PAX:
            pax = _pax_records(read(data, size))
        elif kind == _GNU_LONG_NAME:
            long_name = read(data, size).rstrip(b"\0")
        elif kind not in (_PAX_GLOBAL, _GNU_LONG_LINK):
            if kind in _PLAIN and not any(key.startswith(b"GNU.sparse") for key in pax):
                name = pax.get(b"path") or long_name or _short_name(header)
                yield Entry(os.fsdecode(name), data, size)
            long_name, pax = b"", {}


def is_header_of(header: bytes, size: int) -> bool:
    """Whether this block is the header of a file of ``size`` bytes."""
    try:
        is_header = len(header) == BLOCK and _checksum_holds(header)
        return is_header and _number(header[124:136]) == size
    except TarError:
        return False


def _next_archive(read: Read, position: int, length: int) -> int:
    """The start of another archive after an end marker, as ``cat`` joins them; or the file's end.

    Any other data after the marker does not belong to the archive.
    """
    while position < length:
        some = read(position, _ZEROS_AT_ONCE)
        zeros = len(some) - len(some.lstrip(b"\0"))
        if zeros < len(some):
            begin = position + zeros // BLOCK * BLOCK
            header = read(begin, BLOCK)
            return begin if len(header) == BLOCK and _checksum_holds(header) else length
        if not some:
            return length
        position += len(some)
    return length


def _checksum_holds(header: bytes) -> bool:
    """Check a header's sum of all bytes, with the checksum field itself as blanks.

    The low half of Adler-32 is one more than this sum modulo 65521, and is ten times as fast.
    """
    field = header[148:156]
    try:
        stored = int(field.strip(b"\0 ") or b"0", 8)
    except ValueError:
        return False
    return (stored + sum(field) - 8 * ord(" ") + 1 - zlib.adler32(header) % 65536) % 65521 == 0


def _number(field: bytes) -> int:
    """A number in octal digits, or in GNU's binary form, which sets the highest bit."""
    if field[0] & 0x80:
        return int.from_bytes(field) & ((1 << (8 * len(field) - 1)) - 1)
    try:
        return int(field.strip(b"\0 ") or b"0", 8)
    except ValueError:
        raise TarError(f"a header says a size of {field!r}") from None


def _decimal(digits: bytes) -> int:
    if not digits.isdigit():
        raise TarError(f"a header says a size of {digits!r}")
    return int(digits)


def _short_name(header: bytes) -> bytes:
    name = header[:100].rstrip(b"\0")
    prefix = header[345:500].rstrip(b"\0")
    if prefix and header[257:263] == b"ustar\0":  # GNU stores other data in this field.
        return prefix + b"/" + name
    return name


def _pax_records(data: bytes) -> dict[bytes, bytes]:
    """Parse records of a length (of the whole record), a blank, KEY=VALUE and a newline."""
    records: dict[bytes, bytes] = {}
    position = 0
    while position < len(data) and data[position] != 0:
        digits, _, _ = data[position : position + 20].partition(b" ")
        if not digits.isdigit() or int(digits) <= len(digits):
            raise TarError("a header has a damaged record")
        record = data[position + len(digits) + 1 : position + int(digits) - 1]
        key, _, value = record.partition(b"=")
        records[key] = value
        position += int(digits)
    return records
