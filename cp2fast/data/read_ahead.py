"""Remote objects are on the local disk before the images in them are asked for.

    plan -> which objects the coming batches need -> fetched by threads into the disk cache
         `-> the same plan, each batch handed on when its objects are there
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from cp2fast.data.arena import Arena
from cp2fast.data.image_set import ImageSet
from cp2fast.data.remote import CONNECTIONS

_SHARDS_AT_ONCE = 4
_MOST_BATCHES = 4096
_MOST_IMAGES_AHEAD = 2048
"""Of single images, each an object of its own."""


def read_ahead(
    images: ImageSet, plan: Iterator[NDArray[np.int64]], arena: Arena | None, shards: int
) -> Generator[NDArray[np.int64], None, None]:
    """The batches of ``plan``, in order.

    Args:
        images: the data set, with remote objects in it.
        plan: image numbers of each batch.
        arena: the pixel cache: what it holds need not be fetched.
        shards: how many shards beyond those of the next batch are fetched ahead at most.
    """
    assert images.disk is not None
    threads = _SHARDS_AT_ONCE if images.shards else CONNECTIONS
    pool = ThreadPoolExecutor(threads, "cp2fast-fetch")
    under_way: dict[int, Future[None]] = {}
    waiting: deque[tuple[NDArray[np.int64], list[int]]] = deque()
    try:
        pass
    finally:
        pool.shutdown(cancel_futures=True)
    yield from ()
