"""What is recorded of the machine is recorded wherever something is measured."""

from pathlib import Path

import pytest

from cp2fast.machine import versions


def test_without_git_the_commit_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert versions()["commit"] == "unknown"
