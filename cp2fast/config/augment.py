"""Settings of the augmentation of the composed pairs."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PositiveFloat, field_validator
from pydantic_core import PydanticCustomError

from cp2fast.config.section import (
    FALLING,
    IMAGENET_MEAN,
    IMAGENET_STD,
    Colour,
    Deviations,
    Section,
)

MAX_SIGMA = 2.0
"""In pixels: the blur's radius, ceil(3 sigma), is at most the 6 pixels that the kernels keep."""

MAX_SIZE = 1 << 14
"""Side of the composed images, in pixels: kernels count their values in 32 bits."""

Share = Annotated[float, Field(gt=0, le=1)]
Probability = Annotated[float, Field(ge=0, le=1)]
Turns = Annotated[float, Field(ge=-0.5, le=0.5)]
Factor = Annotated[float, Field(ge=0, le=1000)]
Strength = Factor | tuple[Factor, Factor]
Sigma = Annotated[float, Field(ge=0, le=MAX_SIGMA)]


class AugmentSettings(Section):
    """What is drawn for each view; the defaults are the paper's (section 3.2, and its code)."""

    crop_area: tuple[Share, Share] = Field(
        (0.2, 1.0), description="lowest and highest area of a crop, as a share of the photo's"
    )
    crop_ratio: tuple[PositiveFloat, PositiveFloat] = Field(
        (3 / 4, 4 / 3), description="lowest and highest width of a crop over its height"
    )
    brightness: Strength = Field(
        0.4, description="factor, drawn from 1 - this to 1 + this; or [lowest, highest]"
    )
    contrast: Strength = Field(0.4, description="as augment.brightness")
    saturation: Strength = Field(0.4, description="as augment.brightness")
    hue: Annotated[float, Field(ge=0, le=0.5)] | tuple[Turns, Turns] = Field(
        0.1, description="largest shift to either side, in turns; or [lowest, highest]"
    )
    jitter: Probability = Field(
        0.8, description="probability of jittering these four, in random order"
    )
    grey: Probability = Field(0.2, description="probability of a grey view")
    blur: Probability = Field(0.5, description="probability of a Gaussian blur")
    sigma: tuple[Sigma, Sigma] = Field(
        (0.1, 2.0), description="lowest and highest deviation of the blur, in output pixels"
    )
    flip: Probability = Field(0.5, description="probability of mirroring left to right")
    vertical_flip: Probability = Field(0.0, description="probability of mirroring top to bottom")
    turn: Probability = Field(
        0.0, description="probability of a rotation by 90, 180 or 270 degrees, each equally likely"
    )
    paste_area: tuple[Share, Share] = Field(
        (0.5, 0.8),
        description="lowest and highest area of the foreground, as a share of the view's",
    )
    paste_ratio: tuple[PositiveFloat, PositiveFloat] = Field(
        (0.8, 1.25), description="lowest and highest height of the foreground over its width"
    )
    mean: Colour = Field(
        IMAGENET_MEAN,
        description="mean of red, green, blue in 0 to 1, subtracted from the input",
    )
    std: Deviations = Field(
        IMAGENET_STD,
        description="deviation of red, green, blue, by which the input is divided",
    )

    @field_validator("*")
    @classmethod
    def _from_low_to_high(cls, value: object) -> object:
        if isinstance(value, tuple) and len(value) == 2 and value[0] > value[1]:
            raise PydanticCustomError(FALLING, "must go from low to high")
        return value
