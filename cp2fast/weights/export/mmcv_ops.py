"""mmsegmentation with mmcv-lite: pip installs both anywhere, mmcv has to be compiled."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from types import ModuleType

from torch import nn


def stand_in_for_mmcv_ops() -> None:
    """Where mmcv is mmcv-lite, put classes that do nothing in the place of its compiled operations.

    mmseg imports them with every model; the networks that are exported use none.
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
