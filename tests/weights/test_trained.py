"""Trained networks, read from runs and exported files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import cp2fast
from cp2fast.errors import UserError
from cp2fast.model.backbone import feature_map
from cp2fast.weights.trained import open_trained
from tests.weights.export.trained_networks import (
    CLASSES,
    save_finetuning,
    save_in,
    save_pretraining,
)


def test_a_pretraining_gives_its_query_encoder(tmp_path: Path) -> None:
    network = cp2fast.load(save_pretraining(tmp_path / "run"))
    [checkpoint] = (tmp_path / "run/checkpoints").iterdir()
    state = torch.load(checkpoint, weights_only=True)["model"]
    assert not network.training
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, state[f"encoder_q.{name}"])
    assert network.embed(torch.randn(2, 3, 64, 96)).shape == (2, 4, 4, 6)
    assert feature_map(network.backbone, torch.randn(2, 3, 64, 96)).shape == (2, 512, 4, 6)
    assert network.classes == ()


def test_a_finetuning_gives_logits_of_its_classes(tmp_path: Path) -> None:
    network = cp2fast.load(str(save_finetuning(tmp_path / "run")))
    assert network.classes == tuple(CLASSES)
    assert not network.training
    assert network(torch.randn(2, 3, 64, 96)).shape == (2, len(CLASSES), 4, 6)


def test_a_checkpoint_is_read_with_what_is_known_of_its_run(tmp_path: Path) -> None:
    run = save_pretraining(tmp_path / "run")
    [checkpoint] = (run / "checkpoints").iterdir()
    trained = open_trained(checkpoint)
    assert (trained.path, trained.run_folder) == (checkpoint, run)
    assert (trained.facts["step"], trained.facts["images"]) == (7, 20)
    assert trained.model.backbone == "resnet18"
    assert not trained.is_finetuned


def test_memory_that_runs_out_is_not_taken_for_a_fault_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = save_pretraining(tmp_path / "run")
    monkeypatch.setattr(nn.Module, "load_state_dict", lambda *_: torch.empty(1 << 50))
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        open_trained(run)


def test_loading_does_not_touch_the_random_numbers(tmp_path: Path) -> None:
    run = save_pretraining(tmp_path / "run")
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    cp2fast.load(run)
    assert torch.equal(torch.rand(1), expected)


def test_settings_of_another_version_are_passed_over(tmp_path: Path) -> None:
    run = save_pretraining(tmp_path / "run")
    [checkpoint] = (run / "checkpoints").iterdir()
    state = torch.load(checkpoint, weights_only=True)
    state["settings"]["model"]["of_the_future"] = 1
    del state["settings"]["model"]["momentum"]
    torch.save(state, checkpoint)
    assert open_trained(checkpoint).model.head == "fcn"


def test_foreign_weights_are_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": {"conv1.weight": torch.zeros(1)}}, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"w\.pth does not say which network .*model\.init=FILE"):
        cp2fast.load(tmp_path / "w.pth")


@pytest.mark.parametrize("metadata", [{}, {"cp2fast": "no JSON"}, {"cp2fast": "[]"}])
def test_safetensors_of_others_are_refused(tmp_path: Path, metadata: dict[str, str]) -> None:
    save_file({"conv1.weight": torch.zeros(1)}, tmp_path / "w.safetensors", metadata)
    with pytest.raises(UserError, match=r"w\.safetensors does not say which network it holds"):
        cp2fast.load(tmp_path / "w.safetensors")


def test_a_network_that_is_not_as_described_is_refused(tmp_path: Path) -> None:
    state = {"model": {"x": torch.zeros(1)}, "settings": {"model": {}}, "step": 1}
    with pytest.raises(UserError, match="does not hold the network that it describes") as info:
        cp2fast.load(save_in(tmp_path / "run", state))
    assert "\n" not in str(info.value)


@pytest.mark.parametrize(
    "change",
    [{"model": None}, {"model": "x"}, {"settings": {"model": 5}}, {"classes": 3}],
)
def test_a_checkpoint_of_another_shape_is_refused(
    tmp_path: Path, change: dict[str, object]
) -> None:
    run = save_pretraining(tmp_path / "run")
    [checkpoint] = (run / "checkpoints").iterdir()
    torch.save(torch.load(checkpoint, weights_only=True) | change, checkpoint)
    with pytest.raises(UserError, match="does not hold the network that it describes"):
        open_trained(checkpoint)


def test_a_damaged_checkpoint_is_no_archive_to_unpack(tmp_path: Path) -> None:
    run = save_pretraining(tmp_path / "run")
    [checkpoint] = (run / "checkpoints").iterdir()
    content = bytearray(checkpoint.read_bytes())
    content[content.rindex(b"data.pkl")] ^= 1  # in the archive's list of its members
    checkpoint.write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        open_trained(checkpoint)
