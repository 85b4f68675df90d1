import os

import pytest

from cp2fast.data.images import list_images
from cp2fast.errors import UserError


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
    with pytest.raises(UserError, match=r"there is no folder .*missing.*data.root"):
        list_images(tmp_path / "missing")
    with pytest.raises(UserError, match=r"file.jpg is neither a folder nor a .tar shard"):
        list_images(tmp_path / "file.jpg")
    with pytest.raises(UserError, match=r"no images in .*empty"):
        list_images(tmp_path / "empty")


if os.geteuid() != 0:  # root may read everything

    def test_a_folder_that_may_not_be_read_is_an_error(tmp_path):
        make(tmp_path, "a.jpg", "locked/b.jpg")
        (tmp_path / "locked").chmod(0)
        with pytest.raises(UserError, match="locked cannot be read"):
            list_images(tmp_path)
        (tmp_path / "locked").chmod(0o755)
