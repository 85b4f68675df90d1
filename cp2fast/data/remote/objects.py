"""Objects at URLs on any file system of fsspec: list them and read their bytes.

All requests are made here. Temporary faults are retried (``retry.py``); any other fault ends in a
one-line message with the object's name (``faults.py``). Credentials come from the usual
places of each system, or from the URL itself. Messages and files only contain URLs that went
through ``public``.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import unquote_to_bytes, urlsplit

import fsspec

from cp2fast.data.remote.faults import ShortReadError, behind, in_words, passes, refused, status_of
from cp2fast.data.remote.retry import retrying
from cp2fast.data.remote.urls import is_url, public
from cp2fast.errors import UserError

Result = TypeVar("Result")

FIRST_PATIENCE = 30.0
"""Seconds to wait in retries before a run begins, when a mistyped name should fail soon."""
PATIENCE = 300.0
"""Seconds to wait in retries during a run; other processes wait meanwhile
(``train.timeout_minutes``)."""
CONNECTIONS = 32
"""The most requests that a process makes at the same time."""

_CONNECT_SECONDS, _SILENT_SECONDS = 10, 30
_EXTRAS = {
    "s3": ("s3", "s3a"),
    "gs": ("gs", "gcs"),
    "hf": ("hf",),
    "https": ("http", "https"),
    "az": ("az", "abfs", "abfss"),
}
"""The extras of this package, with the protocols whose file systems they bring."""
_VERSIONS = (
    *("ETag", "etag", "md5Hash", "Content-MD5", "sha256", "blob_id", "content_md5"),
    *("LastModified", "Last-Modified", "last_modified", "updated", "mtime", "created"),
)
"""Keys under which file systems report a content version, the most reliable first."""


class Remote(NamedTuple):
    """An object as listed."""

    url: str
    """With all that is needed to open it."""
    size: int
    """In bytes; -1 if unknown."""
    version: int
    """Changes with the content; 0 if the file system reports none."""


def look_up(url: str) -> Remote | None:
    """The object at a URL; None if there is a folder or nothing.

    Raises:
        UserError: access is denied, or the file system cannot be reached.
    """
    system, path = _open(url)
    try:
        info = _ask(lambda: system.info(path), url, FIRST_PATIENCE)
    except _MissingError:
        return None
    return None if info["type"] == "directory" else _described(url, info)


def find(url: str) -> Iterator[tuple[str, int, int]]:
    """All objects below a URL: (relative path, size, version), unordered. Raises as ``look_up``."""
    system, path = _open(url)
    system.invalidate_cache()
    is_http = url.startswith("http")
    try:
        if is_http:  # Its find treats every fault as an empty folder.
            _ask(lambda: system.ls(path, detail=False), url, FIRST_PATIENCE)
        found = _ask(lambda: system.find(path, detail=True), url, FIRST_PATIENCE)
    except _MissingError:
        return
    base = path.rstrip("/") + "/"
    for name, info in found.items():
        relative = name.removeprefix(base)
        if relative and info["type"] != "directory":
            described = _described("", info)
            if is_http:
                relative = os.fsdecode(unquote_to_bytes(relative))
            yield relative, described.size, described.version


def glob(pattern: str) -> list[tuple[str, Remote | None]]:
    """The URLs that match a pattern, sorted, with their objects; None for a folder.

    Raises:
        UserError: as ``look_up``.
    """
    system, path = _open(pattern)
    system.invalidate_cache()
    found = _ask(lambda: system.glob(path, detail=True), pattern, FIRST_PATIENCE)
    prefix = pattern.removesuffix(path) if pattern.endswith(path) and not is_url(path) else ""
    return [
        (prefix + name, None if info["type"] == "directory" else _described(prefix + name, info))
        for name, info in sorted(found.items())
    ]


def read(url: str, begin: int, end: int, patience: float = PATIENCE) -> bytes:
    """Bytes ``begin`` to ``end`` of an object; an ``end`` of -1 means its end.

    If a server ignores ranges and sends the whole object, the part is cut out.

    Raises:
        UserError: no such object, access is denied, or it failed for ``patience`` seconds.
    """
    system, path = _open(url)
    whole = begin == 0 and end < 0

    def get() -> bytes:
        part: dict[str, Any] = {} if whole else {"start": begin, "end": end}
        if url.startswith("hf://"):
            part["cache_type"] = "none"  # It would read megabytes ahead.
        data: bytes = system.cat_file(path, **part)
        if whole or len(data) == end - begin:
            return data
        if len(data) >= end:
            return data[begin:end]
        raise ShortReadError(f"{len(data)} bytes of {end - begin}")

    return _ask(get, url, patience)


def read_if_there(url: str) -> bytes | None:
    """The content of a small object; None if there is none. Raises as ``look_up``."""
    try:
        return read(url, 0, -1, FIRST_PATIENCE)
    except _MissingError:
        return None


def send(path: Path, url: str) -> None:
    """Upload a file to a URL, in several parts if it is large and the file system supports this.

    Raises:
        UserError: access is denied, or it failed for a while.
    """
    system, there = _open(url)
    found = look_up(url)
    if found is None or found.size != path.stat().st_size:
        _ask(lambda: system.put_file(str(path), there), url, PATIENCE, verb="written")


def write(content: bytes, url: str) -> None:
    """Write a small object. Raises as ``send``."""
    system, there = _open(url)
    _ask(lambda: system.pipe_file(there, content), url, PATIENCE, verb="written")


def _open(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path in it.

    fsspec caches file systems by their options, and makes new ones in a forked process.

    Raises:
        UserError: there is no such file system, its package is not installed, or its server cannot
            be reached.
    """
    protocol = url.partition("://")[0]
    try:
        if protocol in ("http", "https") and not urlsplit(url).hostname:
            raise ValueError("it names no host")
        system, path = fsspec.core.url_to_fs(url, **_options(protocol))
    except ImportError as error:
        extra = next((name for name, brought in _EXTRAS.items() if protocol in brought), None)
        fix = f'pip install "cp2fast[{extra}]"' if extra else str(error)
        raise UserError(f"{protocol}:// needs a package that is not installed: {fix}") from None
    except ValueError as error:
        raise UserError(
            f"{public(url)} cannot be opened: {in_words(error, url)}; write a path, or a URL such "
            "as s3://BUCKET/FOLDER or https://HOST/FOLDER"
        ) from None
    except Exception as error:  # ftp, sftp and others connect here, and raise almost anything.
        raise UserError(
            f"{public(url)} cannot be opened: {in_words(error, url)}; check its name, and whether "
            "the server can be reached"
        ) from None
    if protocol in ("s3", "s3a"):
        system.retries = 1  # Retries are made here, where they are counted.
    if protocol in ("gs", "gcs"):
        # It logs tracebacks of its retries, and that it knows no credentials for a public bucket.
        logging.getLogger("gcsfs").setLevel(logging.CRITICAL)
    return system, path


