from pathlib import Path

import pytest

from cp2fast.config import root_of
from cp2fast.data.image_sets.listing import list_images
from cp2fast.data.image_sets.roots import places
from cp2fast.errors import UserError


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("photos/1.jpg", "photos/a/2.jpg", "photos/a/b/3.jpg", "photos/.hidden/4.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    for link, target in {"photos/a/loop": ".", "photos/a/up": "..", "photos/zz": "a"}.items():
        (tmp_path / link).symlink_to(target)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("photos/**/*.jpg", ["photos/1.jpg", "photos/a/2.jpg", "photos/a/b/3.jpg"]),
        ("**/3.jpg", ["photos/a/b/3.jpg"]),
        ("ph*/**/b/**/*.jpg", ["photos/a/b/3.jpg"]),
        ("photos/*/*.jpg", ["photos/a/2.jpg", "photos/zz/2.jpg"]),
        ("photos/**", ["photos"]),
    ],
)
def test_a_pattern_ends_where_links_go_round_and_takes_each_folder_once(
    root: Path, pattern: str, found: list[str]
) -> None:
    assert [place.name for place in places(Path(pattern))] == found
    assert [place.name for place in places(root / pattern)] == [f"{root}/{one}" for one in found]


def test_a_list_may_have_a_mark_of_its_encoding(root: Path) -> None:
    for encoding in ("utf-8-sig", "utf-16"):
        (root / "list.txt").write_bytes("photos/1.jpg\r\nphotos/a/2.jpg\r\n".encode(encoding))
        assert [p.name for p in places("@list.txt")] == ["photos/1.jpg", "photos/a/2.jpg"]


def test_braces_that_stand_for_too_much_are_refused() -> None:
    with pytest.raises(UserError, match=r"\{0..99999999999\} stands for more than 1,000,000"):
        list(places("shard-{0..99999999999}.tar"))


def test_no_text_is_nothing_and_not_the_current_folder(root: Path) -> None:
    with pytest.raises(UserError, match="no images in"):
        list_images(root_of(""))
