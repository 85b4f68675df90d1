"""Terminal output: text is printed literally, and unprintable characters never end a run."""

from __future__ import annotations

import codecs
import re
import sys
from typing import TextIO

from rich.console import Console

_IN_ASCII = {
    "\N{MIDDLE DOT}": "-",
    "\N{MULTIPLICATION SIGN}": "x",
    "\N{EN DASH}": "-",
    "\N{HORIZONTAL ELLIPSIS}": "...",
    "\N{RIGHTWARDS ARROW}": "->",
    "\N{PLUS-MINUS SIGN}": "+-",
}
_HANDLER = "cp2fast-in-ascii"


def open_console(*, stderr: bool = False, quiet: bool = False) -> Console:
    """A command's console; rich's ``[markup]`` and ``:emoji:`` in paths and names stay text.

    Args:
        stderr: print there instead of to standard output.
        quiet: print nothing.
    """
    return Console(
        stderr=stderr, quiet=quiet, soft_wrap=True, highlight=False, markup=False, emoji=False
    )


def show_everything() -> None:
    """Replace characters that the terminal cannot encode, instead of raising an error.

    This includes the bytes of file names that are not valid text.
    """
    codecs.register_error(_HANDLER, _replacement)
    for stream in (sys.stdout, sys.stderr):
        _replace_in(stream)


def _replace_in(stream: TextIO) -> None:
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors=_HANDLER)


def _replacement(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    unknown = error.object[error.start : error.end]
    known = all(character in _IN_ASCII for character in unknown)
    if known:
        return "".join(_IN_ASCII[character] for character in unknown), error.end
    escaped, end = codecs.backslashreplace_errors(error)
    return str(escaped), end


def printable(text: str) -> str:
    """The text with control characters and bytes that are no text as escapes, on one line."""
    text = re.sub(r"[\0-\x1f\x7f-\x9f]", lambda found: repr(found[0])[1:-1], text)
    return text.encode("utf-8", "backslashreplace").decode()
