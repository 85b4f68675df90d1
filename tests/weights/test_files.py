"""Reading files of weights: every container, and nothing that they hold is run."""

from __future__ import annotations

import argparse
import gzip
import json
import os
import pickle
import random
import tarfile
import zipfile
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from cp2fast.errors import UserError
from cp2fast.weights.files import find_file, read_content
from cp2fast.weights.layouts import METADATA, best_match
from cp2fast.weights.load import find_weights

pytestmark = pytest.mark.slow

WEIGHT = {"weight": torch.arange(3.0)}


def test_safetensors_bring_their_metadata(tmp_path: Path) -> None:
    save_file(WEIGHT, tmp_path / "w.safetensors", {"a": "b"})
    content = read_content(tmp_path / "w.safetensors")
    assert content[METADATA] == {"a": "b"}
    torch.testing.assert_close(content["weight"], WEIGHT["weight"])


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors", "w"])
def test_a_file_is_read_by_its_content_not_its_name(tmp_path: Path, name: str) -> None:
    for save in (torch.save, save_file):
        (tmp_path / name).unlink(missing_ok=True)
        save(WEIGHT, tmp_path / name)
        torch.testing.assert_close(read_content(tmp_path / name)["weight"], WEIGHT["weight"])


def test_a_list_is_read_by_number(tmp_path: Path) -> None:
    torch.save([WEIGHT], tmp_path / "w.pt")
    torch.testing.assert_close(read_content(tmp_path / "w.pt"), {"0": WEIGHT})


def archives(folder: Path) -> dict[str, bytes]:
    torch.save(WEIGHT, folder / "inside.pth")
    with zipfile.ZipFile(folder / "zip", "w") as archive:
        archive.write(folder / "inside.pth", "inside.pth")
    with tarfile.open(folder / "tar", "w") as tar:
        tar.add(folder / "inside.pth", "inside.pth")
    whole = (folder / "inside.pth").read_bytes()
    return {
        "zip": (folder / "zip").read_bytes(),
        "tar": (folder / "tar").read_bytes(),
        "gzip": gzip.compress(whole),
        "cut": whole[: len(whole) // 2],
    }


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("zip", "it is a zip archive; unpack it"),
        ("tar", "it is a tar archive; unpack it"),
        ("gzip", "it is a gzip archive; unpack it"),
        ("cut", "it is incomplete or damaged; fetch it again"),
    ],
)
def test_an_archive_is_told_from_a_cut_file(tmp_path: Path, kind: str, reason: str) -> None:
    (tmp_path / "w.pth").write_bytes(archives(tmp_path)[kind])
    with pytest.raises(UserError, match=f"w.pth cannot be read as weights: {reason}"):
        read_content(tmp_path / "w.pth")


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "an empty file"),
        (b"<!DOCTYPE html><html><head><title>Virus scan warning</title>", "an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 123\n", "a Git LFS"),
    ],
)
def test_what_is_no_weights_is_named(tmp_path: Path, name: str, content: bytes, kind: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{name} cannot be read as weights: it is {kind}"):
        read_content(tmp_path / name)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"no weights at .*w\.pth"):
        find_file(tmp_path / "w.pth")
    with pytest.raises(UserError, match="not a plain file"):
        read_content(tmp_path / "w.pth")


class Malice:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("save", ["torch", "pickle"])
def test_code_in_a_file_is_not_run(tmp_path: Path, save: str) -> None:
    path, touched = tmp_path / "w.pt", tmp_path / "touched"
    content = {"extra": Malice(touched), "state_dict": WEIGHT}
    if save == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content, protocol=2))  # no file of PyTorch
    with pytest.raises(UserError, match=r"would run code when read \(posix\.system\)") as info:
        read_content(path)
    assert "\n" not in str(info.value)
    assert not touched.exists()


class History:
    """What training libraries save beside their weights; it would notice being built."""

    built = 0

    def __init__(self) -> None:
        self.losses = [3.0, 2.0]

    def __setstate__(self, state: object) -> None:
        History.built += 1


