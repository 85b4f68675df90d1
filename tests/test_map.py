"""CONTRIBUTING's maps: they name all that there is, and imports run down them."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]
PACKAGE = CHECKOUT / "cp2fast"
PAGE = (CHECKOUT / "CONTRIBUTING.md").read_text(encoding="utf-8")
STRANGERS = {"data", "copypaste", "model"}
MAPS = {"cp2fast": "## The map", "cp2fast.data": "### Inside data/"}
"""The heading of each package's map."""


@cache
def rooms(package: str) -> list[str]:
    """Packages and modules of a package, from the top of its map down."""
    block = re.split(r"\n(?:#|A file imports)", PAGE.partition(MAPS[package])[2])[0]
    names = re.findall(r"^    (\S+(?:, \S+)*)  ", block, re.M)
    return [name.rstrip("/").removesuffix(".py") for line in names for name in line.split(", ")]


def folder(package: str) -> Path:
    return CHECKOUT / package.replace(".", "/")


def imported(path: Path, package: str) -> Iterator[str]:
    """The rooms of a package that a file imports, wherever in it; the version is everybody's."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            rest = name.removeprefix(f"{package}.")
            if rest not in (name, "__version__"):
                room = rest.partition(".")[0]
                yield room if room in rooms(package) else "__init__"


@pytest.mark.parametrize("package", MAPS)
def test_every_package_and_module_is_on_the_map_once(package: str) -> None:
    there = {
        path.stem
        for path in folder(package).iterdir()
        if path.suffix == ".py" or (path / "__init__.py").is_file()
    }
    assert sorted(rooms(package)) == sorted(there - ({"__init__"} if "." in package else set()))


@pytest.mark.parametrize("package", MAPS)
def test_imports_run_down_the_map(package: str) -> None:
    place = {room: number for number, room in enumerate(rooms(package))}
    up = [
        f"{path.relative_to(PACKAGE)} imports {room}"
        for path in sorted(folder(package).rglob("*.py"))
        for own in [path.relative_to(folder(package)).parts[0].removesuffix(".py")]
        if own in place
        for room in imported(path, package)
        if room != own and (place[room] < place[own] or {own, room} <= STRANGERS)
    ]
    assert up == []


def test_what_the_page_names_exists() -> None:
    """Paths in backquotes, of the package or of the checkout."""
    paths = re.findall(r"`((?:[\w.-]+/)+[\w.-]*)`", PAGE)
    assert len(paths) > 40
    missing = [
        path
        for path in paths
        if "NAME" not in path and not any((at / path).exists() for at in (PACKAGE, CHECKOUT))
    ]
    assert missing == []
