"""Compiled kernels are kept on disk, and never past a change of what they are made of."""

import subprocess
import sys
from pathlib import Path

import pytest

from cp2fast.copypaste.cuda.compile import KERNELS, cubins, problem

pytestmark = pytest.mark.slow

FOR = "sm_90"
CODE = {kernel: f"machine code of {kernel}".encode() for kernel in KERNELS}


class Compiler:
    """Takes no time, and remembers for what it was asked."""

    def __init__(self) -> None:
        self.compiled: set[tuple[str, str]] = set()

    def __call__(self, kernel: str, arch: str) -> bytes:
        self.compiled.add((kernel, arch))
        return CODE[kernel]

    def taken(self) -> set[tuple[str, str]]:
        """What was compiled since the last time of asking."""
        compiled, self.compiled = self.compiled, set()
        return compiled


@pytest.fixture
def compiler() -> Compiler:
    return Compiler()


def test_compiled_once_and_then_read(tmp_path: Path, compiler: Compiler) -> None:
    assert cubins(FOR, [tmp_path], compiler) == CODE
    assert compiler.taken() == {(kernel, FOR) for kernel in KERNELS}
    assert cubins(FOR, [tmp_path], compiler) == CODE
    assert not compiler.taken()
    assert len(list(tmp_path.iterdir())) == len(KERNELS)


def test_another_card_another_source_and_another_compiler_each_have_their_own(
    tmp_path: Path, compiler: Compiler
) -> None:
    source = tmp_path / "source" / "kernels.cu"
    source.parent.mkdir()
    source.write_text("kernels")
    kept = tmp_path / "kept"
    for arch, made_with, header in (
        (FOR, "a compiler", "header"),
        ("sm_80", "a compiler", "header"),
        (FOR, "another", "header"),
        (FOR, "a compiler", "another"),
    ):
        source.with_suffix(".cuh").write_text(header)
        for compiled in (len(KERNELS), 0):
            assert cubins(arch, [kept], compiler, made_with, source) == CODE
            assert len(compiler.taken()) == compiled
    assert len(list(kept.iterdir())) == 4 * len(KERNELS)


def test_other_options_of_the_compiler_are_compiled_anew(
    tmp_path: Path, compiler: Compiler
) -> None:
    source, options, kept = (tmp_path / name for name in ("kernels.cu", "compile.py", "kept"))
    source.write_text("kernels")
    for said in ("-std=c++17", "-std=c++20"):
        options.write_text(said)
        cubins(FOR, [kept], compiler, "a compiler", source, options)
        assert len(compiler.taken()) == len(KERNELS)


@pytest.mark.parametrize("damage", [b"", b"\0" * 100, "half"])
def test_a_damaged_file_is_compiled_anew(
    tmp_path: Path, compiler: Compiler, damage: bytes | str
) -> None:
    cubins(FOR, [tmp_path], compiler)
    compiler.taken()
    (kept,) = tmp_path.glob("compose*")
    whole = kept.read_bytes()
    kept.write_bytes(whole[: len(whole) // 2] if isinstance(damage, str) else damage)
    assert cubins(FOR, [tmp_path], compiler) == CODE
    assert kept.read_bytes() == whole
    assert compiler.taken() == {("compose", FOR)}


def test_the_next_folder_is_taken_where_the_first_cannot_be_written(
    tmp_path: Path, compiler: Compiler
) -> None:
    taken, free = tmp_path / "file", tmp_path / "free"
    taken.write_text("not a folder")
    cubins(FOR, [taken, free], compiler)
    assert len(compiler.taken()) == len(KERNELS)
    cubins(FOR, [taken, free], compiler)
    assert not compiler.taken()
    assert len(list(free.iterdir())) == len(KERNELS)


def test_compiled_every_time_where_nothing_can_be_written(
    tmp_path: Path, compiler: Compiler
) -> None:
    (tmp_path / "file").write_text("not a folder")
    for _ in range(2):
        assert cubins(FOR, [tmp_path / "file"], compiler) == CODE
        assert len(compiler.taken()) == len(KERNELS)


def without(module: str, then: str) -> str:
    """What a process says that finds no such module."""
    code = f"import sys; sys.modules[{module!r}] = None; {then}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_says_how_to_install_what_is_missing() -> None:
    then = "from cp2fast.copypaste.cuda.compile import problem; print(problem())"
    assert problem() is None
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
