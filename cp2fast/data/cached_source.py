"""A pixel cache in front of a source that knows nothing of it: DALI, torch, and any on a GPU.

    plan -> what is missing in the arena -> the source -> copied into the arena
         `---------------------------------------------> RaggedBatch over the arena

(``turbo_source`` decodes into host memory itself, without the copy.)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray

from cp2fast.batch import RaggedBatch
from cp2fast.data.arena import Arena
from cp2fast.data.bad_images import BadImages

_FEWEST = 2
"""Images that a source is asked for at least: it yields no empty batch, and may be two."""
Plan = Iterator[NDArray[np.int64]]


def open_cached(
    arena: Arena,
    open_rest: Callable[[Plan], Iterator[RaggedBatch]],
    plan: Plan,
    images: int,
    bad: BadImages,
) -> Generator[RaggedBatch, None, None]:
    """Batches in the order of ``plan``, where the arena is.

    Args:
        arena: the cache; images that the source yields are kept there.
        open_rest: opens the source for the images that are not there.
        plan: image numbers of each batch.
        images: how many there are.
        bad: where images are counted; the source counts those that it tries.
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
    # Nothing is missing any more: what the source had been asked for, and all that follows.
    for numbers in chain((numbers for numbers, _ in asked), plan):
        bad.record(len(numbers), [], images)
        yield arena.batch(numbers)


def _joined(
    arena: Arena, numbers: NDArray[np.int64], missing: NDArray[np.intp], decoded: RaggedBatch
) -> RaggedBatch:
    """The batch of ``numbers``, of which the source has decoded those at ``missing``."""
    decoded = decoded.to(arena.pixels.device)
    for position in range(len(decoded)):
        _keep(arena, decoded, position)
    index = numbers.copy()
    index[missing] = decoded.index.numpy()  # Substitutes have other numbers than were asked for.
    if arena.holds(index):
        return arena.batch(index)
    of_source = {int(place): position for position, place in enumerate(missing)}
    parts: list[torch.Tensor] = []
    for place in range(len(index)):
        if place in of_source:
            parts.append(decoded.image(of_source[place]))
        else:
            parts.append(arena.batch(index[place : place + 1]).image(0))
    return RaggedBatch.pack(parts, index.tolist())


def _keep(arena: Arena, batch: RaggedBatch, position: int) -> None:
    number = int(batch.index[position])
    image = batch.image(position)
    height, width, _ = image.shape
    if arena.reserve(number, height, width):
        begin = int(arena.offset[number])
        arena.pixels[begin : begin + image.numel()].copy_(image.reshape(-1), non_blocking=True)
        arena.publish(number, height, width)
