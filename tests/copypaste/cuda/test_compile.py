"""Compiled kernels are kept on disk, and never past a change of what they are made of."""

import subprocess
import sys
from pathlib import Path

import pytest

from cp2fast.copypaste.cuda import compile as compiling

pytestmark = pytest.mark.slow

FOR = "sm_90"


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Each architecture that something is compiled for, in place of the second that it takes."""
    compiled: list[str] = []

    def compile_kernels(arch: str) -> bytes:
        compiled.append(arch)
        return b"machine code"

    monkeypatch.setattr(compiling, "compile_kernels", compile_kernels)
    return compiled


def test_compiled_once_and_then_read(tmp_path: Path, counted: list[str]) -> None:
    assert [compiling.cubin(FOR, [tmp_path]) for _ in range(2)] == [b"machine code"] * 2
    assert counted == [FOR]
    assert len(list(tmp_path.iterdir())) == 1


def test_another_card_another_source_and_another_compiler_each_have_their_own(
    tmp_path: Path, counted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    compiling.cubin(FOR, [tmp_path])
    compiling.cubin("sm_80", [tmp_path])
    monkeypatch.setattr(compiling, "_nvrtc_version", lambda: (99, 0))
    compiling.cubin(FOR, [tmp_path])
    source = tmp_path / "other" / "copy_paste.cu"
    source.parent.mkdir()
    source.write_text("another")
    monkeypatch.setattr(compiling, "SOURCE", source)
    compiling.cubin(FOR, [tmp_path])
    assert counted == [FOR, "sm_80", FOR, FOR]


@pytest.mark.parametrize("damage", [b"", b"\0" * 100, "half"])
def test_a_damaged_file_is_compiled_anew(
    tmp_path: Path, counted: list[str], damage: bytes | str
) -> None:
    compiling.cubin(FOR, [tmp_path])
    (kept,) = tmp_path.iterdir()
    whole = kept.read_bytes()
    kept.write_bytes(whole[: len(whole) // 2] if isinstance(damage, str) else damage)
    assert compiling.cubin(FOR, [tmp_path]) == b"machine code"
    assert kept.read_bytes() == whole
    assert counted == [FOR, FOR]


def test_the_next_folder_is_taken_where_the_first_cannot_be_written(
    tmp_path: Path, counted: list[str]
) -> None:
    taken, free = tmp_path / "file", tmp_path / "free"
    taken.write_text("not a folder")
    for _ in range(2):
        compiling.cubin(FOR, [taken, free])
    assert counted == [FOR]
    assert len(list(free.iterdir())) == 1


def test_compiled_every_time_where_nothing_can_be_written(
    tmp_path: Path, counted: list[str]
) -> None:
    (tmp_path / "file").write_text("not a folder")
    for _ in range(2):
        assert compiling.cubin(FOR, [tmp_path / "file"]) == b"machine code"
    assert counted == [FOR, FOR]


def without(module: str, then: str) -> str:
    """What a process says that finds no such module."""
    code = f"import sys; sys.modules[{module!r}] = None; {then}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_says_how_to_install_what_is_missing() -> None:
    then = "from cp2fast.copypaste.cuda.compile import problem; print(problem())"
    assert compiling.problem() is None
    assert without("cuda.core", then) == (
        "cuda-core is not installed: pip install 'cuda-core[cu13]'"
    )
    no_library = (
        "import torch; from cuda.bindings import nvrtc; "
        "fail = lambda: (_ for _ in ()).throw(RuntimeError('not found')); "
        f"nvrtc.nvrtcVersion = fail; {then}"
    )
    assert without("no_such_module", no_library) == (
        "NVRTC, CUDA's compiler, is not there: pip install nvidia-cuda-nvrtc"
    )
