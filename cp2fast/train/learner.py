"""The network with its optimiser, and one training step: forward, backward, update.

Nothing here waits for the device, except that SGD in float16 reads whether a gradient overflowed.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from cp2fast.config import CommonTrainSettings
from cp2fast.train.batches import Batch
from cp2fast.train.optimizer import build_optimizer
from cp2fast.train.precision import autocast, dtype_of, grad_scaler

Network = TypeVar("Network", bound=nn.Module)


class Output(Protocol):
    """The result of the network and its loss for a batch."""

    @property
    def loss(self) -> Tensor:
        """A scalar with a gradient."""


class Learner(Generic[Network, Batch]):
    """A network and everything that updates its weights.

    Attributes:
        network: the network that is saved.
        forward: given ``trained``, a batch, the step (from 0) and the number of the batch in the
            step, returns the output.
        trained: the network that is called: ``network``, or its wrapper for several processes.
        optimizer: optimiser of the trained weights.
        scaler: gradient scaler; enabled only for float16.
        dtype: dtype of the arithmetic.
        device: device of this process.
        accumulate: batches per step.
    """

    def __init__(
        self,
        network: Network,
        parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        forward: Callable[[nn.Module, Batch, int, int], Any],
        train: CommonTrainSettings,
        device: torch.device,
    ) -> None:
        """Prepare to train in this process alone; moves ``network`` to ``device``.

        Args:
            network: see above.
            parameters: the weights to train, or groups of them, whose ``lr_scale`` multiplies the
                learning rate.
            forward: see above.
            train: settings of precision, optimiser and batches per step.
            device: see above.

        Raises:
            UserError: the device does not support this precision.
        """
        self.network, self.forward, self.device = network, forward, device
        self.dtype = dtype_of(train.precision, device)
        network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.trained: nn.Module = network
        self.optimizer = build_optimizer(parameters, train)
        self.scaler = grad_scaler(self.dtype, device)
        self.accumulate = train.gradient_accumulation_steps

    def step(self, batches: Iterator[Batch], step: int = 0) -> list[Any]:
        """Train on ``accumulate`` batches.

        Args:
            batches: batches of this step; each is requested when the previous one is done.
            step: number of steps done before.

        Returns:
            The ``Output`` of each batch.
        """
        outputs: list[Output] = []
        for number, batch in enumerate(batches):
            with self._exchanging_gradients(number == self.accumulate - 1):
                with autocast(self.dtype, self.device):
                    output = self.forward(self.trained, batch, step, number)
                self.scaler.scale(output.loss / self.accumulate).backward()
            outputs.append(output)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return outputs

    def set_learning_rate(self, lr: float) -> None:
        """Set the learning rate of the following steps."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group.get("lr_scale", 1.0)

    def distribute(self) -> None:
        """Average gradients over the processes from now on; their weights must be equal."""
        with warnings.catch_warnings():
            # Newer torch renames it to forward_sync_buffers, which older versions do not have.
            warnings.filterwarnings("ignore", "`broadcast_buffers`", FutureWarning)
            self.trained = DistributedDataParallel(
                self.network,
                device_ids=[self.device] if self.device.type == "cuda" else None,
                broadcast_buffers=False,
                gradient_as_bucket_view=True,
            )

    def _exchanging_gradients(self, exchange: bool) -> AbstractContextManager[None]:
        """Exchange gradients in this context only if ``exchange``: in the last batch of a step."""
        if exchange or not isinstance(self.trained, DistributedDataParallel):
            return nullcontext()
        return self.trained.no_sync()


def mean_loss(outputs: Sequence[Any]) -> Tensor:
    """Mean loss over the batches of a step, detached."""
    if len(outputs) == 1:
        return outputs[0].loss.detach()  # type: ignore[no-any-return]
    return torch.stack([output.loss.detach() for output in outputs]).mean()
