"""An evaluation that a stop breaks off."""

from pathlib import Path

import pytest
import torch

from cp2fast.config import FinetuneSettings
from cp2fast.data.scenes import generate_scenes
from cp2fast.finetune.build import build
from cp2fast.run_folder import RunFolder
from cp2fast.train.interrupt import StopAsked
from cp2fast.train.processes import Processes


def test_a_stop_breaks_it_off_and_leaves_no_result(tmp_path: Path) -> None:
    generate_scenes(tmp_path / "scenes", 15, seed=0)
    model = {"backbone": "test_resnet", "head_channels": 8, "size": 32}
    settings = FinetuneSettings.model_validate(
        {"data": {"root": tmp_path / "scenes", "batch_size": 2}, "model": model}
    )
    alone = Processes.alone(torch.device("cpu"))
    task = build(settings, RunFolder(tmp_path / "run"), alone)
    assert len(task.data.val) > 2  # more than a batch
    calls = []

    def stop() -> None:
        calls.append(1)
        raise StopAsked

    task.network.train()
    with pytest.raises(StopAsked):
        task.evaluate(3, stop)
    assert len(calls) == 1
    assert task.result is None
    assert task.network.training
