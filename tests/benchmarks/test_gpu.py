"""benchmarks/gpu.sh: a limit for everything a stage starts, and a rehearsal of each stage."""

import dataclasses
import json
import os
import runpy
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import gpu_op
from benchmarks.gpu import photos, run_stage, run_stages, start
from benchmarks.gpu_stages import STAGES, Command, Job, Result, Stage
from cp2fast.data.scenes import generate_scenes
from tests.command_line import cp2fast
from tests.data.image_files import photo

pytestmark = pytest.mark.slow

PROCESSES, BENCHMARKS = ("tests", "memcheck"), ("op", "step", "run")
SCRIPTS = ("decode", "cache", "peers", "profile")

TALKS_AND_LEAVES_A_CHILD = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("the child is", child.pid, flush=True)
time.sleep(600)
"""


def write_picture(path: Path) -> Path:
    photo(60, 40).save(path)
    return path


def exists(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def run(job: Job, script: str, figures: Path) -> Result:
    """Run a stage with one command: a script that is told where its figures belong."""
    command = Command([sys.executable, "-c", script, str(figures)], figures)
    return run_stage(Stage("one", "a script", 60, lambda job: iter([command])), job)


def gpu_sh(*stages: str, folder: Path, **paths: str) -> subprocess.CompletedProcess[str]:
    """Called in this folder."""
    return subprocess.run(
        [Path("benchmarks/gpu.sh").absolute(), *stages],
        cwd=folder,
        env=os.environ | {"PYTHON": sys.executable} | paths,
        capture_output=True,
        text=True,
        check=False,
    )


def wait_until(true: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_a_stage_at_its_limit_ends_with_its_children_and_keeps_what_it_said(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    code, said = start([sys.executable, "-c", TALKS_AND_LEAVES_A_CHILD], log, limit=5)
    assert code == 124
    assert said.startswith("the child is ")
    assert said.endswith("not done after 5 s\n")
    assert log.read_text("utf-8").endswith(said)
    child = int(said.split()[3])
    wait_until(lambda: not exists(child))


def test_a_call_that_is_stopped_ends_what_it_has_started(tmp_path: Path) -> None:
    environment = os.environ | {"GPU_OUT": str(tmp_path), "PYTHON": sys.executable}
    call = subprocess.Popen(
        ["benchmarks/gpu.sh", "memcheck"], env=environment, stderr=subprocess.DEVNULL
    )
    children = Path(f"/proc/{call.pid}/task/{call.pid}/children")
    wait_until(lambda: (tmp_path / "memcheck.txt").exists() and children.read_text())
    [child] = map(int, children.read_text().split())
    call.send_signal(signal.SIGTERM)
    assert call.wait(timeout=60) != 0
    assert not exists(child)
    assert not (tmp_path / "memcheck.json").exists()


def test_the_output_of_a_stage_is_in_its_file_while_it_runs(tmp_path: Path) -> None:
    reads_its_own = "import sys; print('be' 'gun'); print('begun' in open(sys.argv[1]).read())"
    log = tmp_path / "log.txt"
    assert start([sys.executable, "-c", reads_its_own, str(log)], log, 60) == (0, "begun\nTrue\n")


def test_a_stage_ends_with_what_it_left_running(tmp_path: Path) -> None:
    leaves_a_child = TALKS_AND_LEAVES_A_CHILD.rpartition("time.sleep")[0]
    code, said = start([sys.executable, "-c", leaves_a_child], tmp_path / "log.txt", limit=60)
    assert code == 0
    wait_until(lambda: not exists(int(said.split()[-1])))


def test_what_a_stage_says_is_shown_literally(job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    said = "cannot open [/usr/lib/libcuda.so]"
    command = Command([sys.executable, "-c", f"raise SystemExit({said!r})"])
    run_stages([Stage("one", "a script", 60, lambda job: iter([command]))], job)
    assert f"failed: exit code 1: {said}" in capsys.readouterr().out


def test_encoders_that_cannot_be_compiled_ahead_are_told_and_the_stage_runs(
    job: Job, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(job.out)  # away from the script that compiles
    monkeypatch.delenv("PYTHONPATH", raising=False)
    command = Command([sys.executable, "-c", "print('measured')"])
    stage = Stage("one", "a script", 60, lambda job: iter([command]), compiles=(("a=1",),))
    [result] = run_stages([stage], dataclasses.replace(job, gpu=True))
    assert result.status == "done"
    said = f"not compiled ahead (exit code 1): see {job.out / 'compile.txt'}"
    assert said in capsys.readouterr().out
    assert "No module named" in (job.out / "compile.txt").read_text("utf-8")


WRITES_A_NEW_FILE = """
import sys
with open(sys.argv[1], "x") as file:
    file.write('{"bottleneck": "the disk"}')
