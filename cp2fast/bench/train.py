"""From composed pairs to updated weights: cp2fast's training step compared with the original's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from cp2fast.batch import CopyPasteBatch
from cp2fast.bench.peers import original_step
from cp2fast.bench.report import Report, results_of
from cp2fast.bench.resident import peak_resident, resident_bytes
from cp2fast.bench.timing import Say, Stream, finish, measure, silent
from cp2fast.config import PretrainSettings
from cp2fast.data.sources.heap import trim_heaps
from cp2fast.model.cp2 import CP2, build_cp2
from cp2fast.model.dilated import DilatedConv2d, leaves_out_padding, share_in_range
from cp2fast.model.pooled import PooledConv2d
from cp2fast.model.segmenter import build_segmenter
from cp2fast.pretrain.learner import build_learner
from cp2fast.train.compile import compile_encoders
from cp2fast.train.learner import Learner

_PEAK_SIDE = {"cpu": 1024, "cuda": 8192}
_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 3e-2, torch.float16: 1e-2}
"""Largest allowed relative difference between the two systems' first losses."""

Step = Callable[[], Tensor]


def bench_train(
    settings: PretrainSettings,
    device: torch.device,
    rounds: int,
    seconds: float,
    say: Say = silent,
    beside_original: bool = True,
) -> Report:
    """Measure both systems on random composed pairs; see ``measure`` for the arguments.

    Of the settings count the model, ``data.batch_size``, ``train.precision`` and ``train.compile``;
    the original, if it is measured, always uses float32 without compilation. Gradients are not
    accumulated, which the original cannot do.

    Raises:
        UserError: no such backbone, size or precision.
        RuntimeError: the systems' losses differ, so they do not compute the same.
    """
    settings = settings.with_values("train", gradient_accumulation_steps=1)
    first_losses: dict[str, float] = {}
    static: dict[str, int] = {}
    steps: dict[str, Step] = {}
    dtypes: dict[str, torch.dtype] = {}
    builders = {"original": _original, "cp2fast": _cp2fast}
    for name in builders if beside_original else ["cp2fast"]:
        before = _allocated(device)
        steps[name], dtypes[name] = builders[name](settings, device, say)
        first_losses[name] = steps[name]().item()
        static[name] = _allocated(device) - before
    if beside_original:
        _check_equal(first_losses, _TOLERANCE[dtypes["cp2fast"]])
    memory = {name: _peak_memory(step, static[name], device) for name, step in steps.items()}

    flops = {name: flops_per_sample(settings, name == "original", device.type) for name in steps}
    work = {n: _stream(step, settings.data.batch_size, device) for n, step in steps.items()}
    products = {
        str(dtype): _stream(_matrix_product(dtype, device), 1, device)
        for dtype in set(dtypes.values())
    }
    measured = measure(work | products, rounds, seconds, say)
    peaks = {dtype: measured[dtype].median * 2 * _PEAK_SIDE[device.type] ** 3 for dtype in products}
    rates = {name: measured[name] for name in steps}
    ceilings = {f"matrix products, {n}": peaks[str(dtypes[n])] / flops[n] for n in steps}
    share = rates["cp2fast"].median / ceilings["matrix products, cp2fast"]
    return Report(
        "train",
        {
            **settings_of_step(settings, device, dtypes["cp2fast"]),
            "queue": settings.model.queue,
            "compile": settings.train.compile,
            "rounds": rounds,
            "seconds": seconds,
        },
        results_of(rates, ceilings, {name: f"matrix products, {name}" for name in steps}),
        ceilings=ceilings,
        bottleneck=(
            f"arithmetic: cp2fast reaches {share:.0%} of what matrix products alone reach here in "
            f"{dtypes['cp2fast']}; a larger data.batch_size brings it nearer, as far as memory goes"
        ),
        extra={
            "first_loss": first_losses,
            "gflop_per_sample": {name: count / 1e9 for name, count in flops.items()},
            "tflop_per_second": {n: rates[n].median * flops[n] / 1e12 for n in steps},
            "matrix_peak_tflop_per_second": {n: peak / 1e12 for n, peak in peaks.items()},
            "peak_memory_gib": {name: peak / 2**30 for name, peak in memory.items()},
        },
    )


def flops_per_sample(settings: PretrainSettings, plain: bool, device_type: str) -> float:
    """Floating-point operations of a step per sample; a multiply-add counts as two.

    These are the operations of the two encoders, counted on tensors without storage; the losses add
    less than a thousandth. In dilated convolutions, operations on padding count only if they are
    computed.

    Args:
        settings: the model.
        plain: whether all convolutions are plain.
        device_type: device type of the step, which determines whether padding is skipped.
    """
    size = settings.model.size
    with torch.device("meta"):
        encoder = build_segmenter(settings.model)
        image = torch.empty(2, 3, size, size)
    on_padding = 0.0
    for module in encoder.modules():
        if isinstance(module, DilatedConv2d):
            side = size // encoder.feature_stride
            if leaves_out_padding(module.dilation[0], side, side, device_type):
                on_padding += _flops_on_padding(module, side)
            module.eval()  # counted as the plain convolution
        elif isinstance(module, PooledConv2d):
            module.train(not plain)
    with FlopCounterMode(display=False) as counter:
        encoder.embed(image).sum().backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            encoder.embed(image)
    # The query's forward pass, its two gradients, and the key's forward pass.
    skipped = 0.0 if plain else 4 * on_padding
    return float(counter.get_total_flops()) / len(image) - skipped


