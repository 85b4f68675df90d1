"""A run followed by TensorBoard, W&B (offline) and a real MLflow server, and then resumed."""

import json
import os
import signal
import struct
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

import pytest
import wandb
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb.proto import wandb_internal_pb2

from cp2fast.config import FinetuneSettings, PretrainSettings
from cp2fast.errors import UserError
from cp2fast.run_folder import RunFolder, read_metrics
from cp2fast.train.loggers import check_loggers, loggers
from tests.command_line import cp2fast
from tests.pretrain import runs
from tests.pretrain.runs import write_photos
from tests.servers import free_port

pytestmark = pytest.mark.slow

T = TypeVar("T")
ALL = ["tensorboard", "wandb", "mlflow"]
ROWS = [
    {"step": step, "loss": 1 / step, "time": {"data": 0.25, "step": 0.75}} for step in (1, 2, 3)
]
CONFIG = {"model": {"backbone": "resnet18", "init": None}, "train": {"lr": 0.1}}


class Server(NamedTuple):
    address: str
    group: int


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An MLflow server with a database of its own."""
    folder = tmp_path_factory.mktemp("mlflow")
    port = free_port()
    store = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--workers", "1"]
    where = ["--host", "127.0.0.1", "--port", str(port)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *store, *where],
            cwd=folder,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: ask(address, "experiments/search?max_results=1"))
        yield Server(address, process.pid)
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # and its workers
        process.wait()


def wait_for(answer: Callable[[], T]) -> T:
    """What comes once it is there."""
    deadline = time.monotonic() + 120
    while True:
        try:
            return answer()
        except (OSError, KeyError):
            assert time.monotonic() < deadline
            time.sleep(0.1)


def ask(address: str, what: str, **body: object) -> dict:
    """MLflow's REST API, without its client."""
    request = urllib.request.Request(  # noqa: S310  # of our own server
        f"{address}/api/2.0/mlflow/{what}",
        json.dumps(body).encode() if body else None,
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
        return json.load(answer)


def run_of(address: str) -> dict:
    """The only run that the server knows."""
    experiment = ask(address, "experiments/get-by-name?experiment_name=cp2fast")["experiment"]
    [run] = ask(address, "runs/search", experiment_ids=[experiment["experiment_id"]])["runs"]
    return run


def history(address: str, run: str, metric: str) -> dict[int, float]:
    found = ask(address, f"metrics/get-history?run_id={run}&metric_key={metric}")["metrics"]
    return {int(point.get("step", 0)): point["value"] for point in found}


def offline_rows(file: Path) -> tuple[str, dict[int, dict[str, float]]]:
    """The id and the rows of a file that W&B wrote: records in blocks, as LevelDB's logs."""
    wandb.teardown()  # As a process does at its end: the service may still be writing.
    data, place, record, rows, name = file.read_bytes(), 7, b"", {}, ""
    assert data[:4] == b":W&B"
    while place + 7 <= len(data):
        if (left := 32768 - place % 32768) < 7:
            place += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        record += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            parsed = wandb_internal_pb2.Record.FromString(record)
            record = b""
            name = parsed.run.run_id or name
            items = {
                ".".join([item.key, *item.nested_key]).strip("."): json.loads(item.value_json)
                for item in parsed.history.item
            }
            if items:
                rows[items["_step"]] = items
    return name, rows


@pytest.fixture(scope="module")
def run(server: Server, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run of three steps that was gone on with to the fifth."""
    folder = tmp_path_factory.mktemp("followed")
    photos = write_photos(folder / "photos", 12)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", server.address)
        patch.setenv("WANDB_MODE", "offline")
        asked = ["train.log=[tensorboard,wandb,mlflow]", "train.steps=3"]
        assert runs.run(folder / "run", photos, *asked).returncode == 0
        again = ["pretrain", "train.steps=5", "--resume", "--out", str(folder / "run")]
        assert cp2fast(*again).returncode == 0
    return RunFolder(folder / "run")


def test_mlflow_has_one_run_with_every_row_and_the_settings(run: RunFolder, server: Server) -> None:
    found = run_of(server.address)
    assert found["info"]["run_id"] == json.loads(run.loggers.read_text())["mlflow"]
    assert found["info"]["status"] == "FINISHED"
    assert found["info"]["run_name"] == "run"
    parameters = {each["key"]: each["value"] for each in found["data"]["params"]}
    assert parameters["model.backbone"] == "test_resnet"
    rows = read_metrics(run.metrics)
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5]
    for name in ("loss", "similarity_gap", "lr"):
        expected = {row["step"]: pytest.approx(row[name]) for row in rows}
        assert history(server.address, found["info"]["run_id"], name) == expected


def test_wandb_has_every_row_under_one_id_to_be_uploaded(run: RunFolder) -> None:
    files = sorted(run.path.glob("wandb/offline-run-*/*.wandb"))
    names, parts = zip(*map(offline_rows, files), strict=True)
    assert set(names) == {json.loads(run.loggers.read_text())["wandb"]}
    assert [sorted(part) for part in parts] == [[1, 2, 3], [4, 5]]
    found = {step: values["loss"] for part in parts for step, values in part.items()}
    assert found == {row["step"]: pytest.approx(row["loss"]) for row in read_metrics(run.metrics)}


def test_tensorboard_has_every_row(run: RunFolder) -> None:
    expected = {row["step"]: pytest.approx(row["loss"]) for row in read_metrics(run.metrics)}
    assert tensorboard_rows(run, "loss") == expected


def tensorboard_rows(folder: RunFolder, name: str) -> dict[int, float]:
    events = EventAccumulator(str(folder.tensorboard))
    events.Reload()
    return {each.step: each.value for each in events.Scalars(name)}


def test_only_tensorboard_is_told_unless_more_is_asked_for(tmp_path: Path) -> None:
    for settings in (PretrainSettings(), FinetuneSettings()):
        assert settings.train.log == ("tensorboard",)
    with loggers(["tensorboard"], CONFIG, RunFolder(tmp_path), 0, pytest.fail) as follow:
        follow(ROWS[0])
    assert [each.name for each in tmp_path.iterdir()] == ["tensorboard"]


def test_a_server_that_freezes_is_named_once_and_holds_up_nothing_and_nobody(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    folder, said = RunFolder(tmp_path / "run"), []
    folder.create("")  # Failures are only reported in a folder that holds a run.
    try:
        with loggers(["mlflow", "tensorboard"], CONFIG, folder, 0, said.append) as follow:
            follow(ROWS[0])
            known = wait_for(lambda: json.loads(folder.loggers.read_text())["mlflow"])
            wait_for(lambda: history(server.address, known, "time/data")[1])
            os.killpg(server.group, signal.SIGSTOP)
            for row in ROWS[1:]:
                follow(row)
            assert said == []  # It is found out by the thread, not by the step.
    finally:
        os.killpg(server.group, signal.SIGCONT)
    [line] = said
    assert line.startswith("train.log=mlflow failed: ")
    assert line.endswith(f"the run continues without it, and {folder.metrics} has every row")
    assert tensorboard_rows(folder, "time/step") == {1: 0.75, 2: 0.75, 3: 0.75}


def test_wandb_without_a_key_keeps_the_rows_offline_and_asks_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb.teardown()  # It has read the environment of the tests before.
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    said: list[str] = []
    with loggers(["wandb"], CONFIG, RunFolder(tmp_path), 0, said.append) as follow:
        for row in ROWS:
            follow(row)
    [line] = said
    assert line.startswith("train.log=wandb is kept offline (No API key configured")
    assert f"wandb sync {tmp_path}/wandb/offline-run-*" in line
    [file] = tmp_path.glob("wandb/offline-run-*/*.wandb")
    assert {step: row["time/data"] for step, row in offline_rows(file)[1].items()} == {
        1: 0.25,
        2: 0.25,
        3: 0.25,
    }


def test_a_run_that_fails_is_marked_as_failed(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "failures")
    folder = RunFolder(tmp_path)
    with suppress(UserError), loggers(["mlflow"], CONFIG, folder, 0, pytest.fail) as follow:
        follow(ROWS[0])
        raise UserError("the loss is not a number")
    known = json.loads(folder.loggers.read_text())["mlflow"]
    assert ask(server.address, f"runs/get?run_id={known}")["run"]["info"]["status"] == "FAILED"


def test_classes_may_have_names_that_mlflow_refuses(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "names")
    folder = RunFolder(tmp_path / "run")
    folder.create("")  # Failures are only reported in a folder that holds a run.
    config = {"data": {"colours": {"tree (dead)": [1, 2, 3], "élan": [4, 5, 6]}}}
    with loggers(["mlflow"], config, folder, 0, pytest.fail) as follow:
        follow(ROWS[0])
    known = json.loads(folder.loggers.read_text())["mlflow"]
    parameters = ask(server.address, f"runs/get?run_id={known}")["run"]["data"]["params"]
    expected = {"data.colours.tree _dead_": "[1, 2, 3]", "data.colours.élan": "[4, 5, 6]"}
    assert {each["key"]: each["value"] for each in parameters} == expected


@pytest.mark.parametrize("name", ALL)
def test_one_that_is_not_installed_is_refused_with_the_line_that_installs_it(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    check_loggers([name])
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=f"pip install {name}"):
        check_loggers([name])


def test_a_folder_that_wandb_left_is_not_taken_for_the_library(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "wandb").mkdir()
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(UserError, match="wandb is not installed"):
        check_loggers(["wandb"])
