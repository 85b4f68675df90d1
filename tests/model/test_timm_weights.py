"""Pretrained weights by timm's names, from its cache and when there is no network."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub.constants
import pytest
import timm
import torch
from safetensors.torch import save_file

from cp2fast.config import ModelSettings
from cp2fast.errors import UserError
from cp2fast.model.segmenter import build_segmenter
from cp2fast.model.weights import load_weights

SETTINGS = ModelSettings(backbone="resnet18", head="fcn", head_channels=8, embedding=4, size=64)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache and no network, as HF_HUB_CACHE and HF_HUB_OFFLINE=1 would have it."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path


@pytest.mark.parametrize("name", ["timm/resnet18.a1_in1k", "resnet18.a1_in1k", "resnet18"])
def test_a_name_of_timm_is_loaded(cache: Path, name: str) -> None:
    downloaded = timm.create_model("resnet18").state_dict()
    repository = cache / "models--timm--resnet18.a1_in1k"
    (repository / "snapshots/0").mkdir(parents=True)
    save_file(downloaded, repository / "snapshots/0/model.safetensors")
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text("0")

    network = build_segmenter(SETTINGS)
    report = load_weights(network, name)
    assert report.unexpected == ["fc.weight", "fc.bias"]
    expected = {n: t for n, t in downloaded.items() if not n.startswith("fc.")}
    torch.testing.assert_close(dict(network.backbone.state_dict()), expected, rtol=0, atol=0)


def test_without_a_network_one_line_says_what_to_do(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(UserError, match=r"timm/resnet18\.a1_in1k cannot be downloaded") as info:
        load_weights(build_segmenter(SETTINGS), "timm/resnet18.a1_in1k")
    assert "\n" not in str(info.value)
    assert "model.init=FILE.safetensors" in str(info.value)
    assert "huggingface_hub" not in {record.name.split(".")[0] for record in caplog.records}


def test_a_name_that_timm_does_not_know_is_refused() -> None:
    with pytest.raises(UserError, match=r"weights 'resnet50\.a1_im1k': .* timm/resnet50\.a1_in1k"):
        load_weights(build_segmenter(SETTINGS), "timm/resnet50.a1_im1k")


def test_what_is_neither_a_file_nor_a_name_is_refused() -> None:
    with pytest.raises(UserError, match="no weights at resnet18x: name a run folder"):
        load_weights(build_segmenter(SETTINGS), "resnet18x")
