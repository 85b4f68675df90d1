"""docs/weights.md: its Python runs as it stands, on runs and files of the kinds that it names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision

import cp2fast
from cp2fast import recipes
from cp2fast.config import PretrainSettings
from tests.weights.export.trained_networks import save_finetuning, save_pretraining

PAGE = (Path(__file__).parents[1] / "docs/weights.md").read_text(encoding="utf-8")
MOCO = "moco_v2_800ep_pretrain.pth.tar"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    save_pretraining(folder / "runs/demo", size=96, embedding=128)
    save_finetuning(folder / "runs/finetune-demo")
    exported = re.findall(r"\"(runs/demo/export/.*)\"", PAGE)
    cp2fast.export(folder / "runs/demo", "timm", folder / exported[0])
    moco = torchvision.models.resnet50().state_dict()
    query = {f"module.encoder_q.{n}": t for n, t in moco.items() if not n.startswith("fc.")}
    head = {
        f"module.encoder_q.fc.{layer}.{name}": torch.zeros(1)
        for layer in (0, 2)
        for name in ("weight", "bias")
    }
    torch.save({"epoch": 800, "arch": "resnet50", "state_dict": query | head}, folder / MOCO)
    return folder


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL))
def test_an_example_runs(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], code: str
) -> None:
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102
    if "embedding" in names:
        assert names["embedding"].shape == (2, 128, 6, 6)
        assert names["features"].shape == (2, 512, 6, 6)
    if MOCO in code:
        [report] = re.findall(r"^ {4}(matched .*)$", PAGE, re.MULTILINE)
        assert capsys.readouterr().out.strip() == report


def test_the_exported_file_is_that_of_the_demo_at_its_last_step() -> None:
    demo = recipes.load(PretrainSettings, "demo", [])
    steps = demo.data.scenes // demo.data.batch_size * demo.train.epochs
    assert f"{demo.model.backbone}_step{steps}_timm.safetensors" in PAGE
