"""Every setting, declared once: type, default, bounds and one line of help.

The command line's ``--help``, a run folder's ``config.yaml`` and the error messages follow from the
declarations; ``recipes.py`` reads them from files and ``KEY=VALUE``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, ClassVar, Literal, TypeAlias, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from cp2fast.errors import UserError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of the red, green and blue of ImageNet's pixels in [0, 1]."""

_TOO_LARGE = 1 << 63


FALLING = "falling"
"""Pydantic's name of the error of a range that does not go from low to high."""

Logger: TypeAlias = Literal["tensorboard", "wandb", "mlflow"]


class Section(BaseModel):
    """A group of settings; unknown keys are refused, and nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    recipes: ClassVar[str] = ""
    """Folder of these settings' recipes under ``configs/``."""

    @field_validator("*", mode="before")
    @classmethod
    def _no_switches(cls, value: object, info: ValidationInfo) -> object:
        """YAML reads yes, no, on and off as booleans, which Python would take for 1 and 0."""
        if not isinstance(value, bool):
            return value
        word = "on" if value else "off"
        if word in get_args(cls.model_fields[str(info.field_name)].annotation):
            return word
        raise ValueError("input should not be yes, no, true or false")

    @field_validator("*", mode="after")
    @classmethod
    def _no_number_beyond_words(cls, value: object) -> object:
        """What torch and numpy hold whole numbers in has 64 bits."""
        if isinstance(value, int) and value >= _TOO_LARGE:
            raise PydanticCustomError("int_parsing_size", "too large")
        return value

    @field_validator("*", mode="after")
    @classmethod
    def _home_written_out(cls, value: object) -> object:
        """``~`` before a path is the user's home, as a shell has it."""
        if isinstance(value, str | Path) and str(value).startswith("~"):
            return type(value)(os.path.expanduser(value))
        return value


class DataSettings(Section):
    """Where the images come from and how they become a batch."""

    root: Path | None = Field(
        None, description="folder of images, tar shards or .beton; no labels needed"
    )
    scenes: int = Field(
        0, ge=0, description="with no data.root: generate this many scenes in ./demo-data"
    )
    source: Literal["auto", "turbo", "dali", "ffcv", "torch"] = Field(
        "auto", description="decoder and loader; auto takes the fastest that works here"
    )
    decode: Literal["auto", "cpu", "gpu", "both"] = Field(
        "auto",
        description="where JPEG is decoded; the GPU needs DALI, and auto takes it for a GPU that "
        "has few cores",
    )
    background: Literal["batch", "independent", "none"] = Field(
        "batch",
        description="from the same batch (one decode a sample), two more images (three decodes), "
        "or none: the foreground fills the image, as without copy-paste",
    )
    order: Literal["random", "quasi_random", "sequential"] = Field(
        "random",
        description="of an epoch; quasi_random reads close to what it read before, for slow disks",
    )
    batch_size: PositiveInt = Field(256, description="samples a forward pass and process")
    workers: int | None = Field(
        None,
        ge=0,
        description="decoding threads, or processes (torch); none is all cores, which the "
        "processes of a run on one machine share",
    )
    max_pixels: PositiveInt = Field(
        100_000_000, description="an image of more pixels is refused as a bad file"
    )
    cache: Literal["auto", "off", "host", "gpu"] = Field(
        "auto",
        description="decoded images kept for the next epoch: in memory that all processes of a "
        "machine share, or on each GPU; auto goes by what is free",
    )
    cache_gib: PositiveFloat | None = Field(
        None, description="most that the cache takes; none is a share of what is free"
    )
    max_side: PositiveInt | None = Field(
        None, description="longer images are shrunk to so many pixels when they are decoded"
    )
    max_bad_fraction: float = Field(
        0.01,
        ge=0,
        le=1,
        description="largest share of bad images; a single one never ends a run",
    )


MAX_SIGMA = 2.0
"""In pixels: the blur's radius, ceil(3 sigma), is at most the 6 pixels that the kernels keep."""

