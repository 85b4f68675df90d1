"""Support mmsegmentation with mmcv-lite, which pip installs anywhere; mmcv must be compiled."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from types import ModuleType

from torch import nn


def stand_in_for_mmcv_ops() -> None:
    """If mmcv is mmcv-lite, replace its missing compiled operations with classes that do nothing.

    mmseg imports the operations with every model; the exported networks use none of them.
    """
    if find_spec("mmcv") is not None and find_spec("mmcv._ext") is None:
        operations = ModuleType("mmcv.ops")
        operations.__path__ = []
        operations.__getattr__ = _operation  # type: ignore[method-assign]
        sys.modules["mmcv.ops"] = operations


def _operation(name: str) -> type[nn.Module]:
    if name.startswith("__"):
        raise AttributeError(name)
    return type(name, (nn.Module,), {})
