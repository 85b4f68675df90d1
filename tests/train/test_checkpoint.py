import pickle
import threading
from pathlib import Path

import pytest
import torch

from cp2fast.errors import UserError
from cp2fast.run_folder import BEST, checkpoint_name, list_checkpoints, newest_intact
from cp2fast.train.checkpoint import Saver, load_checkpoint, write_checkpoint

CPU = torch.device("cpu")


def save_all(folder: Path, steps: list[int], keep: int, keep_each: int | None = None) -> None:
    saver = Saver(folder, CPU, keep, keep_each)
    for step in steps:
        saver.save({"step": step}, checkpoint_name(step))
    saver.wait()
    saver.close()


def steps_in(folder: Path) -> list[int]:
    return [load_checkpoint(path)["step"] for path in list_checkpoints(folder)]


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    state = {
        "model": {"weight": torch.randn(3, 4, 2, 2).to(memory_format=torch.channels_last)},
        "optimizer": {"state": {0: {"step": torch.tensor(7.0)}}, "groups": [{"lr": 0.1}]},
        "best": (0.5, 3),
        "step": 7,
    }
    saver = Saver(tmp_path, CPU, keep=2)
    saver.save(state, "state.pt")
    saver.close()
    loaded = load_checkpoint(tmp_path / "state.pt")
    assert torch.equal(loaded["model"]["weight"], state["model"]["weight"])
    assert loaded["model"]["weight"].stride() == state["model"]["weight"].stride()
    assert loaded["optimizer"]["state"][0]["step"].item() == 7
    assert loaded["optimizer"]["groups"] == [{"lr": 0.1}]
    assert list(loaded["best"]) == [0.5, 3]


def test_the_state_may_change_while_it_is_written(tmp_path: Path) -> None:
    weight = torch.zeros(2_000_000)
    saver = Saver(tmp_path, CPU, keep=3)
    for step in (1, 2, 3):
        saver.save({"weight": weight, "step": step}, checkpoint_name(step))
        weight += 1
    saver.wait()
    saver.close()
    for step, path in enumerate(list_checkpoints(tmp_path)):
        assert load_checkpoint(path)["weight"].eq(step).all()


def test_memory_reserved_ahead_is_what_is_copied_into(tmp_path: Path) -> None:
    saver = Saver(tmp_path, CPU, keep=1)
    saver.reserve({"weight": torch.zeros(10)})
    saver.save({"weight": torch.ones(10)}, "state.pt")
    saver.close()
    assert load_checkpoint(tmp_path / "state.pt")["weight"].eq(1).all()


def test_the_newest_are_kept(tmp_path: Path) -> None:
    save_all(tmp_path, [8, 9, 10, 100], keep=2)
    assert steps_in(tmp_path) == [10, 100]


def test_besides_those_of_each_so_many_steps_are_kept(tmp_path: Path) -> None:
    save_all(tmp_path, [3, 4, 6, 9, 10, 11], keep=1, keep_each=3)
    assert steps_in(tmp_path) == [3, 6, 9, 11]


@pytest.mark.parametrize(("damaged", "keep"), [([200, 300], 2), ([200], 1)])
def test_damaged_checkpoints_that_the_run_went_back_past_do_not_count_as_the_newest(
    tmp_path: Path, damaged: list[int], keep: int
) -> None:
    save_all(tmp_path, [100, *damaged], keep=9)
    for step in damaged:
        (tmp_path / checkpoint_name(step)).write_bytes(b"damaged")
    save_all(tmp_path, [150], keep)
    assert newest_intact(tmp_path, lambda line: None) == tmp_path / checkpoint_name(150)
    intact = [100, 150][-keep:]
    assert list_checkpoints(tmp_path) == [
        tmp_path / checkpoint_name(step) for step in (*intact, *damaged)
    ]


def test_saving_the_best_one_deletes_nothing(tmp_path: Path) -> None:
    save_all(tmp_path, [1, 2, 3], keep=9)
    saver = Saver(tmp_path, CPU, keep=1)
    saver.save({"step": 1}, BEST)
    saver.close()
    assert steps_in(tmp_path) == [1, 2, 3]


def test_other_files_are_neither_counted_nor_deleted(tmp_path: Path) -> None:
    for name in ("best.pt", "step_best.pt", "step_000000001.pt.bak", "step_1.pt"):
        (tmp_path / name).write_bytes(b"mine")
    save_all(tmp_path, [2, 3], keep=1)
    assert steps_in(tmp_path) == [3]
    assert len(list(tmp_path.iterdir())) == 5


def test_a_failed_write_is_told_by_the_next_call_and_leaves_the_rest(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    saver = Saver(folder, CPU, keep=1)
    saver.save({"step": 1}, checkpoint_name(1))
    saver.wait()
    folder.rename(tmp_path / "moved")
    saver.save({"step": 2}, checkpoint_name(2))
    with pytest.raises(FileNotFoundError, match=r"step_000000002\.pt"):
        saver.wait()
    assert saver.has_failed
    saver.close()
    assert steps_in(tmp_path / "moved") == [1]


def test_no_thread_is_left_over(tmp_path: Path) -> None:
    save_all(tmp_path, [1], keep=1)
    assert not [t for t in threading.enumerate() if t.name.startswith("cp2fast-save")]


def test_a_file_cut_short_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / checkpoint_name(1)
    write_checkpoint(path, {"weight": torch.randn(1000)})
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(UserError, match=r"step_000000001\.pt cannot be read") as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)


def test_what_a_killed_save_left_behind_goes_with_the_next_one(tmp_path: Path) -> None:
    (tmp_path / ".step_000000001.pt.4711.partial").write_bytes(b"half of a checkpoint")
    (tmp_path / ".best.pt.4711.partial").write_bytes(b"half of another")
    write_checkpoint(tmp_path / "step_000000002.pt", {"weight": torch.zeros(1)})
    assert [path.name for path in tmp_path.iterdir()] == ["step_000000002.pt"]


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


def test_memory_that_runs_out_while_one_is_read_is_not_taken_for_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_checkpoint(tmp_path / "state.pt", {"step": 1})
    monkeypatch.setattr(torch, "load", lambda *_, **__: torch.empty(1 << 50))
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        load_checkpoint(tmp_path / "state.pt")


@pytest.mark.gpu
def test_a_copy_from_the_gpu_is_of_the_weights_as_they_were(tmp_path: Path) -> None:
    device = torch.device("cuda")
    weight, saver = torch.zeros(50_000_000, device=device), Saver(tmp_path, device, keep=9)
    for step in (1, 2, 3):
        saver.save({"weight": weight, "step": step}, checkpoint_name(step))
        weight += 1
    saver.wait()
    saver.close()
    for step, path in enumerate(list_checkpoints(tmp_path)):
        assert load_checkpoint(path)["weight"].eq(step).all()
