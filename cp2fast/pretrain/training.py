"""``cp2fast pretrain``: decode, compose, contrast, step; log and save on the way.

The loop's only state besides the network and its optimiser is the step: the order, the
augmentation and the schedule are pure functions of (seed, step), so a run that goes on from a
checkpoint repeats the one that was never stopped. The device is waited for only when a step is
logged or saved.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import astuple, fields
from statistics import fmean

import torch
from rich.console import Console

from cp2fast.batch import CopyPasteBatch
from cp2fast.data.order import plan
from cp2fast.data.prefetch import prefetch
from cp2fast.data.source import open_source
from cp2fast.errors import UserError
from cp2fast.model.cp2 import CP2Output
from cp2fast.model.signals import Signals, signals
from cp2fast.pretrain.batches import Composed, compose, image_size, split_steps
from cp2fast.pretrain.health import Health
from cp2fast.pretrain.metrics import Metrics
from cp2fast.pretrain.pictures import draw_curves, draw_pairs
from cp2fast.pretrain.run import Run, save
from cp2fast.run_folder import means_of_end_tenths, read_metrics
from cp2fast.train.compile import compile_encoders
from cp2fast.train.finite import BadStep, LossRecord, all_finite
from cp2fast.train.interrupt import stop_requests
from cp2fast.train.metrics import Stopwatch, metrics_log
from cp2fast.train.precision import autocast
from cp2fast.train.schedule import cosine_by_epoch
from cp2fast.train.watchdog import Doing, Watchdog

_BATCHES_AHEAD = 2
_OF_THE_DISK = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.EIO, errno.ESTALE),
}
_NAMED = 3
"""Images of a broken step whose files are named."""


def pretrain(run: Run, console: Console) -> bool:
    """Train from ``run.step`` to the end, leaving metrics, checkpoints and pictures in its folder.

    Returns:
        True when the run is complete, False when it was asked to stop before; saved either way.

    Raises:
        UserError: too many images cannot be read, the loss is not a number, the memory or the
            disk is full. The checkpoints written before are intact.
    """
    try:
        with closing(Watchdog(run.ranks, run.settings.train.timeout_minutes)) as watchdog:
            _train(run, console, watchdog)
    except torch.OutOfMemoryError as error:
        raise UserError(_out_of_memory(run)) from error
    except OSError as error:
        if error.errno not in _OF_THE_DISK:
            raise
        raise UserError(
            f"cannot write to {run.folder.path}: {error.strerror}; its checkpoints are intact: "
            "make room, then go on with --resume"
        ) from error
    return run.step >= run.total_steps


def summary(run: Run) -> str:
    """How the loss went: the mean of the first and of the last tenth of the logged steps."""
    rows = read_metrics(run.folder.metrics)
    losses = [row["loss"] for row in rows]
    if not losses:
        return "no step was logged yet"
    if len(losses) == 1:
        return f"loss {losses[0]:.3f} at step {rows[0]['step']}, the only one logged"
    first, last = means_of_end_tenths(losses)
    return f"loss {first:.3f} in the first tenth of the run, {last:.3f} in the last"


def _train(run: Run, console: Console, watchdog: Watchdog) -> None:
    train, model, is_main = run.settings.train, run.settings.model, run.ranks.is_main
    health = Health(model.embedding, model.queue, run.total_steps, console.print)
    record = LossRecord(run.ranks.rank)
    with (
        stop_requests() as stop_requested,
        metrics_log(run.folder, run.settings, run.step, run.total_steps, console, is_main) as log,
        closing(_batches(run, train.seed, run.step, run.total_steps)) as batches,
    ):
        _compile(run, console)
        if run.step == 0 and model.queue_start == "keys":
            _fill_queue(run, watchdog)
        stopwatch, saved, stopping = Stopwatch(run.step, run.device), time.monotonic(), False
        while run.step < run.total_steps and not stopping:
            lr = _set_learning_rate(run)
            images: list[int] = []
            output = run.learner.step(_step_batches(run, batches, stopwatch, watchdog, images))
            run.step += 1
            record.note(run.step, output.loss, images)

            is_last = run.step == run.total_steps
            is_due = time.monotonic() - saved >= 60 * train.checkpoint_minutes
            stopping, is_due = run.processes.agreement.any(stop_requested(), is_due)
            is_logged = is_last or run.step % train.log_every == 0
            is_saved = is_last or stopping or is_due or run.step % run.steps_per_epoch == 0
            if is_logged or is_saved or record.is_full:
                _check_finite(run, record, images, is_saved)
            if is_logged:
                metrics = _metrics(run, output, lr, stopwatch)
                log(metrics)
                health.check(metrics)
            if is_saved:
                watchdog.note(run.step, Doing.SAVING)
                if is_main:
                    save(run)
                saved = time.monotonic()
    if is_main:
        draw_curves(read_metrics(run.folder.metrics), run.folder.curves)


def _batches(run: Run, seed: int, start: int, stop: int) -> Generator[Composed, None, None]:
    """This process's batches of the steps from ``start`` to ``stop``, made ahead in a thread."""
    data, accumulate = run.settings.data, run.settings.train.accumulate
    independent = data.background == "independent"
    steps = plan(
        seed=seed,
        count=len(run.images),
        batch_size=data.batch_size * accumulate,
        start=start,
        stop=stop,
        rank=run.ranks.rank,
        world=run.ranks.world,
        independent=independent,
        order=data.order,
    )
    numbers = split_steps(steps, accumulate, independent)
    decoded = open_source(
        run.source, data, run.images, numbers, seed, run.device, run.bad, run.cache.arena
    )
    composed = compose(
        decoded,
        run.settings,
        seed=seed,
        start=start,
        steps_per_epoch=run.steps_per_epoch,
        total_steps=run.total_steps,
        device=run.device,
        dtype=run.learner.dtype,
    )
    return prefetch(composed, _BATCHES_AHEAD)


