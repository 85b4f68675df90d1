"""The settings of the optimisation and the run that both trainings have."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, Literal, TypeAlias

from pydantic import Field, PositiveFloat, PositiveInt

from cp2fast.config.section import Section

Logger: TypeAlias = Literal["tensorboard", "wandb", "mlflow"]


class CommonTrainSettings(Section):
    """The optimisation and the run; each training adds its own and its defaults."""

    renamed: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"accumulate": "gradient_accumulation_steps", "checkpoint_keep": "keep_last"}
    )

    steps: PositiveInt | None = Field(None, description="total steps; overrides train.epochs")
    seed: int = Field(0, ge=0, description="seed of everything random")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="auto: the GPU if there is one"
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="arithmetic; auto: bf16 on GPUs that support it, else fp32"
    )
    compile: Literal["auto", "on", "off"] = Field(
        "auto", description="compile the network with torch.compile; auto: on a GPU"
    )
    gradient_accumulation_steps: PositiveInt = Field(
        1, description="batches per step; their gradients are averaged before the optimiser's step"
    )
    timeout_minutes: float = Field(
        10.0, gt=0, description="end the run when a process makes no progress for this long"
    )
    optimizer: Literal["sgd", "adamw"] = Field("sgd", description="optimiser")
    lr: PositiveFloat
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of SGD")
    weight_decay: float = Field(1e-4, ge=0, description="weight decay of every trained parameter")
    log_every: PositiveInt = Field(10, description="steps between two log rows")
    log: tuple[Logger, ...] = Field(
        ("tensorboard",),
        description="list of tensorboard, wandb and mlflow: where steps are logged besides "
        "metrics.jsonl",
    )
    checkpoint_minutes: float = Field(
        10.0,
        gt=0,
        description="minutes between checkpoints; also written at a stop, at the end and at a new "
        "best mIoU",
    )
    keep_last: PositiveInt = Field(
        2, description="number of newest checkpoints to keep, besides the best"
    )
    checkpoint_epochs: PositiveInt | None = Field(
        None, description="also keep a checkpoint every this many epochs"
    )