Share = Annotated[float, Field(gt=0, le=1)]
Probability = Annotated[float, Field(ge=0, le=1)]
Turns = Annotated[float, Field(ge=-0.5, le=0.5)]
Strength = NonNegativeFloat | tuple[NonNegativeFloat, NonNegativeFloat]
Sigma = Annotated[float, Field(ge=0, le=MAX_SIGMA)]
Unit = Annotated[float, Field(ge=0, le=1)]
Deviation = Annotated[float, Field(ge=0.001)]
Colour = tuple[Unit, Unit, Unit]
Deviations = tuple[Deviation, Deviation, Deviation]


class AugmentSettings(Section):
    """What is drawn for each view; the defaults are the paper's (section 3.2, and its code)."""

    crop_area: tuple[Share, Share] = Field(
        (0.2, 1.0), description="lowest and highest area of a crop, as a share of its photo's"
    )
    crop_ratio: tuple[PositiveFloat, PositiveFloat] = Field(
        (3 / 4, 4 / 3), description="lowest and highest width of a crop over its height"
    )
    brightness: Strength = Field(
        0.4, description="factor, drawn from 1 less this to 1 more; or [lowest, highest]"
    )
    contrast: Strength = Field(0.4, description="as augment.brightness")
    saturation: Strength = Field(0.4, description="as augment.brightness")
    hue: Annotated[float, Field(ge=0, le=0.5)] | tuple[Turns, Turns] = Field(
        0.1, description="largest shift to either side, in turns; or [lowest, highest]"
    )
    jitter: Probability = Field(0.8, description="probability of these four, in random order")
    grey: Probability = Field(0.2, description="probability of a view without colour")
    blur: Probability = Field(0.5, description="probability of a Gaussian blur")
    sigma: tuple[Sigma, Sigma] = Field(
        (0.1, 2.0), description="lowest and highest deviation of the blur, in output pixels"
    )
    flip: Probability = Field(0.5, description="probability of a mirroring left to right")
    vertical_flip: Probability = Field(0.0, description="probability of one top to bottom")
    turn: Probability = Field(
        0.0, description="probability of a turn, by one, two or three quarters alike"
    )
    paste_area: tuple[Share, Share] = Field(
        (0.5, 0.8),
        description="lowest and highest area of the foreground, as a share of the view's",
    )
    paste_ratio: tuple[PositiveFloat, PositiveFloat] = Field(
        (0.8, 1.25), description="lowest and highest height of the foreground over its width"
    )
    mean: Colour = Field(
        IMAGENET_MEAN, description="of red, green, blue in 0 to 1, which the input has less"
    )
    std: Deviations = Field(
        IMAGENET_STD, description="of red, green and blue, which the network's input is divided by"
    )

    @field_validator("*")
    @classmethod
    def _from_low_to_high(cls, value: object) -> object:
        if isinstance(value, tuple) and len(value) == 2 and value[0] > value[1]:
            raise PydanticCustomError(FALLING, "must go from low to high")
        return value


class ModelSettings(Section):
    """The segmentation network and the contrast that trains it (paper, sections 3 and 4.1)."""

    backbone: str = Field("resnet50", description="timm ResNet or ViT")
    head: Literal["aspp", "fcn"] = Field("aspp", description="segmentation head")
    head_channels: PositiveInt = Field(512, description="channels inside the head")
    size: PositiveInt = Field(224, description="side of the composed images, pixels")
    embedding: PositiveInt = Field(128, description="channels of the dense embedding")
    queue: PositiveInt = Field(65_536, description="negative keys kept for the instance loss")
    queue_start: Literal["random", "keys"] = Field(
        "random",
        description="what the queue holds before step 1: random vectors, as the paper, or keys",
    )
    momentum: float = Field(0.999, ge=0, lt=1, description="of the key encoder's moving average")
    temperature: PositiveFloat = Field(0.2, description="of the instance loss")
    dense_weight: float = Field(0.2, ge=0, description="weight of the dense loss")
    dense_axis: Literal["query", "key"] = Field(
        "query", description="positions that the dense loss normalises over"
    )
    init: str | Path | None = Field(
        None,
        description="weights to start from: run folder, checkpoint, state dict or timm model "
        "(docs/weights.md)",
    )


