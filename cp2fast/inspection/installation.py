"""Short tests of what pretraining needs: sources, backends of the op, devices, torch."""

from __future__ import annotations

import io
import logging
import os
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.distributed as dist
from PIL import Image

from cp2fast import philox
from cp2fast.batch import CopyPasteBatch, RaggedBatch
from cp2fast.config import IMAGENET_STD, DataSettings, ModelSettings
from cp2fast.copypaste.backends import Backend, available_backends, failure
from cp2fast.copypaste.op import copy_paste
from cp2fast.copypaste.sampling import sample_parameters
from cp2fast.data.image_sets.image_set import ImageSet
from cp2fast.data.image_sets.listing import list_images
from cp2fast.data.order import plan
from cp2fast.data.scenes import generate_scenes
from cp2fast.data.sources.choice import available_sources, choose_source
from cp2fast.inspection.check import Check, Missing, perform
from cp2fast.inspection.decoding import opened
from cp2fast.model.cp2 import build_cp2

_CPU = torch.device("cpu")
_PHOTOS = 6
_SIZE = 64
_TINY = ModelSettings(backbone="resnet18", head_channels=16, size=_SIZE, queue=64)
_MEAN_TOLERANCE, _MAX_TOLERANCE = 1.0, 4.0
"""Tolerated mean and maximum difference between two backends, in 8-bit levels."""
_LEVELS = 255 * IMAGENET_STD[0]
"""8-bit levels per unit of a normalised image, in the channel with the most."""
_TIMEOUT = timedelta(seconds=10)


def check_sources() -> Iterator[Check]:
    """Check that each source decodes a few generated photos like Pillow."""
    for name, problem in available_sources().items():
        # data.source=auto takes turbo if it is installed, otherwise torch.
        needed = name == "torch" or (name == "turbo" and problem is None)
        fix = None if name == "torch" else "set data.source=torch"
        yield perform(name, partial(_decode, name, problem), needed=needed, fix=fix)


def check_backends() -> Iterator[Check]:
    """Check that all backends of the copy-paste op compose the same three pairs."""
    problems = available_backends()
    for name, problem in problems.items():
        yield check_backend(name, problem, compare=problems["reference"] is None)


def check_backend(name: str, problem: str | None, compare: bool) -> Check:
    """Check one backend of the op, and ``compare`` it with the reference.

    ``problem`` is from ``available_backends``. A backend whose kernels fail is not needed: ``auto``
    takes the next one.
    """
    what, _, fix = ("" if problem else failure(name) or "").rpartition(": ")
    if what:
        return Check(name, "broken", what, fix)
    needed = name == "cpu" or (name == "cuda" and problem is None)
    return perform(name, partial(_compose, cast(Backend, name), problem, compare), needed=needed)


def check_devices() -> Iterator[Check]:
    """Run a training step of a tiny network on the CPU and on each GPU."""
    gpus = torch.cuda.device_count()
    yield perform("cpu", partial(_train, torch.device("cpu")), needed=gpus == 0)
    for number in range(gpus):
        device = torch.device("cuda", number)
        yield perform(f"cuda:{number}", partial(_train, device), needed=number == 0)
    if gpus == 0:
        yield perform("cuda", _no_gpu)


def check_torch() -> Iterator[Check]:
    """Check what several processes and compiled networks need; training works without them."""
    yield perform("gloo", partial(_join, "gloo", "cpu"), fix="export GLOO_SOCKET_IFNAME=lo")
    if torch.cuda.is_available():
        yield perform("nccl", partial(_join, "nccl", "cuda"), fix="export NCCL_SOCKET_IFNAME=lo")
    yield perform("torch.compile", _compile, fix="apt-get install g++ python3-dev")
    yield perform("shared memory", _shared_memory)


def _decode(name: str, problem: str | None) -> str:
    _require(problem)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "scenes"
        generate_scenes(root, _PHOTOS, seed=0)
        images = list_images(root)
        data = DataSettings.model_validate({"root": root, "source": name, "workers": 1})
        choice = choose_source(data, images, _CPU)
        steps = plan(seed=0, count=_PHOTOS, batch_size=_PHOTOS, stop=1)
        with opened(choice, data, images, steps, 0, _CPU) as (batches, _):
            batch = next(batches)
        apart = max(_apart(batch, place, images) for place in range(len(batch)))
    if apart > _MEAN_TOLERANCE:
        raise ArithmeticError(f"a photo differs from Pillow's by {apart:.1f} levels on average")
    return f"decoded {_PHOTOS} photos, each within {apart:.2f} levels of Pillow's"


def _require(problem: str | None) -> None:
    """Raise Missing for a problem; the text after its last colon is the fix."""
    if problem is not None:
        what, _, fix = problem.rpartition(": ")
        raise Missing(what, fix)


