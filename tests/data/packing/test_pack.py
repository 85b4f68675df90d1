"""Packing: what comes out, and that neither a kill nor a full disk spoils it."""

import contextlib
import io
import os
import resource
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cp2fast as public
from cp2fast.data.image_sets.listing import list_images
from cp2fast.data.packing.pack import PackSummary, pack
from cp2fast.data.packing.packed_jpeg import JpegSettings
from cp2fast.errors import UserError
from tests.command_line import Done, cp2fast, refusal
from tests.data import image_files

KEEP = JpegSettings(None, 90, keep_bytes=True, max_pixels=1_000_000)
outs = pytest.mark.parametrize("out", ["photos.beton", "shards", "photos.tar"])


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty images, nested, and five files that are none."""
    root = tmp_path_factory.mktemp("photos")
    for number in range(60):
        folder = root / f"class.{number % 3}"
        folder.mkdir(exist_ok=True)
        photo = image_files.photo(40 + number, 100 - number, seed=number)
        photo.save(folder / f"{number:02d}.v1.jpg")
        if number % 12 == 5:
            (folder / f"{number:02d}.bad.jpg").write_bytes(b"not an image")
    return root


def do(source: Path, out: Path, settings=KEEP, shard_size=25, workers=2) -> PackSummary:
    return pack(
        source,
        out,
        settings,
        shard_size=shard_size,
        workers=workers,
        progress=lambda done, total: None,
    )


def contents(out: Path) -> dict[str, bytes]:
    files = sorted(out.iterdir()) if out.is_dir() else [out]
    return {file.name if out.is_dir() else "": file.read_bytes() for file in files}


def left_behind(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


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


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "cp2fast", "pack", *words]


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
    process = subprocess.Popen(command(str(many), str(tmp_path / out), *options))
    journal = tmp_path / f"{out}.partial" / "journal.jsonl"
    while not journal.exists() or journal.read_bytes().count(b"\n") < 3:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
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


def test_a_compressed_tar_is_refused(photos, tmp_path) -> None:
    with pytest.raises(UserError, match=r"name a .tar or a folder"):
        do(photos, tmp_path / "photos.tar.gz")


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


def test_only_bad_images_make_nothing(tmp_path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").write_bytes(b"")
    with pytest.raises(UserError, match=r"none of the 1 images .*a.jpg: empty file.*fix them"):
        do(tmp_path / "images", tmp_path / "out.beton")
    assert not (tmp_path / "out.beton").exists()


def run(*words: str) -> Done:
    return cp2fast("pack", *words)


def test_the_command_ends_with_a_summary(photos, tmp_path) -> None:
    out = tmp_path / "photos.beton"
    code, stdout, _ = run(str(photos), str(out), "--max-side", "64", "--quality", "70")
    assert code == 0
    assert f"{out}: 60 images, 0.1 MB in, " in stdout
    assert " out, 5 rejected" in stdout
    assert "05.bad.jpg: text, not an image" in stdout
    assert f"{out}.rejects.txt" in stdout
    assert np.max(list_images(out).pixels[:, :2]) == 64


def test_one_image_is_not_called_images(tmp_path) -> None:
    (tmp_path / "photos").mkdir()
    image_files.photo(40, 50, 0).save(tmp_path / "photos" / "a.jpg")
    done = run(str(tmp_path / "photos"), str(tmp_path / "out.tar"))
    assert f"{tmp_path}/out.tar: 1 image, " in done.stdout


def test_what_is_wrong_with_the_photos_is_said_in_the_words_of_this_command(tmp_path) -> None:
    (tmp_path / "notes.txt").write_text("")
    for source in (tmp_path / "none", tmp_path / "notes.txt"):
        line = refusal(run(str(source), str(tmp_path / "out.tar")))
        assert str(source) in line
        assert "name as SRC" in line
        assert "data.root" not in line


def test_the_command_refuses_in_one_line(photos, tmp_path) -> None:
    for words, message in (
        ((str(tmp_path / "none"), str(tmp_path / "out.beton")), "there is no folder"),
        ((str(photos), str(photos)), "exists already"),
        (
            (str(photos), str(tmp_path / "out.beton"), "--quality", "101"),
            "should be less than or equal to 100",
        ),
    ):
        code, _, stderr = run(*words)
        assert code == 2
        assert message in stderr
        assert len([line for line in stderr.splitlines() if "cp2fast:" in line]) == 1
        assert "Traceback" not in stderr


def test_the_index_beside_a_shard_says_what_its_headers_do(photos, tmp_path) -> None:
    do(photos, tmp_path / "shards")
    indexed = list_images(tmp_path / "shards")
    for index in (tmp_path / "shards").glob("*.index"):
        index.unlink()
    plain = list_images(tmp_path / "shards")
    assert indexed.places.tolist() == plain.places.tolist()
    assert [*indexed.names] == [*plain.names]
    for number in range(len(plain)):
        with Image.open(io.BytesIO(plain.read(number))) as image:
            assert indexed.pixels[number, :2].tolist() == [image.height, image.width]


@pytest.mark.parametrize("damage", ["of another shard", "cut", "older"])
def test_an_index_that_does_not_belong_to_its_shard_is_passed_over(
    damage, photos, tmp_path
) -> None:
    do(photos, tmp_path / "shards")
    expected = list_images(tmp_path / "shards").places.tolist()
    first, second, _ = sorted((tmp_path / "shards").glob("*.index"))
    content = {"of another shard": second.read_bytes(), "cut": first.read_bytes()[:-9]}
    first.write_bytes(content.get(damage, first.read_bytes().replace(b"1", b"2")))
    if damage == "older":
        os.utime(first, (1, 1))
    assert list_images(tmp_path / "shards").places.tolist() == expected


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


@pytest.mark.slow
def test_a_pack_to_an_object_store_that_was_killed_goes_on(photos, tmp_path, s3) -> None:
    """Killed when the first shard is there, it still comes out the same."""
    s3.client.create_bucket(Bucket="killed")
    do(photos, tmp_path / "shards", shard_size=25)
    script = (
        "import sys; from tests.data.packing.test_pack import KEEP;"
        "from cp2fast.data.packing.pack import pack;"
        "from pathlib import Path;"
        "pack(Path(sys.argv[1]), 's3://killed/out', KEEP, shard_size=25, workers=1,"
        "commit_every=10,"
        "progress=lambda done, total: os._exit(9) if done == int(sys.argv[2]) else None)"
    )
    words = [sys.executable, "-c", f"import os; {script}", str(photos), "41"]
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    assert done.returncode == 9, done.stderr
    assert [e["Key"] for e in s3.client.list_objects_v2(Bucket="killed")["Contents"]]
    do(photos, "s3://killed/out", shard_size=25)
    here, there = list_images(tmp_path / "shards"), list_images("s3://killed/out")
    assert [there.read(i) for i in range(60)] == [here.read(i) for i in range(60)]
    listed = s3.client.list_objects_v2(Bucket="killed")["Contents"]
    names = [f"out/shard-00000{i}.tar" for i in range(3)]
    expected = sorted([*names, *(f"{name}.index" for name in names), "out.rejects.txt"])
    assert [entry["Key"] for entry in listed] == expected


@pytest.mark.parametrize(
    "wrong", [{"quality": 0}, {"quality": 101}, {"max_side": 0}, {"workers": 0}]
)
def test_a_number_out_of_bounds_is_refused_in_python_too(wrong, photos, tmp_path) -> None:
    [(name, number)] = wrong.items()
    with pytest.raises(UserError, match=f"{name}={number}: must be 1 "):
        public.pack(photos, tmp_path / "out.tar", **wrong)
    assert left_behind(tmp_path) == []


def test_what_data_root_may_be_is_packed_by_a_python_call(photos, tmp_path) -> None:
    done = []
    found = public.pack(
        str(photos),
        tmp_path / "out.tar",
        max_side=50,
        bands="1",
        progress=lambda number, total: done.append((number, total)),
    )
    assert (found.images, len(found.rejects)) == (60, 5)
    assert done[-1] == (65, 65)
    packed = list_images(tmp_path / "out.tar")
    with Image.open(io.BytesIO(packed.read(0))) as first:
        assert max(first.size) == 50
