"""Writing an export: its check and where it goes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import safetensors.torch
import torch

from cp2fast.errors import UserError
from cp2fast.weights.export.model_card import card_path, model_card
from cp2fast.weights.export.write import FORMATS, export
from tests.weights.export.trained_networks import pretrained, save_pretraining


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


@pytest.mark.parametrize(
    "to", ["timm", "torchvision", "safetensors", pytest.param("onnx", marks=pytest.mark.slow)]
)
def test_the_code_of_a_card_agrees_with_the_card_whatever_the_name_and_the_normalisation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str
) -> None:
    trained, file = pretrained(tmp_path), f"the 'w\"{FORMATS[to].suffixes[0]}"
    trained.network.mean = (0.5, 0.5, 0.5)
    exported = FORMATS[to].prepare(trained, file)
    card = model_card(trained, exported, file, 0.0)
    assert "ImageNet" not in card
    assert "normalised with mean [0.5, 0.5, 0.5]" in card
    (tmp_path / file).write_bytes(exported.content)
    monkeypatch.chdir(tmp_path)
    exec(exported.usage, {})  # noqa: S102


def test_a_path_may_begin_at_home(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert export(run, "timm", "~/w.pth") == tmp_path / "w.pth"
    assert (tmp_path / "w.pth.md").exists()


@pytest.mark.parametrize(
    ("name", "reason"),
    [("w" * 300, "name too long"), ("w" * 250, "name too long"), ("w\0", "embedded null")],
    ids=["too long", "too long with its card", "zero"],
)
def test_a_name_that_no_file_can_have_is_refused_in_a_line(
    run: Path, tmp_path: Path, name: str, reason: str
) -> None:
    with pytest.raises(UserError, match=reason):
        export(run, "timm", tmp_path / f"{name}.pth")


@pytest.mark.parametrize("name", ["w.pth", "w.pth.md"])
def test_a_broken_link_is_not_replaced(run: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).symlink_to("on a disk that is not mounted")
    with pytest.raises(UserError, match=f"{name} exists already"):
        export(run, "timm", tmp_path / "w.pth")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).is_symlink()


def test_a_card_bears_any_name(tmp_path: Path) -> None:
    odd = os.fsdecode(b"a|b\n\xff")
    save_pretraining(tmp_path / "run", root=odd)
    export(tmp_path / "run", "timm", tmp_path / f"{odd}.pth")
    card = (tmp_path / f"{odd}.pth.md").read_text("utf-8").splitlines()
    assert card[0] == r"# a|b\n\udcff.pth"
    assert r"| data | a\|b\n\udcff |" in card


def test_a_file_whose_card_cannot_be_written_is_not_left_behind(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, read = tmp_path / "w.safetensors", safetensors.torch.load_file

    def read_while_the_place_is_taken(file: Path) -> dict[str, torch.Tensor]:
        card_path(out).mkdir()
        return read(file)

    monkeypatch.setattr(safetensors.torch, "load_file", read_while_the_place_is_taken)
    with pytest.raises(UserError, match="cannot write"):
        export(run, "timm", out)
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors.md"]
