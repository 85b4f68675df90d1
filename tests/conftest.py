"""Tests draw the same numbers each time; in CI one skipped for anything but a GPU fails the run."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.servers import S3, Proxy, found_at, s3_server, set_environment

# Before torch: waiting threads as of the command line, and as many as each rank of torchrun has.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup, runs that tests start would ignore it

# The first example may compile, and the machine may be busy.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

_skipped: list[str] = []


@pytest.fixture(autouse=True)
def _seeded() -> None:
    import torch

    torch.manual_seed(0)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item):
    report = yield
    if (
        report.skipped
        and item.get_closest_marker("gpu") is None
        and not hasattr(report, "wasxfail")
    ):
        _skipped.append(item.nodeid)
    return report


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.skipped:
        _skipped.append(report.nodeid)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):  # one of several processes: tell the main one
        session.config.workeroutput["skipped"] = _skipped
        return
    if os.environ.get("CI") == "true" and _skipped:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error) -> None:
    """Of pytest-xdist, in the main process."""
    _skipped.extend(getattr(node, "workeroutput", {}).get("skipped", []))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if os.environ.get("CI") == "true" and _skipped:
        terminalreporter.write_line(
            f"CI: {len(_skipped)} tests skipped for a missing dependency: {', '.join(_skipped)}",
            red=True,
        )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    import torch

    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a CUDA GPU"))


@pytest.fixture(scope="session")
def s3_process() -> Iterator[S3]:
    with s3_server() as server:
        yield server


@pytest.fixture
def s3(s3_process: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> S3:
    """A server that clients of this process and of its children find, and an empty disk cache."""
    set_environment(monkeypatch, found_at(s3_process.port), tmp_path)
    return s3_process


@pytest.fixture
def proxy(s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """Before that server, for clients that look it up from now on."""
    with Proxy(s3.port) as between:
        set_environment(monkeypatch, found_at(between.port), tmp_path)
        yield between


@pytest.fixture(scope="session")
def golden() -> Path:
    """Numbers of the original implementation; see README.md there."""
    return Path(__file__).parent / "golden"
