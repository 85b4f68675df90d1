"""Packs to an object store are those on the disk, killed or not."""

import contextlib
import shutil
from pathlib import Path

import fsspec
import pytest

from cp2fast.data.image_sets.listing import list_images
from cp2fast.errors import UserError
from tests.data.packing.packs import Stopped, do, stopped
from tests.processes import Process

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def stop_after_two_shards(photos, url):
    stopped(photos, url, 60, shard_size=25, workers=2, commit_every=10)


def shards_at(url):
    found = fsspec.filesystem("memory").find(url.removeprefix("memory:/"))
    return [name.rpartition("/")[2] for name in found if name.endswith(".tar")]


def test_a_pack_that_stopped_is_not_continued_at_a_url_that_looks_alike(photos) -> None:
    stop_after_two_shards(photos, "memory://alike/photos/train")
    assert len(shards_at("memory://alike/photos/train")) == 2
    assert do(photos, "memory://alike/photos-train").images == 60
    assert len(list_images("memory://alike/photos-train")) == 60
    with pytest.raises(UserError, match="memory://alike/photos-train exists already"):
        do(photos, "memory://alike/photos-train")
    assert do(photos, "memory://alike/photos/train/").images == 60
    assert len(list_images("memory://alike/photos/train")) == 60


def test_a_pack_whose_shards_were_removed_at_the_url_does_not_go_on(photos) -> None:
    url = "memory://removed/shards"
    stop_after_two_shards(photos, url)
    fsspec.filesystem("memory").rm("/removed/shards", recursive=True)
    lost = r"removed/shards/shard-000000.tar .*is not there any more: remove (\S+) and"
    with pytest.raises(UserError, match=lost):
        do(photos, url)
    assert shards_at(url) == []


@pytest.mark.parametrize("out", ["shards", "one.tar", "photos.beton"])
def test_a_pack_that_is_killed_while_it_tidies_up_leaves_what_it_has_uploaded(
    out, photos, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(work: Path, **options: bool) -> None:
        for file in work.rglob("*"):
            if file.is_file() and file.name != "journal.jsonl":
                file.unlink()
        raise Stopped

    url = f"memory://tidying/{out}"
    with monkeypatch.context() as patch, contextlib.suppress(Stopped):
        patch.setattr(shutil, "rmtree", killed)
        do(photos, url)
    with pytest.raises(UserError, match=f"{url} exists already"):
        do(photos, url)
    here = list_images(url)
    assert [len(here.read(number)) > 0 for number in range(60)] == [True] * 60


def test_the_rejects_of_an_earlier_pack_do_not_stay_beside_one_without(photos, tmp_path) -> None:
    url, memory = "memory://rejects/out.tar", fsspec.filesystem("memory")
    do(photos, url)
    assert memory.cat_file("/rejects/out.tar.rejects.txt").count(b"\n") == 5
    memory.rm("/rejects/out.tar")
    do(photos / "class.0", url)
    assert memory.cat_file("/rejects/out.tar.rejects.txt") == b""


@pytest.mark.parametrize("out", ["shards", "one.tar", "photos.beton"])
def test_a_pack_to_an_object_store_is_that_on_the_disk(out, photos, tmp_path, s3) -> None:
    s3.client.create_bucket(Bucket=f"pack-{len(out)}")
    url = f"s3://pack-{len(out)}/a/{out}"
    before, after = do(photos, tmp_path / out), do(photos, url)
    assert (after.images, after.bytes_out) == (before.images, before.bytes_out)
    here, there = list_images(tmp_path / out), list_images(url)
    assert [there.read(i) for i in range(60)] == [here.read(i) for i in range(60)]
    assert there.digest(url) == here.digest(tmp_path / out)
    with pytest.raises(UserError, match=f"{url} exists already"):
        do(photos, url)


def test_a_pack_to_an_object_store_that_was_killed_goes_on(photos, tmp_path, s3) -> None:
    """Killed when the first shard is there, it still comes out the same."""
    s3.client.create_bucket(Bucket="killed")
    do(photos, tmp_path / "shards", shard_size=25)
    script = (
        "import os, sys; from tests.data.packing.packs import KEEP;"
        "from cp2fast.data.packing.pack import pack;"
        "from pathlib import Path;"
        "pack(Path(sys.argv[1]), 's3://killed/out', KEEP, shard_size=25, workers=1,"
        "commit_every=10,"
        "progress=lambda done, total: os._exit(9) if done == int(sys.argv[2]) else None)"
    )
    process = Process(photos, 41, script=script)
    said = process.communicate()
    assert process.returncode == 9, said
    assert [e["Key"] for e in s3.client.list_objects_v2(Bucket="killed")["Contents"]]
    do(photos, "s3://killed/out", shard_size=25)
    here, there = list_images(tmp_path / "shards"), list_images("s3://killed/out")
    assert [there.read(i) for i in range(60)] == [here.read(i) for i in range(60)]
    listed = s3.client.list_objects_v2(Bucket="killed")["Contents"]
    names = [f"out/shard-00000{i}.tar" for i in range(3)]
    expected = sorted([*names, *(f"{name}.index" for name in names), "out.rejects.txt"])
    assert [entry["Key"] for entry in listed] == expected
