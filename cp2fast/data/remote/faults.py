"""Faults of remote file systems: which ones pass, and what to tell the user about the others.

Each file system of fsspec has exceptions of its own, and its packages may not be installed, so they
are recognised by their status, their ``errno``, or the names of their modules.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Iterator, Mapping
from urllib.parse import parse_qsl, quote, urlsplit

from fsspec.exceptions import FSTimeoutError

from cp2fast.data.remote.urls import public


class ShortReadError(Exception):
    """The number of bytes received is not the number requested."""


def refused(error: Exception, url: str, verb: str) -> str:
    """One line, without secrets, on an object that could not be "read" or "written" (``verb``)."""
    status, name = status_of(error), public(url)
    if isinstance(error, PermissionError) or status in (401, 403):
        again = "" if name == url else ", or name it again with new ones"
        return (
            f"{name} may not be {verb} ({status or 403}): check the credentials of this system"
            f"{again}, or allow access there"
        )
    if type(error).__name__ == "NoCredentialsError":
        return (
            f"there are no credentials for {name}: set them up as for the AWS command line, or "
            "FSSPEC_S3_ANON=true for a public bucket"
        )
    reason = f"HTTP {status}" if status is not None else in_words(error, url)
    if passes(error):
        return f"{name} cannot be {verb} ({reason}), however often it is tried: try again later"
    return f"{name} cannot be {verb} ({reason}): check its name"


def passes(error: Exception) -> bool:
    """Whether a retry may succeed."""
    error = behind(error)
    passing = (TimeoutError, asyncio.TimeoutError, ConnectionError, FSTimeoutError, ShortReadError)
    is_torn = any(type(one).__module__ == "aiohttp.http_exceptions" for one in _chain(error))
    if is_torn or isinstance(error, passing):  # A truncated response looks like a bad one.
        return True
    status = status_of(error)
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
    return module.startswith("aiohttp") and not isinstance(error, ValueError)  # a broken URL


def behind(error: Exception) -> Exception:
    """The cause of an error that fsspec's web file system reports as a missing file."""
    cause = error.__cause__
    is_other = isinstance(cause, Exception) and not isinstance(
        cause, FileNotFoundError | LookupError
    )
    return cause if isinstance(error, FileNotFoundError) and is_other else error  # type: ignore[return-value]


def status_of(error: Exception) -> int | None:
    """The HTTP status in an exception of any of the file systems."""
    for one in _chain(error):
        if isinstance(one, OSError) and str(one).startswith("Forbidden"):
            return 403  # of gcsfs, which has no other sign of it
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


def in_words(error: Exception, url: str) -> str:
    """An exception's message without the secrets of the URL."""
    text = " ".join(str(error).split()) or type(error).__name__
    _, place, _, query, _ = urlsplit(url)
    secrets = [place.rpartition("@")[0], *(value for _, value in parse_qsl(query)), query]
    for secret in filter(None, secrets):
        text = text.replace(secret, "...").replace(quote(secret, safe=""), "...")
    return text
