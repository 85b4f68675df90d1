"""Libraries that are needed only for some data sets."""

from __future__ import annotations

import importlib
from typing import Any

from cp2fast.data.decoding.formats import Format
from cp2fast.data.decoding.raster import BadImage


def optional(module: str, of: Format) -> Any:
    """Import and return the module.

    Raises:
        BadImage: it is missing or broken; the message ends with the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise BadImage(f"{of.name} needs {module}: {of.install}") from error
    except Exception as error:  # Importing a broken library can raise anything.
        raise BadImage(f"{of.name} needs {module}, which is broken: {of.install}") from error
