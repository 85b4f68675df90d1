import errno
import io
import os
import pickle
import tarfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cp2fast.data.decoding.raster import BadImage
from cp2fast.data.image_sets.image_set import ImageSet
from cp2fast.data.image_sets.listing import list_images
from cp2fast.data.image_sets.shards import list_members
from cp2fast.errors import UserError


def write_shard(path, files):
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def names_in(shard):
    return [member.name for member in list_members(shard, Counter())]


def webdataset(folder, shards=3, samples=4):
    """Samples of several members each, as WebDataset writes them."""
    for shard in range(shards):
        files = {}
        for sample in range(samples):
            files[f"{shard}{sample}.cls"] = b"7"
            files[f"{shard}{sample}.jpg"] = f"image {shard} {sample}".encode() * (1 + 100 * sample)
            files[f"{shard}{sample}.json"] = b"{}"
        write_shard(folder / f"train-{shard:03d}.tar", files)
    return folder


def test_the_images_of_a_folder_of_shards_come_by_shard_then_by_place(tmp_path):
    images = list_images(webdataset(tmp_path))
    places = [(f"train-{s:03d}.tar", f"{s}{i}.jpg") for s in range(3) for i in range(4)]
    for number, (shard, name) in enumerate(places):
        assert images.name(number) == f"{tmp_path}/{shard}/{name}"
        with tarfile.open(tmp_path / shard) as tar:
            assert images.read(number) == tar.extractfile(name).read()
    assert len(images) == len(places)


def test_arrays_beside_an_image_are_its_labels_and_alone_are_images(tmp_path):
    both = {"1.jpg": b"1", "1.npy": b"2", "1.seg.tif": b"3", "2.npy": b"4"}
    path = write_shard(tmp_path / "a.tar", both)
    assert names_in(path) == ["1.jpg", "2.npy"]


def test_images_keep_the_order_in_which_they_lie_in_the_shard(tmp_path):
    path = write_shard(tmp_path / "a.tar", {"z.png": b"1", "b/.hidden.jpg": b"2", "b/a.WEBP": b"3"})
    assert names_in(path) == ["z.png", "b/a.WEBP"]


def test_one_shard_or_a_folder_of_them_is_a_data_set(tmp_path):
    webdataset(tmp_path)
    every = list_images(tmp_path)
    one = list_images(tmp_path / "train-001.tar")
    assert (every.kind, len(every), len(one)) == ("shards", 12, 4)
    assert every.name(5) == f"{tmp_path}/train-001.tar/11.jpg"
    assert every.read(5) == one.read(1) == b"image 1 1" * 101


def test_a_shard_that_became_stale_is_opened_again(tmp_path, monkeypatch):
    """As on NFS, where a file that was replaced is gone for those who have it open."""
    images = list_images(webdataset(tmp_path, shards=1))
    expected = [images.read(number) for number in range(len(images))]
    shard = tmp_path / "train-000.tar"
    gone, read = shard.stat().st_ino, os.pread

    def pread(descriptor, size, offset):
        if os.fstat(descriptor).st_ino == gone:
            raise OSError(errno.ESTALE, "Stale file handle")
        return read(descriptor, size, offset)

    (tmp_path / "new").write_bytes(shard.read_bytes())
    (tmp_path / "new").replace(shard)
    monkeypatch.setattr(os, "pread", pread)
    assert [images.read(number) for number in range(len(images))] == expected


