"""The sdist and the wheel: complete, installed, and at work outside the checkout."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

import pytest
import yaml

import cp2fast

pytestmark = pytest.mark.slow

CHECKOUT = Path(__file__).parents[1]
FOLDERS = ("cp2fast", "configs", "docs")


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist, unpacked; built from a copy, for a build leaves files beside its sources."""
    folder = tmp_path_factory.mktemp("sdist")
    source = folder / "source"
    source.mkdir()
    for path in CHECKOUT.iterdir():
        if path.name in FOLDERS:
            shutil.copytree(path, source / path.name)
        elif path.is_file() and not path.name.startswith("."):
            shutil.copy(path, source)
    script = f"from setuptools.build_meta import build_sdist; build_sdist({str(folder)!r})"
    subprocess.run([sys.executable, "-c", script], cwd=source, check=True, capture_output=True)
    with tarfile.open(folder / f"cp2fast-{cp2fast.__version__}.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    return folder / f"cp2fast-{cp2fast.__version__}"


@pytest.fixture(scope="module")
def installed(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel made of the sdist, in an environment that has this one's libraries besides."""
    folder = tmp_path_factory.mktemp("installed")
    environment = folder / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    libraries = subprocess.run(
        [
            environment / "bin/python",
            "-c",
            "import sysconfig; print(sysconfig.get_path('purelib'))",
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    ours = [path for path in sys.path if "site-packages" in path] + [sysconfig.get_path("purelib")]
    (Path(libraries) / "libraries.pth").write_text("\n".join(dict.fromkeys(ours)) + "\n")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, sdist]
    subprocess.run([*pip, *build], cwd=folder, check=True)
    [wheel] = folder.glob("cp2fast-*.whl")
    install = ["--python", environment / "bin/python", "install", "--no-deps", "--no-index", wheel]
    subprocess.run([*pip, *install], cwd=folder, check=True)
    return environment


def run_elsewhere(environment: Path, cwd: Path, *words: str) -> subprocess.CompletedProcess[str]:
    unset = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [environment / "bin" / words[0], *words[1:]],
        cwd=cwd,
        env=unset,
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_holds_every_module_every_recipe_and_every_kernel(
    installed: Path, tmp_path: Path
) -> None:
    where = run_elsewhere(installed, tmp_path, "python", "-c", "import cp2fast; print(cp2fast)")
    package = installed / "lib"
    assert str(package) in where.stdout
    [site] = {path.parent for path in package.rglob("cp2fast/__init__.py")}
    wanted = [
        path.relative_to(CHECKOUT / "cp2fast")
        for path in (CHECKOUT / "cp2fast").rglob("*")
        if path.suffix in (".py", ".cu", ".cuh", ".typed")
    ]
    wanted += [path.relative_to(CHECKOUT) for path in (CHECKOUT / "configs").rglob("*.yaml")]
    assert {path for path in wanted if not (site / path).is_file()} == set()


def test_it_finds_its_recipes_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    version = run_elsewhere(installed, tmp_path, "cp2fast", "--version")
    assert version.stdout == f"cp2fast {cp2fast.__version__}\n"
    done = run_elsewhere(installed, tmp_path, "cp2fast", "pretrain", "r50")
    assert done.returncode == 2
    assert "data.root is not set" in done.stderr


def test_no_module_needs_an_optional_library_to_be_imported(
    installed: Path, tmp_path: Path
) -> None:
    """With them hidden, everything imports and says how to install them."""
    script = """
import importlib, pkgutil, sys
for name in ("nvidia.dali", "simplejpeg", "ffcv", "kornia", "onnx", "onnxscript", "onnxruntime",
             "torchmetrics"):
    sys.modules[name] = None
import cp2fast
for module in pkgutil.walk_packages(cp2fast.__path__, "cp2fast."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
from cp2fast.data.sources.choice import available_sources
for name, problem in available_sources().items():
    print(name, problem)
"""
    done = run_elsewhere(installed, tmp_path, "python", "-c", script)
    assert done.returncode == 0, done.stderr
    assert "dali nvidia.dali is not installed: pip install nvidia-dali-cuda130" in done.stdout
    assert "turbo simplejpeg is not installed: pip install simplejpeg" in done.stdout
    assert "torch None" in done.stdout


def test_pyright_finds_nothing_wrong_with_a_users_script(installed: Path, tmp_path: Path) -> None:
    """The Python of docs/api.md against the installed package; and it does find what is wrong."""
    page = (CHECKOUT / "docs/api.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S)
    (tmp_path / "page.py").write_text("\n".join(blocks))
    wrong = 'import cp2fast\nmiou: str = cp2fast.finetune("voc_r50").miou\ncp2fast.pretrain(3)\n'
    (tmp_path / "wrong.py").write_text(wrong)
    pyright = [sys.executable, "-m", "pyright", "--outputjson"]
    pyright += ["--pythonpath", str(installed / "bin/python"), "page.py", "wrong.py"]
    done = subprocess.run(pyright, cwd=tmp_path, capture_output=True, text=True, check=False)
    found = json.loads(done.stdout)["generalDiagnostics"]
    found = [one for one in found if one["severity"] == "error"]
    assert {Path(one["file"]).name for one in found} == {"wrong.py"}, found
    assert [one["range"]["start"]["line"] for one in found] == [1, 2]


def test_the_sdist_brings_what_its_readers_look_for(sdist: Path) -> None:
    names = ("LICENSE", "NOTICE", "CHANGELOG.md", "CITATION.cff", "docs/api.md", "configs/r50.yaml")
    assert [name for name in names if not (sdist / name).is_file()] == []


def test_changelog_and_citation_are_of_this_version() -> None:
    changes = (CHECKOUT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (\S+?),? ", changes, re.M)[0].rstrip(",") == cp2fast.__version__
    citation = yaml.safe_load((CHECKOUT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == cp2fast.__version__
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= citation.keys()


def test_the_container_is_made_of_what_is_here(tmp_path: Path) -> None:
    """Its instructions, and that what it copies can be installed: no daemon is needed for these."""
    instructions = [
        line.split(maxsplit=1)
        for line in (CHECKOUT / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
        if line and not line.startswith("#")
    ]
    kinds = [name for name, _ in instructions]
    assert kinds[0] == "FROM"
    assert set(kinds) <= {"FROM", "RUN", "ENV", "WORKDIR", "COPY", "ENTRYPOINT", "CMD"}
    assert instructions[0][1].startswith("nvidia/cuda:")
    let_in = {
        line[1:] for line in (CHECKOUT / ".dockerignore").read_text().split() if line[0] == "!"
    }
    copied = {word for name, words in instructions if name == "COPY" for word in words.split()[:-1]}
    assert copied == let_in
    assert {name for name in copied if not (CHECKOUT / name).exists()} == set()
    assert dict(map(tuple, instructions))["ENTRYPOINT"] == '["cp2fast"]'

    for name in copied:
        copy = shutil.copytree if (CHECKOUT / name).is_dir() else shutil.copy
        copy(CHECKOUT / name, tmp_path / name)
    [install] = [words for name, words in instructions if name == "RUN" and words[:4] == "pip "]
    here = ["--dry-run", "--no-index", "--no-build-isolation"]  # libraries: those of this test
    done = subprocess.run(
        [sys.executable, "-m", *shlex.split(install), *here],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"Would install cp2fast-{cp2fast.__version__}" in done.stdout
