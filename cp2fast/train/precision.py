"""The precision of the network's arithmetic (``train.precision``)."""

from __future__ import annotations

from typing import Literal

import torch
from torch.amp.grad_scaler import GradScaler

from cp2fast.errors import UserError

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def dtype_of(setting: Literal["auto", "fp32", "bf16", "fp16"], device: torch.device) -> torch.dtype:
    """The dtype of convolutions and matrix products; weights stay float32.

    ``auto`` is bfloat16 on GPUs that have it and float32 elsewhere: CPUs without matrix units are
    slower in bfloat16.

    Raises:
        UserError: float16 on the CPU, where it is slow and its gradients are not reliable.
    """
    if setting == "auto":
        has_bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if has_bf16 else torch.float32
    if setting == "fp16" and device.type == "cpu":
        raise UserError(
            "train.precision=fp16 needs a GPU: use train.precision=fp32 or bf16 on the CPU"
        )
    return _DTYPES[setting]


def autocast(dtype: torch.dtype, device: torch.device) -> torch.autocast:
    """The context of the forward pass; for float32 it changes nothing."""
    return torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32)


def grad_scaler(dtype: torch.dtype, device: torch.device) -> GradScaler:
    """Scales the loss so that float16 gradients do not vanish; for other dtypes it does nothing."""
    return GradScaler(device.type, enabled=dtype == torch.float16)
