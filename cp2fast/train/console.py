"""A run's output on stdout, which may be closed before the run ends, as by ``| head``.

A stdout that was never there, as in a daemon, does not count as closed.
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import TextIO, cast

from rich.console import Console

from cp2fast.console import widen


class RunConsole(Console):
    """A console that goes silent once stdout is closed; the run then stops as after SIGTERM."""

    def __init__(self, quiet: bool) -> None:
        """Write to stdout as it is now.

        Args:
            quiet: print nothing; set for all processes but the main one.
        """
        self._stdout = _Stdout(sys.stdout or open(os.devnull, "w"))  # noqa: SIM115
        super().__init__(
            file=cast(TextIO, self._stdout),
            quiet=quiet,
            soft_wrap=True,
            highlight=False,
            markup=False,
            emoji=False,
        )
        widen(self)

    @property
    def is_gone(self) -> bool:
        """Whether stdout was closed."""
        return self._stdout.is_gone


class _Stdout(io.TextIOBase):
    def __init__(self, stdout: TextIO) -> None:
        self._to = stdout
        self.is_gone = False

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(self._to, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        return self._to.isatty()

    def fileno(self) -> int:
        return self._to.fileno()

    def write(self, text: str) -> int:
        if not self.is_gone:
            encoded = text.encode(self.encoding, "backslashreplace")
            try:
                self._to.write(encoded.decode(self.encoding))
            except OSError:
                self._leave()
        return len(text)

    def flush(self) -> None:
        if not self.is_gone:
            try:
                self._to.flush()
            except OSError:
                self._leave()

    def _leave(self) -> None:
        """Stop writing, and keep the interpreter from failing on buffered output at exit."""
        self.is_gone = True
        with suppress(OSError, ValueError):  # stdout may not be a file
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._to.fileno())
            os.close(null)