class TrainSettings(Section):
    """The optimisation and the run."""

    epochs: PositiveInt = Field(200, description="passes over the images")
    steps: PositiveInt | None = Field(None, description="total steps; overrides train.epochs")
    seed: int = Field(0, ge=0, description="of the weights, the order and the augmentation")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto is the GPU if any")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="of the arithmetic; auto is bf16 on GPUs that have it, else fp32"
    )
    compile: Literal["auto", "on", "off"] = Field(
        "auto", description="torch.compile the encoders; auto does so for a GPU"
    )
    accumulate: PositiveInt = Field(
        1, description="batches a step: gradients are averaged over them before the optimiser's"
    )
    resolution: PositiveInt | None = Field(
        None,
        description="side of the first images, growing to model.size in steps of 32; none is "
        "model.size throughout",
    )
    timeout_minutes: float = Field(
        10.0, gt=0, description="a process that is silent for so long ends the run"
    )
    optimizer: Literal["sgd", "adamw"] = Field("sgd", description="optimiser")
    lr: PositiveFloat = Field(0.015, description="peak learning rate; the paper's is for batch 256")
    lr_scaling: Literal["none", "linear"] = Field(
        "none", description="linear multiplies train.lr by the samples a step / 256"
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="of SGD")
    weight_decay: float = Field(1e-4, ge=0, description="of every trained parameter")
    log_every: PositiveInt = Field(10, description="steps between two logged ones")
    probe: Path | None = Field(
        None,
        description="images with masks, in VOC layout or in the folders images and masks: the "
        "frozen features are probed on them on the way",
    )
    probe_every: PositiveInt = Field(
        1000, description="steps between two probes; the run also ends with one"
    )
    log: tuple[Logger, ...] = Field(
        ("tensorboard",),
        description="list of tensorboard, wandb and mlflow: where the logged steps go besides "
        "metrics.jsonl",
    )
    checkpoint_minutes: float = Field(
        10.0,
        gt=0,
        description="minutes between checkpoints; a stop and the end bring one too",
    )
    checkpoint_keep: PositiveInt = Field(2, description="newest checkpoints kept")
    checkpoint_epochs: PositiveInt | None = Field(
        None, description="besides, a checkpoint that stays each so many epochs"
    )


class PretrainSettings(Section):
    """All settings of ``cp2fast pretrain``."""

    data: DataSettings = DataSettings()
    augment: AugmentSettings = AugmentSettings()
    model: ModelSettings = ModelSettings()
    train: TrainSettings = TrainSettings()


MIN_IMAGES_FOR_BATCH_BACKGROUNDS = 3
"""A foreground and two different backgrounds."""

SIZE_STEP = 32
"""Pixels by which images grow from ``train.resolution``."""


def fewest_images(data: DataSettings) -> int:
    """How many images a data set, and a batch of them, must have to be trained on."""
    return 2 if data.background == "none" else MIN_IMAGES_FOR_BATCH_BACKGROUNDS


def check_pretrain(settings: PretrainSettings) -> None:
    """Refuse combinations that cannot work, naming the key to change.

    Raises:
        UserError: the first such combination.
    """
    data, train = settings.data, settings.train
    if data.root is None and data.scenes == 0:
        raise UserError("data.root is not set: name your folder of images with data.root=DIR")
    if data.background == "batch" and data.batch_size < MIN_IMAGES_FOR_BATCH_BACKGROUNDS:
        raise UserError(
            f"data.batch_size={data.batch_size} with data.background=batch: a sample needs two "
            "other images of its batch; use data.batch_size=3 or more, or "
            "data.background=independent"
        )
    if data.batch_size == 1:
        raise UserError(
            "data.batch_size=1: batch normalisation needs at least 2 samples; use data.batch_size=2"
        )
    start = train.resolution
    if start is not None and (start % SIZE_STEP or settings.model.size % SIZE_STEP):
        raise UserError(
            f"train.resolution={start} with model.size={settings.model.size}: both must be "
            f"multiples of {SIZE_STEP}"
        )
    if start is not None and start > settings.model.size:
        raise UserError(
            f"train.resolution={start} is above model.size={settings.model.size}: images grow, "
            "they do not shrink; choose a smaller start"
        )
    if data.decode in ("gpu", "both") and train.device == "cpu":
        raise UserError(
            f"data.decode={data.decode} with train.device=cpu: use data.decode=cpu, or "
            "train.device=cuda"
        )
    if data.decode in ("gpu", "both") and data.source not in ("auto", "dali"):
        raise UserError(
            f"data.decode={data.decode} with data.source={data.source}: only DALI decodes on the "
            "GPU; use "
            "data.source=dali, or data.decode=cpu"
        )


