"""Packs that are stopped, killed or short of room go on to the same result, or not at all."""

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
from tests.data.packing.packs import Stopped, contents, do, outs, stopped
from tests.limits import at_most
from tests.processes import Process


@outs
@pytest.mark.parametrize("junk", [b"", b"what a kill left behind" * 1000])
def test_a_pack_that_stops_anywhere_goes_on_to_the_same_result(out, junk, photos, tmp_path) -> None:
    (tmp_path / "whole").mkdir()
    whole = do(photos, tmp_path / "whole" / out, shard_size=20)

    options = {"shard_size": 20, "workers": 2, "commit_every": 10}
    for at in (3, 9, 27, 30, 41, 65):
        stopped(photos, tmp_path / out, at, **options)
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
    stopped(photos, tmp_path / out, 50, shard_size=20, workers=2, commit_every=35)
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

    out, folder = tmp_path / "out.beton", tmp_path / "photos"
    folder.mkdir()
    padded = image_files.encode(image_files.photo(40, 40), "JPEG") + bytes(3_000_000)
    for number in range(8):
        (folder / f"{number}.jpg").write_bytes(padded)
    (folder / "8.jpg").write_bytes(padded + bytes(3_000_000))
    stopped(folder, out, 8, shard_size=25, workers=1, commit_every=4)
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
    (tmp_path / "whole").mkdir()
    do(photos, tmp_path / "whole" / out, shard_size=1000)
    room = max(map(len, contents(tmp_path / "whole" / out).values())) - 5000
    refused = pytest.raises(UserError, match=r"cannot write .*File too large.*same command again")
    with at_most(room, resource.RLIMIT_FSIZE), refused:
        do(photos, tmp_path / out, shard_size=1000)
    assert not (tmp_path / out).exists()
    do(photos, tmp_path / out, shard_size=1000)
    assert contents(tmp_path / out) == contents(tmp_path / "whole" / out)


def test_a_pack_begun_with_other_options_is_not_mixed_with_these(photos, tmp_path) -> None:
    out = tmp_path / "photos.beton"
    stopped(photos, out, 1, shard_size=20, workers=2)
    other = JpegSettings(50, 90, keep_bytes=True, max_pixels=1_000_000)
    with pytest.raises(UserError, match="was started with other images or options"):
        do(photos, out, other, shard_size=20)
    assert do(photos, out, shard_size=20).images == 60


@pytest.mark.parametrize("out", ["photos.beton", "photos.tar"])
def test_a_pack_of_one_source_is_not_gone_on_with_from_another_that_looks_alike(
    out, tmp_path
) -> None:
    """Of the same names, sizes and order; also with new content at the same URL."""

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
        stopped(one, tmp_path / out, 4, shard_size=9, workers=1, commit_every=2)
        if one == other:
            memory.pipe_file(f"/alike-{out}/a/5.bmp", memory.cat_file(f"/alike-{out}/b/5.bmp"))
        with pytest.raises(UserError, match="was started with other images or options"):
            do(other, tmp_path / out, shard_size=9)
        shutil.rmtree(tmp_path / f"{out}.partial")
