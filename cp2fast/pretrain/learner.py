"""What learns, and one step of it: forward, backward, update; nothing waits for the device."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields

import torch
from torch import nn
from torch.amp.grad_scaler import GradScaler
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from cp2fast.batch import CopyPasteBatch
from cp2fast.config import PretrainSettings
from cp2fast.model.cp2 import CP2, CP2Output, build_cp2
from cp2fast.train.optimizer import build_optimizer
from cp2fast.train.precision import autocast, dtype_of, grad_scaler


@dataclass
class Learner:
    """The network and what moves its weights.

    Attributes:
        network: the encoders and the queue.
        trained: the network as it is called: itself, or wrapped for several processes.
        optimizer: of the query encoder.
        scaler: of the loss; idle but for float16.
        dtype: of the arithmetic.
        device: of this process.
        accumulate: batches a step.
    """

    network: CP2
    trained: nn.Module
    optimizer: Optimizer
    scaler: GradScaler
    dtype: torch.dtype
    device: torch.device
    accumulate: int

    def step(self, batches: Iterator[CopyPasteBatch]) -> CP2Output:
        """Train on ``accumulate`` batches, each contrasted and enqueued by itself.

        Args:
            batches: the step's; each is asked for when the one before is done.

        Returns:
            The mean of the batches' outputs, without gradient.
        """
        outputs = []
        for number, batch in enumerate(batches):
            is_last = number == self.accumulate - 1
            with self._exchanging_gradients(is_last):
                with autocast(self.dtype, self.device):
                    output: CP2Output = self.trained(
                        batch.query,
                        batch.key,
                        batch.query_mask,
                        batch.key_mask,
                        move_key_encoder=number == 0,
                    )
                self.scaler.scale(output.loss / self.accumulate).backward()  # type: ignore[no-untyped-call]
            outputs.append(output)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return _mean(outputs)

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


def build_learner(settings: PretrainSettings, device: torch.device) -> Learner:
    """A learner with random weights, for this process alone.

    Raises:
        UserError: no such backbone, size or precision.
    """
    train = settings.train
    dtype = dtype_of(train.precision, device)
    network = build_cp2(settings.model, train.seed)
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Learner(
        network=network,
        trained=network,
        optimizer=build_optimizer(network.encoder_q.parameters(), train),
        scaler=grad_scaler(dtype, device),
        dtype=dtype,
        device=device,
        accumulate=train.accumulate,
    )


def _mean(outputs: list[CP2Output]) -> CP2Output:
    """The means of the scalars, and the vectors of the last batch."""
    names = [field.name for field in fields(CP2Output) if field.name != "vectors"]
    means = {
        name: torch.stack([getattr(output, name).detach() for output in outputs]).mean()
        for name in names
    }
    return CP2Output(**means, vectors=outputs[-1].vectors)
