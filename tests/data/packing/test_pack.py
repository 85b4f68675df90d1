"""Packing: what comes out, and that neither a kill nor a full disk spoils it."""

import contextlib
import os
import resource
import shutil
import stat
import tarfile
import time
from pathlib import Path

import fsspec
import numpy as np
import pytest
from PIL import Image

from cp2fast.data.image_sets import beton
from cp2fast.data.image_sets.listing import list_images
from cp2fast.data.packing.pack import pack
from cp2fast.data.packing.packed_jpeg import JpegSettings
from cp2fast.errors import UserError
from tests.data import image_files
from tests.data.packing.packs import KEEP, contents, do, left_behind
from tests.processes import Process

outs = pytest.mark.parametrize("out", ["photos.beton", "shards", "photos.tar"])


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


class Stopped(Exception):  # noqa: N818
    pass


@outs
@pytest.mark.parametrize("junk", [b"", b"what a kill left behind" * 1000])
def test_a_pack_that_stops_anywhere_goes_on_to_the_same_result(out, junk, photos, tmp_path) -> None:
    (tmp_path / "whole").mkdir()
    whole = do(photos, tmp_path / "whole" / out, shard_size=20)

    def stop(at: int):
        def progress(done: int, total: int) -> None:
            if done == at:
                raise Stopped

        return progress

    options = {"shard_size": 20, "workers": 2, "commit_every": 10}
    for at in (3, 9, 27, 30, 41, 65):
        with contextlib.suppress(Stopped):
            pack(photos, tmp_path / out, KEEP, progress=stop(at), **options)
        assert not (tmp_path / out).exists()
        work = tmp_path / f"{out}.partial"
        newest_shard = sorted(work.glob("shards/*"))[-1:]
        for file in [*work.glob("packed.*"), work / "journal.jsonl", *newest_shard]:
            with file.open("ab") as end:
                end.write(junk)
    again = do(photos, tmp_path / out, shard_size=20)
    assert contents(tmp_path / out) == contents(tmp_path / "whole" / out)
    assert again == whole
    rejects = f"{out}.rejects.txt"
    assert (tmp_path / rejects).read_text() == (tmp_path / "whole" / rejects).read_text()


