"""benchmarks/gpu.sh: a limit for everything a stage starts, and a rehearsal of each stage."""

import json
import os
import runpy
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.gpu import run_stage, start
from benchmarks.gpu_stages import STAGES, Command, Job, Result, Stage
from cp2fast.data.scenes import generate_scenes
from tests.command_line import cp2fast

pytestmark = pytest.mark.slow

PROCESSES, BENCHMARKS = ("tests", "memcheck"), ("op", "step", "run")
SCRIPTS = ("decode", "cache", "peers", "profile")

TALKS_AND_LEAVES_A_CHILD = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("the child is", child.pid, flush=True)
time.sleep(600)
"""


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


def gpu_sh(*stages: str, out: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"GPU_OUT": str(out), "PYTHON": sys.executable}
    return subprocess.run(
        ["benchmarks/gpu.sh", *stages],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_stage_at_its_limit_ends_with_its_children_and_keeps_what_it_said() -> None:
    done = start([sys.executable, "-c", TALKS_AND_LEAVES_A_CHILD], limit=5)
    assert done.returncode == 124
    assert done.stdout.startswith("the child is ")
    assert "not done after 5 s" in done.stderr
    child = int(done.stdout.split()[-1])
    deadline = time.monotonic() + 30
    while exists(child):
        assert time.monotonic() < deadline
        time.sleep(0.05)


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


def test_a_stage_gives_its_output_and_exit_code() -> None:
    done = start([sys.executable, "-c", "print('seen'); raise SystemExit(3)"], limit=60)
    assert (done.returncode, done.stdout) == (3, "seen\n")


def test_stages_keep_what_became_of_them(tmp_path: Path) -> None:
    done = gpu_sh(*PROCESSES, out=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    for stage in PROCESSES:
        kept = json.loads((tmp_path / f"{stage}.json").read_text("utf-8"))
        assert (kept["name"], kept["status"]) == (stage, "done")


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
