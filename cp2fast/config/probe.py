"""Settings of ``cp2fast probe``."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, PositiveInt

from cp2fast.config.labels import LabelSettings
from cp2fast.config.section import Head, Section


class ProbeDataSettings(LabelSettings):
    """Labelled images, few of which are trained on."""

    val_fraction: float = Field(
        0.25, gt=0, lt=1, description="share of the images to evaluate on, if the data has no split"
    )
    short_side: PositiveInt = Field(240, description="short side of the images, in pixels")
    workers: PositiveInt | None = Field(None, description="decoding threads; none: one per core")


class ProbeModelSettings(Section):
    """The network for random weights, and for files that do not state theirs."""

    backbone: str | None = Field(
        None,
        description="timm model (cp2fast models lists them); none: that of the first run named, "
        "else resnet50",
    )
    head: Head | None = Field(
        None, description="segmentation head; none: that of the first run named, else aspp"
    )
    head_channels: PositiveInt | None = Field(
        None, description="channels inside the head; none: as in the first run, else 512"
    )
    seed: int = Field(0, ge=0, description="seed of the random weights")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="auto: the GPU if there is one"
    )


class ProbeSettings(Section):
    """All settings of ``cp2fast probe``."""

    recipes: ClassVar[str] = "probe"

    data: ProbeDataSettings = ProbeDataSettings()
    model: ProbeModelSettings = ProbeModelSettings()
