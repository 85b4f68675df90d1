"""Every setting, declared once: type, default, bounds and one line of help.

The command line's ``--help``, a run folder's ``config.yaml`` and the error messages follow from the
declarations; ``recipes.py`` reads them from files and ``KEY=VALUE``.
"""

from cp2fast.config.augment import MAX_SIGMA, MAX_SIZE, AugmentSettings
from cp2fast.config.data import DataSettings, Root, root_of
from cp2fast.config.finetune import (
    FinetuneModelSettings,
    FinetuneSettings,
    FinetuneTrainSettings,
    LabelledDataSettings,
    check_root,
)
from cp2fast.config.labels import ClassSettings, LabelSettings, Rgb, rgb_of
from cp2fast.config.pretrain import (
    MIN_IMAGES_FOR_BATCH_BACKGROUNDS,
    SIZE_STEP,
    ModelSettings,
    PretrainSettings,
    TrainSettings,
    fewest_images,
)
from cp2fast.config.probe import ProbeDataSettings, ProbeSettings
from cp2fast.config.section import (
    FALLING,
    IMAGENET_MEAN,
    IMAGENET_STD,
    Bands,
    Colour,
    Deviations,
    Range,
    RangeSetting,
    Section,
)
from cp2fast.config.train import CommonTrainSettings

__all__ = [
    "FALLING",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "MAX_SIGMA",
    "MAX_SIZE",
    "MIN_IMAGES_FOR_BATCH_BACKGROUNDS",
    "SIZE_STEP",
    "AugmentSettings",
    "Bands",
    "ClassSettings",
    "Colour",
    "CommonTrainSettings",
    "DataSettings",
    "Deviations",
    "FinetuneModelSettings",
    "FinetuneSettings",
    "FinetuneTrainSettings",
    "LabelSettings",
    "LabelledDataSettings",
    "ModelSettings",
    "PretrainSettings",
    "ProbeDataSettings",
    "ProbeSettings",
    "Range",
    "RangeSetting",
    "Rgb",
    "Root",
    "Section",
    "TrainSettings",
    "check_root",
    "fewest_images",
    "rgb_of",
    "root_of",
]
