"""What the scripts of this folder share: runs of the command, and results with their machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cp2fast.cores import available_cores
from cp2fast.machine import machine, versions
from cp2fast.run_folder import RunFolder, atomic_write, read_metrics

SMALL_NETWORK = ["model.backbone=resnet18", "model.head_channels=128", "model.size=128"]


def write_result(path: Path, result: Mapping[str, Any]) -> None:
    """Write a result as JSON, with the machine and the versions that it was measured on.

    A script that is killed leaves the file whole: its last result, or none.
    """
    content = {"machine": machine(), "versions": versions(), **result}
    with atomic_write(path) as file:
        file.write(json.dumps(content, indent=1).encode() + b"\n")


def pretrain(
    recipe: str, settings: Sequence[str], out: Path, processes: int = 1
) -> list[dict[str, Any]]:
    """Run ``cp2fast pretrain`` as a user does; returns the logged rows."""
    with start_pretraining(recipe, settings, out, processes) as run:
        run.wait()
    if run.returncode:
        sys.exit(f"the pretraining in {out} ended with exit code {run.returncode}")
    return read_metrics(RunFolder(out).metrics)


def start_pretraining(
    recipe: str, settings: Sequence[str], out: Path, processes: int = 1
) -> subprocess.Popen[bytes]:
    """Start ``cp2fast pretrain``; several processes, under torchrun, share the cores."""
    words, environment = [sys.executable, "-m"], dict(os.environ)
    if processes > 1:
        words += ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
        environment["OMP_NUM_THREADS"] = str(max(1, available_cores() // processes))
    words += ["cp2fast", "pretrain", recipe, *settings, "--out", str(out)]
    return subprocess.Popen(words, env=environment)
