"""timm's models: weights by its names, from its cache and when there is no network; the list."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub.constants
import pytest
import timm
import torch
from safetensors.torch import save_file

from cp2fast.config import ModelSettings
from cp2fast.errors import UserError
from cp2fast.model.segmenter import build_segmenter
from cp2fast.weights.load import load_weights
from cp2fast.weights.timm import download
from tests.command_line import cp2fast, refusal

SETTINGS = ModelSettings(backbone="resnet18", head="fcn", head_channels=8, embedding=4, size=64)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache and no network, as HF_HUB_CACHE and HF_HUB_OFFLINE=1 would have it."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path


@pytest.fixture
def empty_hub() -> Iterator[str]:
    """The address of a server that has no file."""

    class Empty(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Empty) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def place_in(cache: Path) -> Path:
    """Where the cache has the file of timm/resnet18.a1_in1k."""
    repository = cache / "models--timm--resnet18.a1_in1k"
    (repository / "snapshots/0").mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text("0")
    return repository / "snapshots/0/model.safetensors"


@pytest.mark.parametrize("name", ["timm/resnet18.a1_in1k", "resnet18.a1_in1k", "resnet18"])
def test_a_name_of_timm_is_loaded(cache: Path, name: str) -> None:
    downloaded = timm.create_model("resnet18").state_dict()
    save_file(downloaded, place_in(cache))

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


def test_a_damaged_file_in_the_cache_is_told_from_a_lack_of_network(cache: Path) -> None:
    file = place_in(cache)
    save_file(timm.create_model("resnet18").state_dict(), file)
    file.write_bytes(file.read_bytes()[:1000])
    damaged = rf"timm/resnet18\.a1_in1k in {re.escape(str(cache))} is damaged \(.*\): remove it"
    with pytest.raises(UserError, match=damaged):
        download("timm/resnet18.a1_in1k")


def test_a_proxy_that_refuses_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class ProxyError(Exception):
        """httpx's is neither an OSError nor a RuntimeError."""

    def refused(*_: object, **__: object) -> None:
        raise ProxyError("403 Forbidden")

    monkeypatch.setattr(timm, "create_model", refused)
    with pytest.raises(UserError, match=r"cannot be downloaded here \(403 Forbidden\)"):
        download("timm/resnet18.a1_in1k")


@pytest.mark.slow
def test_before_a_download_a_line_says_so_and_how_to_do_without(
    tmp_path: Path, empty_hub: str
) -> None:
    words = ["pretrain", "data.scenes=8", "data.batch_size=4", "model.init=timm/resnet18.a1_in1k"]
    done = subprocess.run(
        [sys.executable, "-m", "cp2fast", *words, "train.device=cpu"],
        cwd=tmp_path,
        env=os.environ | {"HF_ENDPOINT": empty_hub, "HF_HOME": str(tmp_path / "hub")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    first, last = done.stderr.splitlines()
    assert first.startswith("cp2fast: loading timm/resnet18.a1_in1k")
    assert "HF_HUB_OFFLINE=1" in first
    assert "cannot be downloaded" in last


def test_offline_nothing_is_said_of_a_download(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with pytest.raises(UserError, match=r"a1_in1k cannot be downloaded here \(.* local cache\)"):
        load_weights(build_segmenter(SETTINGS), "timm/resnet18.a1_in1k")
    assert not [record for record in caplog.records if record.name.startswith("cp2fast")]


def test_a_name_that_timm_does_not_know_is_refused() -> None:
    with pytest.raises(UserError, match=r"weights 'resnet50\.a1_im1k': .* timm/resnet50\.a1_in1k"):
        load_weights(build_segmenter(SETTINGS), "timm/resnet50.a1_im1k")


def test_what_is_neither_a_file_nor_a_name_is_refused() -> None:
    with pytest.raises(UserError, match="no weights at resnet18x: name a run folder"):
        load_weights(build_segmenter(SETTINGS), "resnet18x")


def test_backbones_are_listed_with_family_and_weights() -> None:
    done = cp2fast("models", "convnextv2_a*")
    assert done.returncode == 0
    head, row = done.stdout.splitlines()
    assert head.split()[0] == "model.backbone"
    assert row.split()[0] == "convnextv2_atto"
    assert "ConvNeXt, ConvNeXtV2" in row
    assert "fcmae_ft_in1k" in row


def test_part_of_a_name_is_enough_and_what_matches_nothing_is_refused() -> None:
    names = [line.split()[0] for line in cp2fast("models", "dinov3").stdout.splitlines()[1:]]
    assert "vit_small_patch16_dinov3" in names
    assert all("dinov3" in name for name in names)
    assert "no backbone matches 'resnest*': the nearest is" in refusal(
        cp2fast("models", "resnest*")
    )


def test_memory_that_runs_out_is_not_taken_for_a_lack_of_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: torch.empty(1 << 50))
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        download("timm/resnet18.a1_in1k")
