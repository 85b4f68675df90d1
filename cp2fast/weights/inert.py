"""Unpickle weights without the libraries that wrote them, and without running anything.

Training libraries save more than tensors: settings, histories, whole modules. Here only tensors and
plain values are built; any other class or function that a file names is replaced by ``Shell``,
which keeps what it is given and does nothing. So what a file names is neither imported nor called.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

_BUILT = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch", "Size"): torch.Size,
    ("torch", "device"): torch.device,
    **{(module, "set"): set for module in ("builtins", "__builtin__")},
} | {
    ("torch._utils", name): getattr(torch._utils, name)
    for name in (
        *("_rebuild_tensor", "_rebuild_tensor_v2"),
        *("_rebuild_parameter", "_rebuild_parameter_with_state"),
    )
}
"""What may be built: tensors, and what they are made of."""

_MALICE = {
    "os",
    "posix",
    "nt",
    "subprocess",
    "sys",
    "shutil",
    "pty",
    "socket",
    "importlib",
    "runpy",
}
_MALICIOUS_BUILTINS = {"eval", "exec", "compile", "open", "__import__", "input", "breakpoint"}


class RunsCode(pickle.UnpicklingError):
    """A file names a function that weights never need; the message is its name."""


class Shell(dict[Any, Any]):
    """Stands in for an object of a class that is not loaded: its attributes, or its items."""

    dump_patches = False
    """PyTorch reads this if a file from before version 1.6 holds a module's source code."""

    def __init__(self, *_: object, **__: object) -> None:
        super().__init__()

    def __setstate__(self, state: object) -> None:
        for part in state if isinstance(state, tuple) else (state,):
            if isinstance(part, Mapping):
                self.update(part)

    def append(self, item: object) -> None:
        """Add an item, as to a list."""
        self[len(self)] = item

    add = append

    __hash__ = object.__hash__  # type: ignore[assignment]  # may be a key of a dictionary


class Unpickler(pickle.Unpickler):
    """For ``torch.load(pickle_module=...)``, which subclasses it."""

    def find_class(self, module: str, name: str) -> Any:
        """The class or function of that name if it may be built, else ``Shell``.

        Raises:
            RunsCode: it is one that only malicious files name.
        """
        built = _BUILT.get((module, name))
        if built is not None:
            return built
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        dangerous = module in ("builtins", "__builtin__") and name in _MALICIOUS_BUILTINS
        if dangerous or module.partition(".")[0] in _MALICE:
            raise RunsCode(f"{module}.{name}")
        return Shell


def load(file: Any, **options: Any) -> Any:
    """``pickle.load`` with ``Unpickler``, for files of PyTorch before 1.6."""
    return Unpickler(file, **options).load()


def tensors_of(value: Any, above: tuple[int, ...] = ()) -> Any:
    """The same value, with each module replaced by its state dict, as nested dictionaries."""
    if id(value) in above:
        return None
    inside = (*above, id(value))
    if isinstance(value, Shell) and isinstance(value.get("_modules"), Mapping):
        unsaved = value.get("_non_persistent_buffers_set", ())
        own = {**value.get("_parameters", {}), **value.get("_buffers", {})}
        found = {n: t for n, t in own.items() if isinstance(t, Tensor) and n not in unsaved}
        return found | {n: tensors_of(child, inside) for n, child in value["_modules"].items()}
    if isinstance(value, Mapping):
        return {key: tensors_of(one, inside) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [tensors_of(one, inside) for one in value]
    return value
