"""``cp2fast finetune-voc``: crops, cross-entropy, steps; evaluate, log and save on the way.

As in pretraining the loop's only state besides the network and its optimiser is the step: order,
crops, dropout and schedule are pure functions of (seed, step), so a run that goes on from a
checkpoint repeats the one that was never stopped.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.distributed as dist
from rich.console import Console
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from cp2fast import philox
from cp2fast.data.order import steps_per_epoch
from cp2fast.data.prefetch import prefetch
from cp2fast.finetune.confusion import Scores, scores
from cp2fast.finetune.evaluate import evaluate
from cp2fast.finetune.loader import CropBatch, crop_batches
from cp2fast.finetune.loss import segmentation_loss
from cp2fast.finetune.pictures import draw_confusion, draw_crops, draw_curves, draw_predictions
from cp2fast.finetune.run import FinetuneRun, save
from cp2fast.philox import Stream
from cp2fast.run_folder import RunFolder, atomic_write, read_metrics
from cp2fast.train.interrupt import stop_requests
from cp2fast.train.metrics import Log, Stopwatch, metrics_log
from cp2fast.train.precision import autocast, dtype_of
from cp2fast.train.schedule import polynomial

RESULT = "result.json"

_BATCHES_AHEAD = 2


@dataclass(frozen=True)
class FinetuneMetrics:
    """One row of ``metrics.jsonl``.

    Attributes:
        step: steps done, from 1.
        epoch: passes over the training images done, with fraction.
        loss: of this step and process.
        lr: learning rate of this step.
        images_per_second: crops over all processes since the last logged step.
        data_wait: share of that time spent waiting for data.
    """

    step: int
    epoch: float
    loss: float
    lr: float
    images_per_second: float
    data_wait: float


@dataclass(frozen=True)
class EvaluationMetrics:
    """Another row of ``metrics.jsonl``: of an evaluation after ``step`` steps."""

    step: int
    miou: float
    pixel_accuracy: float


def finetune(run: FinetuneRun, console: Console) -> Scores | None:
    """Train from ``run.step`` to the end, then evaluate; all that is left is in the run's folder.

    Returns:
        The scores of the finished network; None when the run was asked to stop before, and saved.

    Raises:
        UserError: an image or a mask that cannot be used.
    """
    main = run.ranks.is_main
    with metrics_log(run.folder, run.settings, run.step, run.total_steps, console, main) as log:
        if not _train(run, log, console):
            return None
        confusion, result = _evaluate(run, log)
    if main:
        _finish(run, confusion, result)
    return result


def read_result(folder: RunFolder) -> dict[str, Any] | None:
    """The content of a complete run's ``result.json``; None before that."""
    path = folder.path / RESULT
    return json.loads(path.read_text("utf-8")) if path.is_file() else None


def _train(run: FinetuneRun, log: Log, console: Console) -> bool:
    """The steps that are left; False when asked to stop before the last."""
    train = run.settings.train
    network = _parallel(run)
    stopwatch, saved = Stopwatch(run.step, run.device), time.monotonic()
    batches = crop_batches(
        run.data,
        run.settings,
        range(run.step, run.total_steps),
        run.device,
        run.ranks.rank,
        run.ranks.world,
    )
    with (
        stop_requests() as stop_requested,
        closing(prefetch(batches, _BATCHES_AHEAD)) as ready,
    ):
        while run.step < run.total_steps and not _agreed(stop_requested, run):
            with stopwatch.waiting():
                batch = next(ready)
            if run.step == 0 and run.ranks.is_main:
                draw_crops(batch, run.network, run.data.classes, run.folder.preview)
            lr = _set_learning_rate(run)
            loss = _step(network, batch, run)
            run.step += 1

            is_last = run.step == run.total_steps
            if run.step % train.log_every == 0 or is_last:
                log(_metrics(run, loss, lr, stopwatch))
            evaluation_due = run.step % train.evaluate_every == 0 and not is_last
            if evaluation_due:
                _, result = _evaluate(run, log)
                console.print(
                    f"step {run.step}/{run.total_steps}  mIoU {result.miou:.1%}, "
                    f"pixel accuracy {result.pixel_accuracy:.1%}"
                )
            minutes = (time.monotonic() - saved) / 60
            if evaluation_due or is_last or minutes >= train.checkpoint_minutes:
                save(run)
                saved = time.monotonic()
    if run.step < run.total_steps:
        save(run)
    return run.step >= run.total_steps


