"""What mmsegmentation needs to be imported where mmcv is mmcv-lite."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from types import ModuleType

import pytest
from torch import nn


@pytest.fixture(scope="package", autouse=True)
def mmcv_operations() -> None:
    """Classes that do nothing in the place of mmcv's compiled operations.

    mmseg imports them with every model; the networks that are exported here use none.
    """
    if find_spec("mmcv._ext") is None:
        operations = ModuleType("mmcv.ops")
        operations.__path__ = []
        operations.__getattr__ = _operation  # type: ignore[method-assign]
        sys.modules["mmcv.ops"] = operations


def _operation(name: str) -> type[nn.Module]:
    if name.startswith("__"):
        raise AttributeError(name)
    return type(name, (nn.Module,), {})
