"""``cp2fast export`` from a real run to every format; what it refuses; the model card at work."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import cp2fast
from cp2fast.model.backbone import feature_map
from tests import command_line
from tests.command_line import Done, refusal
from tests.weights.export.trained_networks import save_finetuning, save_pretraining

pytestmark = pytest.mark.slow

PRETRAIN = [
    *["pretrain", "data.scenes=8", "train.steps=2", "train.device=cpu", "model.queue_start=random"],
    *["model.size=32", "model.head_channels=8", "model.head=aspp", "data.batch_size=4"],
]


def export(run: str | Path, to: str, out: Path | None = None) -> Done:
    chosen = [] if out is None else ["--out", out]
    return command_line.cp2fast("export", run, "--to", to, *chosen)


def exported(run: str | Path, to: str, out: Path | None = None) -> str:
    """What is printed by an export that succeeds."""
    done = export(run, to, out)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run ``pretrain``, from the command, and two made by hand."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert command_line.cp2fast(*PRETRAIN, "--out", "pretrain").returncode == 0
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
        ("pretrain", "onnx", "resnet18_step2.onnx"),
        ("finetune", "timm", "resnet18_step9_timm.safetensors"),
        ("finetune", "safetensors", "resnet18_step9.safetensors"),
        ("transformer", "timm", "vit_tiny_patch16_224_step7_timm.safetensors"),
        ("transformer", "mmseg", "vit_tiny_patch16_224_step7_mmseg.pth"),
    ],
)
def test_a_run_is_exported_with_a_card_whose_code_works(
    runs: Path, monkeypatch: pytest.MonkeyPatch, run: str, to: str, file: str
) -> None:
    assert re.search(r"outputs differ from the network's by \d\.\de", exported(runs / run, to))
    folder = runs / run / "export"
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


def test_the_card_tells_of_the_training(runs: Path, tmp_path: Path) -> None:
    exported(runs / "pretrain", "timm", tmp_path / "w.pth")
    card = (tmp_path / "w.pth.md").read_text()
    assert "| images | 8 |" in card
    assert "| steps | 2 |" in card
    assert re.search(r"\| loss \| \d\.\d{4} in the first tenth of the run, \d\.\d{4} in the", card)
    assert re.search(r"```yaml\ndata:\n  root: demo-data\n.*backbone: resnet18\n", card, re.DOTALL)


def test_the_card_of_a_finetuning_has_its_result(runs: Path, tmp_path: Path) -> None:
    exported(runs / "finetune", "mmseg", tmp_path / "w.pth")
    card = (tmp_path / "w.pth.md").read_text()
    assert "| loss | 2.0000 in the first tenth of the run, 1.5000 in the last |" in card
    assert "| miou | 0.2500 |" in card
    assert "| classes | ground, ball, box |" in card
    assert "YAML file for cp2fast finetune-voc" in card


def test_an_exported_file_can_be_exported_again(runs: Path, tmp_path: Path) -> None:
    whole, backbone = tmp_path / "w.safetensors", tmp_path / "w.pth"
    exported(runs / "finetune", "safetensors", whole)
    exported(whole, "timm", backbone)
    again = torch.load(backbone, weights_only=True)
    torch.testing.assert_close(again, dict(cp2fast.load(whole).backbone.state_dict()))


@pytest.mark.parametrize("in_the_way", ["w.pth", "w.pth.md"])
def test_nothing_is_overwritten(runs: Path, tmp_path: Path, in_the_way: str) -> None:
    (tmp_path / in_the_way).write_text("precious")
    line = refusal(export(runs / "finetune", "timm", tmp_path / "w.pth"))
    assert f"{in_the_way} exists already: remove it, or name another" in line
    assert [p.name for p in tmp_path.iterdir()] == [in_the_way]
    assert (tmp_path / in_the_way).read_text() == "precious"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["finetune", "--to", "tim"],
            "cp2fast: tim is not a format: choose timm, torchvision, mmseg",
        ),
        (
            ["finetune", "--to", "onnx", "--out", "w.pth"],
            "cp2fast: w.pth must end in .onnx for onnx",
        ),
        (["nowhere", "--to", "timm"], "no weights at nowhere: name a run folder"),
        (["empty", "--to", "timm"], "empty is not a run folder with a checkpoint"),
        (["finetune"], "to"),
    ],
)
def test_wrong_words_are_refused_in_one_line(
    runs: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    monkeypatch.chdir(runs)
    (runs / "empty").mkdir(exist_ok=True)
    assert message in refusal(command_line.cp2fast("export", *words))


@pytest.mark.parametrize("to", ["timm", "safetensors"])
def test_a_file_that_fails_its_check_is_not_left_behind(
    runs: Path, tmp_path: Path, to: str
) -> None:
    """A network whose training diverged gives no numbers that could be compared."""
    shutil.copytree(runs / "finetune/checkpoints", tmp_path / "checkpoints")
    [checkpoint] = (tmp_path / "checkpoints").iterdir()
    state = torch.load(checkpoint, weights_only=True)
    state["model"]["backbone.conv1.weight"].fill_(torch.nan)
    torch.save(state, checkpoint)
    line = refusal(export(tmp_path, to))
    assert re.search(r"was deleted: read back by .* are the losses of the run", line)
    assert list((tmp_path / "export").iterdir()) == []
