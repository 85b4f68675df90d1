"""What all settings have in common: strict types, no unknown keys, nothing that changes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, ClassVar, Literal, TypeAlias, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of the red, green and blue of ImageNet's pixels in [0, 1]."""

Unit = Annotated[float, Field(ge=0, le=1)]
Deviation = Annotated[float, Field(ge=0.001)]
Colour = tuple[Unit, Unit, Unit]
Deviations = tuple[Deviation, Deviation, Deviation]
Head: TypeAlias = Literal["aspp", "fcn", "linear", "segformer"]
Logger: TypeAlias = Literal["tensorboard", "wandb", "mlflow"]

FALLING = "falling"
"""Pydantic's name of the error of a range that does not go from low to high."""

_TOO_LARGE = 1 << 63


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
