"""Arrays that live in a file, for what need not fit into memory."""

from __future__ import annotations

import math
import os
from typing import IO, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Scalar = TypeVar("Scalar", bound=np.generic)


def mapped(file: IO[bytes], dtype: type[Scalar], shape: tuple[int, ...]) -> NDArray[Scalar]:
    """A new array in an empty file, with all its room on the disk taken at once.

    Otherwise a disk that becomes full while the array is filled kills the process (SIGBUS).

    Raises:
        OSError: the disk has no room for it.
    """
    os.posix_fallocate(file.fileno(), 0, max(1, math.prod(shape) * np.dtype(dtype).itemsize))
    array: np.memmap[Any, np.dtype[Scalar]] = np.memmap(file, dtype, "r+", shape=shape)
    return array