@outs
def test_a_pack_that_stops_at_its_very_end_leaves_nothing_that_becomes_zeros(
    out, photos, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop_at_folders(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise Stopped

    with monkeypatch.context() as patch, contextlib.suppress(Stopped):
        patch.setattr(os, "fsync", stop_at_folders)
        do(photos, tmp_path / out)
    whole = contents(tmp_path / out)
    (shutil.rmtree if out == "shards" else os.unlink)(tmp_path / out)
    work = tmp_path / f"{out}.partial"
    with pytest.raises(UserError, match=f"was interrupted left it: remove {work}, and"):
        do(photos, tmp_path / out)
    shutil.rmtree(work)
    do(photos, tmp_path / out)
    assert contents(tmp_path / out) == whole


@pytest.mark.parametrize(
    ("out", "lost"),
    [("photos.beton", "index"), ("photos.beton", "packed.beton"), ("photos.tar", "packed.tar"),
     ("shards", "shards/shard-000000.tar"), ("shards", "shards/shard-000001.tar")],
)  # fmt: skip
def test_a_pack_that_has_lost_a_file_does_not_go_on(out, lost, photos, tmp_path) -> None:
    def stop(done: int, total: int) -> None:
        if done == 50:
            raise Stopped

    with contextlib.suppress(Stopped):
        pack(photos, tmp_path / out, KEEP, shard_size=20, workers=2, progress=stop, commit_every=35)
    file = tmp_path / f"{out}.partial" / lost
    file.unlink()
    for _ in range(2):
        with pytest.raises(UserError, match=f"{file} is not as the pack"):
            do(photos, tmp_path / out, shard_size=20)
    assert not (tmp_path / out).exists()


def test_pages_keep_their_size_when_the_largest_image_shrinks_before_a_pack_goes_on(
    tmp_path,
) -> None:
    """As readers of FFCV's format fetch page by page, no sample may cross a page's end."""

    def stop(done: int, total: int) -> None:
        if done == 8:
            raise Stopped

    out, folder = tmp_path / "out.beton", tmp_path / "photos"
    folder.mkdir()
    padded = image_files.encode(image_files.photo(40, 40), "JPEG") + bytes(3_000_000)
    for number in range(8):
        (folder / f"{number}.jpg").write_bytes(padded)
    (folder / "8.jpg").write_bytes(padded + bytes(3_000_000))
    with contextlib.suppress(Stopped):
        pack(folder, out, KEEP, shard_size=25, workers=1, progress=stop, commit_every=4)
    (folder / "8.jpg").write_bytes(padded)
    do(folder, out)
    page = int(np.fromfile(out, beton.HEADER, 1)[0]["page_size"])
    _, offsets, sizes = list_images(out).places.T
    assert (offsets // page == (offsets + sizes - 1) // page).all()


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough for several commits."""
    root = tmp_path_factory.mktemp("many")
    encoded = [image_files.encode(image_files.photo(160, 120, i), "JPEG") for i in range(4)]
    for number in range(1500):
        (root / f"{number:04d}.jpg").write_bytes(encoded[number % 4])
    return root


@pytest.mark.slow
def test_a_killed_command_goes_on_to_the_same_result(many, tmp_path) -> None:
    out = "many.beton"
    options = ("--max-side", "100", "--shard-size", "400", "--workers", "1")
    process = Process("pack", many, tmp_path / out, *options)
    journal = tmp_path / f"{out}.partial" / "journal.jsonl"
    while not journal.exists() or journal.read_bytes().count(b"\n") < 3:
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not (tmp_path / out).exists()
    commits = journal.read_bytes().count(b"\n")
    reported = []
    settings = JpegSettings(100, 90, keep_bytes=False, max_pixels=100_000_000)
    pack(
        many,
        tmp_path / out,
        settings,
        shard_size=400,
        workers=2,
        progress=lambda done, total: reported.append(done),
    )
    assert reported[0] == (commits - 1) * 256 + 1
    (tmp_path / "whole").mkdir()
    do(many, tmp_path / "whole" / out, settings, shard_size=400)
    assert contents(tmp_path / out) == contents(tmp_path / "whole" / out)


@outs
def test_a_full_disk_is_said_and_the_pack_goes_on_when_there_is_room(out, photos, tmp_path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    (tmp_path / "whole").mkdir()
    do(photos, tmp_path / "whole" / out, shard_size=1000)
    room = max(map(len, contents(tmp_path / "whole" / out).values())) - 5000
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
        with pytest.raises(UserError, match=r"cannot write .*File too large.*same command again"):
            do(photos, tmp_path / out, shard_size=1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not (tmp_path / out).exists()
    do(photos, tmp_path / out, shard_size=1000)
    assert contents(tmp_path / out) == contents(tmp_path / "whole" / out)


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


def test_a_pack_begun_with_other_options_is_not_mixed_with_these(photos, tmp_path) -> None:
    def stop(done: int, total: int) -> None:
        raise Stopped

    out = tmp_path / "photos.beton"
    with contextlib.suppress(Stopped):
        pack(photos, out, KEEP, shard_size=20, workers=2, progress=stop)
    other = JpegSettings(50, 90, keep_bytes=True, max_pixels=1_000_000)
    with pytest.raises(UserError, match="was started with other images or options"):
        do(photos, out, other, shard_size=20)
    assert do(photos, out, shard_size=20).images == 60


@pytest.mark.parametrize("out", ["photos.beton", "photos.tar"])
def test_a_pack_of_one_source_is_not_gone_on_with_from_another_that_looks_alike(
    out, tmp_path
) -> None:
    """Of the same names, sizes and order; also with new content at the same URL."""

    def stop(done: int, total: int) -> None:
        if done == 4:
            raise Stopped

    memory = fsspec.filesystem("memory")
    for number, name in enumerate(("a", "b")):
        plain = Image.new("RGB", (32, 32), (number, 0, 0))
        encoded = image_files.encode(plain, "BMP")
        (tmp_path / name).mkdir()
        for image in range(6):
            (tmp_path / name / f"{image}.bmp").write_bytes(encoded)
            memory.pipe_file(f"/alike-{out}/{name}/{image}.bmp", encoded)
        with tarfile.open(tmp_path / f"{name}.tar", "w") as tar:
            for image in range(6):
                tar.add(tmp_path / name / f"{image}.bmp", f"{image}.bmp")
        memory.put_file(str(tmp_path / f"{name}.tar"), f"/alike-{out}/{name}.tar")
    url = f"memory://alike-{out}"
    pairs = [
        (tmp_path / "a.tar", tmp_path / "b.tar"),
        (f"{url}/a", f"{url}/b"),
        (f"{url}/a.tar", f"{url}/b.tar"),
        (f"{url}/a", f"{url}/a"),
    ]
    for one, other in pairs:
        with contextlib.suppress(Stopped):
            pack(one, tmp_path / out, KEEP, shard_size=9, workers=1, progress=stop, commit_every=2)
        if one == other:
            memory.pipe_file(f"/alike-{out}/a/5.bmp", memory.cat_file(f"/alike-{out}/b/5.bmp"))
        with pytest.raises(UserError, match="was started with other images or options"):
            do(other, tmp_path / out, shard_size=9)
        shutil.rmtree(tmp_path / f"{out}.partial")


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
