"""Libraries that only some data sets need."""

from __future__ import annotations

import importlib
from typing import Any

from cp2fast.data.formats import Format
from cp2fast.data.raster import BadImage


def optional(module: str, of: Format) -> Any:
    """The module, imported.

    Raises:
        BadImage: it is not installed, or broken; the message ends in the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise BadImage(f"{of.name} needs {module}: {of.install}") from error
    except Exception as error:  # A broken library can raise anything while it is imported.
        raise BadImage(f"{of.name} needs {module}, which is broken: {of.install}") from error
