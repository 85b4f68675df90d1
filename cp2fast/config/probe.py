"""Settings of ``cp2fast probe``."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, PositiveInt

from cp2fast.config.labels import LabelSettings
from cp2fast.config.section import Head, Section


class ProbeDataSettings(LabelSettings):
    """Labelled images, of which few are learned from."""

    val_fraction: float = Field(
        0.25, gt=0, lt=1, description="share of the images scored on, where the data has no split"
    )
    short_side: PositiveInt = Field(240, description="of the images, pixels")
    workers: PositiveInt | None = Field(
        None, description="threads that decode ahead; none is one a core"
    )


class ProbeModelSettings(Section):
    """The network of random weights and of files that do not say theirs."""

    backbone: str | None = Field(
        None,
        description="timm model (cp2fast models lists them); none is that of the first run named, "
        "else resnet50",
    )
    head: Head | None = Field(
        None, description="segmentation head; none is that of the first run named, else aspp"
    )
    head_channels: PositiveInt | None = Field(
        None, description="channels inside the head; none is that of the first run, else 512"
    )
    seed: int = Field(0, ge=0, description="seed of the random weights")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto is the GPU if any")


class ProbeSettings(Section):
    """All settings of ``cp2fast probe``."""

    recipes: ClassVar[str] = "probe"

    data: ProbeDataSettings = ProbeDataSettings()
    model: ProbeModelSettings = ProbeModelSettings()