"""
DIES_AS_IT_WRITES = """
import sys
with open(sys.argv[1], "w") as file:
    file.write('{"bottleneck": "the d')
sys.exit("no memory is left")
"""


def test_a_stage_runs_again_and_its_figures_are_those_of_the_last_call(job: Job) -> None:
    figures = job.out / "figures.json"
    for _ in range(2):
        result = run(job, WRITES_A_NEW_FILE, figures)
        assert (result.status, result.detail) == ("done", "the disk")
    result = run(job, "raise SystemExit(3)", figures)
    assert (result.status, result.figures) == ("failed", {})


def test_a_stage_that_dies_as_it_writes_its_figures_has_none(job: Job) -> None:
    result = run(job, DIES_AS_IT_WRITES, job.out / "figures.json")
    assert (result.status, result.figures) == ("failed", {})
    assert result.detail == "exit code 1: no memory is left"
    assert json.loads((job.out / "one.json").read_text("utf-8"))["status"] == "failed"


def test_a_stage_gives_its_output_and_exit_code(tmp_path: Path) -> None:
    words = [sys.executable, "-c", "print('seen'); raise SystemExit(3)"]
    assert start(words, tmp_path / "log.txt", limit=60) == (3, "seen\n")


def test_stages_keep_what_became_of_them(tmp_path: Path) -> None:
    done = gpu_sh(*PROCESSES, folder=tmp_path, GPU_OUT="results")
    assert done.returncode == 0, done.stdout + done.stderr
    for stage in PROCESSES:
        kept = json.loads((tmp_path / "results" / f"{stage}.json").read_text("utf-8"))
        assert (kept["name"], kept["status"]) == (stage, "done")


def test_memory_is_checked_by_the_tool_allocation_by_allocation_or_not_at_all(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = dataclasses.replace(job, gpu=True)
    monkeypatch.setenv("PATH", str(job.out))
    result = run_stage(STAGES["memcheck"], job)
    assert (result.status, result.detail) == ("left out", "there is no compute-sanitizer here")
    tool = job.out / "compute-sanitizer"
    tool.write_text("")
    tool.chmod(0o755)
    [command] = STAGES["memcheck"].commands(job)
    assert command.words[:3] == ["env", "PYTORCH_NO_CUDA_MEMORY_CACHING=1", str(tool)]
    assert command.words[-3:] == [sys.executable, "-m", "benchmarks.small_case"]


WITHOUT_KORNIA_AND_DALI = """
import sys
import pytest
sys.modules["kornia"] = sys.modules["nvidia.dali"] = None
sys.exit(pytest.main(["-m", "gpu", "--collect-only", "-q", "-p", "no:cacheprovider", "tests"]))
"""


def test_what_needs_a_gpu_is_found_without_kornia_and_dali() -> None:
    words = [sys.executable, "-c", WITHOUT_KORNIA_AND_DALI]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "tests/copypaste/cuda/test_launch.py::test_every_pixel_is_written" in done.stdout


def test_paths_are_seen_from_the_folder_in_which_it_is_called(tmp_path: Path) -> None:
    for name in ("photos", "wheels"):
        (tmp_path / name).mkdir()
    with zipfile.ZipFile(tmp_path / "wheels" / "one-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("one/__init__.py", "")
    paths = {"GPU_PHOTOS": "photos", "GPU_WHEELS": "wheels", "GPU_OUT": "results"}
    done = gpu_sh("op", folder=tmp_path, **paths)
    assert done.returncode == 2
    assert f"no images in {tmp_path / 'photos'}" in done.stderr
    assert (tmp_path / "results" / "site" / "one" / "__init__.py").exists()


def test_few_photos_are_repeated_and_those_of_an_earlier_call_are_not_taken(tmp_path: Path) -> None:
    for name in ("a", "b"):
        folder, links = tmp_path / name, tmp_path / f"links of {name}"
        folder.mkdir()
        picture = write_picture(folder / f"{name}.jpg")
        assert photos(folder, links, fewest=1) == folder
        repeated = photos(folder, links, fewest=3)
        assert [link.resolve() for link in sorted(repeated.iterdir())] == [picture] * 3


def test_the_op_is_timed_on_what_can_be_decoded(tmp_path: Path) -> None:
    picture = write_picture(tmp_path / "a.jpg")
    (tmp_path / "broken.jpg").write_bytes(picture.read_bytes()[:-400])
    (tmp_path / "notes.txt").write_text("not a photo")
    assert [image.shape for image in gpu_op.photos(tmp_path)] == [(40, 60, 3)]
    with tarfile.open(tmp_path / "shard.tar", "w") as tar:
        tar.add(picture, "a.jpg")
    assert len(gpu_op.photos(tmp_path / "shard.tar")) == 1
    picture.unlink()
    (tmp_path / "shard.tar").unlink()
    with pytest.raises(SystemExit, match="can be decoded"):
        gpu_op.photos(tmp_path)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "scenes"
    generate_scenes(folder, 32, seed=0)
    return folder


@pytest.fixture
def job(scenes: Path, tmp_path: Path) -> Job:
    return Job(gpu=False, photos=scenes / "JPEGImages", scenes=scenes, out=tmp_path)


@pytest.mark.parametrize("stage", BENCHMARKS)
def test_a_benchmark_runs_to_its_end_without_a_gpu(stage: str, job: Job) -> None:
    [command] = STAGES[stage].commands(job)
    python, option, module, *words = command.words
    assert (python, option, module) == (sys.executable, "-m", "cp2fast")
    done = cp2fast(*words)
    assert done.returncode == 0, done.stderr
    assert command.figures is not None
    assert json.loads(command.figures.read_text("utf-8"))


@pytest.mark.parametrize("stage", SCRIPTS)
def test_a_script_runs_to_its_end_without_a_gpu(
    stage: str, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process; evidence, which runs only by its name, is in test_evidence.py."""
    [command] = STAGES[stage].commands(job)
    python, option, module, *words = command.words
    assert (python, option) == (sys.executable, "-m")
    monkeypatch.setattr("sys.argv", [module, *words])
    runpy.run_module(module, run_name="__main__")
    assert command.figures is not None
    assert json.loads(command.figures.read_text("utf-8"))


def test_every_stage_is_rehearsed() -> None:
    assert {*PROCESSES, *BENCHMARKS, *SCRIPTS, "evidence"} == STAGES.keys()


def test_a_stage_that_does_not_exist_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "results"
    monkeypatch.setenv("GPU_OUT", str(out))
    monkeypatch.setattr("sys.argv", ["gpu.py", "op", "opp"])
    with pytest.raises(SystemExit, match="2"):
        runpy.run_path("benchmarks/gpu.py", run_name="__main__")
    assert "no stage is called opp" in capsys.readouterr().err
    assert not out.exists()
