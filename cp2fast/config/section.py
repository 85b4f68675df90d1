"""What all settings have in common: strict types, no unknown keys, nothing that changes."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, ClassVar, Literal, Self, TypeAlias, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator
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
_LOG = logging.getLogger("cp2fast")


class Section(BaseModel):
    """A group of settings; unknown keys are refused, and nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    recipes: ClassVar[str] = ""
    """Folder of these settings' recipes under ``configs/``."""
    renamed: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """By the names of older versions, which are still read, those of today."""

    def with_values(self, section: str, **values: object) -> Self:
        """The same settings with other values, unchecked, in one of their sections."""
        changed = getattr(self, section).model_copy(update=values)
        return self.model_copy(update={section: changed})

    @model_validator(mode="before")
    @classmethod
    def _read_old_names(cls, values: object) -> object:
        """Recipes, run folders and checkpoints of older versions; a name of today wins."""
        if not isinstance(values, Mapping) or cls.renamed.keys().isdisjoint(values):
            return values
        kept = {name: value for name, value in values.items() if name not in cls.renamed}
        for old in cls.renamed.keys() & values.keys():
            _LOG.warning(
                "the setting %s is now called %s; please use the new name", old, cls.renamed[old]
            )
            kept.setdefault(cls.renamed[old], values[old])
        return kept

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
