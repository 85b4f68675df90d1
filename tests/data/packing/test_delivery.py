"""Packs to an object store are those on the disk, killed or not."""

import pytest

from cp2fast.data.image_sets.listing import list_images
from cp2fast.errors import UserError
from tests.data.packing.packs import do
from tests.processes import Process

pytestmark = pytest.mark.slow


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