class LabelledDataSettings(Section):
    """Images with masks in the layout of PASCAL VOC, and the crops trained on."""

    root: Path | None = Field(None, description="data set in VOC layout: VOCdevkit/VOC2012")
    scenes: int = Field(
        0, ge=0, description="with no data.root: generate this many scenes in ./demo-data"
    )
    train_split: str | None = Field(
        None, description="list in ImageSets/Segmentation; none is train_aug if there, else train"
    )
    val_split: str = Field("val", description="list of the images evaluated on")
    classes: tuple[str, ...] | None = Field(
        None, description="names by label; none reads classes.txt in data.root, else VOC's 21"
    )
    unknown: Literal["refuse", "ignore"] = Field(
        "refuse", description="what becomes of labels beyond the classes; 255 is always ignored"
    )
    batch_size: PositiveInt = Field(16, description="crops a forward pass and process")
    workers: PositiveInt | None = Field(
        None,
        description="threads that decode ahead; none is all cores, which the processes of a run on "
        "one machine share",
    )
    max_pixels: PositiveInt = Field(
        100_000_000, description="an image of more pixels is refused as a bad file"
    )
    short_side: PositiveInt = Field(512, description="of the images at scale 1, pixels")
    scale_low: PositiveFloat = Field(0.5, description="smallest random scale")
    scale_high: PositiveFloat = Field(2.0, description="largest random scale")


class FinetuneModelSettings(Section):
    """The network and its initial weights; what is none follows the run that it starts from."""

    backbone: str | None = Field(
        None, description="timm ResNet or ViT; none is that of model.init, else resnet50"
    )
    head: Literal["aspp", "fcn"] | None = Field(
        None, description="segmentation head; none is that of model.init, else aspp"
    )
    head_channels: PositiveInt | None = Field(
        None, description="channels inside the head; none is that of model.init, else 512"
    )
    size: PositiveInt = Field(512, description="side of the crops, and of a sliding window, pixels")
    init: str | None = Field(
        None,
        description="weights to start from: run folder, checkpoint, state dict, or imagenet "
        "(timm's, downloaded); none is random",
    )
    mean: Colour | None = Field(
        None, description="of the input's red, green, blue; none is that of model.init's run"
    )
    std: Deviations | None = Field(
        None, description="of the input's red, green, blue; none is that of model.init's run"
    )


class FinetuneTrainSettings(Section):
    """The optimisation and the run."""

    steps: PositiveInt = Field(40_000, description="total steps")
    seed: int = Field(0, ge=0, description="of the weights, the order, the crops and the dropout")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto is the GPU if any")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="of the arithmetic; auto is bf16 on GPUs that have it, else fp32"
    )
    compile: Literal["auto", "on", "off"] = Field(
        "auto", description="torch.compile the network; auto does so for a GPU"
    )
    accumulate: PositiveInt = Field(
        1, description="batches a step: gradients are averaged over them before the optimiser's"
    )
    timeout_minutes: float = Field(
        10.0, gt=0, description="a process that is silent for so long ends the run"
    )
    optimizer: Literal["sgd", "adamw"] = Field("sgd", description="optimiser")
    lr: PositiveFloat = Field(0.003, description="first learning rate")
    lr_end: float = Field(1e-4, ge=0, description="last learning rate")
    lr_power: PositiveFloat = Field(0.9, description="of the polynomial from first to last")
    momentum: float = Field(0.9, ge=0, lt=1, description="of SGD")
    weight_decay: float = Field(0.0, ge=0, description="of every trained parameter")
    loss_mean: Literal["valid", "all"] = Field(
        "valid",
        description="pixels that the loss is averaged over; all counts ignored ones, as the paper",
    )
    log_every: PositiveInt = Field(10, description="steps between two logged ones")
    log: tuple[Logger, ...] = Field(
        ("tensorboard",),
        description="list of tensorboard, wandb and mlflow: where the logged steps go besides "
        "metrics.jsonl",
    )
    evaluate_every: PositiveInt = Field(
        4000, description="steps between two evaluations; the run also ends with one"
    )
    checkpoint_minutes: float = Field(
        10.0,
        gt=0,
        description="minutes between checkpoints; a stop, the end and the best mIoU bring one too",
    )
    checkpoint_keep: PositiveInt = Field(
        2, description="newest checkpoints kept, beside the one with the best mIoU"
    )
    checkpoint_epochs: PositiveInt | None = Field(
        None, description="besides, a checkpoint that stays each so many epochs"
    )