def _step(network: nn.Module, batch: CropBatch, run: FinetuneRun) -> Tensor:
    # Dropout draws from torch's own generator: a seed of each step's own makes resuming exact.
    words = philox.words(run.settings.train.seed, Stream.DROPOUT, run.step, run.ranks.rank)
    torch.manual_seed(int(words[0]))
    precision = dtype_of(run.settings.train.precision, run.device)
    with autocast(precision, run.device):
        logits = network(batch.images)
    loss = segmentation_loss(logits, batch.labels, run.settings.train.loss_mean)
    run.optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    run.optimizer.step()
    return loss.detach()


def _parallel(run: FinetuneRun) -> nn.Module:
    """The network in training mode, its gradients averaged over the processes."""
    run.network.train()
    if run.ranks.world == 1:
        return run.network
    on_gpu = run.device.type == "cuda"
    return DistributedDataParallel(run.network, device_ids=[run.device] if on_gpu else None)


def _agreed(stop_requested: Callable[[], bool], run: FinetuneRun) -> bool:
    """Whether to stop now. Several processes decide it together, at logged steps."""
    if run.ranks.world == 1:
        return stop_requested()
    if run.step % run.settings.train.log_every:
        return False
    asked = torch.tensor(stop_requested(), dtype=torch.int32, device=run.device)
    dist.all_reduce(asked)
    return bool(asked)


def _set_learning_rate(run: FinetuneRun) -> float:
    train = run.settings.train
    lr = polynomial(train.lr, train.lr_end, train.lr_power, run.step, run.total_steps)
    for group in run.optimizer.param_groups:
        group["lr"] = lr
    return lr


def _metrics(run: FinetuneRun, loss: Tensor, lr: float, stopwatch: Stopwatch) -> FinetuneMetrics:
    """One row; reading the loss is the loop's only wait for the device."""
    value = loss.item()
    steps, seconds, data_wait = stopwatch.lap(run.step)
    crops = run.settings.data.batch_size * run.ranks.world
    return FinetuneMetrics(
        step=run.step,
        epoch=run.step / steps_per_epoch(len(run.data.train), crops),
        loss=value,
        lr=lr,
        images_per_second=crops * steps / seconds,
        data_wait=data_wait,
    )


def _evaluate(run: FinetuneRun, log: Log) -> tuple[Tensor, Scores]:
    """Evaluate, and log the scores."""
    if run.ranks.world > 1:
        for buffer in run.network.buffers():  # On the CPU each process has batch statistics of
            dist.broadcast(buffer, 0)  # its own; those of the main one are saved.
    confusion = evaluate(run.network, run.data, run.settings, run.device, run.ranks)
    result = scores(confusion, run.data.classes)
    log(EvaluationMetrics(run.step, result.miou, result.pixel_accuracy))
    return confusion, result


def _finish(run: FinetuneRun, confusion: Tensor, result: Scores) -> None:
    """The pictures, then ``result.json``: where that is, the run is complete."""
    draw_confusion(confusion, run.data.classes, run.folder.path / "confusion.png")
    draw_predictions(run, run.folder.path / "predictions.png")
    draw_curves(read_metrics(run.folder.metrics), run.folder.curves)
    content = asdict(result) | {
        "images": len(run.data.val),
        "step": run.step,
        "settings": run.settings.model_dump(mode="json"),
    }
    with atomic_write(run.folder.path / RESULT) as file:
        file.write(json.dumps(content, indent=2).encode() + b"\n")
