"""Typed settings: YAML recipes, ``KEY=VALUE`` overrides, and errors that name the key and the fix.

Every setting is declared here once, with its type, default, bounds and one line of help; the
command line's ``--help``, the run folder's ``config.yaml`` and the error messages follow from it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError
from pydantic_core import ErrorDetails

from cp2fast.errors import UserError


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class DataSettings(_Section):
    """Where the images come from and how they become a batch."""

    root: Path | None = Field(None, description="folder of images, nested or flat; no labels needed")
    scenes: int = Field(
        0, ge=0, description="generate this many demo scenes at data.root if it does not exist"
    )
    source: Literal["auto", "dali", "ffcv", "torch"] = Field(
        "auto", description="decoder and loader; auto takes the fastest that works here"
    )
    decode: Literal["auto", "cpu", "gpu"] = Field(
        "auto", description="where DALI decodes JPEG; auto is the GPU when training on one"
    )
    background: Literal["batch", "independent"] = Field(
        "batch",
        description="backgrounds from the same batch (one decode a sample) or two more images (three)",
    )
    batch_size: PositiveInt = Field(256, description="samples a step and process")
    workers: int = Field(2, ge=0, description="decoding threads (dali) or processes (torch)")
    max_pixels: PositiveInt = Field(
        100_000_000, description="an image of more pixels is refused as a bad file"
    )
    max_bad_fraction: float = Field(
        0.01, ge=0, le=1, description="stop when more than this share of at least 100 images is bad"
    )


class ModelSettings(_Section):
    """The segmentation network and the contrast that trains it (paper, sections 3 and 4.1)."""

    backbone: str = Field("resnet50", description="timm ResNet or ViT")
    head: Literal["aspp", "fcn"] = Field("aspp", description="segmentation head")
    head_channels: PositiveInt = Field(512, description="channels inside the head")
    size: PositiveInt = Field(224, description="side of the composed images, pixels")
    embedding: PositiveInt = Field(128, description="channels of the dense embedding")
    queue: PositiveInt = Field(65_536, description="negative keys kept for the instance loss")
    momentum: float = Field(0.999, ge=0, lt=1, description="of the key encoder's moving average")
    temperature: PositiveFloat = Field(0.2, description="of the instance loss")
    dense_weight: float = Field(0.2, ge=0, description="weight of the dense loss")
    dense_axis: Literal["query", "key"] = Field(
        "query", description="positions that the dense loss normalises over; the paper's code: query"
    )
    init: Path | None = Field(
        None, description="weights to start from: run folder, checkpoint or state dict"
    )


class TrainSettings(_Section):
    """The optimisation and the run."""

    epochs: PositiveInt = Field(200, description="passes over the images")
    steps: PositiveInt | None = Field(None, description="total steps; overrides train.epochs")
    seed: int = Field(0, ge=0, description="of the weights, the order and the augmentation")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto is the GPU if any")
    optimizer: Literal["sgd", "adamw"] = Field("sgd", description="optimiser")
    lr: PositiveFloat = Field(0.015, description="peak learning rate; the paper's is for batch 256")
    momentum: float = Field(0.9, ge=0, lt=1, description="of SGD")
    weight_decay: float = Field(1e-4, ge=0, description="of every trained parameter")
    log_every: PositiveInt = Field(10, description="steps between two logged ones")
    checkpoint_minutes: float = Field(
        10.0, gt=0, description="minutes between checkpoints; each epoch also ends with one"
    )
    checkpoint_keep: PositiveInt = Field(2, description="checkpoints kept")


class PretrainSettings(_Section):
    """All settings of ``cp2fast pretrain``."""

    data: DataSettings = DataSettings()
    model: ModelSettings = ModelSettings()
    train: TrainSettings = TrainSettings()
