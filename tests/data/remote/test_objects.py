"""Pictures on servers: what is listed and read, and what is said of faults."""

import io
import tarfile
from pathlib import Path

import fsspec
import numpy as np
import pytest

from cp2fast.data.cache.sizes import Sizes, decoded_bytes
from cp2fast.data.image_sets import shard_index
from cp2fast.data.image_sets.image_set import ImageSet
from cp2fast.data.image_sets.listing import list_images
from cp2fast.data.remote import retry
from cp2fast.data.remote.disk_cache import DiskCache
from cp2fast.data.remote.urls import public
from cp2fast.data.sources.read_ahead import read_ahead
from cp2fast.errors import UserError
from tests.data import image_files
from tests.servers import S3, Proxy, web_server

pytestmark = pytest.mark.slow

SHARDS, IMAGES = 3, 5


def shard(number: int, salt: bytes = b"") -> bytes:
    """A tar of five files that are taken for images, and one that is not."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for image in range(IMAGES):
            content = f"image {number}-{image}".encode() * 50 + salt
            for name in (f"{number}-{image}.jpg", f"{number}-{image}.json"):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three shards, and the same images as files."""
    root = tmp_path_factory.mktemp("server") / "root"
    for name in ("shards", "images/deep er"):
        (root / name).mkdir(parents=True)
    for number in range(SHARDS):
        (root / "shards" / f"s-{number:03d}.tar").write_bytes(shard(number))
        for image in range(IMAGES):
            content = f"image {number}-{image}".encode() * 50
            (root / "images" / "deep er" / f"{number}-{image}.jpg").write_bytes(content)
    return root


@pytest.fixture(scope="module")
def stored(folder: Path, s3_process: S3) -> str:
    return s3_process.upload(folder, "remote")


def contents(images: ImageSet) -> list[bytes]:
    return [images.read(number) for number in range(len(images))]


def fetched(images: ImageSet, disk: DiskCache) -> ImageSet:
    """The same images once all that holds them is on the disk."""
    for _ in read_ahead(images, disk, iter(np.arange(len(images)).reshape(-1, 1))):
        pass
    return images


@pytest.mark.parametrize("root", ["shards", "images", "shards/s-{000..002}.tar", "shards/*.tar"])
def test_an_object_store_and_a_web_server_hold_what_the_disk_does(
    root: str, folder: Path, stored: str, s3: S3
) -> None:
    here = list_images(folder / root)
    with web_server(folder) as url:
        for there in (list_images(f"{stored}/{root}"), list_images(f"{url}/{root}")):
            assert contents(there) == contents(here)
            names = [there.name(number).rpartition("/root/")[2] for number in range(len(there))]
            assert [name.rpartition("/")[2] for name in names] == [
                here.name(number).rpartition("/")[2] for number in range(len(here))
            ]
            assert there.digest(f"{url}/{root}") == here.digest(folder / root)


def test_a_list_holds_paths_and_urls_side_by_side(
    folder: Path, stored: str, s3: S3, tmp_path: Path
) -> None:
    near = folder / "images" / "deep er"
    listed = [near / "0-1.jpg", f"{stored}/images/deep er/2-0.jpg", f"{stored}/shards/s-001.tar"]
    (tmp_path / "list.txt").write_text("\n".join(map(str, listed)) + "\r\n\n")
    images = list_images(f"@{tmp_path}/list.txt")
    expected = [b"image 0-1", b"image 2-0", *(f"image 1-{i}".encode() for i in range(IMAGES))]
    assert contents(images) == [one * 50 for one in expected]


def test_what_was_fetched_is_read_without_the_server(
    stored: str, proxy: Proxy, tmp_path: Path
) -> None:
    disk = DiskCache(tmp_path / "disk")
    expected = [f"image {s}-{i}".encode() * 50 for s in range(SHARDS) for i in range(IMAGES)]
    for root in ("shards", "images"):
        images = fetched(list_images(f"{stored}/{root}", disk=disk), disk)
        proxy.status = "404 Not Found"
        assert contents(images) == expected
        proxy.status = None


def test_a_shard_that_is_named_twice_is_read_twice(s3: S3, tmp_path: Path) -> None:
    s3.client.create_bucket(Bucket="twice")
    for name, salt in {"short": b"", "long": b"er" * 999}.items():
        s3.client.put_object(Bucket="twice", Key=f"{name}.tar", Body=shard(0, salt))
        (tmp_path / f"{name}.tar").write_bytes(shard(0, salt))
    named, disk = ("short", "long", "short"), DiskCache(tmp_path / "disk")
    there = list_images(tuple(f"s3://twice/{name}.tar" for name in named), disk=disk)
    here = list_images(tuple(f"{tmp_path}/{name}.tar" for name in named))
    assert contents(fetched(there, disk)) == contents(here)
    assert len(here) == 3 * IMAGES


