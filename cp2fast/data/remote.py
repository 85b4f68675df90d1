"""Objects at URLs on any file system of fsspec: list them and read their bytes.

All requests are made here. Temporary faults are retried (``retry.py``); any other fault ends in a
one-line message with the object's name. Credentials come from the usual places of each system, or
from the URL itself. Messages and files only contain URLs that went through ``public``.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

import fsspec
from fsspec.exceptions import FSTimeoutError

from cp2fast.data.retry import retrying
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
_HARMLESS = frozenset({"versionId", "download", "raw", "version", "revision", "ref"})
"""Query parameters that may be shown and saved; any other may be a signature."""
_EXTRAS = {
    "s3": "s3",
    "s3a": "s3",
    "gs": "gs",
    "gcs": "gs",
    "hf": "hf",
    "http": "https",
    "https": "https",
    "az": "az",
    "abfs": "az",
    "abfss": "az",
}
"""The extra of this package that brings the file system of each protocol."""
_VERSIONS = (
    *("ETag", "etag", "md5Hash", "Content-MD5", "sha256", "blob_id", "content_md5"),
    *("LastModified", "Last-Modified", "last_modified", "updated", "mtime", "created"),
)
"""Keys under which file systems report a content version, the most reliable first."""
_LOCAL = ("file://", "local://")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


class Remote(NamedTuple):
    """An object as listed.

    Attributes:
        url: URL, including what is needed to open it.
        size: in bytes; -1 if unknown.
        version: changes with the content; 0 if the file system reports none.
    """

    url: str
    size: int
    version: int


class ShortReadError(Exception):
    """The number of bytes received is not the number requested."""


def is_url(text: str) -> bool:
    """Whether this is a URL of something other than a local file."""
    return _URL.match(text) is not None


def without_file_scheme(text: str) -> str:
    """Convert ``file:///photos`` to a path."""
    scheme = next((scheme for scheme in _LOCAL if text.startswith(scheme)), "")
    return text.removeprefix(scheme)


def public(url: str) -> str:
    """The URL without passwords and signatures; a path is not changed."""
    if not is_url(url):
        return url
    scheme, place, path, query, fragment = urlsplit(url)
    kept = [(key, value) for key, value in parse_qsl(query) if key in _HARMLESS]
    return urlunsplit((scheme, place.rpartition("@")[2], path, urlencode(kept), fragment))


def join(base: str, relative: str) -> str:
    """The path or URL of ``relative`` below ``base``."""
    if not base:
        return relative
    if is_url(base):
        relative = quote(relative) if base.startswith("http") else relative
        return f"{base.rstrip('/')}/{relative}"
    return f"{base}/{relative}"


def look_up(url: str) -> Remote | None:
    """The object at a URL; None if there is a folder or nothing.

    Raises:
        UserError: access is denied, or the file system cannot be reached.
    """
    system, path = _open(url)
    try:
        info = _ask(lambda: system.info(path), url, FIRST_PATIENCE, missing_is_none=True)
    except _MissingError:
        return None
    return None if info["type"] == "directory" else _described(url, info)


def find(url: str) -> Iterator[tuple[str, int, int]]:
    """All objects below a URL, recursively: (relative path, size, version), unordered.

    Raises:
        UserError: as ``look_up``.
    """
    system, path = _open(url)
    system.invalidate_cache()
    is_http = url.startswith("http")
    try:
        if is_http:  # Its find treats every fault as an empty folder.
            _ask(lambda: system.ls(path, detail=False), url, FIRST_PATIENCE, missing_is_none=True)
        found = _ask(
            lambda: system.find(path, detail=True), url, FIRST_PATIENCE, missing_is_none=True
        )
    except _MissingError:
        return
    base = path.rstrip("/") + "/"
    for name, info in found.items():
        relative = name.removeprefix(base)
        if relative and info["type"] != "directory":
            described = _described("", info)
            yield unquote(relative) if is_http else relative, described.size, described.version


def glob(pattern: str) -> list[str]:
    """The URLs that match a pattern, sorted.

    Raises:
        UserError: as ``look_up``.
    """
    system, path = _open(pattern)
    found = _ask(lambda: system.glob(path), pattern, FIRST_PATIENCE)
    prefix = pattern[: len(pattern) - len(path)] if pattern.endswith(path) else ""
    if is_url(path):
        prefix = ""
    return sorted(prefix + name for name in found)


def read(
    url: str, begin: int, end: int, patience: float = PATIENCE, *, at_most: bool = False
) -> bytes:
    """Bytes ``begin`` to ``end`` of an object; an ``end`` of -1 means its end.

    If a server ignores ranges and sends the whole object, the part is cut out.

    Args:
        url: URL of the object.
        begin: the first byte.
        end: one after the last byte.
        patience: seconds to wait in retries.
        at_most: whether fewer bytes are allowed if the object ends before ``end``.

    Raises:
        UserError: no such object, access is denied, or it failed for ``patience`` seconds.
    """
    system, path = _open(url)
    whole = begin == 0 and end < 0

    def get() -> bytes:
        part: dict[str, int] = {} if whole else {"start": begin, "end": end}
        data: bytes = system.cat_file(path, **part)
        if whole or len(data) == end - begin:
            return data
        if len(data) >= end:
            return data[begin:end]
        if at_most:
            return data
        raise ShortReadError(f"{len(data)} bytes of {end - begin}")

    return _ask(get, url, patience)


def send(path: Path, url: str) -> None:
    """Upload a file to a URL, in several parts if it is large and the file system supports this.

    Raises:
        UserError: access is denied, or it failed for a while.
    """
    system, there = _open(url)
    if _size_at(url) != path.stat().st_size:
        _ask(lambda: system.put_file(str(path), there), url, PATIENCE, verb="written")


