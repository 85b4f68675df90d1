"""``cp2fast pack``: its summary, and refusals in its own words; ``cp2fast.pack`` alike."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cp2fast
from cp2fast.data.image_sets.listing import list_images
from cp2fast.errors import UserError
from tests import command_line
from tests.command_line import Done, refusal
from tests.data import image_files


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six photos, and one file that is none."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(6):
        image_files.photo(90 + number, 100 - number, number).save(folder / f"{number}.jpg")
    (folder / "bad.jpg").write_bytes(b"not an image")
    return folder


def pack(*words: object) -> Done:
    return command_line.cp2fast("pack", *words)


def test_the_command_ends_with_a_summary(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "photos.beton"
    code, stdout, stderr = pack(photos, out, "--max-side", "64", "--quality", "70")
    assert code == 0
    assert stderr == ""  # the bar is for terminals
    assert f"{out}: 6 images, 0.0 MB in, " in stdout
    assert " out, 1 rejected" in stdout
    assert "bad.jpg: text, not an image" in stdout
    assert f"{out}.rejects.txt" in stdout
    assert np.max(list_images(out).pixels[:, :2]) == 64


def test_one_image_is_not_called_images(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    image_files.photo(40, 50, 0).save(tmp_path / "photos" / "a.jpg")
    done = pack(tmp_path / "photos", tmp_path / "out.tar")
    assert f"{tmp_path}/out.tar: 1 image, " in done.stdout


def test_what_is_wrong_with_the_photos_is_said_in_the_words_of_this_command(
    tmp_path: Path,
) -> None:
    (tmp_path / "notes.txt").write_text("")
    for source in (tmp_path / "none", tmp_path / "notes.txt"):
        line = refusal(pack(source, tmp_path / "out.tar"))
        assert str(source) in line
        assert "name as SRC" in line
        assert "data.root" not in line


@pytest.mark.parametrize("source", ["", None, [], (), "[,]"])
def test_an_empty_source_is_not_the_current_folder(
    source: str | None, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a variable that is not set, or a glob that matches nothing."""
    monkeypatch.chdir(photos)
    with pytest.raises(UserError, match="SRC is empty: name what holds the images"):
        cp2fast.pack(source, tmp_path / "out.tar")
    assert "SRC is empty" in refusal(pack("", tmp_path / "out.tar"))
    assert list(tmp_path.iterdir()) == []


def test_the_command_refuses_in_one_line(photos: Path, tmp_path: Path) -> None:
    assert "there is no folder" in refusal(pack(tmp_path / "none", tmp_path / "out.beton"))
    assert "exists already" in refusal(pack(photos, photos))
    too_good = refusal(pack(photos, tmp_path / "out.beton", "--quality", "101"))
    assert "should be less than or equal to 100" in too_good


@pytest.mark.parametrize(
    "wrong", [{"quality": 0}, {"quality": 101}, {"max_side": 0}, {"workers": 0}]
)
def test_a_number_out_of_bounds_is_refused_in_python_too(
    wrong: dict[str, int], photos: Path, tmp_path: Path
) -> None:
    [(name, number)] = wrong.items()
    with pytest.raises(UserError, match=f"{name}={number}: must be 1 "):
        cp2fast.pack(photos, tmp_path / "out.tar", **wrong)
    assert list(tmp_path.iterdir()) == []


def test_what_data_root_may_be_is_packed_by_a_python_call(photos: Path, tmp_path: Path) -> None:
    done = []
    found = cp2fast.pack(
        str(photos),
        tmp_path / "out.tar",
        max_side=50,
        bands="1",
        progress=lambda number, total: done.append((number, total)),
    )
    assert (found.images, len(found.rejects)) == (6, 1)
    assert done[-1] == (7, 7)
    packed = list_images(tmp_path / "out.tar")
    with Image.open(io.BytesIO(packed.read(0))) as first:
        assert max(first.size) == 50
