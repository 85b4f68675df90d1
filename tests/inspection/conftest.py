"""A small data set and a run on it, shared by the tests of the inspection."""

from pathlib import Path

import pytest

from cp2fast import recipes
from cp2fast.config import PretrainSettings
from cp2fast.data.scenes import generate_scenes
from tests.inspection.tiny import TINY


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve generated scenes with masks, in VOC layout."""
    root = tmp_path_factory.mktemp("data") / "scenes"
    generate_scenes(root, 12, seed=0)
    return root


@pytest.fixture(scope="session")
def settings(scenes: Path) -> PretrainSettings:
    return recipes.load(PretrainSettings, None, [*TINY, f"data.root={scenes}"])