def test_a_shard_that_was_indexed_once_is_not_fetched_to_be_listed_again(
    stored: str, proxy: Proxy, tmp_path: Path
) -> None:
    disk = DiskCache(tmp_path / "disk")
    before = contents(list_images(f"{stored}/shards", disk=disk))
    for kept in (tmp_path / "disk" / "objects").rglob("*"):
        if kept.is_file():
            kept.unlink()
    images = list_images(f"{stored}/shards", disk=disk)
    assert not any(path.is_file() for path in (tmp_path / "disk" / "objects").rglob("*"))
    assert contents(images) == before


def test_a_shard_of_large_images_is_listed_without_fetching_it(s3: S3, tmp_path: Path) -> None:
    """By range requests for its headers; it is read right, and a shard that is cut off is found."""
    photo = image_files.encode(image_files.photo(40, 30), "JPEG")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for number in range(9):
            member = tarfile.TarInfo(f"{'long ' * 40}{number}.jpg")
            content = photo + bytes([number]) * 300_000
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        tar.addfile(tarfile.TarInfo("film.mp4"))
    s3.client.create_bucket(Bucket="large")
    s3.client.put_object(Bucket="large", Key="whole/s.tar", Body=buffer.getvalue())
    s3.client.put_object(Bucket="large", Key="cut/s.tar", Body=buffer.getvalue()[:2_000_000])
    disk = DiskCache(tmp_path / "disk")
    images = list_images("s3://large/whole", disk=disk)
    assert not [path for path in (disk.folder / "objects").rglob("*") if path.is_file()]
    assert images.skipped == {".mp4": 1}
    assert images.pixels[:, :2].tolist() == [[30, 40]] * 9
    (tmp_path / "s.tar").write_bytes(buffer.getvalue())
    assert contents(fetched(images, disk)) == contents(list_images(tmp_path / "s.tar"))
    with pytest.raises(UserError, match=r"s3://large/cut/s.tar is damaged or incomplete"):
        list_images("s3://large/cut", disk=disk)


def test_what_is_left_out_is_counted_as_of_the_same_files_here(
    folder: Path, s3: S3, tmp_path: Path
) -> None:
    """In shards, beside them, and by a pattern; labels of an image are expected."""
    root = tmp_path / "left-out"
    root.mkdir()
    with tarfile.open(root / "0.tar", "w") as tar:
        for name in ("a.jpg", "a.json", "a.seg.png", "b.mp4", "._a.jpg", "c.txt"):
            tar.addfile(tarfile.TarInfo(name))
    (root / "notes.txt").write_text("notes")
    url = s3.upload(root, "left-out")
    assert list_images(root).skipped == {".txt": 2, ".mp4": 1}
    assert list_images(url).skipped == list_images(root).skipped
    assert list_images(f"{url}/*").skipped == list_images(f"{root}/*").skipped
    assert list_images(f"{root}/*").skipped == list_images(root).skipped


def test_the_sizes_of_single_images_are_asked_for_once(
    s3: S3, proxy: Proxy, tmp_path: Path
) -> None:
    root = tmp_path / "photos"
    root.mkdir()
    for number in range(5):
        image_files.photo(40 + number, 30).save(root / f"{number}.jpg")
    url, disk = s3.upload(root, "sizes"), DiskCache(tmp_path / "disk")
    images = list_images(url, disk=disk)

    def measured() -> Sizes:
        bounds = {"threads": 1, "max_pixels": 10**6, "max_side": None}
        return decoded_bytes(images, np.arange(5), 10**9, **bounds)

    first = measured()
    assert first.bytes.tolist() == [3 * 30 * (40 + number) for number in range(5)]
    assert first.asked == 5
    with (disk.folder / "sizes").open("ab") as file:
        file.write(b"half a rec")  # as a kill leaves it
    proxy.status = "404 Not Found"
    again = measured()
    assert again.bytes.tolist() == first.bytes.tolist()
    assert again.asked == 0


def test_cut_answers_and_refusals_are_made_good_and_counted(
    stored: str, proxy: Proxy, tmp_path: Path
) -> None:
    disk = DiskCache(tmp_path / "disk")
    before = retry.retries()
    proxy.cut_after, proxy.cuts = 2000, 3
    images = fetched(list_images(f"{stored}/shards", disk=disk), disk)
    proxy.cuts = 2
    assert contents(images)[7] == b"image 1-2" * 50
    assert contents(list_images(f"{stored}/images"))[7] == b"image 1-2" * 50
    assert retry.retries() - before >= 3


def test_a_shard_that_has_changed_since_it_was_cached_is_fetched_anew(
    folder: Path, s3: S3, tmp_path: Path
) -> None:
    disk, client = DiskCache(tmp_path / "disk"), s3.client
    client.create_bucket(Bucket="changing")
    for salt in (b"old", b"new"):  # of the same size
        client.put_object(Bucket="changing", Key="s.tar", Body=shard(0, salt))
        images = fetched(list_images("s3://changing/s.tar", disk=disk), disk)
        assert contents(images)[0] == b"image 0-0" * 50 + salt


