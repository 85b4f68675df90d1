"""Self-supervised pretraining of whole segmentation networks by copy-paste contrast, made fast.

The method is CP2 (Wang et al., "CP2: Copy-Paste Contrastive Pretraining for Semantic
Segmentation", ECCV 2022). In a few lines (docs/api.md has more):

    import cp2fast

    cp2fast.pretrain("r50", {"data.root": "photos"})
    network = cp2fast.load("runs/r50")

Shape legend, used as suffixes throughout (``logits_BXY``): B samples, S image side, C feature
channels, X query positions, Y key positions, K queue length, H and W a source image's size,
V the four views of a sample (query and key foreground, query and key background).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

# These packages share their names with the functions below. Import them first (each is empty), so
# that a later import does not replace the function by the package.
import cp2fast.finetune
import cp2fast.pretrain
import cp2fast.probe  # noqa: F401
from cp2fast.api import export, finetune, load, open_images, pretrain, probe
from cp2fast.errors import UserError

if TYPE_CHECKING:
    from cp2fast.batch import CopyPasteBatch, RaggedBatch
    from cp2fast.config import FinetuneSettings
    from cp2fast.config import PretrainSettings as Settings
    from cp2fast.copypaste.op import copy_paste
    from cp2fast.copypaste.parameters import Parameters
    from cp2fast.copypaste.sampling import sample_parameters
    from cp2fast.finetune.confusion import Scores
    from cp2fast.model.cp2 import CP2, build_cp2
    from cp2fast.model.segmenter import Segmenter
    from cp2fast.train.run import Run

__all__ = [
    "CP2",
    "CopyPasteBatch",
    "FinetuneSettings",
    "Parameters",
    "RaggedBatch",
    "Run",
    "Scores",
    "Segmenter",
    "Settings",
    "UserError",
    "build_cp2",
    "copy_paste",
    "export",
    "finetune",
    "load",
    "open_images",
    "pretrain",
    "probe",
    "sample_parameters",
]
__version__ = "0.2.0"

_LAZY = {
    "CP2": ("cp2fast.model.cp2", "CP2"),
    "CopyPasteBatch": ("cp2fast.batch", "CopyPasteBatch"),
    "FinetuneSettings": ("cp2fast.config", "FinetuneSettings"),
    "Parameters": ("cp2fast.copypaste.parameters", "Parameters"),
    "RaggedBatch": ("cp2fast.batch", "RaggedBatch"),
    "Run": ("cp2fast.train.run", "Run"),
    "Scores": ("cp2fast.finetune.confusion", "Scores"),
    "Segmenter": ("cp2fast.model.segmenter", "Segmenter"),
    "Settings": ("cp2fast.config", "PretrainSettings"),
    "build_cp2": ("cp2fast.model.cp2", "build_cp2"),
    "copy_paste": ("cp2fast.copypaste.op", "copy_paste"),
    "sample_parameters": ("cp2fast.copypaste.sampling", "sample_parameters"),
}
"""Module and name of each. Imported on first use, as importing torch takes seconds."""


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _LAZY[name]
    found: object = getattr(importlib.import_module(module), attribute)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
