"""An evaluation that a stop breaks off."""

from pathlib import Path

import pytest
import torch

from cp2fast.config import FinetuneSettings, LabelledDataSettings
from cp2fast.data.scenes import generate_scenes
from cp2fast.finetune.evaluate import evaluate
from cp2fast.labels.open import open_labelled
from cp2fast.model.segmenter import build_segmenter
from cp2fast.train.distributed import Ranks
from cp2fast.train.interrupt import StopAsked


def test_a_stop_breaks_it_off_and_the_network_trains_on(tmp_path: Path) -> None:
    root = tmp_path / "scenes"
    generate_scenes(root, 8, seed=0)
    settings = FinetuneSettings.model_validate(
        {
            "data": {"batch_size": 1},
            "model": {"backbone": "test_resnet", "head_channels": 8, "size": 32},
        }
    )
    data = open_labelled(LabelledDataSettings(), root)
    assert len(data.val) > 1
    network = build_segmenter(settings.model, len(data.classes)).train()
    calls = []

    def stop_after_the_first() -> None:
        calls.append(1)
        raise StopAsked

    with pytest.raises(StopAsked):
        evaluate(
            network,
            data,
            settings,
            torch.device("cpu"),
            Ranks(0, 1, 0),
            alive=stop_after_the_first,
        )
    assert len(calls) == 1
    assert network.training
