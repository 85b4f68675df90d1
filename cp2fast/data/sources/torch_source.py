"""Decoding in worker processes: torch's DataLoader over the plan.

    plan -> worker: read, decode, pack -> shared memory -> RaggedBatch

Each worker makes whole batches, so nothing is copied in the parent. The workers live as long as the
iterator, which continues across epochs, so there is no delay between epochs.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from cp2fast.batch import RaggedBatch
from cp2fast.data.image_sets.image_set import ImageSet
from cp2fast.data.sources.bad_images import BadImages
from cp2fast.data.sources.heap import bypass_heap
from cp2fast.data.sources.loading import Decoded, DecodeSettings, deliver, read_or_replace
from cp2fast.errors import UserError

START_METHOD = "fork" if sys.platform == "linux" else None
"""Set explicitly, because the default of Python 3.14 makes each worker import torch again."""


def open_torch(
    images: ImageSet,
    plan: Iterator[NDArray[np.int64]],
    settings: DecodeSettings,
    bad: BadImages,
    *,
    workers: int,
) -> Iterator[RaggedBatch]:
    """Batches in the order of ``plan``, on the CPU; 0 ``workers`` decode in this process.

    Raises:
        UserError: too many bad images, a worker that died, or one raised by a worker.
    """
    loader: DataLoader[Decoded | UserError] = DataLoader(
        _Batches(images, settings),
        batch_size=None,
        sampler=plan,
        num_workers=workers,
        worker_init_fn=_start_worker,
        multiprocessing_context=START_METHOD if workers else None,
        generator=torch.Generator(),  # otherwise it would draw from the global one
    )
    # Collecting an old DALI pipeline in a worker would hang that worker, so collect it here.
    gc.collect()
    batches = _started(loader)
    while True:
        try:
            decoded = next(batches)
        except StopIteration:
            return
        except (RuntimeError, ConnectionError, EOFError) as error:
            if not _is_worker_death(error):
                raise
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise UserError(
                f"a decoding process ended unexpectedly ({reason}): most often "
                "memory or shared memory (/dev/shm) ran out; set data.workers lower, or to 0"
            ) from error
        if isinstance(decoded, UserError):
            raise decoded
        yield deliver(decoded, images, bad)


def _started(loader: DataLoader[Decoded | UserError]) -> Iterator[Decoded | UserError]:
    """The loader's iterator, whose workers are forked by a thread of its own.

    A forked worker continues in the thread that forked it. In a thread of a pool it would wait for
    itself at exit (CPython's gh-88110) and exit with code 1. In the main thread torch would set
    a signal handler that raises a worker's death at any point; here ``next`` raises it.
    """
    started: Future[Iterator[Decoded | UserError]] = Future()

    def start() -> None:
        try:
            started.set_result(iter(loader))
        except BaseException as error:  # raised by result
            started.set_exception(error)

    thread = threading.Thread(target=start, name="cp2fast-fork")
    thread.start()
    thread.join()
    return started.result()


class _Batches(Dataset[Decoded | UserError]):
    """One item is one batch, indexed by its image numbers; or the error that it ends with.

    An error that is raised would arrive with the worker's traceback as its message.
    """

    def __init__(self, images: ImageSet, settings: DecodeSettings) -> None:
        self._images, self._settings = images, settings

    def __getitem__(self, numbers: NDArray[np.int64]) -> Decoded | UserError:
        try:
            return self._decoded(numbers)
        except UserError as error:
            return error

    def _decoded(self, numbers: NDArray[np.int64]) -> Decoded:
        seed, count = self._settings.seed, len(self._images)
        loaded = [read_or_replace(number, self._read, seed, count) for number in numbers.tolist()]
        pixels = [place.content for place in loaded if place.content is not None]
        if len(pixels) < len(loaded):
            return Decoded.of(loaded, None)
        batch = RaggedBatch.pack(pixels, [place.index for place in loaded])
        if get_worker_info() is not None:
            _share(batch)
        return Decoded.of(loaded, batch)

    def _read(self, index: int) -> Tensor:
        return self._settings.decode(self._images.read(index))


def _share(batch: RaggedBatch) -> None:
    """Move a worker's batch to shared memory.

    torch would do so by itself, in a thread whose errors reach nobody: with /dev/shm full, the
    parent would wait forever.

    Raises:
        UserError: there is no room.
    """
    try:
        for field in fields(batch):
            getattr(batch, field.name).share_memory_()
    except RuntimeError as error:
        for left in Path("/dev/shm").glob(f"torch_{os.getpid()}_*"):  # noqa: S108
            left.unlink(missing_ok=True)  # torch leaves what it could not fill
        raise UserError(
            f"a decoding process cannot share its memory ({str(error).splitlines()[0]}): "
            "give /dev/shm more room, or set data.workers lower, or to 0"
        ) from error


def _is_worker_death(error: Exception) -> bool:
    """Whether the loader's error means that a worker died.

    The loader reports this itself unless a batch was waiting: its memory is passed through a socket
    of the worker, and receiving it fails. Errors raised by a living worker start with "Caught ".
    """
    if isinstance(error, RuntimeError):
        return str(error).startswith("DataLoader worker (pid")
    return not str(error).startswith("Caught ")


def _start_worker(_: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends its workers
    bypass_heap()
