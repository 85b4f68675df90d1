"""The base of all settings: strict types, no unknown keys, immutable; types that several have."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, ClassVar, Literal, Self, TypeAlias, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of ImageNet's red, green and blue, for pixels in [0, 1]."""

Unit = Annotated[float, Field(ge=0, le=1)]
Deviation = Annotated[float, Field(ge=0.001)]
Colour = tuple[Unit, Unit, Unit]
Deviations = tuple[Deviation, Deviation, Deviation]
Head: TypeAlias = Literal["aspp", "fcn", "linear", "segformer"]

FALLING = "falling"
"""Type of the pydantic error for a range that does not go from low to high."""

_ON_OR_OFF = {
    **dict.fromkeys(("on", "yes", "true"), "on"),
    **dict.fromkeys(("off", "no", "false"), "off"),
}
_TOO_LARGE = 1 << 63
_LOG = logging.getLogger("cp2fast")


def _separate(value: object) -> object:
    """Split ``4,3,2`` into a list, and make a single number a list of one."""
    if isinstance(value, str) and ("," in value or value.isdigit()):
        return value.split(",")
    return [value] if isinstance(value, int) else value


def _rising(value: tuple[float, float] | str) -> tuple[float, float] | str:
    if isinstance(value, tuple) and value[0] >= value[1]:
        raise PydanticCustomError(FALLING, "must go from low to high")
    return value


def _three_or_one(value: tuple[int, ...]) -> tuple[int, ...]:
    if len(value) not in (1, 3):
        raise PydanticCustomError("bands", "must be three bands or one")
    return value


Range: TypeAlias = tuple[float, float]
"""Values that become black and white."""
RangeSetting = Annotated[
    Literal["auto", "type"] | Range, BeforeValidator(_separate), AfterValidator(_rising)
]
Bands = Annotated[
    tuple[PositiveInt, ...], BeforeValidator(_separate), AfterValidator(_three_or_one)
]
"""Three bands for red, green and blue, or one for grey, counted from 1."""


class Section(BaseModel):
    """A group of settings; unknown keys are refused, and nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    recipes: ClassVar[str] = ""
    """Folder of these settings' recipes under ``configs/``."""
    renamed: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Current names by the names of older versions, which are still read."""

    def with_values(self, section: str, **values: object) -> Self:
        """The same settings with other values, unchecked, in one of their sections."""
        changed = getattr(self, section).model_copy(update=values)
        return self.model_copy(update={section: changed})

    @model_validator(mode="before")
    @classmethod
    def _read_old_names(cls, values: object) -> object:
        """Read recipes, run folders and checkpoints of older versions; current names win."""
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
    def _no_booleans(cls, value: object, info: ValidationInfo) -> object:
        """Take yes and true for on, no and false for off, and refuse booleans as numbers."""
        word = _ON_OR_OFF.get(str(value).lower()) if isinstance(value, bool | str) else None
        if word in get_args(cls.model_fields[str(info.field_name)].annotation):
            return word
        if isinstance(value, bool):
            raise ValueError("input should not be yes, no, true or false")
        return value

    @field_validator("*", mode="after")
    @classmethod
    def _no_number_beyond_64_bits(cls, value: object) -> object:
        """Refuse integers that do not fit into the 64 bits of torch and numpy."""
        if isinstance(value, int) and value >= _TOO_LARGE:
            raise PydanticCustomError("int_parsing_size", "too large")
        return value

    @field_validator("*", mode="after")
    @classmethod
    def _expand_home(cls, value: object) -> object:
        """Expand ``~`` at the start of a path, as a shell does."""
        if isinstance(value, str | Path) and str(value).startswith("~"):
            return type(value)(os.path.expanduser(value))
        return value
