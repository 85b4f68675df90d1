"""Packing: what comes out, and what is refused."""

import tarfile
from pathlib import Path

import pytest

from cp2fast.data.image_sets.listing import list_images
from cp2fast.data.packing.pack import pack
from cp2fast.data.packing.packed_jpeg import JpegSettings
from cp2fast.errors import UserError
from tests.data import image_files
from tests.data.packing.packs import KEEP, contents, do, left_behind, outs


@outs
def test_the_images_come_out_in_their_order_and_unharmed(out, photos, tmp_path) -> None:
    summary = do(photos, tmp_path / out)
    before, after = list_images(photos), list_images(tmp_path / out)
    rejected = {name for name, _ in summary.rejects}
    good = [i for i in range(len(before)) if before.name(i) not in rejected]
    assert (summary.done, summary.images, len(rejected)) == (65, 60, 5)
    assert [after.read(i) for i in range(len(after))] == [before.read(i) for i in good]
    assert summary.bytes_in == sum(len(before.read(i)) for i in good)
    index = [f"{out}.index"] if out.endswith(".tar") else []
    assert left_behind(tmp_path) == sorted([out, f"{out}.rejects.txt", *index])


@outs
def test_rejects_are_listed_with_the_reason(out, photos, tmp_path) -> None:
    do(photos, tmp_path / out)
    lines = (tmp_path / f"{out}.rejects.txt").read_text().splitlines()
    bad = sorted(str(path) for path in photos.rglob("*.bad.jpg"))
    assert lines == [f"{path}\ttext, not an image" for path in bad]


