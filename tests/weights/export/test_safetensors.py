"""The whole network in one file: weights, settings and classes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

import cp2fast
from cp2fast.config import ModelSettings
from cp2fast.model.segmenter import build_segmenter
from cp2fast.weights.export.safetensors import export_safetensors
from cp2fast.weights.load import load_weights
from cp2fast.weights.trained import open_trained
from tests.weights.export.trained_networks import CLASSES, SETTINGS, finetuned, pretrained


@pytest.mark.parametrize("kind", [pretrained, finetuned])
def test_the_network_comes_back_with_its_history(tmp_path: Path, kind: type) -> None:
    trained = kind(tmp_path)
    exported = export_safetensors(trained, "w.safetensors")
    path = tmp_path / "w.safetensors"
    path.write_bytes(exported.content)
    assert exported.check(path) <= exported.tolerance
    again = open_trained(path)
    assert again.facts == trained.facts
    state = dict(again.network.state_dict())
    torch.testing.assert_close(state, dict(trained.network.state_dict()), rtol=0, atol=0)
    assert cp2fast.load(path).classes == (tuple(CLASSES) if kind is finetuned else ())
    with safe_open(path, framework="np") as file:  # for readers that know nothing of cp2fast
        assert set(file.keys()) == set(state)
        assert json.loads(file.metadata()["cp2fast"])["settings"]["model"]["size"] == 64


def test_the_file_is_a_start_for_another_run(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(export_safetensors(pretrained(tmp_path), path.name).content)
    report = load_weights(build_segmenter(ModelSettings(**SETTINGS)), path)
    assert (report.missing, report.unexpected) == ([], [])
