"""What is printed is literal, whatever the terminal can show."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from cp2fast.console import open_console
from cp2fast.train.console import RunConsole
from tests.command_line import cp2fast, refusal
from tests.data import image_files

pytestmark = pytest.mark.slow

NAMES = ["[photos]", "a[/b]c", "[bold]x", ":smile:", "a\\[b]"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_printed_as_it_is(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    open_console().print(f"wrote {name}")
    assert capsys.readouterr().out == f"wrote {name}\n"


@pytest.mark.parametrize("console", [open_console, lambda: RunConsole(quiet=False)])
def test_a_table_that_is_piped_is_as_wide_as_its_names(
    console: Callable[[], Console], capsys: pytest.CaptureFixture[str]
) -> None:
    table, names = Table(*"abcd"), [60 * letter for letter in "abcd"]
    table.add_row(*names)
    console().print(table)
    piped = capsys.readouterr().out
    assert all(name in piped for name in names)


def test_commands_take_folders_of_any_name(tmp_path: Path) -> None:
    photos = tmp_path / "[photos] :smile: a[" / "b]c #1"
    photos.mkdir(parents=True)
    for number in range(4):
        image_files.photo(40, 30, number).save(photos / f"{number}.jpg")
    out = tmp_path / "pairs.png"
    words = (f"data.root={photos}", "data.batch_size=4", "model.size=64", "--n", "1")
    done = cp2fast("preview", *words, "--out", out)
    assert done.returncode == 0, done.stderr
    assert f"wrote {out}" in done.stdout
    packed = tmp_path / "[b]:smile:.tar"
    assert f"{packed}: 4 images" in cp2fast("pack", photos, packed).stdout


def test_a_message_about_a_strange_name_is_one_line(tmp_path: Path) -> None:
    assert "a\\nb[/]" in refusal(cp2fast("pretrain", "r50", f"data.root={tmp_path}/a\nb[/]"))


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_that_knows_few_characters_gets_escapes(encoding: str) -> None:
    script = """
from cp2fast.console import open_console, show_everything
show_everything()
open_console().print("4 \\u00d7 5 \\u00b7 caf\\u00e9 \\u732b \\udce9")
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONIOENCODING": encoding},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    shown = {
        "ascii": b"4 \\xd7 5 \\xb7 caf\\xe9 \\u732b \\udce9",
        "latin-1": b"4 \xd7 5 \xb7 caf\xe9 \\u732b \\udce9",
    }
    assert done.stdout.strip() == shown[encoding]


def test_a_backend_of_a_notebook_is_not_asked_for(tmp_path: Path) -> None:
    for number in range(4):
        image_files.photo(40, 30, number).save(tmp_path / f"{number}.jpg")
    words = ("preview", f"data.root={tmp_path}", "data.batch_size=4", "model.size=64", "--n", "1")
    done = subprocess.run(
        [sys.executable, "-m", "cp2fast", *words, "--out", tmp_path / "p.png"],
        env=os.environ | {"MPLBACKEND": "module://matplotlib_inline.backend_inline"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
