"""``turbo_source`` in separate processes, for a run whose training thread launches kernels.

    plan -> numbers -> process: read, decode -> memory shared with this one -> RaggedBatch

Decoding threads take Python's lock about nine times per image. If they share a process with the
thread that launches GPU kernels, each launch has to wait for them: a ResNet-18 at 128 pixels ran at
0.29 of its speed on an H100 with 16 cores. In their own processes they delay nobody, and their
lower priority leaves a core to the training whenever it needs one.

The processes are new programs rather than forks, because this process has threads and may use a
GPU. Pixels are passed in shared memory, which is anonymous and is freed with its last user; only
nine numbers per image go through the pipe.
"""

from __future__ import annotations

import itertools
import mmap
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from multiprocessing import reduction
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from cp2fast.batch import RaggedBatch
from cp2fast.buffers import Buffers
from cp2fast.data.arena import Arena
from cp2fast.data.bad_images import BadImages
from cp2fast.data.image_set import ImageSet
from cp2fast.data.levels import BY_TYPE, Levels
from cp2fast.data.loading import Decoded, Failure, deliver
from cp2fast.data.prefetch import keep_ahead
from cp2fast.data.turbo_source import BATCHES_AHEAD, decode_batches
from cp2fast.errors import UserError

_THREADS_A_PROCESS = 8
"""More threads would wait for each other's lock."""
_ASKED_AHEAD = BATCHES_AHEAD + 2
"""Batches requested per process; one is returned only after ``BATCHES_AHEAD`` more requests."""
_NICE = 5
_FOR_THE_PARENT = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
"""Signals that may reach the whole process group; the parent ends its processes."""
_LOOK_SECONDS = 2.0
"""Interval between checks that the parent is still alive, in case the pipe is never closed."""
_START = "from cp2fast.data.turbo_process import main; main()"

Memory = NDArray[np.uint8]


class _Job(NamedTuple):
    """The first message to a process."""

    images: ImageSet
    seed: int
    threads: int
    max_pixels: int
    max_side: int | None
    levels: Levels
    arena: int | None
    """Descriptor of the cache, inherited by the process."""


class _Request(NamedTuple):
    """A batch to decode.

    Attributes:
        numbers: image numbers.
        free: keys of shared memory that is no longer used here.
    """

    numbers: NDArray[np.int64]
    free: list[int]


class _Answer(NamedTuple):
    """A decoded batch, without its pixels.

    Attributes:
        places: offset, height, width and index of each image; None if the batch could not be
            filled.
        memory: key and length in bytes of the memory with the pixels; None if they are in the
            cache.
        is_new: whether the descriptor of that memory follows.
        known: all keys that exist.
        tried: number of images tried.
        failures: those that could not be used.
    """

    places: list[NDArray[Any]] | None
    memory: tuple[int, int] | None
    is_new: bool
    known: list[int]
    tried: int
    failures: list[Failure]


