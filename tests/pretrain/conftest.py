"""Photos and a run on them that was never stopped."""

from pathlib import Path

import pytest

from tests.pretrain.runs import PHOTOS, run, write_photos


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("photos"), PHOTOS)


@pytest.fixture(scope="session")
def undisturbed(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve steps, five an epoch, never stopped."""
    out = tmp_path_factory.mktemp("runs") / "undisturbed"
    done = run(out, photos, "train.steps=12")
    assert done.returncode == 0, done.stderr
    return out
