import os
import re
import sys
import tarfile

import pytest

from cp2fast.data.decoding import formats
from cp2fast.data.decoding.formats import IMAGE_SUFFIXES
from cp2fast.data.decoding.raster import BadImage
from cp2fast.data.image_sets.listing import list_images, skipped_in_words
from cp2fast.errors import UserError
from tests import unprivileged


def make(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def listed(root):
    images = list_images(root)
    return [os.path.relpath(images.name(index), root) for index in range(len(images))]


def test_images_are_listed_by_relative_path_at_any_depth(tmp_path):
    make(tmp_path, "b.JPG", "a/z.jpeg", "a/b/c.png", "a.webp", "a/a.txt", "readme", "B.jpg")
    assert listed(tmp_path) == sorted(["b.JPG", "a/z.jpeg", "a/b/c.png", "a.webp", "B.jpg"])


def test_hidden_files_and_folders_are_skipped(tmp_path):
    make(tmp_path, "a.jpg", "._a.jpg", ".cache/b.jpg", "c/.d.png")
    assert listed(tmp_path) == ["a.jpg"]


def test_braces_name_images_and_folders(tmp_path):
    make(tmp_path, "a.jpg", "b.jpg", "c.jpg", "d/e.jpg", "f/g.jpg")
    images = list_images(f"{tmp_path}/{{c,a}}.jpg")
    assert [images.name(n) for n in range(len(images))] == [f"{tmp_path}/{n}.jpg" for n in "ca"]
    assert len(list_images(f"{tmp_path}/{{d,f}}")) == 2
    with pytest.raises(UserError, match=r"there is no .*/z\.jpg: leave it out of the braces"):
        list_images(f"{tmp_path}/{{a,z}}.jpg")


def test_of_a_voc_folder_only_the_photos_are_taken(tmp_path):
    make(tmp_path, "JPEGImages/1.jpg", "SegmentationClass/1.png", "preview.jpg")
    assert listed(tmp_path) == ["JPEGImages/1.jpg"]


def test_linked_folders_are_followed_once(tmp_path):
    make(tmp_path, "data/z/1.jpg", "elsewhere/2.jpg")
    (tmp_path / "data" / "a_link_to_z").symlink_to(tmp_path / "data" / "z")
    (tmp_path / "data" / "out").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "z" / "loop").symlink_to(tmp_path / "data")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "data")
    assert listed(tmp_path / "data") == ["out/2.jpg", "z/1.jpg"]


def test_a_folder_with_an_image_name_is_a_folder_and_a_dangling_link_is_an_image(tmp_path):
    make(tmp_path, "a.jpg/1.png")
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere")
    assert listed(tmp_path) == ["a.jpg/1.png", "gone.jpg"]


def test_names_that_are_not_utf8_survive(tmp_path):
    name = os.fsdecode(b"caf\xe9.jpg")
    make(tmp_path, name)
    assert list_images(tmp_path).read(0) == b""


def test_what_is_wrong_with_the_folder_is_said(tmp_path):
    make(tmp_path, "file.jpg", "empty/notes.txt")
    with pytest.raises(UserError, match=r"there is no folder or file .*missing.*data.root"):
        list_images(tmp_path / "missing")
    folder = re.escape(str(tmp_path))
    with pytest.raises(
        UserError, match=rf"is a single image: set data.root to its folder, {folder}$"
    ):
        list_images(tmp_path / "file.jpg")
    listed = tmp_path / "empty" / "notes.txt"
    with pytest.raises(UserError, match=rf"nor a .tar shard .* or @{listed} if it lists them$"):
        list_images(listed)
    with pytest.raises(UserError, match=r"no images in .*empty"):
        list_images(tmp_path / "empty")


def test_a_link_in_a_circle_is_an_image_that_cannot_be_read(tmp_path):
    make(tmp_path, "a.jpg")
    (tmp_path / "circle.jpg").symlink_to(tmp_path / "circle.jpg")
    (tmp_path / "other").symlink_to(tmp_path / "other")
    assert listed(tmp_path) == ["a.jpg", "circle.jpg"]
    with pytest.raises(BadImage, match="symbolic links"):
        list_images(tmp_path).read(1)
    with pytest.raises(UserError, match=r"other cannot be read .*go round in a circle"):
        list_images(tmp_path / "other")


def test_thumbnails_and_what_was_deleted_are_no_photos(tmp_path):
    make(tmp_path, "a.jpg", "@eaDir/a.jpg", "sub/@eaDir/b.jpg", "__MACOSX/c.jpg", "#recycle/d.jpg")
    assert listed(tmp_path) == ["a.jpg"]