class ProbeDataSettings(Section):
    """Labelled images, of which few are learned from."""

    root: Path | None = Field(
        None, description="images with masks: VOC layout, or the folders images and masks"
    )
    train_split: str | None = Field(
        None, description="list to learn from; none is train_aug if there, else train"
    )
    val_split: str = Field("val", description="list to score on")
    classes: tuple[str, ...] | None = Field(
        None, description="names by label; none reads classes.txt in data.root, else VOC's 21"
    )
    unknown: Literal["refuse", "ignore"] = Field(
        "refuse", description="what becomes of labels beyond the classes; 255 is always ignored"
    )
    short_side: PositiveInt = Field(240, description="of the images, pixels")
    workers: PositiveInt | None = Field(
        None, description="threads that decode ahead; none is one a core"
    )


class ProbeModelSettings(Section):
    """The network of random weights and of files that do not say theirs."""

    backbone: str | None = Field(
        None, description="timm ResNet or ViT; none is that of the first run named, else resnet50"
    )
    head: Literal["aspp", "fcn"] | None = Field(
        None, description="segmentation head; none is that of the first run named, else aspp"
    )
    head_channels: PositiveInt | None = Field(
        None, description="channels inside the head; none is that of the first run, else 512"
    )
    seed: int = Field(0, ge=0, description="of random weights")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto is the GPU if any")


class ProbeSettings(Section):
    """All settings of ``cp2fast probe``."""

    recipes: ClassVar[str] = "probe"

    data: ProbeDataSettings = ProbeDataSettings()
    model: ProbeModelSettings = ProbeModelSettings()


class EvaluationSettings(Section):
    """How an image is segmented when it is evaluated or predicted."""

    mode: Literal["whole", "slide"] = Field(
        "whole", description="the whole image at once, or windows of model.size"
    )
    short_side: PositiveInt | None = Field(
        None, description="the image is resized to; none is data.short_side"
    )
    stride: PositiveFloat = Field(
        2 / 3, le=1, description="from one window to the next, as a share of the window"
    )
    scales: tuple[PositiveFloat, ...] = Field(
        (1.0,), min_length=1, description="list; probabilities are averaged over these scales"
    )
    flip: Literal["none", "horizontal"] = Field(
        "none", description="horizontal averages over the mirrored image too"
    )


class FinetuneSettings(Section):
    """All settings of ``cp2fast finetune-voc``."""

    recipes: ClassVar[str] = "finetune"

    data: LabelledDataSettings = LabelledDataSettings()
    model: FinetuneModelSettings = FinetuneModelSettings()
    train: FinetuneTrainSettings = FinetuneTrainSettings()
    evaluation: EvaluationSettings = EvaluationSettings()


def check_finetune(settings: FinetuneSettings) -> None:
    """Refuse combinations that cannot work, naming the key to change.

    Raises:
        UserError: the first such combination.
    """
    data, train = settings.data, settings.train
    if data.root is None and data.scenes == 0:
        raise UserError("data.root is not set: name your data set in VOC layout with data.root=DIR")
    if data.scale_low > data.scale_high:
        raise UserError(
            f"data.scale_low={data.scale_low} is more than data.scale_high={data.scale_high}: "
            "lower it"
        )
    if train.lr_end > train.lr:
        raise UserError(f"train.lr_end={train.lr_end} is more than train.lr={train.lr}: lower it")
