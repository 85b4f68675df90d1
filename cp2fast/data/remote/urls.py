"""URLs and paths side by side: tell them apart, join them, and hide secrets."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

_HARMLESS = frozenset({"versionId", "download", "raw", "version", "revision", "ref"})
"""Query parameters that may be shown and saved; any other may be a signature."""
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_FLATTENED = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/(?!/)")


def is_url(text: str) -> bool:
    """Whether this is a URL of something other than a local file."""
    return _URL.match(text) is not None


def without_file_scheme(text: str) -> str:
    """Convert ``file:///photos`` to a path."""
    return text.removeprefix("file://").removeprefix("local://")


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
        relative = quote(os.fsencode(relative)) if base.startswith("http") else relative
        return f"{base.rstrip('/')}/{relative}"
    return f"{base}/{relative}"


def typed_as_path(path: Path) -> str | None:
    """The URL that was typed where only paths are taken, which made one slash of two; else None."""
    found = _FLATTENED.match(str(path))
    return None if found is None else f"{found[1]}://{str(path)[found.end() :]}"
