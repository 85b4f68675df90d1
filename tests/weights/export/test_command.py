"""``cp2fast export`` from a real run to every format; what it refuses; the model card at work."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import cp2fast
from cp2fast.cli import main
from cp2fast.model.backbone import feature_map
from tests.weights.export.trained_networks import save_finetuning, save_pretraining

pytestmark = pytest.mark.slow

PRETRAIN = [
    *["pretrain", "data.scenes=8", "train.steps=2", "train.device=cpu", "model.queue_start=random"],
    *["model.size=32", "model.head_channels=8", "model.head=aspp", "data.batch_size=4"],
]


def command(patch: pytest.MonkeyPatch, *words: object) -> int:
    patch.setattr(sys, "argv", ["cp2fast", *map(str, words)])
    try:
        main()
    except SystemExit as done:
        return int(done.code or 0)
    return 0


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run ``pretrain``, from the command, and two made by hand."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert command(patch, *PRETRAIN, "--out", "pretrain") == 0
    save_finetuning(folder / "finetune")
    save_pretraining(folder / "transformer", backbone="vit_tiny_patch16_224")
    return folder


@pytest.mark.parametrize(
    ("run", "to", "file"),
    [
        ("pretrain", "timm", "resnet18_step2_timm.safetensors"),
        ("pretrain", "torchvision", "resnet18_step2_torchvision.pth"),
        ("pretrain", "mmseg", "resnet18_step2_mmseg.pth"),
        ("pretrain", "safetensors", "resnet18_step2.safetensors"),
        pytest.param("pretrain", "onnx", "resnet18_step2.onnx", marks=pytest.mark.slow),
        ("finetune", "timm", "resnet18_step9_timm.safetensors"),
        ("finetune", "safetensors", "resnet18_step9.safetensors"),
        ("transformer", "timm", "vit_tiny_patch16_224_step7_timm.safetensors"),
        ("transformer", "mmseg", "vit_tiny_patch16_224_step7_mmseg.pth"),
    ],
)
def test_a_run_is_exported_with_a_card_whose_code_works(
    runs: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    run: str,
    to: str,
    file: str,
) -> None:
    assert command(monkeypatch, "export", runs / run, "--to", to) == 0
    folder = runs / run / "export"
    assert re.search(r"outputs differ from the network's by \d\.\de", capsys.readouterr().out)
    assert not [path for path in folder.iterdir() if "partial" in path.name]

    card = (folder / f"{file}.md").read_text()
    [code] = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102
    network = cp2fast.load(runs / run)
    with torch.no_grad():
        images = torch.as_tensor(names.get("images", torch.zeros(1, 3, 32, 32)))
        if "features" in names and to != "torchvision":
            features = feature_map(network.backbone, images)
            torch.testing.assert_close(names["features"], features)
        if "embedding" in names:
            embedding = torch.as_tensor(names["embedding"])
            torch.testing.assert_close(embedding, network.embed(images), rtol=1e-3, atol=1e-4)
        if "labels" in names:
            assert names["labels"].shape == images[:, 0].shape
    assert {"features", "embedding", "labels", "model", "state"} & set(names)


def test_the_card_tells_of_the_training(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = runs / "card" / "w.pth"
    assert command(monkeypatch, "export", runs / "pretrain", "--to", "timm", "--out", out) == 0
    card = out.with_name("w.pth.md").read_text()
    assert "| images | 8 |" in card
    assert "| steps | 2 |" in card
    assert re.search(r"\| loss \| \d\.\d{4} in the first tenth of the run, \d\.\d{4} in the", card)
    assert re.search(r"```yaml\ndata:\n  root: demo-data\n.*backbone: resnet18\n", card, re.DOTALL)


def test_the_card_of_a_finetuning_has_its_result(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = runs / "card" / "finetuned.pth"
    assert command(monkeypatch, "export", runs / "finetune", "--to", "mmseg", "--out", out) == 0
    card = out.with_name("finetuned.pth.md").read_text()
    assert "| loss | 2.0000 in the first tenth of the run, 1.5000 in the last |" in card
    assert "| miou | 0.2500 |" in card
    assert "| classes | ground, ball, box |" in card
    assert "YAML file for cp2fast finetune-voc" in card


def test_an_exported_file_can_be_exported_again(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, backbone = tmp_path / "w.safetensors", tmp_path / "w.pth"
    words = ["--to", "safetensors", "--out", whole]
    assert command(monkeypatch, "export", runs / "finetune", *words) == 0
    assert command(monkeypatch, "export", whole, "--to", "timm", "--out", backbone) == 0
    again = torch.load(backbone, weights_only=True)
    torch.testing.assert_close(again, dict(cp2fast.load(whole).backbone.state_dict()))


def refusal(capsys: pytest.CaptureFixture[str]) -> str:
    [line] = capsys.readouterr().err.strip().splitlines()
    return line


@pytest.mark.parametrize("in_the_way", ["w.pth", "w.pth.md"])
def test_nothing_is_overwritten(
    runs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    in_the_way: str,
) -> None:
    (tmp_path / in_the_way).write_text("precious")
    out = tmp_path / "w.pth"
    assert command(monkeypatch, "export", runs / "finetune", "--to", "timm", "--out", out) == 2
    assert f"{in_the_way} exists and is not overwritten" in refusal(capsys)
    assert [p.name for p in tmp_path.iterdir()] == [in_the_way]
    assert (tmp_path / in_the_way).read_text() == "precious"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["finetune", "--to", "tim"], "--to tim is not a format: choose timm, torchvision, mmseg"),
        (["finetune", "--to", "onnx", "--out", "w.pth"], "w.pth must end in .onnx for --to onnx"),
        (["nowhere", "--to", "timm"], "no weights at nowhere: name a run folder"),
        (["empty", "--to", "timm"], "empty is not a run folder with a checkpoint"),
        (["finetune"], "to"),
    ],
)
def test_wrong_words_are_refused_in_one_line(
    runs: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(runs)
    (runs / "empty").mkdir(exist_ok=True)
    assert command(monkeypatch, "export", *words) == 2
    assert message in refusal(capsys)


@pytest.mark.parametrize("to", ["timm", "safetensors"])
def test_a_file_that_fails_its_check_is_not_left_behind(
    runs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    to: str,
) -> None:
    """A network whose training diverged gives no numbers that could be compared."""
    shutil.copytree(runs / "finetune/checkpoints", tmp_path / "checkpoints")
    [checkpoint] = (tmp_path / "checkpoints").iterdir()
    state = torch.load(checkpoint, weights_only=True)
    state["model"]["backbone.conv1.weight"].fill_(torch.nan)
    torch.save(state, checkpoint)
    assert command(monkeypatch, "export", tmp_path, "--to", to) == 2
    assert re.search(r"was deleted: read back by .* are the losses of the run", refusal(capsys))
    assert list((tmp_path / "export").iterdir()) == []