def _step_batches(
    run: Run,
    batches: Iterator[Composed],
    stopwatch: Stopwatch,
    watchdog: Watchdog,
    images: list[int],
) -> Iterator[CopyPasteBatch]:
    """The batches of one step, each when it is there; their image numbers go to ``images``."""
    for _ in range(run.settings.train.accumulate):
        watchdog.note(run.step, Doing.READING)
        with stopwatch.waiting():
            batch = next(batches)
            pairs = batch.ready_pairs()
        watchdog.note(run.step, Doing.COMPUTING)
        if run.step == 0 and not images and run.ranks.is_main:
            draw_pairs(pairs, run.folder.preview, run.settings.augment)
        images += batch.images
        yield pairs


def _compile(run: Run, console: Console) -> None:
    size = image_size(run.settings, run.step, run.total_steps)
    images_B3SS = torch.zeros(
        (run.settings.data.batch_size, 3, size, size), dtype=run.learner.dtype, device=run.device
    ).contiguous(memory_format=torch.channels_last)
    setting = run.settings.train.compile
    compile_encoders(run.network, setting, images_B3SS, run.learner.dtype, console.print)


def _fill_queue(run: Run, watchdog: Watchdog) -> None:
    """Keys for the whole queue, of another order and augmentation than the training will see."""
    steps = -(-run.settings.model.queue // run.samples_per_step)
    with closing(_batches(run, run.settings.train.seed + 1, 0, steps)) as filling:
        for batch in filling:
            watchdog.note(0, Doing.READING)
            pairs = batch.ready_pairs()
            with autocast(run.learner.dtype, run.device):
                run.network.take_keys(pairs.key, pairs.key_mask)


def _set_learning_rate(run: Run) -> float:
    lr = cosine_by_epoch(run.lr, run.step, run.steps_per_epoch, run.total_steps)
    for group in run.learner.optimizer.param_groups:
        group["lr"] = lr
    return lr


def _check_finite(run: Run, record: LossRecord, images: list[int], saving: bool) -> None:
    """Stop a broken run before it is logged or saved; all processes find the same.

    Raises:
        UserError: on the main process; the others leave in silence.
    """
    agreement = run.processes.agreement
    found = [bad for bad in agreement.gather(record.check()) if bad is not None]
    if not found and saving and not all_finite(run.network.encoder_q.parameters()):
        # The loss of the last step is a number, its gradient is not.
        everyones = [number for own in agreement.gather(images) for number in own]
        found = [BadStep(run.step, 0, everyones)]
    if not found:
        return
    if not run.ranks.is_main:
        raise SystemExit(2)
    first = min(found)
    names = ", ".join(run.images.name(number) for number in first.images[:_NAMED])
    raise UserError(
        f"training broke at {first} (beginning with {names}): the loss or its gradient is not a "
        f"number; nothing was saved since, so --resume goes on before it: lower "
        f"train.lr={run.lr:g}, or set train.precision=fp32"
    )


def _metrics(run: Run, output: CP2Output, lr: float, stopwatch: Stopwatch) -> Metrics:
    """One row, the mean of all processes; reading the outputs waits for the device."""
    model = run.settings.model
    taken = model.queue if model.queue_start == "keys" else run.step * run.samples_per_step
    keys_NC = run.network.newest_keys(min(taken, model.queue, _SIGNAL_KEYS))
    found = astuple(signals(keys_NC, output.vectors))
    own = torch.stack([getattr(output, name) for name in _LOGGED]).tolist()
    steps, seconds, data_wait = stopwatch.lap(run.step)
    everyones = run.processes.agreement.gather([*own, *found, data_wait])
    *logged, data_wait = map(fmean, zip(*everyones, strict=True))
    names = [*_LOGGED.values(), *(field.name for field in fields(Signals))]
    return Metrics(
        step=run.step,
        epoch=run.step / run.steps_per_epoch,
        **dict(zip(names, logged, strict=True)),
        queue_fill=min(1.0, taken / model.queue),
        lr=lr,
        images_per_second=run.samples_per_step * steps / seconds,
        data_wait=data_wait,
    )


_LOGGED = {
    "loss": "loss",
    "loss_instance": "loss_instance",
    "loss_dense": "loss_dense",
    "accuracy_instance": "accuracy_instance",
    "accuracy_dense": "accuracy_dense",
    "similarity_gap": "similarity_gap",
    "embedding_deviation": "embedding_std",
}
"""What is logged of the network's outputs, and its name in ``metrics.jsonl``."""

_SIGNAL_KEYS = 1024
"""Of the queue's newest keys at most so many are looked at: eight for each of 128 channels."""


def _out_of_memory(run: Run) -> str:
    data, train = run.settings.data, run.settings.train
    half = max(1, data.batch_size // 2)
    precision = ", or train.precision=bf16" if run.learner.dtype == torch.float32 else ""
    return (
        f"the memory of {run.device} does not hold data.batch_size={data.batch_size}: use "
        f"data.batch_size={half} train.accumulate={2 * train.accumulate}{precision}"
    )
