import pickle
from pathlib import Path

import pytest
import torch

from cp2fast.errors import UserError
from cp2fast.train.checkpoint import list_checkpoints, load_checkpoint, save_checkpoint


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    state = {"model": {"weight": torch.randn(3, 4)}, "step": 7, "versions": {"torch": "2"}}
    loaded = load_checkpoint(save_checkpoint(tmp_path, 7, state, keep=2))
    assert torch.equal(loaded["model"]["weight"], state["model"]["weight"])
    assert loaded["step"] == 7


def test_the_newest_are_kept(tmp_path: Path) -> None:
    for step in (8, 9, 10, 100):
        save_checkpoint(tmp_path, step, {"step": step}, keep=2)
    assert [load_checkpoint(path)["step"] for path in list_checkpoints(tmp_path)] == [10, 100]


def test_a_file_cut_short_is_refused_in_one_line(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, 1, {"weight": torch.randn(1000)}, keep=1)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(UserError, match=r"step_000000001\.pt cannot be read") as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)


def test_what_a_killed_save_left_behind_goes_with_the_next_one(tmp_path: Path) -> None:
    (tmp_path / ".step_000000001.pt.4711.partial").write_bytes(b"half of a checkpoint")
    path = save_checkpoint(tmp_path, 2, {"weight": torch.zeros(1)}, keep=1)
    assert list(tmp_path.iterdir()) == [path]


class Trap:
    def __reduce__(self):
        return (exit, (3,))


def test_code_inside_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    for name, save in (("zip.pt", torch.save), ("raw.pt", _pickle)):
        path = tmp_path / name
        save({"model": Trap()}, path)
        with pytest.raises(UserError, match="cannot be read"):
            load_checkpoint(path)


def _pickle(state: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(state))


def test_a_tensor_alone_is_no_checkpoint(tmp_path: Path) -> None:
    torch.save(torch.zeros(2), tmp_path / "tensor.pt")
    with pytest.raises(UserError, match="not a checkpoint"):
        load_checkpoint(tmp_path / "tensor.pt")
