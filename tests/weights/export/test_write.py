"""Writing an export: its check and where it goes."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch

from cp2fast.weights.export.write import export
from tests.weights.export.trained_networks import save_pretraining


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_pretraining(tmp_path_factory.mktemp("runs") / "run")


def test_memory_that_runs_out_is_not_taken_for_a_file_that_cannot_be_loaded(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(safetensors.torch, "load_file", lambda _: torch.empty(1 << 50))
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        export(run, "timm", tmp_path / "w.safetensors")
    assert not list(tmp_path.iterdir())
