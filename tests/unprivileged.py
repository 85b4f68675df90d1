"""Processes that files and folders may refuse, also where the tests run as root."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_LIBC = ctypes.CDLL(None)
_PR_CAPBSET_DROP = 24  # <sys/prctl.h>
_OVERRIDE, _READ_SEARCH = 1, 2  # <linux/capability.h>


def run(*command: str | Path, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """What a Python process says that may do only what modes allow.

    Args:
        command: the words after ``python``.
        folder: that it runs in.
    """
    return subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        preexec_fn=_drop_privileges,
    )


def command(words: Sequence[str | Path], folder: Path) -> subprocess.CompletedProcess[str]:
    """``cp2fast`` with these words, as ``run``."""
    return run("-m", "cp2fast", *words, folder=folder)


def _drop_privileges() -> None:
    """Of root; the process that is executed next has none of what it leaves. Others have none."""
    for capability in (_OVERRIDE, _READ_SEARCH):
        _LIBC.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
