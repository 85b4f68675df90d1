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
from cp2fast.api import compare, export, finetune, load, open_images, pack, pretrain, probe
from cp2fast.errors import UserError

if TYPE_CHECKING:
    from cp2fast.batch import CopyPasteBatch, RaggedBatch
    from cp2fast.bench.benchmark import benchmark
    from cp2fast.bench.report import Report
    from cp2fast.config import FinetuneSettings
    from cp2fast.config import PretrainSettings as Settings
    from cp2fast.copypaste.op import copy_paste
    from cp2fast.copypaste.parameters import Parameters
    from cp2fast.copypaste.sampling import sample_parameters
    from cp2fast.data.packing.pack import PackSummary
    from cp2fast.finetune.compare import Comparison
    from cp2fast.finetune.confusion import Scores
    from cp2fast.finetune.predict import Predictions, predict
    from cp2fast.inspection.doctor import Diagnosis, doctor
    from cp2fast.inspection.labels import DataCheck, check_data
    from cp2fast.inspection.preview import preview, similarity
    from cp2fast.labels.voc_arrange import arrange_voc
    from cp2fast.model.cp2 import CP2, build_cp2
    from cp2fast.model.segmenter import Segmenter
    from cp2fast.probe.compare import compare_probes
    from cp2fast.probe.embed import Embedded, embed
    from cp2fast.train.run import Run
    from cp2fast.weights.listing import list_models

__all__ = [
    "CP2",
    "Comparison",
    "CopyPasteBatch",
    "DataCheck",
    "Diagnosis",
    "Embedded",
    "FinetuneSettings",
    "PackSummary",
    "Parameters",
    "Predictions",
    "RaggedBatch",
    "Report",
    "Run",
    "Scores",
    "Segmenter",
    "Settings",
    "UserError",
    "arrange_voc",
    "benchmark",
    "build_cp2",
    "check_data",
    "compare",
    "compare_probes",
    "copy_paste",
    "doctor",
    "embed",
    "export",
    "finetune",
    "list_models",
    "load",
    "open_images",
    "pack",
    "predict",
    "pretrain",
    "preview",
    "probe",
    "sample_parameters",
    "similarity",
]
__version__ = "0.2.0"

_LAZY = {
    "CP2": ("cp2fast.model.cp2", "CP2"),
    "Comparison": ("cp2fast.finetune.compare", "Comparison"),
    "CopyPasteBatch": ("cp2fast.batch", "CopyPasteBatch"),
    "DataCheck": ("cp2fast.inspection.labels", "DataCheck"),
    "Diagnosis": ("cp2fast.inspection.doctor", "Diagnosis"),
    "Embedded": ("cp2fast.probe.embed", "Embedded"),
    "FinetuneSettings": ("cp2fast.config", "FinetuneSettings"),
    "PackSummary": ("cp2fast.data.packing.pack", "PackSummary"),
    "Parameters": ("cp2fast.copypaste.parameters", "Parameters"),
    "Predictions": ("cp2fast.finetune.predict", "Predictions"),
    "RaggedBatch": ("cp2fast.batch", "RaggedBatch"),
    "Report": ("cp2fast.bench.report", "Report"),
    "Run": ("cp2fast.train.run", "Run"),
    "Scores": ("cp2fast.finetune.confusion", "Scores"),
    "Segmenter": ("cp2fast.model.segmenter", "Segmenter"),
    "Settings": ("cp2fast.config", "PretrainSettings"),
    "arrange_voc": ("cp2fast.labels.voc_arrange", "arrange_voc"),
    "benchmark": ("cp2fast.bench.benchmark", "benchmark"),
    "build_cp2": ("cp2fast.model.cp2", "build_cp2"),
    "check_data": ("cp2fast.inspection.labels", "check_data"),
    "compare_probes": ("cp2fast.probe.compare", "compare_probes"),
    "copy_paste": ("cp2fast.copypaste.op", "copy_paste"),
    "doctor": ("cp2fast.inspection.doctor", "doctor"),
    "embed": ("cp2fast.probe.embed", "embed"),
    "list_models": ("cp2fast.weights.listing", "list_models"),
    "predict": ("cp2fast.finetune.predict", "predict"),
    "preview": ("cp2fast.inspection.preview", "preview"),
    "sample_parameters": ("cp2fast.copypaste.sampling", "sample_parameters"),
    "similarity": ("cp2fast.inspection.preview", "similarity"),
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
