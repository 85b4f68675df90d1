"""The wheel: complete, and at work outside the checkout."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's content in a folder of its own."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.rmtree(CHECKOUT / "build", ignore_errors=True)  # It may hold modules that are gone.
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    build += ["--no-build-isolation", "--wheel-dir", "dist"]
    subprocess.run([*build, str(CHECKOUT)], cwd=folder, check=True)
    [wheel] = (folder / "dist").glob("cp2fast-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_it_holds_every_module_and_every_recipe(unpacked: Path) -> None:
    modules = {p.relative_to(CHECKOUT) for p in (CHECKOUT / "cp2fast").rglob("*.py")}
    recipes = {
        Path("cp2fast") / p.relative_to(CHECKOUT) for p in (CHECKOUT / "configs").rglob("*.yaml")
    }
    assert recipes
    assert {p for p in modules | recipes if not (unpacked / p).is_file()} == set()


def run_elsewhere(unpacked: Path, cwd: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(unpacked)}
    return subprocess.run(
        [sys.executable, *words],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_finds_its_recipes_outside_the_checkout(unpacked: Path, tmp_path: Path) -> None:
    where = run_elsewhere(unpacked, tmp_path, "-c", "import cp2fast; print(cp2fast.__file__)")
    assert where.stdout.startswith(str(unpacked))
    done = run_elsewhere(unpacked, tmp_path, "-m", "cp2fast", "pretrain", "r50")
    assert done.returncode == 2
    assert "data.root is not set" in done.stderr


def test_no_module_needs_an_optional_library_to_be_imported(unpacked: Path, tmp_path: Path) -> None:
    """With them hidden, everything imports and says how to install them."""
    script = """
import importlib, pkgutil, sys
for name in ("nvidia.dali", "simplejpeg", "ffcv", "kornia", "onnx", "onnxscript", "onnxruntime"):
    sys.modules[name] = None
import cp2fast
for module in pkgutil.walk_packages(cp2fast.__path__, "cp2fast."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
from cp2fast.data.source import available_sources
for name, problem in available_sources().items():
    print(name, problem)
"""
    done = run_elsewhere(unpacked, tmp_path, "-c", script)
    assert done.returncode == 0, done.stderr
    assert "dali nvidia.dali is not installed: pip install nvidia-dali-cuda130" in done.stdout
    assert "turbo simplejpeg is not installed: pip install simplejpeg" in done.stdout
    assert "torch None" in done.stdout
