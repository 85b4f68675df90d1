"""Terminal output: text is printed literally, and unprintable characters never end a run."""

from __future__ import annotations

import os
import re
import sys
from io import TextIOWrapper

from rich.console import Console

_NO_LIMIT = 10_000
"""Width in characters."""


def open_console(*, stderr: bool = False, quiet: bool = False) -> Console:
    """A command's console; rich's ``[markup]`` and ``:emoji:`` in paths and names stay text.

    Args:
        stderr: print there instead of to standard output.
        quiet: print nothing.
    """
    console = Console(
        stderr=stderr, quiet=quiet, soft_wrap=True, highlight=False, markup=False, emoji=False
    )
    widen(console)
    return console


def widen(console: Console) -> None:
    """Let tables be as wide as they are, unless a terminal limits them."""
    if not console.is_terminal:
        console.width = _NO_LIMIT


def show_everything() -> None:
    """Print characters that the terminal cannot encode as escapes, instead of raising an error.

    This includes the bytes of file names that are not valid text. Standard error does so by itself.
    """
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def open_missing() -> None:
    """Open the standard streams that this process was started without, as by ``>&-``, on nothing.

    Otherwise a file of ours could become what other code takes for standard output.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # each then gets its own number, the lowest that is free
            stream = open(os.devnull, mode)  # noqa: SIM115
            os.set_inheritable(stream.fileno(), True)  # for the processes that we start
            setattr(sys, name, stream)


def printable(text: str) -> str:
    """The text with control characters and bytes that are no text as escapes, on one line."""
    text = re.sub(r"[\0-\x1f\x7f-\x9f]", lambda found: repr(found[0])[1:-1], text)
    return text.encode("utf-8", "backslashreplace").decode()