def open_turbo_processes(
    images: ImageSet,
    plan: Iterator[NDArray[np.int64]],
    *,
    seed: int,
    threads: int,
    max_pixels: int,
    bad: BadImages,
    max_side: int | None = None,
    levels: Levels = BY_TYPE,
    arena: Arena | None = None,
    pinned: bool = False,
) -> Generator[RaggedBatch, None, None]:
    """Like ``open_turbo``, with all threads in other processes.

    Args:
        images: the data set.
        plan: image numbers of each batch; more processes read further ahead.
        seed: seed of the run, for the substitutes of bad images.
        threads: number of decoding threads; this determines the number of processes.
        max_pixels: larger images are bad.
        bad: where bad images are counted and listed.
        max_side: images with a longer side are shrunk to it.
        levels: how values of more than 8 bits and more than three bands are converted.
        arena: a shared cache in host memory.
        pinned: whether to pin the batches' own memory, for copies to a GPU.

    Raises:
        UserError: too many bad images, or a process that died.
    """
    count = _processes(threads)
    each = max(1, threads // count)
    descriptor = None if arena is None else arena.address[1]
    job = _Job(images, seed, each, max_pixels, max_side, levels, descriptor)
    with ExitStack() as stack:
        processes = [_Process(job, arena, pinned) for _ in range(count)]
        for process in processes:
            stack.callback(process.close)
        for answer in keep_ahead(_asked(plan, processes), _ASKED_AHEAD * count):
            yield deliver(answer(), images, bad)


def batches_in_the_making(threads: int) -> int:
    """The most batches in progress while the consumer asks for none."""
    return _ASKED_AHEAD * _processes(threads) + 1


def _processes(threads: int) -> int:
    return max(1, round(threads / _THREADS_A_PROCESS))


def _asked(
    plan: Iterator[NDArray[np.int64]], processes: list[_Process]
) -> Iterator[Callable[[], Decoded]]:
    """Distribute the plan over the processes in turn; each result waits for its batch."""
    for numbers, process in zip(plan, itertools.cycle(processes), strict=False):
        process.ask(numbers)
        yield process.answer
    for process in processes:
        process.finish()


class _Process:
    """The training process's side of a decoding process."""

    def __init__(self, job: _Job, arena: Arena | None, pinned: bool) -> None:
        ours, theirs = socket.socketpair()
        inherited = [theirs.fileno(), *([] if job.arena is None else [job.arena])]
        words = [sys.executable, "-P", "-c", _START, str(theirs.fileno())]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
        }
        # Signals that are blocked here are blocked in the new process from its first instruction.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _FOR_THE_PARENT)
        try:
            with theirs:
                self._process = subprocess.Popen(words, pass_fds=inherited, env=environment)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self._connection = Connection(ours.detach())
        self._arena, self._pinned = arena, pinned
        self._memory: dict[int, Memory] = {}
        self._free: deque[int] = deque()
        self._send(job)

    def ask(self, numbers: NDArray[np.int64]) -> None:
        """Request a batch; answers come in the same order."""
        free = [self._free.popleft() for _ in range(len(self._free))]
        self._send(_Request(numbers, free))

    def finish(self) -> None:
        """Tell the process that no more requests will follow."""
        self._send(None)

    def answer(self) -> Decoded:
        """The next batch."""
        try:
            answer = self._connection.recv()
            if isinstance(answer, Exception):
                raise answer
            if answer.is_new:
                self._map(answer.memory[0], reduction.recv_handle(self._connection))
        except (EOFError, ConnectionError) as error:
            raise self._death() from error
        for key in self._memory.keys() - set(answer.known):
            del self._memory[key]
        if answer.places is None:
            return Decoded(None, answer.tried, answer.failures)
        batch = RaggedBatch(self._pixels(answer), *map(torch.from_numpy, answer.places))
        return Decoded(batch, answer.tried, answer.failures)

    def close(self) -> None:
        """End the process immediately."""
        self._connection.close()
        self._process.kill()
        self._process.wait()

    def _send(self, message: _Job | _Request | None) -> None:
        try:
            self._connection.send(message)
        except ConnectionError as error:
            raise self._death() from error

    def _pixels(self, answer: _Answer) -> torch.Tensor:
        if answer.memory is None:
            if self._arena is None:
                raise RuntimeError("an image in a cache that there is not")
            return self._arena.pixels
        key, size = answer.memory
        part = self._memory[key][:size]
        # The tensor's storage holds this view; once it is gone, the process may reuse the memory.
        weakref.finalize(part, self._free.append, key).atexit = False
        return torch.from_numpy(part)

    def _map(self, key: int, descriptor: int) -> None:
        try:
            mapping = mmap.mmap(descriptor, os.fstat(descriptor).st_size)
        finally:
            os.close(descriptor)
        memory = np.frombuffer(mapping, np.uint8)
        if self._pinned:
            _pin(memory)
        self._memory[key] = memory

    def _death(self) -> UserError:
        code = self._process.wait()
        reason = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return UserError(
            f"a decoding process ended unexpectedly ({reason}): most often memory ran out; set "
            "data.workers lower"
        )


def _pin(memory: Memory) -> None:
    """Pin memory so that copies to a GPU do not block; if this fails, copies block."""
    runtime = torch.cuda.cudart()  # type: ignore[no-untyped-call]
    address = memory.ctypes.data
    if int(runtime.cudaHostRegister(address, len(memory), 0)) == 0:
        weakref.finalize(memory, runtime.cudaHostUnregister, address).atexit = False


def main() -> None:
    """Main function of the decoding process; its argument is the pipe's descriptor."""
    os.nice(_NICE)
    connection = Connection(int(sys.argv[1]))
    requests: queue.Queue[_Request | None] = queue.Queue()
    job: _Job = connection.recv()
    threading.Thread(target=_listen, args=(connection, requests), daemon=True).start()
    try:
        _decode(job, connection, requests)
    except BrokenPipeError:
        return
    except Exception as error:  # raised by the parent
        connection.send(error)
    threading.Event().wait()  # Stay until the parent ends this: it may still map our memory.


