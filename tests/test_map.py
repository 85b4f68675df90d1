"""CONTRIBUTING's map: it names all that there is, and imports run down it."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
PACKAGE = CHECKOUT / "cp2fast"
PAGE = (CHECKOUT / "CONTRIBUTING.md").read_text(encoding="utf-8")
STRANGERS = {"data", "copypaste", "model"}


@cache
def rooms() -> list[str]:
    """Packages and modules of the top level, from the top of the map down."""
    block = PAGE.partition("## The map")[2].partition("\nA file imports")[0]
    names = re.findall(r"^    (\S+(?:, \S+)*)  ", block, re.M)
    return [name.rstrip("/").removesuffix(".py") for line in names for name in line.split(", ")]


def imported(path: Path) -> Iterator[str]:
    """The rooms of cp2fast that a file imports, wherever in it; the version is everybody's."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            first, _, rest = name.partition(".")
            if first == "cp2fast" and rest != "__version__":
                room = rest.partition(".")[0]
                yield room if room in rooms() else "__init__"


def test_every_package_and_module_is_on_the_map_once() -> None:
    there = {
        path.stem
        for path in PACKAGE.iterdir()
        if path.suffix == ".py" or (path / "__init__.py").is_file()
    }
    assert sorted(rooms()) == sorted(there)


def test_imports_run_down_the_map() -> None:
    place = {room: number for number, room in enumerate(rooms())}
    up = [
        f"{path.relative_to(PACKAGE)} imports {room}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for own in [path.relative_to(PACKAGE).parts[0].removesuffix(".py")]
        for room in imported(path)
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