def _apart(batch: RaggedBatch, place: int, images: ImageSet) -> float:
    """Mean difference between one image of a batch and the same file decoded by Pillow."""
    encoded = images.read(int(batch.index[place]))
    with Image.open(io.BytesIO(encoded)) as image:
        expected = np.array(image.convert("RGB"), np.int16)
    return float(np.abs(batch.image(place).numpy().astype(np.int16) - expected).mean())


def _compose(backend: Backend, problem: str | None, compare: bool) -> str:
    _require(problem)
    batch = _noise()
    parameters = sample_parameters(0, 0, batch, _SIZE)
    device = torch.device("cuda" if backend == "cuda" else "cpu")
    composed = copy_paste(batch, parameters, _SIZE, backend=backend, device=device)
    if backend == "reference":
        return f"composed {len(composed)} pairs; the specification"
    if not compare:
        return f"composed {len(composed)} pairs; kornia is not installed for a comparison"
    expected = copy_paste(batch, parameters, _SIZE, backend="reference")
    most = compare_pairs(composed.to(_CPU), expected)
    return f"composed {len(composed)} pairs, within {most:.2f} levels of the reference"


def compare_pairs(composed: CopyPasteBatch, expected: CopyPasteBatch) -> float:
    """The largest difference of two batches on the CPU, in 8-bit levels.

    Raises:
        ArithmeticError: they differ by more than two backends may.
    """
    pairs = ((composed.query, expected.query), (composed.key, expected.key))
    apart = torch.stack([(ours - theirs).abs() * _LEVELS for ours, theirs in pairs])
    mean, most = float(apart.mean()), float(apart.max())
    if mean > _MEAN_TOLERANCE or most > _MAX_TOLERANCE:
        raise ArithmeticError(
            f"differs from the reference by {mean:.2f} levels on average, {most:.1f} at most"
        )
    return most


def _noise() -> RaggedBatch:
    """Three small images of different sizes."""
    images = []
    for number, (height, width) in enumerate(((40, 60), (72, 48), (55, 55))):
        words = philox.words(0, philox.Stream.SCENE, 0, number, np.arange(height * width))
        images.append(
            torch.from_numpy((words[:, :3] >> 24).astype(np.uint8)).view(height, width, 3)
        )
    return RaggedBatch.pack(images, range(3))


def _train(device: torch.device) -> str:
    batch = _noise()
    composed = copy_paste(batch, sample_parameters(0, 0, batch, _SIZE), _SIZE, device=device)
    network = build_cp2(_TINY, seed=0).to(device)
    optimizer = torch.optim.SGD(network.encoder_q.parameters(), lr=0.01)
    output = network(composed.query, composed.key, composed.query_mask, composed.key_mask)
    output.loss.backward()
    optimizer.step()
    loss = output.loss.item()
    if not np.isfinite(loss):
        raise ArithmeticError(f"the loss of a training step is {loss}")
    if device.type == "cpu":
        threads = torch.get_num_threads()
        return f"a training step on {threads} thread{'s' if threads > 1 else ''}"
    memory = torch.cuda.get_device_properties(device).total_memory / 2**30
    return f"a training step on {torch.cuda.get_device_name(device)}, {memory:.0f} GiB"


def _no_gpu() -> str:
    if torch.version.cuda is None:
        raise Missing("this torch was built without CUDA", "pip install --force-reinstall torch")
    raise Missing("torch sees no GPU; nvidia-smi says whether the driver does")


def _join(backend: str, device: str) -> str:
    store = dist.HashStore()  # type: ignore[attr-defined]  # documented, though not exported
    dist.init_process_group(backend, store=store, rank=0, world_size=1, timeout=_TIMEOUT)
    try:
        total = torch.ones(1, device=device)
        dist.all_reduce(total)
    finally:
        dist.destroy_process_group()
    return "a process group of one"


def _compile() -> str:
    def wave(values: torch.Tensor) -> torch.Tensor:
        return torch.sin(values) * 2 + values

    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # "No CUDA runtime"
    device = "cuda" if torch.cuda.is_available() else "cpu"
    values = torch.arange(64, dtype=torch.float32, device=device)
    torch.testing.assert_close(torch.compile(wave)(values), wave(values))
    return "compiled a small function"


def _shared_memory() -> str:
    if not Path("/dev/shm").is_dir():  # noqa: S108
        return "no /dev/shm on this system"
    status = os.statvfs("/dev/shm")  # noqa: S108
    free = status.f_bavail * status.f_frsize / 2**30
    if free < 1:
        raise Missing(
            f"{free:.2f} GiB free in /dev/shm; decoding processes need about 1 GiB",
            "docker run --shm-size=8g, or set data.source=dali",
        )
    return f"{free:.1f} GiB free in /dev/shm for decoding processes"