def write(content: bytes, url: str) -> None:
    """Write a small object.

    Raises:
        UserError: as ``send``.
    """
    system, there = _open(url)
    _ask(lambda: system.pipe_file(there, content), url, PATIENCE, verb="written")


def _size_at(url: str) -> int:
    found = look_up(url)
    return -1 if found is None else found.size


def _open(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path in it.

    fsspec caches file systems by their options, and makes new ones in a forked process.

    Raises:
        UserError: there is no such file system, or its package is not installed.
    """
    protocol = url.partition("://")[0]
    try:
        system, path = fsspec.core.url_to_fs(url, **_options(protocol))
    except ImportError as error:
        extra = _EXTRAS.get(protocol)
        fix = f'pip install "cp2fast[{extra}]"' if extra else str(error)
        raise UserError(f"{protocol}:// needs a package that is not installed: {fix}") from None
    except ValueError as error:
        raise UserError(
            f"{public(url)} cannot be opened: {_in_words(error, url)}; write a path, or a URL such "
            "as s3://BUCKET/FOLDER or https://HOST/FOLDER"
        ) from None
    if protocol in ("s3", "s3a"):
        system.retries = 1  # Retries are made here, where they are counted.
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
        try:
            import aiohttp
        except ImportError:
            return {}
        timeout = aiohttp.ClientTimeout(sock_connect=_CONNECT_SECONDS, sock_read=_SILENT_SECONDS)
        return {"client_kwargs": {"timeout": timeout, "trust_env": True}}
    return {}


def _ask(
    call: Callable[[], Result],
    url: str,
    patience: float,
    *,
    missing_is_none: bool = False,
    verb: str = "read",
) -> Result:
    """The result of a request, with retries; failures become one-line messages."""
    try:
        return retrying(call, _passes, patience)
    except UserError:
        raise
    except Exception as raised:
        error = _behind(raised)
        status = _status(error)
        if isinstance(error, FileNotFoundError) or status in (404, 410):
            if missing_is_none:
                raise _MissingError from None
            raise UserError(
                f"{public(url)} is not there (404): restore it, or leave it out"
            ) from None
        raise UserError(_refused(error, status, url, verb)) from None


class _MissingError(Exception):
    """No object has this name."""


def _refused(error: Exception, status: int | None, url: str, verb: str) -> str:
    name = public(url)
    if isinstance(error, PermissionError) or status in (401, 403):
        again = "" if name == url else ", or name it again with new ones"
        return (
            f"{name} may not be {verb} ({status or 403}): check the credentials of this system"
            f"{again}, or allow it there"
        )
    if type(error).__name__ == "NoCredentialsError":
        return (
            f"there are no credentials for {name}: set them up as for the AWS command line, or "
            "FSSPEC_S3_ANON=true for a public bucket"
        )
    reason = f"HTTP {status}" if status is not None else _in_words(error, url)
    if _passes(error):
        return f"{name} cannot be {verb} ({reason}), however often it is tried: try again later"
    return f"{name} cannot be {verb} ({reason}): check its name"


def _passes(error: Exception) -> bool:
    """Whether a retry may succeed."""
    error = _behind(error)
    passing = (TimeoutError, asyncio.TimeoutError, ConnectionError, FSTimeoutError, ShortReadError)
    is_torn = any(type(one).__module__ == "aiohttp.http_exceptions" for one in _chain(error))
    if is_torn or isinstance(error, passing):  # A truncated response looks like a bad one.
        return True
    status = _status(error)
    if status is not None:
        return status >= 500 or status in (408, 425, 429)
    if isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError):
        return False
    names = [one for one in _chain(error) if isinstance(one, socket.gaierror)]
    if names:
        return names[0].errno == socket.EAI_AGAIN
    if isinstance(error, OSError):
        return error.errno in (errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTUNREACH, None)
    # Broken connections in aiohttp and botocore, which may not be installed, so match by name.
    module, kind = type(error).__module__, type(error).__name__
    if module.startswith("botocore"):
        return not kind.startswith(("NoCredentials", "ParamValidation", "PartialCredentials"))
    return module.startswith("aiohttp") and kind != "InvalidURL"


def _behind(error: Exception) -> Exception:
    """The cause of an error that fsspec's web file system reports as a missing file."""
    cause = error.__cause__
    is_other = isinstance(cause, Exception) and not isinstance(cause, FileNotFoundError)
    return cause if isinstance(error, FileNotFoundError) and is_other else error  # type: ignore[return-value]


def _status(error: Exception) -> int | None:
    """The HTTP status in an exception of any of the file systems."""
    for one in _chain(error):
        for name in ("status", "code", "status_code"):
            value = getattr(one, name, None)
            if isinstance(value, int) and 100 <= value < 600:
                return value
        answer = getattr(one, "response", None)
        if isinstance(answer, Mapping):
            value = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
        else:
            value = getattr(answer, "status_code", None)
        if isinstance(value, int):
            return value
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and its causes."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _in_words(error: Exception, url: str) -> str:
    """An exception's message without the secrets of the URL."""
    text = " ".join(str(error).split()) or type(error).__name__
    _, place, _, query, _ = urlsplit(url)
    secrets = [place.rpartition("@")[0], *(value for _, value in parse_qsl(query)), query]
    for secret in filter(None, secrets):
        text = text.replace(secret, "...").replace(quote(secret, safe=""), "...")
    return text


def _described(url: str, info: Mapping[str, Any]) -> Remote:
    size = info.get("size")
    tag = next((info[name] for name in _VERSIONS if info.get(name)), None)
    version = 0
    if tag is not None:
        text = str(tag.timestamp()) if isinstance(tag, datetime) else str(tag).strip('"')
        version = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest())
    return Remote(url, -1 if size is None else int(size), version)
