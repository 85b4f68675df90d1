"""``cp2fast pretrain``: decode, compose, contrast, step; log and save on the way.

The loop's only state besides the network and its optimiser is the step: the order, the
augmentation and the schedule are pure functions of (seed, step), so a run that goes on from a
checkpoint repeats the one that was never stopped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator
from contextlib import closing
from statistics import fmean

from rich.console import Console
from torch.optim import Optimizer

from cp2fast.batch import CopyPasteBatch
from cp2fast.data.order import plan
from cp2fast.data.source import open_source
from cp2fast.model.cp2 import CP2, CP2Output
from cp2fast.train.batches import compose
from cp2fast.train.interrupt import stop_requests
from cp2fast.train.metrics import Metrics, Stopwatch, metrics_log
from cp2fast.train.pictures import draw_curves, draw_pairs
from cp2fast.train.prefetch import prefetch
from cp2fast.train.run import Run, save
from cp2fast.train.run_folder import read_metrics
from cp2fast.train.schedule import cosine_by_epoch

_BATCHES_AHEAD = 2


def pretrain(run: Run, console: Console) -> bool:
    """Train from ``run.step`` to the end, leaving metrics, checkpoints and pictures in its folder.

    Returns:
        True when the run is complete, False when it was asked to stop before; saved either way.

    Raises:
        UserError: too many images cannot be read.
    """
    train = run.settings.train
    stopwatch, saved, saved_step = Stopwatch(run.step), time.monotonic(), -1
    with (
        stop_requests() as stop_requested,
        metrics_log(run.folder, run.step, run.total_steps, console) as log,
        closing(_batches(run, train.seed, run.step, run.total_steps)) as batches,
    ):
        if run.step == 0 and run.settings.model.queue_start == "keys":
            _fill_queue(run)
        while run.step < run.total_steps and not stop_requested():
            with stopwatch.waiting():
                batch = next(batches)
            if run.step == 0:
                draw_pairs(batch, run.folder.preview)
            lr = _set_learning_rate(run)
            output = _train_step(run.network, run.optimizer, batch)
            run.step += 1

            if run.step % train.log_every == 0 or run.step == run.total_steps:
                log(_metrics(run, output, lr, stopwatch))
            minutes = (time.monotonic() - saved) / 60
            if run.step % run.steps_per_epoch == 0 or minutes >= train.checkpoint_minutes:
                save(run)
                saved, saved_step = time.monotonic(), run.step
        if saved_step != run.step:
            save(run)
    draw_curves(read_metrics(run.folder.metrics), run.folder.curves)
    return run.step >= run.total_steps


def summary(run: Run) -> str:
    """How the loss went: the mean of the first and of the last tenth of the logged steps."""
    losses = [row["loss"] for row in read_metrics(run.folder.metrics)]
    if not losses:
        return "no step was logged yet"
    tenth = max(1, len(losses) // 10)
    return (
        f"loss {fmean(losses[:tenth]):.3f} in the first tenth of the run, "
        f"{fmean(losses[-tenth:]):.3f} in the last"
    )


def _train_step(network: CP2, optimizer: Optimizer, batch: CopyPasteBatch) -> CP2Output:
    output: CP2Output = network(batch.query, batch.key, batch.query_mask, batch.key_mask)
    optimizer.zero_grad(set_to_none=True)
    output.loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return output


def _batches(run: Run, seed: int, start: int, stop: int) -> Generator[CopyPasteBatch, None, None]:
    """Composed batches of the steps from ``start`` to ``stop``, made ahead in a thread."""
    data = run.settings.data
    steps = plan(
        seed=seed,
        count=len(run.images),
        batch_size=data.batch_size,
        start=start,
        stop=stop,
        independent=data.background == "independent",
        order=data.order,
    )
    decoded = open_source(run.source, data, run.images, steps, seed, run.device, run.bad)
    composed = compose(decoded, run.settings, seed, start, run.steps_per_epoch, run.device)
    return prefetch(composed, _BATCHES_AHEAD)


def _fill_queue(run: Run) -> None:
    """Keys for the whole queue, of another order and augmentation than the training will see."""
    batches = math.ceil(run.settings.model.queue / run.settings.data.batch_size)
    with closing(_batches(run, run.settings.train.seed + 1, 0, batches)) as filling:
        for batch in filling:
            run.network.take_keys(batch.key, batch.key_mask)


def _set_learning_rate(run: Run) -> float:
    lr = cosine_by_epoch(run.settings.train.lr, run.step, run.steps_per_epoch, run.total_steps)
    for group in run.optimizer.param_groups:
        group["lr"] = lr
    return lr


def _metrics(run: Run, output: CP2Output, lr: float, stopwatch: Stopwatch) -> Metrics:
    """One row; reading the outputs is the loop's only wait for the device."""
    loss = output.loss.item()
    steps, seconds, data_wait = stopwatch.lap(run.step)
    samples, model = run.settings.data.batch_size, run.settings.model
    taken = model.queue if model.queue_start == "keys" else run.step * samples
    return Metrics(
        step=run.step,
        epoch=run.step / run.steps_per_epoch,
        loss=loss,
        loss_instance=output.loss_instance.item(),
        loss_dense=output.loss_dense.item(),
        accuracy_instance=output.accuracy_instance.item(),
        accuracy_dense=output.accuracy_dense.item(),
        similarity_gap=output.similarity_gap.item(),
        queue_fill=min(1.0, taken / model.queue),
        lr=lr,
        images_per_second=samples * steps / seconds,
        data_wait=data_wait,
    )
