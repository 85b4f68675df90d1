"""Checkpoints: written atomically in a background thread, and loaded without executing code."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cp2fast.errors import UserError, is_out_of_memory
from cp2fast.run_folder import DAMAGED, atomic_write, checkpoint_step, list_checkpoints

_PARTIAL = ".*.pt.*.partial"


class Saver:
    """Writes checkpoints in a thread, one at a time; training waits only for a copy in memory."""

    def __init__(
        self, folder: Path, device: torch.device, keep: int, keep_each: int | None = None
    ) -> None:
        """A saver that has written nothing yet.

        Args:
            folder: the run folder's ``checkpoints/``.
            device: device of the saved tensors.
            keep: number of newest checkpoints to keep, up to the one just written.
            keep_each: also keep the checkpoints of steps that are a multiple of this.
        """
        self._folder = folder
        self._keep = keep
        self._keep_each = keep_each
        self._snapshot = Snapshot(device)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="cp2fast-save")
        self._writing: Future[None] | None = None

    @property
    def is_idle(self) -> bool:
        """Whether ``save`` would not have to wait."""
        return self._writing is None or self._writing.done()

    @property
    def has_failed(self) -> bool:
        """Whether ``wait`` would raise."""
        writing = self._writing
        return writing is not None and writing.done() and writing.exception() is not None

    def reserve(self, state: dict[str, Any]) -> None:
        """Allocate the memory of the copy in the background, so that no step waits for it."""
        self._writing = self._thread.submit(self._snapshot.reserve, state)

    def save(self, state: dict[str, Any], name: str) -> None:
        """Start writing ``state``, which may be changed as soon as this returns.

        Args:
            state: tensors, plain values and containers of them.
            name: name of the file.

        Raises:
            OSError: the previous checkpoint could not be written.
        """
        self.wait()
        copy, copied = self._snapshot.take(state)
        self._writing = self._thread.submit(self._write, copy, copied, name)

    def wait(self) -> None:
        """Wait until nothing is being written.

        Raises:
            OSError: the checkpoint could not be written; earlier checkpoints are intact.
        """
        if self._writing is not None:
            self._writing.result()

    def close(self) -> None:
        """Wait for the write in progress, whether it succeeds or not."""
        self._thread.shutdown(wait=True)

    def _write(self, state: dict[str, Any], copied: torch.cuda.Event | None, name: str) -> None:
        if copied is not None:
            copied.synchronize()
        written = self._folder / name
        write_checkpoint(written, state)
        # Later checkpoints are damaged: the run went back past them.
        found = list_checkpoints(self._folder)
        up_to_it = found[: found.index(written) + 1] if written in found else []
        for path in up_to_it[: -self._keep]:
            if self._keep_each is None or checkpoint_step(path) % self._keep_each:
                path.unlink(missing_ok=True)


class Snapshot:
    """Copies a state to host memory that is allocated once, pinned for tensors on a GPU."""

    def __init__(self, device: torch.device) -> None:
        self._memory: dict[tuple[object, ...], Tensor] = {}
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]

    def take(self, state: dict[str, Any]) -> tuple[dict[str, Any], torch.cuda.Event | None]:
        """Copy the tensors to the CPU.

        Tensors on a GPU are copied on a separate stream. The current stream waits for the copy, so
        the next step cannot change the tensors meanwhile; this process does not wait.

        Returns:
            The copy, and the event recorded at its end; None if the copy is already complete.
        """
        if self._stream is None:
            return _map_tensors(state, self._copy), None
        current = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            copy = _map_tensors(state, self._copy)
            copied = self._stream.record_event()
        current.wait_stream(self._stream)
        return copy, copied

    def reserve(self, state: dict[str, Any]) -> None:
        """Allocate and touch the memory for a state of this form."""
        _map_tensors(state, self._reserve)

    def _copy(self, tensor: Tensor, place: tuple[object, ...]) -> Tensor:
        memory = self._memory.get(place)
        if memory is None or memory.shape != tensor.shape or memory.dtype != tensor.dtype:
            memory = self._reserve(tensor, place)
        return memory.copy_(tensor, non_blocking=True)

    def _reserve(self, tensor: Tensor, place: tuple[object, ...]) -> Tensor:
        memory = torch.empty_like(
            tensor, device="cpu", pin_memory=tensor.is_cuda, requires_grad=False
        )
        self._memory[place] = memory
        return memory if tensor.is_cuda else memory.zero_()


def _map_tensors(
    state: Any,
    function: Callable[[Tensor, tuple[object, ...]], Tensor],
    place: tuple[object, ...] = (),
) -> Any:
    """A state with each tensor replaced by ``function`` of the tensor and its place."""
    if isinstance(state, Tensor):
        return function(state.detach(), place)
    if isinstance(state, dict):
        items = state.items()
        return {key: _map_tensors(value, function, (*place, key)) for key, value in items}
    if isinstance(state, list | tuple):
        return [_map_tensors(value, function, (*place, i)) for i, value in enumerate(state)]
    return state


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write ``state`` (tensors, numbers, strings and containers of them) to disk.

    Raises:
        OSError: the file cannot be written; names ``path``. An existing file is unchanged.
    """
    for partial in path.parent.glob(_PARTIAL):  # left by a process that was killed while saving
        partial.unlink(missing_ok=True)
    try:
        with atomic_write(path) as file:
            torch.save(state, file)
    except (OSError, RuntimeError) as error:  # torch reports some failed writes as RuntimeError
        cause = error if isinstance(error, OSError) else error.__context__
        if not isinstance(cause, OSError):
            raise
        raise OSError(cause.errno, cause.strerror, str(path)) from error


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint, tensors and plain values only, onto the CPU.

    Raises:
        UserError: the file is not a checkpoint, or is damaged.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, *DAMAGED) as error:
        if is_out_of_memory(error):
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path} cannot be read as a checkpoint: {reason}") from error
    if not isinstance(state, dict):
        raise UserError(f"{path} is not a checkpoint: it holds a {type(state).__name__}")
    return state