def _options(protocol: str) -> dict[str, Any]:
    if protocol in ("s3", "s3a"):
        return {
            "use_listings_cache": False,
            "config_kwargs": {
                "retries": {"total_max_attempts": 1},
                "connect_timeout": _CONNECT_SECONDS,
                "read_timeout": _SILENT_SECONDS,
                "max_pool_connections": CONNECTIONS,
            },
        }
    if protocol in ("http", "https"):
        import aiohttp

        timeout = aiohttp.ClientTimeout(sock_connect=_CONNECT_SECONDS, sock_read=_SILENT_SECONDS)
        return {"client_kwargs": {"timeout": timeout, "trust_env": True}}
    return {}


class _MissingError(UserError):
    """No object has this name."""


def _ask(call: Callable[[], Result], url: str, patience: float, verb: str = "read") -> Result:
    """The result of a request, with retries; failures become one-line messages."""
    try:
        return retrying(call, passes, patience)
    except Exception as raised:
        error = behind(raised)
        if isinstance(error, FileNotFoundError) or status_of(error) in (404, 410):
            missing = f"{public(url)} is not there (404): restore it, or leave it out"
            raise _MissingError(missing) from None
        raise UserError(refused(error, url, verb)) from None


def _described(url: str, info: Mapping[str, Any]) -> Remote:
    size = info.get("size")
    tag = next((info[name] for name in _VERSIONS if info.get(name)), None)
    version = 0
    if tag is not None:
        text = str(tag.timestamp()) if isinstance(tag, datetime) else str(tag).strip('"')
        version = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest())
    return Remote(url, -1 if size is None else int(size), version)