def _listen(connection: Connection, requests: queue.Queue[_Request | None]) -> None:
    """Receive requests at once, so that sending never blocks the parent; exit with the parent."""
    parent = os.getppid()
    try:
        while True:
            while not connection.poll(_LOOK_SECONDS):
                if os.getppid() != parent:
                    os._exit(1)
            requests.put(connection.recv())
    except (EOFError, OSError):
        os._exit(0)


def _decode(job: _Job, connection: Connection, requests: queue.Queue[_Request | None]) -> None:
    arena = None
    if job.arena is not None:
        arena = Arena.attach((os.getpid(), job.arena), len(job.images))
    shared = _SharedMemory()
    buffers = Buffers(keep=_ASKED_AHEAD + 1, allocate=shared.allocate)

    def plan() -> Iterator[NDArray[np.int64]]:
        while (request := requests.get()) is not None:
            shared.take_back(request.free)
            yield request.numbers

    for decoded in decode_batches(
        job.images,
        plan(),
        seed=job.seed,
        threads=job.threads,
        max_pixels=job.max_pixels,
        max_side=job.max_side,
        levels=job.levels,
        arena=arena,
        buffers=buffers,
    ):
        _send(connection, decoded, arena, shared, buffers)


def _send(
    connection: Connection,
    decoded: Decoded,
    arena: Arena | None,
    shared: _SharedMemory,
    buffers: Buffers,
) -> None:
    batch, places, memory, descriptor = decoded.batch, None, None, None
    if batch is not None:
        places = [t.numpy() for t in (batch.offset, batch.height, batch.width, batch.index)]
        if arena is None or batch.pixels.data_ptr() != arena.pixels.data_ptr():
            pixels = batch.pixels
            if not shared.holds(pixels):  # A batch with a bad image was packed again.
                pixels = buffers.take(len(pixels)).copy_(pixels)
            memory = shared.lend(pixels)
            descriptor = shared.descriptor(memory[0])
    is_new = descriptor is not None
    connection.send(_Answer(places, memory, is_new, shared.keys(), decoded.tried, decoded.failures))
    if descriptor is not None:
        reduction.send_handle(connection, descriptor, os.getppid())
        os.close(descriptor)


class _SharedMemory:
    """Memory that the parent can map too: blocks with a key each, lent with a batch in them."""

    def __init__(self) -> None:
        self._pieces: weakref.WeakValueDictionary[int, Memory] = weakref.WeakValueDictionary()
        self._descriptors: dict[int, int] = {}
        self._lent: dict[int, torch.Tensor] = {}
        self._counter = itertools.count()

    def allocate(self, size: int) -> Memory:
        """Allocate a new block; for ``Buffers``."""
        descriptor, key = os.memfd_create("cp2fast-batch"), next(self._counter)
        os.ftruncate(descriptor, max(1, size))
        memory = np.frombuffer(mmap.mmap(descriptor, max(1, size)), np.uint8)
        self._pieces[key], self._descriptors[key] = memory, descriptor
        return memory

    def holds(self, pixels: torch.Tensor) -> bool:
        """Whether the pixels are in one of these blocks."""
        return self._key(pixels) is not None

    def lend(self, pixels: torch.Tensor) -> tuple[int, int]:
        """Keep the block of these pixels until it is taken back; its key and length in bytes."""
        key = self._key(pixels)
        if key is None:
            raise ValueError("pixels must lie in memory that is shared")
        self._lent[key] = pixels
        return key, len(pixels)

    def take_back(self, keys: list[int]) -> None:
        """Allow blocks that the parent no longer uses to be written again."""
        for key in keys:
            del self._lent[key]

    def descriptor(self, key: int) -> int | None:
        """The descriptor of a block, once: None if the parent already has it."""
        return self._descriptors.pop(key, None)

    def keys(self) -> list[int]:
        """The keys of all existing blocks."""
        return list(self._pieces)

    def _key(self, pixels: torch.Tensor) -> int | None:
        address = pixels.data_ptr()
        found = (key for key, piece in self._pieces.items() if piece.ctypes.data == address)
        return next(found, None)
