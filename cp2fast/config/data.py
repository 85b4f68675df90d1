"""Settings of the images to pretrain on: where they are and how they become a batch."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias

from pydantic import Field, PositiveFloat, PositiveInt, field_validator

from cp2fast.config.section import Bands, RangeSetting, Section
from cp2fast.files import path_of

Root: TypeAlias = Path | str | tuple[str, ...]
"""What holds images: a path, a pattern or ``@LIST``, or as text a URL; or several of these."""

_COMMA = re.compile(r",(?![^{]*\})")
"""Between two items, not inside the braces of a pattern."""
_SEVERAL = re.compile(r"\[.*(?:,|://).*\]", re.DOTALL)


def root_of(typed: str | Path | Sequence[object]) -> Root:
    """The root that a user typed, or listed in a recipe.

    A list in brackets is one, unless a file of that name exists; a URL stays text. No text is
    nothing: as a path, it would be the current folder.
    """
    if not typed:
        return ()
    if isinstance(typed, str) and _SEVERAL.fullmatch(typed) and not os.path.lexists(typed):
        items = (item.strip().strip("'\"") for item in _COMMA.split(typed[1:-1]))
        typed = [item for item in items if item]
    if isinstance(typed, str) and "://" in typed:
        return typed
    if isinstance(typed, str | Path):
        return path_of(typed)
    return tuple(os.path.expanduser(str(one)) for one in typed)


class DataSettings(Section):
    """Where the images come from and how they become a batch."""

    root: Root | None = Field(
        None,
        description="folder of images, tar shards or .beton, a URL of these (s3://, https://), a "
        "pattern, @LIST, or [A,B]; no labels needed",
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
        description="from the same batch (one decode per sample), two more images (three decodes), "
        "or none: the foreground fills the image, as without copy-paste",
    )
    order: Literal["random", "quasi_random", "sequential"] = Field(
        "random",
        description="order of an epoch; quasi_random reads neighbours together, for slow disks",
    )
    batch_size: PositiveInt = Field(256, description="samples per forward pass, per process")
    workers: int | None = Field(
        None,
        ge=0,
        description="decoding threads, or processes (torch); none: all cores, shared by the "
        "processes of a run on one machine",
    )
    max_pixels: PositiveInt = Field(
        100_000_000, description="an image with more pixels is refused as a bad file"
    )
    cache: Literal["auto", "off", "host", "gpu"] = Field(
        "auto",
        description="where decoded images are kept for the next epoch: in memory that all "
        "processes of a machine share, or on each GPU; auto: where there is room",
    )
    cache_gib: PositiveFloat | None = Field(
        None, description="largest size of the cache; none: a share of what is free"
    )
    range: RangeSetting = Field(
        "auto",
        description="which values of 16-bit, float and DICOM images become black and white: "
        "LOW,HIGH; type, all that the type can hold; auto, the 1st to 99th percentile of a sample",
    )
    bands: Bands | None = Field(
        None,
        description="list of three bands for red, green and blue, or of one for grey, counted from "
        "1; none: what the file says",
    )
    max_side: PositiveInt | None = Field(
        None, description="longer images are shrunk to this many pixels when they are decoded"
    )
    disk_cache: Path | None = Field(
        None, description="folder for copies of remote images; none: ~/.cache/cp2fast"
    )
    disk_gib: PositiveFloat | None = Field(
        None, description="largest size of this folder; none: a share of what is free there"
    )
    window: PositiveInt | None = Field(
        None,
        description="number of shards whose images are mixed in a random order; none: 16 if they "
        "are remote, all if they are on this machine",
    )
    max_bad_fraction: float = Field(
        0.01,
        ge=0,
        le=1,
        description="largest share of bad images; a single one never ends a run",
    )

    @field_validator("root", mode="before")
    @classmethod
    def _path_or_text(cls, value: object) -> object:
        return root_of(value) if isinstance(value, str | list | tuple) else value