def test_a_shard_that_changes_under_a_run_is_refused(s3: S3, tmp_path: Path) -> None:
    disk, client = DiskCache(tmp_path / "disk"), s3.client
    client.create_bucket(Bucket="moving")
    client.put_object(Bucket="moving", Key="s.tar", Body=shard(0, b"old"))
    images = list_images("s3://moving/s.tar", disk=disk)
    for kept in (tmp_path / "disk" / "objects").rglob("*"):
        if kept.is_file():
            kept.unlink()
    client.put_object(Bucket="moving", Key="s.tar", Body=shard(0, b"new"))
    with pytest.raises(UserError, match=r"s3://moving/s.tar has changed since the run began"):
        fetched(images, disk)


def test_what_does_not_fit_at_all_says_which_setting(stored: str, s3: S3, tmp_path: Path) -> None:
    disk = DiskCache(tmp_path / "disk", gib=1000 / (1 << 30))
    with pytest.raises(UserError, match=r"does not fit .*: set data.disk_gib higher"):
        list_images(f"{stored}/shards", disk=disk)


def test_an_index_of_another_shard_is_found_out(s3: S3, tmp_path: Path) -> None:
    """It is as long, but its first member is one block longer than the index says."""
    client, disk = s3.client, DiskCache(tmp_path / "disk")
    client.create_bucket(Bucket="indexed")
    right = shard_index.ShardIndex.of(len(shard(0)), [("0-0.jpg", 512, 450, 0, 0)])
    wrong = shard_index.ShardIndex.of(len(shard(0)), [("0-0.jpg", 1024, 450, 0, 0)])
    client.put_object(Bucket="indexed", Key="s.tar", Body=shard(0))
    client.put_object(Bucket="indexed", Key="s.tar.index", Body=right.encoded())
    images = fetched(list_images("s3://indexed", disk=disk), disk)
    assert contents(images) == [b"image 0-0" * 50]
    client.put_object(Bucket="indexed", Key="s.tar.index", Body=wrong.encoded())
    with pytest.raises(UserError, match=r"s.tar.index is not the index of s3://indexed/s.tar"):
        fetched(list_images("s3://indexed", disk=disk), disk)


def test_any_file_system_of_fsspec_will_do(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    memory = fsspec.filesystem("memory")
    memory.put(str(folder / "shards"), "/kept/shards", recursive=True)
    assert contents(list_images("memory://kept/shards")) == contents(list_images(folder / "shards"))
    assert len(list_images("memory://kept/shards/s-00[01].tar")) == 2 * IMAGES
    assert len(list_images(f"file://{folder}/shards")) == SHARDS * IMAGES


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("az://bucket/shards", r'az:// needs a package .*: pip install "cp2fast\[az\]"'),
        ("nothing://x/y", "nothing://x/y cannot be opened"),
        ("ftp://127.0.0.1:9/x", "ftp://127.0.0.1:9/x cannot be opened"),
        ("s3://remote/none", "nothing at s3://remote/none"),
        ("s3://remote/shards/s-7.tar", r"s3://remote/shards/s-7.tar is not there \(404\)"),
        ("s3://remote/shards/*.jpg", r"nothing matches s3://remote/shards/\*.jpg"),
        ("https://", "https:// cannot be opened: it names no host; write .*https://HOST/FOLDER"),
        ("http://no-such-host.invalid/x.tar", "no-such-host.invalid/x.tar cannot be read"),
    ],
)
def test_what_is_wrong_with_a_url_is_said(url: str, message: str, stored: str, s3: S3) -> None:
    with pytest.raises(UserError, match=message):
        list_images(url)


def test_secrets_in_a_url_are_not_shown() -> None:
    signed = "https://me:pass@host:8443/a b/s.tar?X-Amz-Signature=feed&versionId=7&token=beef#x"
    assert public(signed) == "https://host:8443/a b/s.tar?versionId=7#x"
    assert public("photos/a@b?c=d") == "photos/a@b?c=d"


def test_what_is_wrong_is_said_without_the_secrets(folder: Path, s3: S3) -> None:
    with web_server(folder) as url:
        secret = url.replace("://", "://me:swordfish@")
        with pytest.raises(UserError, match=r"localhost:\d+/none.tar is not there") as caught:
            list_images(f"{secret}/none.tar?signature=feedbeef")
        images = list_images(f"{secret}/shards")
        assert contents(images) == contents(list_images(folder / "shards"))
        for text in (str(caught.value), images.name(0), *map(str, caught.value.args)):
            assert "swordfish" not in text
            assert "feedbeef" not in text
