"""Reading files of weights: every container, and nothing that they hold is run."""

from __future__ import annotations

import argparse
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from cp2fast.errors import UserError
from cp2fast.weights.files import METADATA, find_file, read_content, tensors_of

WEIGHT = {"weight": torch.arange(3.0)}


@pytest.mark.parametrize(
    "content",
    [
        WEIGHT,
        {"state_dict": WEIGHT, "args": argparse.Namespace(lr=0.1)},
        {"model": WEIGHT, "step": 3},
        {"teacher": WEIGHT, "student": {"weight": torch.zeros(3)}},
        {"model": {"state_dict": WEIGHT}},
    ],
)
def test_the_tensors_are_found_in_what_is_around_them(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "w.pt")
    tensors = tensors_of(read_content(tmp_path / "w.pt"))
    torch.testing.assert_close(tensors, WEIGHT)


def test_safetensors_bring_their_metadata(tmp_path: Path) -> None:
    save_file(WEIGHT, tmp_path / "w.safetensors", {"a": "b"})
    content = read_content(tmp_path / "w.safetensors")
    assert content[METADATA] == {"a": "b"}
    assert list(tensors_of(content)) == ["weight"]


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
        path.write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(UserError, match=r"would run code when read \(posix\.system\)") as info:
        read_content(path)
    assert "\n" not in str(info.value)
    assert not touched.exists()


def test_the_advice_for_a_file_that_needs_code_works(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save({"state_dict": WEIGHT, "meta": {"PALETTE": np.zeros(3)}}, path)
    with pytest.raises(UserError, match=r"would run code when read \(numpy\.") as info:
        read_content(path)
    [command] = re.findall(r'python -c ".*"', str(info.value))
    path_of_python = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(  # noqa: S602
        command, shell=True, check=True, env={**os.environ, "PATH": path_of_python}
    )
    torch.testing.assert_close(read_content(tmp_path / "w_tensors.pt"), WEIGHT)


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


def test_a_path_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no weights at .*nowhere\.pt"):
        find_file(tmp_path / "nowhere.pt")
    with pytest.raises(UserError, match="not a run folder with a checkpoint"):
        find_file(tmp_path)
