"""Errors that users can fix: their exception, and how memory that ran out is told."""

import re


class UserError(Exception):
    """Bad input: the message is one line that says what is wrong and how to fix it.

    The command line prints it without a traceback and exits with code 2. Any other exception that
    reaches the command line is a bug in cp2fast and keeps its traceback.
    """


_NO_MEMORY = re.compile(
    r"out[ _]of[ _]memory|can't allocate memory|_alloc_failed|size calculation overflowed",
    re.IGNORECASE,
)
"""In the messages of CUDA's runtime and driver, of torch on the host, of cuBLAS and cuDNN. The
last is torch's for sizes beyond 64 bits."""


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out, by any library's error; torch need not be imported to tell."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or _NO_MEMORY.search(str(error)) is not None
    )
