"""What ``cp2fast pretrain`` says at its end: commands that work as they are printed."""

import shlex
from pathlib import Path

import pytest

from tests.command_line import cp2fast
from tests.pretrain.runs import TINY, run

pytestmark = pytest.mark.slow

TINY_SCENES = [*TINY, "data.scenes=12", "train.steps=1"]


def printed(output: str, beginning: str) -> list[str]:
    """The words after ``cp2fast`` on the line that begins so."""
    [line] = [line for line in output.splitlines() if line.startswith(beginning)]
    command = line.partition(": cp2fast ")[2]
    return shlex.split(command)


@pytest.mark.parametrize("out", ["runs/demo", "my demo #2"])
def test_after_the_demo_its_weights_are_fine_tuned_on_the_same_scenes(
    out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = cp2fast("pretrain", *TINY_SCENES, "--out", out)
    assert done.returncode == 0, done.stderr
    words = printed(done.stdout, "next, the same scenes")
    tuned = cp2fast(*words, "train.steps=1", "data.batch_size=2", "model.size=64")
    assert tuned.returncode == 0, tuned.stdout + tuned.stderr
    assert f"initial weights {out}" in tuned.stdout
    assert printed(done.stdout, "then, on your own") == ["pretrain", "r50", "data.root=DIR"]


def test_after_a_run_on_own_photos_its_weights_are_used_and_looked_at(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "my run #1"
    done = run(out, photos, "train.steps=1")
    assert done.returncode == 0, done.stderr
    assert "scenes" not in done.stdout
    init = f"model.init={out}"
    assert printed(done.stdout, "next,") == ["finetune-voc", "data.root=DIR", init]
    for beginning in ("in other libraries", "what it has learned"):
        followed = cp2fast(*printed(done.stdout, beginning))
        assert followed.returncode == 0, followed.stdout + followed.stderr
