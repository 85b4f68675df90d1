"""A pixel cache in front of a source that does not use it itself: DALI, torch, any on a GPU.

    plan -> what is missing in the arena -> the source -> copied into the arena
         `---------------------------------------------> RaggedBatch over the arena

(``turbo_source`` decodes directly into the cache in host memory, without a copy.)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from cp2fast.batch import RaggedBatch
from cp2fast.data.cache.arena import Arena
from cp2fast.data.sources.bad_images import BadImages

_FEWEST = 2
"""The fewest images to ask a source for: it cannot yield an empty batch, and may be two sources."""
Plan = Iterator[NDArray[np.int64]]


def open_cached(
    arena: Arena,
    open_rest: Callable[[Plan], Iterator[RaggedBatch]],
    plan: Plan,
    images: int,
    bad: BadImages,
) -> Generator[RaggedBatch, None, None]:
    """Batches in the order of ``plan``, on the arena's device.

    Args:
        arena: the cache; images from the source are added to it.
        open_rest: opens the source for images that are not cached, which counts them in ``bad``.
        plan: image numbers of each batch.
        images: number of images in the data set.
        bad: counts the cached images here.
    """
    asked: deque[tuple[NDArray[np.int64], NDArray[np.intp]]] = deque()

    def rest() -> Plan:
        for numbers in plan:
            missing = arena.missing(numbers)
            if len(missing) < _FEWEST:
                missing = np.union1d(missing, np.arange(min(_FEWEST, len(numbers))))
            asked.append((numbers, missing))
            yield numbers[missing]

    source = open_rest(rest())
    try:
        for decoded in source:
            numbers, missing = asked.popleft()
            bad.record(len(numbers) - len(missing), [], images)
            yield _joined(arena, numbers, missing, decoded)
            if arena.is_complete:
                break
    finally:
        if isinstance(source, Generator):
            source.close()
    # Everything is cached now: yield the batches already requested, then all others.
    for numbers in chain((numbers for numbers, _ in asked), plan):
        bad.record(len(numbers), [], images)
        yield arena.batch(numbers)


def _joined(
    arena: Arena, numbers: NDArray[np.int64], missing: NDArray[np.intp], decoded: RaggedBatch
) -> RaggedBatch:
    """The batch of ``numbers``; those at positions ``missing`` were decoded by the source."""
    decoded = decoded.to(arena.pixels.device)
    for position in range(len(decoded)):
        _keep(arena, decoded, position)
    index = numbers.copy()
    index[missing] = decoded.index.numpy()  # Substitutes have other numbers than requested.
    if arena.holds(index):
        return arena.batch(index)
    of_source = {int(place): position for position, place in enumerate(missing)}
    images = [
        decoded.image(of_source[place])
        if place in of_source
        else arena.batch(index[place : place + 1]).image(0)
        for place in range(len(index))
    ]
    return RaggedBatch.pack(images, index.tolist())


def _keep(arena: Arena, batch: RaggedBatch, position: int) -> None:
    number = int(batch.index[position])
    image = batch.image(position)
    height, width, _ = image.shape
    if arena.reserve(number, height, width):
        begin = int(arena.offset[number])
        arena.pixels[begin : begin + image.numel()].copy_(image.reshape(-1), non_blocking=True)
        arena.publish(number, height, width)
