"""Files that users name: opened without waiting, refused in one line."""

import os
import socket
from pathlib import Path

import pytest

from cp2fast.errors import UserError
from cp2fast.files import (
    is_file,
    list_folder,
    make_folder,
    open_plain,
    place_of,
    read_bytes,
    read_text,
    refuse_target,
    without_mark,
)
from tests import unprivileged


@pytest.fixture
def odd(tmp_path: Path) -> dict[str, Path]:
    """What may lie where a file should."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    (tmp_path / "folder").mkdir()
    (tmp_path / "device").symlink_to("/dev/zero")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    listening = socket.socket(socket.AF_UNIX)
    os.chdir(tmp_path)  # a socket's path may have a hundred letters
    listening.bind("socket")
    listening.close()
    return {path.name: path for path in tmp_path.iterdir()}


@pytest.fixture(autouse=True)
def _back() -> object:
    here = Path.cwd()
    yield
    os.chdir(here)


def test_nothing_but_a_plain_file_is_opened(odd: dict[str, Path]) -> None:
    for path in odd.values():
        for opener in (read_bytes, open_plain):
            with pytest.raises(OSError, match=path.name) as refusal:
                opener(path)
            assert refusal.value.strerror


def test_the_whole_file_is_read_whatever_size_it_claims(tmp_path: Path) -> None:
    for content in (b"", b"x" * 100_000):
        (tmp_path / "file").write_bytes(content)
        assert read_bytes(tmp_path / "file") == content
    own = Path("/proc/self/maps")  # says that it is empty, and is read in parts
    assert len(own.read_bytes()) > 5000
    assert read_bytes(own).count(b"\n") == pytest.approx(own.read_bytes().count(b"\n"), abs=3)


def test_each_place_is_named(odd: dict[str, Path]) -> None:
    places = {name: place_of(path) for name, path in odd.items() if name != "circle"}
    assert places == {
        "pipe": "other",
        "folder": "folder",
        "device": "other",
        "dangling": "nothing",
        "socket": "other",
    }
    with pytest.raises(UserError, match=r"circle cannot be read.*remove one"):
        place_of(odd["circle"])
    with pytest.raises(UserError, match="folder is a folder: a file belongs there"):
        is_file(odd["folder"])
    with pytest.raises(UserError, match="pipe is not a plain file"):
        is_file(odd["pipe"])
    assert not is_file(odd["dangling"])
    assert place_of(odd["folder"] / "a" / "b") == "nothing"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_text_is_read_by_its_byte_order_mark(tmp_path: Path, encoding: str) -> None:
    marks = {"utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff"}
    content = marks.get(encoding, b"") + "caf\xe9\r\nstra\xdfe\n".encode(encoding)
    (tmp_path / "list.txt").write_bytes(content)
    assert read_text(tmp_path / "list.txt").splitlines() == ["caf\xe9", "stra\xdfe"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("a\ncaf\xe9\n".encode("latin-1"), r"is not UTF-8 \(line 2\): save it as UTF-8"),
        (b"\xff\xfea", r"is not UTF-8 \(line 1\): save it as UTF-8"),
        (b"\xef\xbb\xbfa\n\xff", r"is not UTF-8 \(line 2\): save it as UTF-8"),
        ("\ufeff\u0a0a\n".encode("utf-16-le") + b"b", r"is not UTF-8 \(line 2\): save it as UTF-8"),
        ("a\n".encode("utf-16-le"), "holds zeros.*save it as UTF-8"),
    ],
)
def test_other_text_is_refused_in_one_line(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(UserError, match=f"list.txt {reason}"):
        read_text(tmp_path / "list.txt")


@pytest.mark.slow
def test_what_may_not_be_read_is_one_line(tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir()
    for folder in (tmp_path, locked):
        (folder / "list.txt").write_text("a\n")
    (tmp_path / "list.txt").chmod(0)
    locked.chmod(0)
    script = """
import sys
from pathlib import Path
from cp2fast.errors import UserError
from cp2fast.files import place_of, read_text
for function, path in ((read_text, sys.argv[1]), (read_text, sys.argv[2]), (place_of, sys.argv[2])):
    try:
        print(function(Path(path)))
    except UserError as error:
        print(error)
"""
    done = unprivileged.run("-c", script, tmp_path / "list.txt", locked / "list.txt")
    locked.chmod(0o755)
    assert not done.stderr
    assert len(done.stdout.splitlines()) == 3
    for line in done.stdout.splitlines():
        assert "list.txt cannot be read (Permission denied): change" in line


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_list_of_names_loses_only_its_mark(encoding: str) -> None:
    assert without_mark("a/caf\u00e9.jpg\n".encode(encoding)) == "a/caf\u00e9.jpg\n".encode()


def test_a_list_of_names_may_hold_any_bytes() -> None:
    assert without_mark(b"a\xff\xfe\0b") == b"a\xff\xfe\0b"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("there.png", "exists already.*--json"),
        ("dangling.png", "exists already.*--json"),
        ("nowhere/new.png", "there is no folder.*--json"),
        ("there.png/new.png", "there is no folder.*--json"),
        ("n" * 300 + ".png", "too long"),
        ("new\0.png", "embedded null"),
    ],
    ids=["a file", "a broken link", "no folder", "below a file", "too long", "zero"],
)
def test_a_file_that_cannot_be_written_is_refused_beforehand(
    tmp_path: Path, name: str, reason: str
) -> None:
    (tmp_path / "there.png").write_text("")
    (tmp_path / "dangling.png").symlink_to("nowhere.png")
    with pytest.raises(UserError, match=reason):
        refuse_target(tmp_path / name, "--json")
    refuse_target(tmp_path / "new.png")


def test_a_path_with_a_zero_is_refused_in_one_line(tmp_path: Path) -> None:
    for use in (read_text, list_folder, make_folder, place_of):
        with pytest.raises(UserError, match=r"embedded null (byte|character)"):
            use(tmp_path / "a\0b")


def test_a_folder_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot make the folder"):
        make_folder(tmp_path / "file" / "below")
    make_folder(tmp_path / "new" / "below")
    assert (tmp_path / "new" / "below").is_dir()
