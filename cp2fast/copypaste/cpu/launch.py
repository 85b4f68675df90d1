"""Copy-paste on the CPU: one thread per core, each running a numba kernel without the GIL.

The threads are Python's rather than numba's, because numba's default threading layer aborts the
process if two threads enter it at once. Every composed image is made by one thread from its own
parameters alone, so the result does not depend on the number of threads or on the rest of the
batch.
"""

from __future__ import annotations

import functools
import math
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cp2fast.buffers import Buffers
from cp2fast.copypaste.cpu.kernel import Inputs, compose
from cp2fast.copypaste.cpu.output import Output
from cp2fast.copypaste.cpu.workspace import Workspace
from cp2fast.copypaste.interface import Composed, Request
from cp2fast.copypaste.views import HEIGHT, KINDS, SIGMA, WIDTH

_CHUNKS_PER_THREAD = 8
_own = threading.local()
_images, _masks = Buffers(keep=4), Buffers(keep=4)
"""Outputs of two calls, as one is still being read while the next one is written."""


def copy_paste_cpu(request: Request) -> Composed:
    """Compose on the CPU, with ``torch.get_num_threads()`` threads."""
    pixels, views, size, dtype, mean, std = request
    samples = len(views)
    shape = samples, size, size
    images_BSSX = [_empty((*shape, 3), dtype, _images) for _ in range(2)]
    masks = [_empty(shape, torch.bool, _masks) for _ in range(2)]
    normalisation = np.asarray(mean, np.float32), np.asarray(std, np.float32)
    targets = [
        (Output(*normalisation, KINDS[dtype], *_typed(image), _skew(image)), mask.numpy())
        for image, mask in zip(images_BSSX, masks, strict=True)
    ]
    words = views.numpy()
    inputs = Inputs(pixels.numpy(), words, words.view(np.float32))
    crop = int(words[..., HEIGHT : WIDTH + 1].max(initial=1))
    radius = math.ceil(3 * float(inputs.numbers[..., SIGMA].max(initial=0)))
    threads = torch.get_num_threads()
    step = max(1, 2 * samples // (threads * _CHUNKS_PER_THREAD))
    chunks = iter([(pair, first) for pair in range(2) for first in range(0, samples, step)])

    def work() -> None:
        workspace = _workspace(size, crop, radius)
        for pair, first in chunks:
            last = min(first + step, samples)
            compose(inputs, pair, first, last, *targets[pair], workspace)

    pool = _pool(os.getpid(), threads)
    for worker in [pool.submit(work) for _ in range(threads)]:
        worker.result()
    query, key = (image.permute(0, 3, 1, 2) for image in images_BSSX)
    return query, key, masks[0], masks[1]


def _typed(image: Tensor) -> tuple[NDArray[np.float32], NDArray[np.uint16]]:
    """The image in the form that ``Output`` takes: float32, or the bits of 16; one is unused."""
    if image.dtype == torch.float32:
        return image.view(-1).numpy(), np.empty(0, np.uint16)
    return np.empty(0, np.float32), image.view(-1).view(torch.uint16).numpy()


def _skew(image: Tensor) -> int:
    """Position of the image's start within a cache line, in values; torch aligns its own memory."""
    return image.data_ptr() // image.itemsize % (64 // image.itemsize)


def _empty(shape: tuple[int, ...], dtype: torch.dtype, buffers: Buffers) -> Tensor:
    return buffers.take(math.prod(shape) * dtype.itemsize).view(dtype).view(shape)


@functools.cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """The threads, kept between calls; a forked process creates its own."""
    return ThreadPoolExecutor(threads, thread_name_prefix="cp2fast-copy-paste")


def _workspace(size: int, crop: int, radius: int) -> Workspace:
    """This thread's scratch memory, reallocated only for a larger crop or blur, or another size."""
    fits: tuple[int, int, int] = getattr(_own, "fits", (0, 0, 0))
    if fits[0] != size or fits[1] < crop or fits[2] < radius:
        fits = size, max(crop, fits[1]), max(radius, fits[2])
        _own.workspace = Workspace.allocate(*fits)
        _own.fits = fits  # not before: there may be no memory
    workspace: Workspace = _own.workspace
    return workspace
