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
from cp2fast.api import compare, finetune, pack, pretrain, probe
from cp2fast.errors import UserError

if TYPE_CHECKING:
    from cp2fast.batch import CopyPasteBatch, RaggedBatch
    from cp2fast.bench.benchmark import benchmark
    from cp2fast.bench.report import Report
    from cp2fast.config import FinetuneSettings, ProbeSettings
    from cp2fast.config import PretrainSettings as Settings
    from cp2fast.copypaste.op import copy_paste
    from cp2fast.copypaste.parameters import Parameters
    from cp2fast.copypaste.sampling import sample_parameters
    from cp2fast.data.open_images import ImageBatches, open_images
    from cp2fast.data.packing.pack import PackSummary
    from cp2fast.finetune.compare import Comparison
    from cp2fast.finetune.evaluate import Scores
    from cp2fast.finetune.predict import Predictions, predict
    from cp2fast.inspection.doctor import Diagnosis, doctor
    from cp2fast.inspection.labels import DataCheck, check_data
    from cp2fast.inspection.pairs import Pairs
    from cp2fast.inspection.preview import Similarity, preview, similarity
    from cp2fast.labels.voc_arrange import Arranged, arrange_voc
    from cp2fast.model.cp2 import CP2, build_cp2
    from cp2fast.model.segmenter import Segmenter
    from cp2fast.probe.compare import Probed, compare_probes
    from cp2fast.probe.embed import Embedded, embed
    from cp2fast.probe.probe import ProbeScores
    from cp2fast.train.run import Run
    from cp2fast.weights.export.write import export
    from cp2fast.weights.timm import Listed, list_models
    from cp2fast.weights.trained import load

__all__ = [
    "CP2",
    "Arranged",
    "Comparison",
    "CopyPasteBatch",
    "DataCheck",
    "Diagnosis",
    "Embedded",
    "FinetuneSettings",
    "ImageBatches",
    "Listed",
    "PackSummary",
    "Pairs",
    "Parameters",
    "Predictions",
    "ProbeScores",
    "ProbeSettings",
    "Probed",
    "RaggedBatch",
    "Report",
    "Run",
    "Scores",
    "Segmenter",
    "Settings",
    "Similarity",
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

_MODULES = {
    "cp2fast.batch": "CopyPasteBatch RaggedBatch",
    "cp2fast.bench.benchmark": "benchmark",
    "cp2fast.bench.report": "Report",
    "cp2fast.config": "FinetuneSettings ProbeSettings Settings",
    "cp2fast.copypaste.op": "copy_paste",
    "cp2fast.copypaste.parameters": "Parameters",
    "cp2fast.copypaste.sampling": "sample_parameters",
    "cp2fast.data.open_images": "ImageBatches open_images",
    "cp2fast.data.packing.pack": "PackSummary",
    "cp2fast.finetune.compare": "Comparison",
    "cp2fast.finetune.evaluate": "Scores",
    "cp2fast.finetune.predict": "Predictions predict",
    "cp2fast.inspection.doctor": "Diagnosis doctor",
    "cp2fast.inspection.labels": "DataCheck check_data",
    "cp2fast.inspection.pairs": "Pairs",
    "cp2fast.inspection.preview": "Similarity preview similarity",
    "cp2fast.labels.voc_arrange": "Arranged arrange_voc",
    "cp2fast.model.cp2": "CP2 build_cp2",
    "cp2fast.model.segmenter": "Segmenter",
    "cp2fast.probe.compare": "Probed compare_probes",
    "cp2fast.probe.embed": "Embedded embed",
    "cp2fast.probe.probe": "ProbeScores",
    "cp2fast.train.run": "Run",
    "cp2fast.weights.export.write": "export",
    "cp2fast.weights.timm": "Listed list_models",
    "cp2fast.weights.trained": "load",
}
"""Names by module. Imported on first use, as importing torch takes seconds."""
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names.split()}
_RENAMED = {"Settings": "PretrainSettings"}


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(_MODULE_OF[name])
    found: object = getattr(module, _RENAMED.get(name, name))
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
