from pathlib import Path

import pytest

from cp2fast.data.scenes import generate_scenes
from tests.command_line import cp2fast
from tests.finetune.runs import NETWORK, finetune


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight images to train on and two to evaluate, of different sizes."""
    root = tmp_path_factory.mktemp("data") / "scenes"
    generate_scenes(root, 10, seed=5)
    return root


@pytest.fixture(scope="session")
def pretrained(tmp_path_factory: pytest.TempPathFactory, scenes: Path) -> Path:
    out = tmp_path_factory.mktemp("pretrained") / "run"
    settings = ["model.size=32", "model.queue=16", "model.embedding=16", "data.batch_size=3"]
    words = [*NETWORK, *settings, "train.steps=2", "train.device=cpu", f"data.root={scenes}"]
    done = cp2fast("pretrain", *words, "--out", out)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, scenes: Path) -> Path:
    """Nine steps, two an epoch, from random weights, never stopped."""
    out = tmp_path_factory.mktemp("runs") / "undisturbed"
    done = finetune(out, scenes, *NETWORK)
    assert done.returncode == 0, done.stderr
    return out
