"""What learns, and one step of it: forward, backward, update; nothing waits for the device."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from cp2fast.config import FinetuneTrainSettings, TrainSettings
from cp2fast.train.optimizer import build_optimizer
from cp2fast.train.precision import autocast, dtype_of, grad_scaler

Batch = TypeVar("Batch")
Outputs: TypeAlias = dict[str, Tensor]
"""Scalars of a batch by name; ``loss`` is what is differentiated."""


@dataclass
class Learner(Generic[Batch]):
    """The network and what moves its weights.

    Attributes:
        network: as it is saved.
        forward: from the network as it is called, a batch, the step (from 0) and the batch's number
            in the step to the outputs.
        trained: the network as it is called: itself, or wrapped for several processes.
        optimizer: of the weights that are trained.
        scaler: of the loss; idle but for float16.
        dtype: of the arithmetic.
        device: of this process.
        accumulate: batches a step.
    """

    network: nn.Module
    forward: Callable[[nn.Module, Batch, int, int], Outputs]
    trained: nn.Module
    optimizer: Optimizer
    scaler: GradScaler
    dtype: torch.dtype
    device: torch.device
    accumulate: int

    def step(self, batches: Iterator[Batch], step: int = 0) -> Outputs:
        """Train on ``accumulate`` batches.

        Args:
            batches: the step's; each is asked for when the one before is done.
            step: steps done before.

        Returns:
            The mean of the batches' outputs, without gradient.
        """
        outputs = []
        for number, batch in enumerate(batches):
            with self._exchanging_gradients(number == self.accumulate - 1):
                with autocast(self.dtype, self.device):
                    output = self.forward(self.trained, batch, step, number)
                self.scaler.scale(output["loss"] / self.accumulate).backward()  # type: ignore[no-untyped-call]
            outputs.append({name: value.detach() for name, value in output.items()})
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return outputs[0] if self.accumulate == 1 else _mean(outputs)

    def set_learning_rate(self, lr: float) -> None:
        """Of the next steps."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr

    def distribute(self) -> None:
        """Average the gradients over the processes from now on; they must hold equal weights."""
        with warnings.catch_warnings():
            # Newer versions call it forward_sync_buffers, which older ones do not know.
            warnings.filterwarnings("ignore", "`broadcast_buffers`", FutureWarning)
            self.trained = DistributedDataParallel(
                self.network,
                device_ids=[self.device] if self.device.type == "cuda" else None,
                broadcast_buffers=False,
                gradient_as_bucket_view=True,
            )

    def _exchanging_gradients(self, exchange: bool) -> AbstractContextManager[None]:
        """Processes exchange their gradients once a step, with the last batch's."""
        if exchange or not isinstance(self.trained, DistributedDataParallel):
            return nullcontext()
        return self.trained.no_sync()


def learner_of(
    network: nn.Module,
    parameters: Iterable[nn.Parameter],
    forward: Callable[[nn.Module, Batch, int, int], Outputs],
    train: TrainSettings | FinetuneTrainSettings,
    device: torch.device,
) -> Learner[Batch]:
    """A learner of ``network``, which moves to ``device``, for this process alone.

    Args:
        network: to be saved.
        parameters: those of its weights that are trained.
        forward: see ``Learner``.
        train: precision, optimiser and batches a step.
        device: of this process.

    Raises:
        UserError: no such precision on this device.
    """
    dtype = dtype_of(train.precision, device)
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Learner(
        network=network,
        forward=forward,
        trained=network,
        optimizer=build_optimizer(parameters, train),
        scaler=grad_scaler(dtype, device),
        dtype=dtype,
        device=device,
        accumulate=train.accumulate,
    )


def _mean(outputs: list[Outputs]) -> Outputs:
    return {name: torch.stack([output[name] for output in outputs]).mean() for name in outputs[0]}
