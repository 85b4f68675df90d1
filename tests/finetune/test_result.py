"""What is printed of ``result.json``; that a run writes it is in test_task.py."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cp2fast.config import FinetuneSettings
from cp2fast.data.scenes import generate_scenes
from cp2fast.finetune.build import build
from cp2fast.finetune.result import RESULT, report, scores_of
from cp2fast.finetune.task import FinetuneTask
from cp2fast.run_folder import RunFolder, write_json
from cp2fast.train.processes import Processes
from cp2fast.train.run import Run

OLDER = {
    "miou": 0.5,
    "pixel_accuracy": 0.9,
    "per_class": {"background": 0.75, "disc": 0.25, "cube": None},
    "best": {"miou": 0.6, "step": 8},
    "step": 12,
}
"""The result of a version that knew neither Dice nor boundaries."""


@pytest.fixture
def run(tmp_path: Path) -> Run[FinetuneTask]:
    generate_scenes(tmp_path / "scenes", 10, seed=0)
    model = {"backbone": "test_resnet", "head_channels": 8, "size": 32}
    settings = FinetuneSettings.model_validate(
        {
            "data": {"root": tmp_path / "scenes", "batch_size": 2},
            "model": model,
            "train": {"steps": 40, "patience": 3},
        }
    )
    alone, folder = Processes.alone(torch.device("cpu")), RunFolder(tmp_path / "my run")
    folder.path.mkdir()
    write_json(folder.path / RESULT, OLDER)
    return Run("finetune", folder, alone, build(settings, folder, alone), step=12)


def test_a_result_of_an_older_version_is_reported_as_far_as_it_goes(
    run: Run[FinetuneTask],
) -> None:
    stopped, table, summary, best, following = report(run)
    assert stopped == "stopped at step 12: no better mIoU in 3 evaluations"
    assert [column.header for column in table.columns] == ["class", "IoU"]
    assert list(table.columns[1].cells) == ["75.00%", "25.00%", "nowhere", "50.00%", "90.00%"]
    assert "mIoU 50.00% and pixel accuracy 90.00% over 2 images" in summary
    assert "the best is 60.00% at step 8" in best
    assert following == f"next: cp2fast predict '{run.folder.path}' PHOTOS --out DIR"


def test_scores_are_those_of_the_file_until_this_process_has_evaluated(
    run: Run[FinetuneTask],
) -> None:
    assert scores_of(run).miou == 0.5
    run.task.evaluate(12, lambda: None)
    assert scores_of(run) == run.task.result
