"""The CUDA op alone on a GPU: agreement with the reference, times by kernel, and start-up.

    python -m benchmarks.gpu_op --json FILE [--photos DIR] [--variant NAME=VALUE[,NAME=VALUE]] ...
        [--beside DIR]

Takes about 40 seconds. Needs torch, numba, cuda-core and this package. With kornia, results are
compared with the reference; without it, with the CPU kernels, which are tested against the
reference. Without photos, some are generated in sizes like ImageNet's. A variant is a set of macros
with which the kernels are compiled and timed once more. DIR is ``cp2fast/copypaste/cuda`` of
another commit, which is timed in turn with this one.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import inspect
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from cp2fast.batch import RaggedBatch
from cp2fast.config import IMAGENET_MEAN, IMAGENET_STD, DataSettings
from cp2fast.copypaste.cuda import compile as compile_module
from cp2fast.copypaste.cuda import launch
from cp2fast.copypaste.interface import Request
from cp2fast.copypaste.sampling import sample_parameters
from cp2fast.copypaste.views import pack
from cp2fast.data.decoding.decode import BadImage, decode_image
from cp2fast.data.image_sets.image_set import ImageSet
from cp2fast.data.image_sets.listing import list_images
from cp2fast.run_folder import write_json

MEAN, STD = IMAGENET_MEAN, IMAGENET_STD
PAIRS, WARM, CALLS = 256, 5, 40
SIZES = [(375, 500)] * 5 + [(500, 375), (333, 500), (500, 333), (400, 600), (298, 380)]
GPU = torch.device("cuda")

FIRST_CALL = """
import sys, time
from pathlib import Path
import torch
torch.zeros(1, device="cuda").sum().item()
begin = time.perf_counter()
from cp2fast.copypaste.cuda import compile, launch
from cp2fast.copypaste.interface import Request
compile._folders = lambda: [Path(sys.argv[1])]
pixels = torch.zeros(3 * 64 * 64, dtype=torch.uint8, device="cuda")
views = torch.zeros(1, 4, 16, dtype=torch.int32)
views[..., 2:5] = torch.tensor([192, 64, 64])
views[..., 13:15] = 16
request = Request(pixels, views.cuda(), 32, torch.float32, (0, 0, 0), (1, 1, 1))
out = launch.copy_paste_cuda(request)
out[0].sum().item()
print(time.perf_counter() - begin, len(list(Path(sys.argv[1]).iterdir())))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--variant", action="append", default=[])
    parser.add_argument("--beside", type=Path)
    asked = parser.parse_args()
    images = photos(asked.photos)
    result: dict[str, Any] = {
        "card": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "mean_pixels": sum(i.shape[0] * i.shape[1] for i in images) / len(images),
    }

    def done(name: str, figures: Any) -> None:
        """Write the result after each step, so that nothing is lost if the machine goes away."""
        result[name] = figures
        write_json(asked.json, result)
        print(name, json.dumps(figures), flush=True)

    done("start_seconds", start_up())
    done("agreement", agreement(images[:48]))
    batch = RaggedBatch.pack([images[i % len(images)] for i in range(PAIRS)], list(range(PAIRS)))
    copied = bandwidth()
    done("copy_gigabytes_per_second", copied)
    for size in (224, 128, 96):
        for dtype in (torch.bfloat16, torch.float16, torch.float32):
            name = f"{size} {str(dtype).removeprefix('torch.')}"
            done(name, time_op(batch, size, dtype, copied))
    done("by_kernel", by_kernel(batch, 224))
    if asked.beside is not None:
        with tempfile.TemporaryDirectory() as folder:
            versions = {"this": launch.copy_paste_cuda, "other": other(asked.beside, Path(folder))}
            for size in (224, 128, 96):
                done(f"in_turn {size}", in_turn(batch, size, versions))
    for variant in asked.variant:
        macros = [tuple(macro.split("=")) for macro in variant.split(",")]
        with_macros(macros)
        for size in (224, 128):
            done(f"{variant} {size}", time_op(batch, size, torch.bfloat16, copied))
        done(f"{variant} by_kernel", by_kernel(batch, 224))


def photos(folder: Path | None) -> list[Tensor]:
    """Up to 256 decoded photos, uint8 HWC; without a folder, generated clouds with noise."""
    if folder is not None:
        found = list(islice(decoded(list_images(folder)), PAIRS))
        return found or sys.exit(f"no image in {folder} can be decoded")
    random, images = torch.Generator().manual_seed(0), []
    for i in range(64):
        coarse = torch.rand(1, 3, 9, 12, generator=random)
        cloud = torch.nn.functional.interpolate(coarse, SIZES[i % len(SIZES)], mode="bicubic")[0]
        noise = 0.05 * torch.randn(cloud.shape, generator=random)
        image = (255 * (cloud * 1.4 - 0.2 + noise)).clamp(0, 255)
        images.append(image.byte().permute(1, 2, 0).contiguous())
    return images


def decoded(images: ImageSet) -> Iterator[Tensor]:
    """All that can be decoded, in their order."""
    for number in range(len(images)):
        with suppress(BadImage):
            yield decode_image(images.read(number), DataSettings().max_pixels)


