"""Settings of ``cp2fast pretrain``, and the combinations that are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from cp2fast.config.augment import MAX_SIZE, AugmentSettings
from cp2fast.config.data import DataSettings
from cp2fast.config.section import Head, Section
from cp2fast.config.train import CommonTrainSettings
from cp2fast.errors import UserError

MIN_IMAGES_FOR_BATCH_BACKGROUNDS = 3
"""A foreground and two different backgrounds."""

SIZE_STEP = 32
"""Pixels by which images grow from ``train.resolution``."""


class ModelSettings(Section):
    """The segmentation network and the contrast that trains it (paper, sections 3 and 4.1)."""

    backbone: str = Field("resnet50", description="timm model (cp2fast models lists them)")
    head: Head = Field("aspp", description="segmentation head")
    head_channels: PositiveInt = Field(512, description="channels inside the head")
    size: PositiveInt = Field(
        224, le=MAX_SIZE, description="side of the composed images, in pixels"
    )
    embedding: PositiveInt = Field(128, description="channels of the dense embedding")
    queue: PositiveInt = Field(65_536, description="negative keys kept for the instance loss")
    queue_start: Literal["random", "keys"] = Field(
        "random",
        description="what the queue holds before step 1: random vectors, as in the paper, or keys",
    )
    momentum: float = Field(0.999, ge=0, lt=1, description="momentum of the key encoder's average")
    temperature: PositiveFloat = Field(0.2, description="temperature of the instance loss")
    dense_weight: float = Field(0.2, ge=0, description="weight of the dense loss")
    dense_axis: Literal["query", "key"] = Field(
        "query", description="positions that the dense loss normalises over"
    )
    init: str | Path | None = Field(
        None,
        description="weights to start from: run folder, checkpoint, state dict or timm model "
        "(docs/weights.md)",
    )


class TrainSettings(CommonTrainSettings):
    """The optimisation and the run."""

    epochs: PositiveInt = Field(200, description="passes over the images")
    resolution: PositiveInt | None = Field(
        None,
        description="side of the first images, growing to model.size in steps of 32; none: "
        "model.size throughout",
    )
    lr: PositiveFloat = Field(0.015, description="peak learning rate; the paper's is for batch 256")
    lr_scaling: Literal["none", "linear"] = Field(
        "none", description="linear multiplies train.lr by the samples per step / 256"
    )
    probe: Path | None = Field(
        None,
        description="images with masks, in any layout of docs/labels.md, to probe the frozen "
        "features on during the run",
    )
    probe_every: PositiveInt = Field(
        1000, description="steps between two probes; the run also ends with one"
    )


class PretrainSettings(Section):
    """All settings of ``cp2fast pretrain``."""

    data: DataSettings = DataSettings()
    augment: AugmentSettings = AugmentSettings()
    model: ModelSettings = ModelSettings()
    train: TrainSettings = TrainSettings()

    @model_validator(mode="after")
    def _work_together(self) -> PretrainSettings:
        """Refuse combinations that cannot work, naming the key to change."""
        data, train = self.data, self.train
        if data.background == "batch" and data.batch_size < MIN_IMAGES_FOR_BATCH_BACKGROUNDS:
            raise UserError(
                f"data.batch_size={data.batch_size} with data.background=batch: a sample needs two "
                "other images of its batch; use data.batch_size=3 or more, or "
                "data.background=independent"
            )
        if data.batch_size == 1:
            raise UserError(
                "data.batch_size=1: batch normalisation needs at least 2 samples; use "
                "data.batch_size=2"
            )
        start = train.resolution
        if start is not None and (start % SIZE_STEP or self.model.size % SIZE_STEP):
            raise UserError(
                f"train.resolution={start} with model.size={self.model.size}: both must be "
                f"multiples of {SIZE_STEP}"
            )
        if start is not None and start > self.model.size:
            raise UserError(
                f"train.resolution={start} is above model.size={self.model.size}: images grow, "
                "they do not shrink; choose a smaller start"
            )
        if data.decode in ("gpu", "both") and train.device == "cpu":
            raise UserError(
                f"data.decode={data.decode} with train.device=cpu: use data.decode=cpu, or "
                "train.device=cuda"
            )
        if data.decode in ("gpu", "both") and data.source not in ("auto", "dali"):
            raise UserError(
                f"data.decode={data.decode} with data.source={data.source}: only DALI decodes on "
                "the GPU; use data.source=dali, or data.decode=cpu"
            )
        return self


def fewest_images(data: DataSettings) -> int:
    """How many images a data set, and a batch of them, must have to be trained on."""
    return 2 if data.background == "none" else MIN_IMAGES_FOR_BATCH_BACKGROUNDS