class Net(nn.Module):
    """A whole module in a file, with a buffer that its state dict leaves out."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
        self.scale = nn.Parameter(torch.randn(3))
        self.register_buffer("grid", torch.randn(4), persistent=False)
        self.history = History()


BESIDE: dict[str, Callable[[nn.Module], Any]] = {
    "an object": lambda module: {"state_dict": module.state_dict(), "x": History()},
    "objects in containers": lambda module: {
        "model": module.state_dict(),
        "x": [{"y": History()}, {History(): 1}, defaultdict(list, a=[1]), {1, 2}],
    },
    "a module": lambda module: {"model": module, "epoch": 1},
    "nothing else": lambda module: module,
    "a list": lambda module: [module.state_dict(), History()],
    "numpy's arrays": lambda module: {"model": module.state_dict(), "x": np.zeros(3)},
    "command-line arguments": lambda module: {
        "model": module.state_dict(),
        "args": argparse.Namespace(lr=0.1),
    },
}


@pytest.mark.parametrize("beside", BESIDE)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_of_what_lies_beside_the_weights_nothing_is_built(
    tmp_path: Path, beside: str, zipped: bool
) -> None:
    module = Net()
    torch.save(BESIDE[beside](module), tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    History.built = 0
    content = read_content(tmp_path / "w.pth")
    assert History.built == 0
    match = best_match(content, module.state_dict())
    assert match.unexpected == []
    torch.testing.assert_close(match.tensors, dict(module.state_dict()))


def test_a_pickle_of_another_protocol_is_read(tmp_path: Path) -> None:
    torch.save({"w": WEIGHT, "x": History()}, tmp_path / "w.pt", pickle_protocol=4)
    torch.testing.assert_close(read_content(tmp_path / "w.pt")["w"], WEIGHT)


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
@pytest.mark.parametrize("content", [b"", b"not weights", b"\x09\0\0\0\0\0\0\0{damaged}"])
def test_a_damaged_file_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{name} cannot be read as weights: ") as info:
        read_content(tmp_path / name)
    assert "\n" not in str(info.value)


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    torch.save(WEIGHT, tmp_path / "w.pt")
    whole = (tmp_path / "w.pt").read_bytes()
    (tmp_path / "w.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"w\.pt cannot be read as weights: "):
        read_content(tmp_path / "w.pt")


@pytest.mark.parametrize("beside", [{"epoch": 3}, {"args": argparse.Namespace(a=[1])}])
def test_a_file_damaged_anywhere_gives_its_content_or_a_line(
    tmp_path: Path, beside: dict[str, Any]
) -> None:
    path = tmp_path / "w.pth"
    torch.save(WEIGHT | beside, path, _use_new_zipfile_serialization=False)
    whole, draw = path.read_bytes(), random.Random(0)
    values = sorted(set(range(256)) - set(pickle.LONG_BINPUT))  # it fills memory up to its number
    damaged = [whole[:end] for end in range(len(whole))]
    for _ in range(200):
        flipped = bytearray(whole)
        flipped[draw.randrange(len(whole))] = draw.choice(values)
        damaged.append(bytes(flipped))
    for content in damaged:
        path.write_bytes(content)
        with suppress(UserError, MemoryError):  # a length may become any number
            read_content(path)


@pytest.mark.parametrize("plain", [True, False], ids=["tensors", "and_more"])
def test_memory_that_runs_out_while_one_is_read_is_not_taken_for_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plain: bool
) -> None:
    def load(*_: object, weights_only: bool, **__: object) -> object:
        if weights_only != plain:
            raise pickle.UnpicklingError("it holds more than tensors")
        return torch.empty(1 << 50)

    torch.save(WEIGHT, tmp_path / "w.pt")
    monkeypatch.setattr(torch, "load", load)
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        read_content(tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("w" * 300, "cannot be read .*name too long"),
        ("w\0", "cannot be read .*embedded null"),
        ("~nobody.pth", "no weights at ~nobody"),
    ],
    ids=["too long", "zero", "nobody's home"],
)
def test_a_name_that_no_file_can_have_is_refused_in_a_line(name: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        find_weights(name)
    with pytest.raises(UserError, match=reason):
        find_file(Path(name))


def test_a_path_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no weights at .*nowhere\.pt: name .* a state dict$"):
        find_file(tmp_path / "nowhere.pt")
    with pytest.raises(UserError, match="not a run folder with a checkpoint"):
        find_file(tmp_path)


def test_a_damaged_block_in_a_file_of_weights_is_never_read_in_silence(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save({"weight": torch.randn(100_000)}, path)
    assert len(read_content(path)["weight"]) == 100_000
    data = bytearray(path.read_bytes())
    data[200_000:204_096] = bytes(4096)
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"weights\.pt is damaged .*checksum"):
        read_content(path)


def test_of_a_run_the_best_intact_checkpoint_is_found_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "checkpoints").mkdir()
    for name in ("best.pt", "step_000000001.pt", "step_000000002.pt", "step_zzz.pt"):
        torch.save({"weight": torch.zeros(2000)}, tmp_path / "checkpoints" / name)
    best, newest = (tmp_path / "checkpoints" / n for n in ("best.pt", "step_000000002.pt"))
    assert find_file(tmp_path) == best
    assert str(best) in capsys.readouterr().out
    best.write_bytes(best.read_bytes()[:-100])
    assert find_file(tmp_path) == newest
    assert f"{best} is damaged" in caplog.messages[-1]
    assert find_file(newest) == newest


@pytest.mark.parametrize("part", [1, "", ".", "model.safetensors.index.json"])
def test_an_index_that_lists_no_files_of_weights_is_refused(tmp_path: Path, part: object) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"conv1.weight": part}}))
    with pytest.raises(UserError, match=r"index\.json is not an index of weights"):
        read_content(index)