def start_up() -> dict[str, float]:
    """The first call of a process, from the import on, without and with the kernels on disk."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", FIRST_CALL, folder]
        runs = [
            subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(2)
        ]
    (compiled, files), (kept, _) = (map(float, run.stdout.split()) for run in runs)
    return {"compiled": compiled, "kept": kept, "files_kept": files}


def agreement(images: list[Tensor]) -> dict[str, Any]:
    """The largest and the mean difference in grey levels, over two epochs."""
    batch, differences, masks = RaggedBatch.pack(images, list(range(len(images)))), [], True
    if find_spec("kornia") and find_spec("pydantic"):
        from cp2fast.copypaste.reference import copy_paste_reference as expected
    else:
        from cp2fast.copypaste.cpu.launch import copy_paste_cpu as expected
    for epoch in range(2):
        views = pack(batch, sample_parameters(0, epoch, batch, 224))
        here = Request(batch.pixels, views, 224, torch.float32, MEAN, STD)
        there = here._replace(pixels=batch.pixels.to(GPU), views=views.to(GPU))
        ours = launch.copy_paste_cuda(there)
        theirs = expected(there if expected.__name__ == "copy_paste_reference" else here)
        levels = torch.tensor(STD)[:, None, None] * 255
        for mine, other in zip(ours[:2], theirs[:2], strict=True):
            differences.append((mine.cpu() - other.cpu()).abs() * levels)
        for mine, other in zip(ours[2:], theirs[2:], strict=True):
            masks &= torch.equal(mine.cpu(), other.cpu())
    every = torch.stack(differences)
    return {
        "with": expected.__name__,
        "greatest": float(every.max()),
        "mean": float(every.mean()),
        "masks_equal": masks,
    }


def bandwidth() -> float:
    """Bandwidth of a copy on the card, in GB/s: bytes read and written."""
    block = torch.empty(1 << 30, dtype=torch.uint8, device=GPU)
    target = torch.empty_like(block)
    return 2 * block.numel() / median(milliseconds(lambda: target.copy_(block))) / 1e6


def time_op(batch: RaggedBatch, size: int, dtype: torch.dtype, copied: float) -> dict[str, float]:
    """Time of a captured call by the card's clock, and the host's time to launch a call."""
    call = calling(batch, size, dtype)
    host = []
    for _ in range(WARM + CALLS):
        begin = time.perf_counter()
        call()
        host.append(1e6 * (time.perf_counter() - begin))
        torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    times = milliseconds(graph.replay)
    read = batch.pixels.numel()
    moved = read + PAIRS * 2 * size * size * (3 * dtype.itemsize + 1)
    return {
        "milliseconds": median(times),
        "spread": (max(times) - min(times)) / median(times),
        "host_microseconds": median(host[WARM:]),
        "share_of_bandwidth": moved / median(times) / 1e6 / copied,
    }


def calling(batch: RaggedBatch, size: int, dtype: torch.dtype) -> Callable[[], Any]:
    views = pack(batch, sample_parameters(0, 0, batch, size)).to(GPU)
    request = Request(batch.pixels.to(GPU), views, size, dtype, MEAN, STD)
    return functools.partial(launch.copy_paste_cuda, request)


def milliseconds(call: Callable[[], Any]) -> list[float]:
    times = []
    for _ in range(WARM + CALLS):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        begin.record()
        call()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end))
    return times[WARM:]


def other(kernels: Path, folder: Path) -> Callable[..., Any]:
    """``copy_paste_cuda`` of another commit's folder, imported under another name.

    It takes a ``Request``, or the fields of one if the commit is older than ``Request``.
    """
    package = folder / "other_cuda"
    shutil.copytree(kernels, package, ignore=shutil.ignore_patterns("__pycache__"))
    for source in package.glob("*.py"):
        text = source.read_text("utf-8")
        source.write_text(text.replace("cp2fast.copypaste.cuda.", "other_cuda."), "utf-8")
    sys.path.insert(0, str(folder))
    called: Callable[..., Any] = importlib.import_module("other_cuda.launch").copy_paste_cuda
    takes_request = len(inspect.signature(called).parameters) == 1
    return called if takes_request else lambda request: called(*request)


def in_turn(
    batch: RaggedBatch, size: int, versions: dict[str, Callable[..., Any]]
) -> dict[str, float]:
    """Median milliseconds of each version, captured in a graph, and their largest difference."""
    views = pack(batch, sample_parameters(0, 0, batch, size)).to(GPU)
    request = Request(batch.pixels.to(GPU), views, size, torch.bfloat16, MEAN, STD)
    graphs, outputs = {}, []
    for name, version in versions.items():
        outputs.append(version(request))
        graphs[name] = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graphs[name]):
            version(request)
    times: dict[str, list[float]] = {name: [] for name in versions}
    for _ in range(4):
        for name, graph in graphs.items():
            times[name] += milliseconds(graph.replay)
    ours, theirs = (torch.stack(output[:2]).float() for output in outputs)
    return {name: median(found) for name, found in times.items()} | {
        "greatest_difference": float((ours - theirs).abs().max())
    }


def by_kernel(batch: RaggedBatch, size: int) -> dict[str, float]:
    """Milliseconds of each kernel of a call, by torch's profiler."""
    call = calling(batch, size, torch.bfloat16)
    call()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        for _ in range(10):
            call()
        torch.cuda.synchronize()
    return {
        event.key: event.device_time_total / event.count / 1000 for event in profile.key_averages()
    }


def with_macros(macros: list[tuple[str, str]]) -> None:
    """Compile the kernels with these macros for all later launches."""
    arch = "sm_{}{}".format(*torch.cuda.get_device_capability())
    kernels = compile_module.KERNELS
    codes = {name: compile_module.compile_kernel(name, arch, macros=macros) for name in kernels}
    setattr(launch, "cubins", lambda arch: codes)  # noqa: B010 - it is another module's
    launch.loaded_kernels.cache_clear()


if __name__ == "__main__":
    main()