def _flops_on_padding(layer: DilatedConv2d, side: int) -> float:
    """Operations on padding in one image's forward pass, on a map of ``side`` x ``side`` cells."""
    on_padding = 1 - share_in_range(layer.dilation[0], side, side)
    return 2 * side**2 * layer.in_channels * layer.out_channels * 9 * on_padding


def _matrix_product(dtype: torch.dtype, device: torch.device) -> Step:
    side = _PEAK_SIDE[device.type]
    left, right = torch.randn(2, side, side, device=device).to(dtype)

    def product() -> Tensor:
        # cuDNN convolves float32 in TF32 by default, so the ceiling must also allow TF32.
        before = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32
        try:
            return left @ right  # type: ignore[no-any-return]
        finally:
            torch.backends.cuda.matmul.allow_tf32 = before

    return product


def random_pairs(
    samples: int, size: int, device: torch.device, dtype: torch.dtype
) -> CopyPasteBatch:
    """Pairs of noise; each foreground is a rectangle of about two thirds of the image."""
    generator = torch.Generator().manual_seed(0)
    query, key = (
        torch.randn(samples, 3, size, size, generator=generator, device="cpu")
        .to(device, dtype)
        .contiguous(memory_format=torch.channels_last)
        for _ in range(2)
    )
    query_mask = torch.zeros(samples, size, size, dtype=torch.bool, device=device)
    key_mask = torch.zeros_like(query_mask)
    long, short = size * 5 // 6, size // 6
    query_mask[:, :long, :long] = True
    key_mask[:, short:, short:] = True
    return CopyPasteBatch(query, key, query_mask, key_mask)


def compiled_learner(
    settings: PretrainSettings, device: torch.device, say: Say
) -> tuple[Learner[CP2, CopyPasteBatch], CopyPasteBatch]:
    """A run's learner, compiled according to the settings, and random pairs for its steps."""
    learner = build_learner(settings, device)
    batch = random_pairs(settings.data.batch_size, settings.model.size, device, learner.dtype)
    compile_encoders(learner, settings.train.compile, batch.query, say)
    return learner, batch


def _original(
    settings: PretrainSettings, device: torch.device, say: Say
) -> tuple[Step, torch.dtype]:
    network = build_cp2(settings.model, settings.train.seed).to(device)
    step = original_step.trainer(network, settings.train.lr)
    batch = random_pairs(settings.data.batch_size, settings.model.size, device, torch.float32)
    return lambda: step(batch), torch.float32


def _cp2fast(
    settings: PretrainSettings, device: torch.device, say: Say
) -> tuple[Step, torch.dtype]:
    learner, batch = compiled_learner(settings, device, say)
    return lambda: learner.step(iter([batch]))[0].loss, learner.dtype


def _check_equal(losses: dict[str, float], tolerance: float) -> None:
    difference = abs(losses["cp2fast"] / losses["original"] - 1)
    if not difference <= tolerance:
        raise RuntimeError(f"the systems do not do the same: their first losses are {losses}")


def _stream(step: Step, batch_size: int, device: torch.device) -> Stream:
    count = 1 if device.type == "cpu" else 10  # enough to keep a GPU busy between two waits

    def samples() -> Iterator[int]:
        while True:
            for _ in range(count):
                step()
            finish(device)
            yield count * batch_size

    return Stream(samples())


def _allocated(device: torch.device) -> int:
    """Bytes in use on the GPU, or by the process after its free heap memory was returned."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    trim_heaps()
    return resident_bytes()


def _peak_memory(step: Step, static: int, device: torch.device) -> float:
    """Bytes of one system: its weights, and the most that a step adds."""
    before = _allocated(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        step()
        return static + torch.cuda.max_memory_allocated(device) - before
    with peak_resident() as peak:
        step()
    return static + peak() - before


def settings_of_step(
    settings: PretrainSettings, device: torch.device, dtype: torch.dtype
) -> dict[str, Any]:
    """What determines the speed of a training step, for the report."""
    return {
        "backbone": settings.model.backbone,
        "head": settings.model.head,
        "size": settings.model.size,
        "batch_size": settings.data.batch_size,
        "precision": str(dtype),
        "device": str(device),
        "threads": torch.get_num_threads(),
        "seed": settings.train.seed,
    }
