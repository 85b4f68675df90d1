"""Limits that the kernel sets to this process: of a full disk, or of memory."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def at_most(size: int, what: int) -> Iterator[None]:
    """The kernel refuses this process more: of RLIMIT_FSIZE in any file, of RLIMIT_AS at all."""
    soft, hard = resource.getrlimit(what)
    resource.setrlimit(what, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(what, (soft, hard))
