"""Types of the settings that map an image's values to the network's 8 bits per channel."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, BeforeValidator, PositiveInt
from pydantic_core import PydanticCustomError

from cp2fast.config.section import FALLING


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
RangeSetting = Annotated[
    Literal["auto", "type"] | Range, BeforeValidator(_separate), AfterValidator(_rising)
]
Bands = Annotated[
    tuple[PositiveInt, ...], BeforeValidator(_separate), AfterValidator(_three_or_one)
]