def test_threads_and_a_copy_in_another_process_read_the_same(tmp_path):
    images = list_images(webdataset(tmp_path, samples=30))
    expected = [images.read(index) for index in range(len(images))]
    copy = pickle.loads(pickle.dumps(images))  # noqa: S301
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(copy.read, range(len(copy)))) == expected
    child = os.fork()
    if child == 0:
        same = all(images.read(index) == expected[index] for index in range(len(images)))
        os._exit(0 if same else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_a_data_set_travels_to_a_worker_at_little_cost(tmp_path):
    folder = ImageSet.of_files(f"/data/{number:07d}.jpg" for number in range(100_000))
    assert len(pickle.dumps(folder)) < (len("/data/0000000.jpg") + 8) * len(folder) + 1000


def test_more_shards_than_may_be_open_at_once(tmp_path):
    images = list_images(webdataset(tmp_path, shards=200, samples=1))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(2):
        assert all(images.read(i).startswith(b"image") for i in range(len(images)))
    assert len(os.listdir("/proc/self/fd")) - before < 100


def test_a_shard_that_became_shorter_is_no_short_image(tmp_path):
    images = list_images(webdataset(tmp_path, shards=1, samples=2))
    os.truncate(tmp_path / "train-000.tar", 1000)
    with pytest.raises(BadImage, match="ends before the image"):
        images.read(1)


def test_what_is_wrong_is_said_in_one_line_that_names_the_shard(tmp_path):
    whole = write_shard(tmp_path / "whole.tar", {"a.jpg": b"a" * 5000, "b.jpg": b"b" * 5000})
    cut = tmp_path / "cut.tar"
    cut.write_bytes(whole.read_bytes()[:8000])
    zipped = tmp_path / "zipped.tar"
    with tarfile.open(zipped, "w:gz") as tar:
        tar.add(whole, "a.jpg")
    none = write_shard(tmp_path / "none.tar", {"a.txt": b"a"})
    (tmp_path / "empty.tar").write_bytes(b"")
    for path, message in (
        (cut, r"cut.tar is damaged or incomplete .*ends at byte 8000.*fetch or write it again"),
        (zipped, r"zipped.tar is compressed: unpack it"),
        (none, r"no images in .*none.tar"),
        (tmp_path / "empty.tar", r"empty.tar is an empty file, not a tar: fetch it again"),
        (tmp_path / "gone.tar", r"there is no folder or file .*gone.tar"),
    ):
        with pytest.raises(UserError, match=message) as error:
            list_images(path)
        assert len(str(error.value).splitlines()) == 1


def test_compressed_shards_in_a_folder_are_named(tmp_path):
    (tmp_path / "train.tar.gz").write_bytes(b"\x1f\x8b")
    with pytest.raises(UserError, match=r"no images in .*unpack train.tar.gz"):
        list_images(tmp_path)
    with pytest.raises(UserError, match="is compressed: unpack it"):
        list_images(tmp_path / "train.tar.gz")


def test_images_and_shards_side_by_side_are_refused(tmp_path):
    webdataset(tmp_path, shards=1)
    Path(tmp_path / "cover.jpg").write_bytes(b"")
    with pytest.raises(UserError, match=r"both images .*cover.jpg.* and shards .train-000.tar"):
        list_images(tmp_path)


def test_beside_a_voc_folder_a_shard_is_no_matter(tmp_path):
    webdataset(tmp_path, shards=1)
    (tmp_path / "JPEGImages").mkdir()
    (tmp_path / "JPEGImages" / "1.jpg").write_bytes(b"")
    assert list_images(tmp_path).kind == "folder"


def test_masks_and_thumbnails_in_shards_are_no_photos(tmp_path):
    names = ["1.jpg", "1.seg.png", "1.mask.png", "2.img.jpg", "@eaDir/3.jpg", "./4.jpg", "a/5.png"]
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name in names:
            tar.addfile(tarfile.TarInfo(name))
    assert names_in(tmp_path / "a.tar") == ["1.jpg", "2.img.jpg", "./4.jpg", "a/5.png"]


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"<html>" * 200, "an HTML page"),
        (b"PK\3\4" + b"x" * 2000, "a zip archive"),
        (b"", "an empty"),
    ],
)
def test_a_shard_that_is_something_else_is_named(tmp_path, content, kind):
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(UserError, match=f"a.tar is {kind}.*not a tar"):
        names_in(tmp_path / "a.tar")
