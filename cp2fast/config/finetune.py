"""Settings of ``cp2fast finetune-voc``, and the combinations that are refused."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from cp2fast.config.data import DataSettings
from cp2fast.config.labels import LabelSettings
from cp2fast.config.section import Colour, Deviations, Head, Section
from cp2fast.config.train import CommonTrainSettings
from cp2fast.errors import UserError


class LabelledDataSettings(LabelSettings):
    """Images with masks, and the crops trained on."""

    scenes: int = Field(
        0, ge=0, description="with no data.root: generate this many scenes in ./demo-data"
    )
    batch_size: PositiveInt = Field(16, description="crops per forward pass, per process")
    workers: PositiveInt | None = Field(
        None,
        description="decoding threads; none: all cores, shared by the processes of a run on one "
        "machine",
    )
    short_side: PositiveInt = Field(
        512, description="short side of the images at scale 1, in pixels"
    )
    scale_low: PositiveFloat = Field(0.5, description="smallest random scale")
    scale_high: PositiveFloat = Field(2.0, description="largest random scale")


class FinetuneModelSettings(Section):
    """The network and its initial weights; values left at none follow the run it starts from."""

    backbone: str | None = Field(
        None,
        description="timm model (cp2fast models lists them); none: that of model.init, else "
        "resnet50",
    )
    head: Head | None = Field(
        None, description="segmentation head; none: that of model.init, else aspp"
    )
    head_channels: PositiveInt | None = Field(
        None, description="channels inside the head; none: as in model.init, else 512"
    )
    size: PositiveInt = Field(
        512, description="side of the crops, and of a sliding window, in pixels"
    )
    init: str | None = Field(
        None,
        description="weights to start from: run folder, checkpoint, state dict, or imagenet "
        "(timm's, downloaded); none: random",
    )
    mean: Colour | None = Field(
        None, description="mean of the input's red, green, blue; none: that of model.init's run"
    )
    std: Deviations | None = Field(
        None,
        description="deviation of the input's red, green, blue; none: that of model.init's run",
    )


class FinetuneTrainSettings(CommonTrainSettings):
    """The optimisation and the run."""

    steps: PositiveInt = Field(40_000, description="total steps")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="arithmetic; auto is bf16 on GPUs that support it, else fp32"
    )
    lr: PositiveFloat = Field(0.003, description="first learning rate")
    lr_end: float = Field(1e-4, ge=0, description="last learning rate")
    lr_power: PositiveFloat = Field(0.9, description="power of the polynomial decay")
    weight_decay: float = Field(0.0, ge=0, description="weight decay of every trained parameter")
    freeze: Literal["none", "backbone"] = Field(
        "none",
        description="part that keeps its initial weights and statistics, as in a linear probe",
    )
    layer_decay: float = Field(
        1.0,
        gt=0,
        le=1,
        description="learning rate of each layer of the backbone, as a share of the next one's; "
        "0.65 to 0.9 suit transformers",
    )
    ema: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="decay of a moving average of the weights, such as 0.999, which is evaluated "
        "and saved in their place; none: no average",
    )
    loss_mean: Literal["valid", "all"] = Field(
        "valid",
        description="pixels that the loss is averaged over; all, as in the paper, includes ignored "
        "ones",
    )
    dice_weight: float = Field(
        0.0,
        ge=0,
        description="weight of a Dice term in the loss, for small objects; 0 in the paper",
    )
    class_weight: Literal["none", "auto"] = Field(
        "none", description="weights of the classes in the loss; auto favours rare classes"
    )
    evaluate_every: PositiveInt = Field(
        4000, description="steps between two evaluations; the run also ends with one"
    )
    patience: PositiveInt | None = Field(
        None, description="stop after this many evaluations without a better mIoU; none: never"
    )


class EvaluationSettings(Section):
    """How an image is segmented when it is evaluated or predicted."""

    mode: Literal["whole", "slide"] = Field(
        "whole", description="the whole image at once, or windows of model.size"
    )
    short_side: PositiveInt | None = Field(
        None, description="short side that images are resized to; none: data.short_side"
    )
    stride: PositiveFloat = Field(
        2 / 3, le=1, description="distance from one window to the next, as a share of the window"
    )
    scales: tuple[PositiveFloat, ...] = Field(
        (1.0,), min_length=1, description="list; probabilities are averaged over these scales"
    )
    flip: Literal["none", "horizontal"] = Field(
        "none", description="horizontal averages over the mirrored image too"
    )
    boundary: float = Field(
        0.0075,
        ge=0,
        le=0.1,
        description="distance up to which boundaries agree, as a share of the image's diagonal; 0 "
        "skips boundary F",
    )


class FinetuneSettings(Section):
    """All settings of ``cp2fast finetune-voc``."""

    recipes: ClassVar[str] = "finetune"

    data: LabelledDataSettings = LabelledDataSettings()
    model: FinetuneModelSettings = FinetuneModelSettings()
    train: FinetuneTrainSettings = FinetuneTrainSettings()
    evaluation: EvaluationSettings = EvaluationSettings()

    @model_validator(mode="after")
    def _work_together(self) -> FinetuneSettings:
        """Refuse combinations that cannot work, naming the key to change."""
        data, train = self.data, self.train
        if data.scale_low > data.scale_high:
            raise UserError(
                f"data.scale_low={data.scale_low} is more than data.scale_high={data.scale_high}: "
                "lower it"
            )
        if train.lr_end > train.lr:
            raise UserError(
                f"train.lr_end={train.lr_end} is more than train.lr={train.lr}: lower it"
            )
        return self


def check_root(data: DataSettings | LabelledDataSettings) -> None:
    """Refuse settings without images to train on; combinations are checked on construction.

    Raises:
        UserError: the key to set.
    """
    if data.root is None and data.scenes == 0:
        what = "folder of images" if isinstance(data, DataSettings) else "images with masks"
        raise UserError(f"data.root is not set: name your {what} with data.root=DIR")
