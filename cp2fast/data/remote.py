"""Objects that URLs name, on any file system of fsspec: what there is, and bytes of it.

Every request is made here and nowhere else: a fault that passes is tried again (``retry.py``),
any other ends in one line that names the object. Credentials come from the usual places of each
system, or from the URL itself; what is shown or saved of a URL is what ``public`` leaves of it.
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
"""Seconds of pauses before a run begins: a name mistyped should not be waited for long."""
PATIENCE = 300.0
"""Seconds of pauses in a run, whose other processes wait meanwhile (``train.timeout_minutes``)."""
CONNECTIONS = 32
"""Requests that a process has under way at most."""

_CONNECT_SECONDS, _SILENT_SECONDS = 10, 30
_HARMLESS = frozenset({"versionId", "download", "raw", "version", "revision", "ref"})
"""Parameters of a query that are shown and saved; any other may be a signature."""
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
"""By protocol, the extra of this package that brings its file system."""
_VERSIONS = (
    *("ETag", "etag", "md5Hash", "Content-MD5", "sha256", "blob_id", "content_md5"),
    *("LastModified", "Last-Modified", "last_modified", "updated", "mtime", "created"),
)
"""What file systems call what changes with an object's content, the surest first."""
_LOCAL = ("file://", "local://")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


class Remote(NamedTuple):
    """An object as it was listed.

    Attributes:
        url: with what it needs to be opened.
        size: in bytes; -1 where it is not known.
        version: changes with the content; 0 where the file system has none.
    """

    url: str
    size: int
    version: int


class ShortReadError(Exception):
    """Fewer or more bytes came than were asked for."""


def is_url(text: str) -> bool:
    """Whether this names something beyond this machine's own files."""
    return _URL.match(text) is not None


def without_file_scheme(text: str) -> str:
    """``file:///photos`` as the path that it is."""
    scheme = next((scheme for scheme in _LOCAL if text.startswith(scheme)), "")
    return text.removeprefix(scheme)


def public(url: str) -> str:
    """The URL without passwords and signatures; a path as it is."""
    if not is_url(url):
        return url
    scheme, place, path, query, fragment = urlsplit(url)
    kept = [(key, value) for key, value in parse_qsl(query) if key in _HARMLESS]
    return urlunsplit((scheme, place.rpartition("@")[2], path, urlencode(kept), fragment))


def join(base: str, relative: str) -> str:
    """The path or URL of what lies at ``relative`` below ``base``."""
    if not base:
        return relative
    if is_url(base):
        relative = quote(relative) if base.startswith("http") else relative
        return f"{base.rstrip('/')}/{relative}"
    return f"{base}/{relative}"


def look_up(url: str) -> Remote | None:
    """The object at a URL; None where there is a folder or nothing.

    Raises:
        UserError: it may not be seen, or its file system cannot be reached.
    """
    system, path = _open(url)
    try:
        info = _ask(lambda: system.info(path), url, FIRST_PATIENCE, missing_is_none=True)
    except _MissingError:
        return None
    return None if info["type"] == "directory" else _described(url, info)


def find(url: str) -> Iterator[tuple[str, int, int]]:
    """What lies at any depth below a URL: (relative path, size, version), in no order.

    Raises:
        UserError: as ``look_up``.
    """
    system, path = _open(url)
    system.invalidate_cache()
    is_http = url.startswith("http")
    try:
        if is_http:  # Its find takes every fault for an empty folder.
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
    """The URLs of what matches a pattern, sorted.

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
    """Bytes ``begin`` to ``end`` of an object; ``end`` of -1 is all from ``begin`` on.

    A server that knows no ranges answers with the whole object, of which the part is taken.

    Args:
        url: URL of the object.
        begin: the first byte.
        end: one after the last.
        patience: seconds of pauses between tries.
        at_most: whether fewer bytes are right where the object ends.

    Raises:
        UserError: it is not there, may not be read, or could not be for ``patience`` seconds.
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
    """Bring a file to a URL, in several parts where it is large and the file system can.

    Raises:
        UserError: it may not be written, or could not be for a while.
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
    """The file system of a URL, and the path there.

    fsspec keeps file systems by their options, and makes new ones in a forked process.

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
        system.retries = 1  # They are made here, where they are counted.
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
    """The answer to a request, or the line that says why there is none."""
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
    """There is nothing of this name."""


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
    """Whether the next try may be answered otherwise."""
    error = _behind(error)
    passing = (TimeoutError, asyncio.TimeoutError, ConnectionError, FSTimeoutError, ShortReadError)
    is_torn = any(type(one).__module__ == "aiohttp.http_exceptions" for one in _chain(error))
    if is_torn or isinstance(error, passing):  # An answer that is cut looks like a bad one.
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
    # Of aiohttp and botocore, which are not here to be named: connections that broke.
    module, kind = type(error).__module__, type(error).__name__
    if module.startswith("botocore"):
        return not kind.startswith(("NoCredentials", "ParamValidation", "PartialCredentials"))
    return module.startswith("aiohttp") and kind != "InvalidURL"


def _behind(error: Exception) -> Exception:
    """What fsspec's web file system calls a missing file, whatever it came from."""
    cause = error.__cause__
    is_other = isinstance(cause, Exception) and not isinstance(cause, FileNotFoundError)
    return cause if isinstance(error, FileNotFoundError) and is_other else error  # type: ignore[return-value]


def _status(error: Exception) -> int | None:
    """The HTTP status that an exception of any of the file systems tells of."""
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
    """An exception and what it came from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _in_words(error: Exception, url: str) -> str:
    """What an exception says, without the secrets of the URL."""
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