def test_a_reject_whose_name_is_several_lines_is_one_in_the_list(tmp_path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    image_files.photo(40, 60).save(folder / "good.jpg")
    (folder / "a\nb.jpg").write_bytes(b"not an image")
    do(folder, tmp_path / "photos.tar")
    [line] = (tmp_path / "photos.tar.rejects.txt").read_text().splitlines()
    assert line == rf"{folder}/a\nb.jpg" + "\ttext, not an image"


@outs
def test_the_number_of_threads_changes_nothing(out, photos, tmp_path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "five").mkdir()
    smaller = JpegSettings(50, 80, keep_bytes=False, max_pixels=1_000_000)
    do(photos, tmp_path / "one" / out, smaller, workers=1)
    do(photos, tmp_path / "five" / out, smaller, workers=5)
    assert contents(tmp_path / "one" / out) == contents(tmp_path / "five" / out)


def test_the_sides_are_bounded(photos, tmp_path) -> None:
    do(photos, tmp_path / "small.beton", JpegSettings(50, 80, True, 1_000_000))
    sizes = list_images(tmp_path / "small.beton").pixels[:, :2]
    assert sizes.max() == 50
    assert (sizes.max(axis=1) <= 50).all()


def test_shards_are_named_and_filled_as_webdataset_does(photos, tmp_path) -> None:
    do(photos, tmp_path / "shards", shard_size=25)
    shards = [f"shard-00000{i}.tar" for i in range(3)]
    indexes = [f"{shard}.index" for shard in shards]
    assert left_behind(tmp_path / "shards") == sorted([*shards, *indexes])
    names = []
    for shard in sorted((tmp_path / "shards").glob("*.tar")):
        with tarfile.open(shard) as tar:
            names.append(tar.getnames())
    assert [len(part) for part in names] == [25, 25, 10]
    everything = [name for part in names for name in part]
    assert everything[0] == "000000000_00_v1.jpg"
    keys = [name.partition(".")[0] for name in everything]
    assert len(set(keys)) == 60
    assert {name.partition(".")[2] for name in everything} == {"jpg"}


def test_shards_and_betons_are_sources_too(photos, tmp_path) -> None:
    do(photos, tmp_path / "shards")
    do(tmp_path / "shards", tmp_path / "photos.beton")
    do(tmp_path / "photos.beton", tmp_path / "photos.tar")
    first, last = list_images(tmp_path / "shards"), list_images(tmp_path / "photos.tar")
    assert [first.read(i) for i in range(60)] == [last.read(i) for i in range(60)]


@outs
def test_nothing_that_exists_is_overwritten(out, photos, tmp_path) -> None:
    (tmp_path / out).write_bytes(b"precious")
    with pytest.raises(UserError, match="exists already: remove it, or name another"):
        do(photos, tmp_path / out)
    assert (tmp_path / out).read_bytes() == b"precious"
    assert left_behind(tmp_path) == [out]
    (tmp_path / out).unlink()
    (tmp_path / out).symlink_to(tmp_path / "a disk that is not mounted")
    with pytest.raises(UserError, match="exists already: remove it, or name another"):
        do(photos, tmp_path / out)
    assert left_behind(tmp_path) == [out]


@outs
def test_what_appears_while_a_pack_works_is_left_alone_with_its_rejects(
    out, photos, tmp_path
) -> None:
    theirs = [tmp_path / out, tmp_path / f"{out}.rejects.txt"]

    def appear(done: int, total: int) -> None:
        for file in theirs:
            file.write_bytes(b"theirs")

    with pytest.raises(UserError, match=f"{out} exists already: remove it, or name another"):
        pack(photos, tmp_path / out, KEEP, shard_size=25, workers=2, progress=appear)
    assert [file.read_bytes() for file in theirs] == [b"theirs", b"theirs"]


def test_a_compressed_tar_is_refused(photos, tmp_path) -> None:
    with pytest.raises(UserError, match=r"name a .tar or a folder"):
        do(photos, tmp_path / "photos.tar.gz")


@pytest.mark.parametrize("name", ["out.tar.gz", "out.zip", "out.tar?signature=SECRET"])
def test_a_url_that_is_refused_is_named_without_credentials(photos, name: str) -> None:
    with pytest.raises(UserError, match=r"^https://host/out\.\w+") as error:
        do(photos, f"https://user:SECRET@host/{name}")
    assert "SECRET" not in str(error.value)


@pytest.mark.parametrize("name", ["photos.zip", "photos.v2", "photos.tarr"])
def test_a_suffix_that_is_not_written_is_refused_with_those_that_are(
    photos, tmp_path, name: str
) -> None:
    with pytest.raises(UserError, match=r"\.beton, a \.tar, or for a folder of shards") as error:
        do(photos, tmp_path / name)
    assert f"{name}: " in str(error.value)
    assert list(tmp_path.glob(f"{name}*")) == []


def test_two_packs_of_one_name_do_not_meet(photos, tmp_path) -> None:
    out, refusals = tmp_path / "photos.beton", []

    def another(done: int, total: int) -> None:
        if done == 1:
            with pytest.raises(UserError, match="another process is writing") as error:
                do(photos, out)
            refusals.append(error)

    pack(photos, out, KEEP, shard_size=25, workers=2, progress=another)
    assert len(refusals) == 1
    assert len(list_images(out)) == 60


def test_a_picture_too_long_for_a_jpeg_is_left_out(tmp_path) -> None:
    (tmp_path / "images").mkdir()
    for name, height in {"1.png": 20, "2.png": 65_501, "3.png": 20}.items():
        image_files.photo(1, height).save(tmp_path / "images" / name)
    summary = do(tmp_path / "images", tmp_path / "out.tar")
    assert (summary.images, len(list_images(tmp_path / "out.tar"))) == (2, 2)
    assert [Path(name).name for name, _ in summary.rejects] == ["2.png"]


def test_only_bad_images_make_nothing(tmp_path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").write_bytes(b"")
    with pytest.raises(UserError, match=r"none of the 1 images .*a.jpg: empty file.*fix them"):
        do(tmp_path / "images", tmp_path / "out.beton")
    assert left_behind(tmp_path) == ["images"]
    image_files.photo(20, 20).save(tmp_path / "images" / "a.jpg")
    assert do(tmp_path / "images", tmp_path / "out.beton").images == 1
