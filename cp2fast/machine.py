"""Describe the machine and the software of a measurement."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

import torch

from cp2fast.cores import available_cores

_PACKAGES = (
    "cp2fast",
    "torch",
    "torchvision",
    "timm",
    "nvidia-dali-cuda130",
    "ffcv",
    "kornia",
    "numba",
    "cuda-core",
    "numpy",
    "pillow",
    "simplejpeg",
)


def machine() -> dict[str, str | int]:
    """Processor, cores available to this process, memory, GPU, system."""
    return {
        "cpu": _cpu_name(),
        "cores": available_cores(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "system": platform.platform(),
    }


def versions() -> dict[str, str]:
    """Installed versions of everything that affects the results, and the commit if known."""
    found = {"python": platform.python_version(), "commit": _commit()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _commit() -> str:
    """The commit of a checkout; an installed wheel has none."""
    words = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except FileNotFoundError:  # git itself, as in many containers
        return "unknown"
    return done.stdout.strip() or "unknown"
