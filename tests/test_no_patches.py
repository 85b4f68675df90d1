"""No test reaches behind what it tests: no private names, and no code of ours replaced by a test.

What is ours is what is imported from ``cp2fast`` or from the scripts in ``benchmarks/``. Libraries
may be patched to break as they do elsewhere (``sys.modules[name] = None`` is a missing one).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
OURS = {"cp2fast", *(path.stem for path in (TESTS.parent / "benchmarks").glob("*.py"))}
PATCHES = {"setattr", "setitem", "delattr", "delitem", "patch", "object"}
PUBLIC = {"_replace", "_asdict", "_fields", "_exit"}
"""Of named tuples and os; public in spite of their names."""
PRIVATE = re.compile(r"_[A-Za-z]\w*")
FILES = {str(file.relative_to(TESTS)): file for file in sorted(TESTS.rglob("*.py"))}


@pytest.mark.parametrize("name", FILES)
def test_a_test_uses_what_is_public_and_as_it_is(name: str) -> None:
    assert list(offences(ast.parse(FILES[name].read_text(encoding="utf-8")))) == []


@pytest.mark.parametrize(
    "code",
    [
        "from cp2fast.data.packing.pack import _Journal",
        "from cp2fast import _lazy",
        "import cp2fast.data.packing.pack as p\np._Journal",
        "from cp2fast.data import retry\nretry._pause = 1",
        "def test(arena):\n    arena._state[0] = 1",
        "from cp2fast.data import retry\ndef test(patch):\n    patch.setattr(retry, 'pauses', f)",
        "def test(patch):\n    patch.setattr('cp2fast.data.remote.retry.pauses', f)",
        "from cp2fast.copypaste.op import TABLE\ndef test(patch):\n    patch.setitem(TABLE, 1, 2)",
        "import evidence_keep\ndef test(patch):\n    patch.setattr(evidence_keep, 'pack', f)",
        "from unittest import mock\nwith mock.patch('cp2fast.load'):\n    pass",
    ],
)
def test_what_reaches_behind_is_found(code: str) -> None:
    assert len(list(offences(ast.parse(code)))) == 1


@pytest.mark.parametrize(
    "code",
    [
        "import torch\ntorch._dynamo.reset()",
        "from torch._dynamo.utils import counters",
        "import os\nos._exit(1)",
        "def test(row):\n    row._replace(a=1)",
        "class Fake:\n    def __init__(self):\n        self._state = 1",
        "import sys\ndef test(patch):\n    patch.setitem(sys.modules, 'kornia', None)",
        "def test(patch):\n    patch.setattr('os.sched_getaffinity', f)",
    ],
)
def test_the_rest_is_left_alone(code: str) -> None:
    assert list(offences(ast.parse(code))) == []


def offences(tree: ast.Module) -> Iterator[str]:
    """What a test should not do, with its line."""
    ours, theirs = imported(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and root(node.module) in OURS:
            for alias in node.names:
                if PRIVATE.fullmatch(alias.name):
                    yield f"line {node.lineno}: imports {alias.name}"
        elif isinstance(node, ast.Attribute):
            of = name_of(node.value)
            if (
                PRIVATE.fullmatch(node.attr)
                and node.attr not in PUBLIC
                and of not in theirs | {"self", "cls"}
            ):
                yield f"line {node.lineno}: {ast.unparse(node)} is private"
        elif isinstance(node, ast.Call) and called(node) in PATCHES and node.args:
            target = node.args[0]
            if isinstance(target, ast.Constant) and root(str(target.value)) in OURS:
                yield f"line {node.lineno}: replaces {target.value}"
            elif name_of(target) in ours:
                yield f"line {node.lineno}: replaces something of {ast.unparse(target)}"


def imported(tree: ast.Module) -> tuple[set[str], set[str]]:
    """Names that stand for things of ours, and for things of libraries."""
    ours, theirs = set[str](), set[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            (ours if root(node.module) in OURS else theirs).update(
                alias.asname or alias.name for alias in node.names
            )
        elif isinstance(node, ast.Import):
            for alias in node.names:
                name = alias.asname or root(alias.name)
                (ours if root(alias.name) in OURS else theirs).add(name)
    return ours, theirs


def root(module: str | None) -> str:
    return (module or "").partition(".")[0]


def name_of(node: ast.expr) -> str | None:
    """The name at the beginning of ``a.b[c].d``."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def called(node: ast.Call) -> str | None:
    function = node.func
    return function.attr if isinstance(function, ast.Attribute) else name_of(function)