def test_masks_by_their_names_are_no_photos(tmp_path):
    make(tmp_path, "a.jpg", "a.seg.png", "b.depth.png", "b.v2.png", "mask.png")
    assert listed(tmp_path) == ["a.jpg", "b.v2.png", "mask.png"]
    assert list_images(tmp_path).skipped == {".depth.png": 1, ".seg.png": 1}


def test_arrays_beside_an_image_of_their_name_belong_to_it(tmp_path):
    make(tmp_path, "a.jpg", "a.npy", "a.depth.NPY", "b.npy", "deep/a.npy", "c.mask.tif", "c.tif")
    assert listed(tmp_path) == ["a.jpg", "b.npy", "c.tif", "deep/a.npy"]
    assert list_images(tmp_path).skipped == {".depth.npy": 1, ".mask.tif": 1, ".npy": 1}


def test_what_is_skipped_is_counted_by_suffix(tmp_path):
    make(tmp_path, "a.jpg", "1.MP4", "2.mp4", "notes", "deep/down/3.mp4", "x.svg", ".hidden.svg")
    images = list_images(tmp_path)
    assert images.skipped == {".mp4": 3, ".svg": 1, "without suffix": 1}
    assert skipped_in_words(images) == "skipped: 3 .mp4, 1 .svg, 1 without suffix"
    make(tmp_path / "only", "a.jpg")
    assert skipped_in_words(list_images(tmp_path / "only")) is None


def test_a_folder_without_images_says_what_it_holds(tmp_path):
    make(tmp_path, "photos/1.mp4", "photos/2.mp4")
    with pytest.raises(UserError, match=r"there are 2 \.mp4"):
        list_images(tmp_path)


def test_every_suffix_of_images_is_taken_in_any_case(tmp_path):
    names = [f"{number}{suffix}" for number, suffix in enumerate(IMAGE_SUFFIXES)]
    make(tmp_path, *names, *(name.upper() for name in names))
    assert len(list_images(tmp_path)) == 2 * len(names)
    assert list_images(tmp_path).skipped == {}


@pytest.fixture
def without_pillow_heif(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    cached = (formats.is_installed, formats.readable_suffixes, formats.what_reads)
    for each in cached:
        each.cache_clear()
    yield
    for each in cached:
        each.cache_clear()


@pytest.mark.usefixtures("without_pillow_heif")
def test_what_would_read_the_files_left_out_is_said(tmp_path):
    make(tmp_path, "a.jpg", "1.HEIC", "2.heic", "3.txt")
    install = "pip install 'cp2fast[heif]'"
    images = list_images(tmp_path)
    assert len(images) == 1
    assert skipped_in_words(images) == f"skipped: 2 .heic (to read them: {install}), 1 .txt"
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        for name in ("a.jpg", "1.HEIC", "a.json"):
            tar.add(tmp_path / "3.txt", name)
    of_shard = skipped_in_words(list_images(tmp_path / "0.tar"))
    assert of_shard == f"skipped: 1 .heic (to read them: {install})"
    make(tmp_path / "phone", "1.heic")
    with pytest.raises(UserError, match=re.escape(f"1 .heic (to read them: {install})")):
        list_images(tmp_path / "phone")


def test_shards_in_folders_below_are_pointed_to(tmp_path):
    make(tmp_path, "train/0.tar", "train/1.tar", "val/0.tar")
    where = re.escape(str(tmp_path / "train"))
    with pytest.raises(UserError, match=f"its shards are in {where} .and 1 more such folder"):
        list_images(tmp_path)


@pytest.mark.parametrize("name", ["pipe", "pipe.tar", "pipe.beton"])
def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(UserError, match="neither a folder nor a file"):
        list_images(tmp_path / name)
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "folder" / "0.tar")
    with pytest.raises(UserError, match=r"0.tar cannot be read .not a plain file"):
        list_images(tmp_path / "folder")


LIST_ALL = """
import sys
from pathlib import Path
from cp2fast.data.image_sets.listing import list_images, skipped_in_words
from cp2fast.errors import UserError
for name in sys.argv[1:]:
    mode = Path(name).stat().st_mode
    Path(name).chmod(0)
    for root in (Path(name), Path(name) / "photos", Path(name).parent):
        try:
            images = list_images(root)
            images.read(0)
        except UserError as error:
            print(error)
    Path(name).chmod(mode)
"""


@pytest.mark.slow
def test_what_may_not_be_read_is_one_line(tmp_path):
    """The root, what holds it, or a folder below it."""
    make(tmp_path, "1/locked/photos/a.jpg", "1/b.jpg", "2/locked/photos/0.tar", "2/b.jpg")
    done = unprivileged.run("-c", LIST_ALL, tmp_path / "1/locked", tmp_path / "2/locked")
    assert not done.stderr
    assert len(done.stdout.splitlines()) == 6
    for line in done.stdout.splitlines():
        assert "cannot be read (Permission denied): change" in line
