import contextlib
import io
import os
import subprocess
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cp2fast.data.image_sets.tar import TarError, read_entries

LONG = "a folder with a long name/" * 6 + "photo.jpg"
NAMES = ["1.jpg", "sub/2.jpg", LONG, LONG + "é" * 120, "caf\udce9.jpg", "empty.jpg"]


def entries(path):
    with path.open("rb") as file:
        return list(read_entries(file.fileno()))


def as_the_standard_library_reads(path):
    with tarfile.open(path) as tar:
        return [(i.name, i.offset_data, i.size) for i in tar if i.type in (b"0", b"\0")]


def write(path, layout=tarfile.GNU_FORMAT, names=NAMES, mtime=0.0):
    with tarfile.open(path, "w", format=layout) as tar:
        for number, name in enumerate(names):
            info = tarfile.TarInfo(name)
            info.size = 0 if name.startswith("empty") else 700 * number + 1
            info.mtime = mtime
            tar.addfile(info, io.BytesIO(bytes([number]) * info.size))
    return path


@pytest.mark.parametrize("layout", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("mtime", [0, 1.5])  # A fraction of a second needs a pax header.
def test_files_are_found_where_the_standard_library_finds_them(tmp_path, layout, mtime):
    path = write(tmp_path / "a.tar", layout, mtime=mtime)
    assert [tuple(entry) for entry in entries(path)] == as_the_standard_library_reads(path)
    assert len(entries(path)) == len(NAMES)


def test_ustar_splits_a_long_name(tmp_path):
    path = write(tmp_path / "a.tar", tarfile.USTAR_FORMAT, NAMES[:3])
    assert [entry.name for entry in entries(path)] == NAMES[:3]


@pytest.mark.parametrize("layout", ["v7", "oldgnu", "gnu", "ustar", "posix"])
def test_what_tar_itself_writes_is_read_and_links_and_folders_are_no_files(tmp_path, layout):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.jpg").write_bytes(os.urandom(1000 * number))
    (folder / "link.jpg").symlink_to("1.jpg")
    (folder / "same.jpg").hardlink_to(folder / "2.jpg")
    path = tmp_path / "a.tar"
    subprocess.run(["tar", "-cf", path, f"--format={layout}", "photos"], check=True, cwd=tmp_path)
    found = entries(path)
    assert [tuple(entry) for entry in found] == as_the_standard_library_reads(path)
    assert len(found) == 3  # One of the two names of the same file is a link.
    for name, offset, size in found:
        assert path.read_bytes()[offset : offset + size] == (tmp_path / name).read_bytes()


def test_a_sparse_file_is_passed_over(tmp_path):
    with (tmp_path / "holes.jpg").open("wb") as file:
        file.seek(10**6)
        file.write(b"end")
    (tmp_path / "b.jpg").write_bytes(b"b" * 5000)
    for layout in ("gnu", "posix"):
        path = tmp_path / f"{layout}.tar"
        command = ["tar", "-cSf", path, f"--format={layout}", "holes.jpg", "b.jpg"]
        subprocess.run(command, check=True, cwd=tmp_path)
        assert [entry.name for entry in entries(path)] == ["b.jpg"]


def test_a_size_in_binary_is_read(tmp_path):
    info = tarfile.TarInfo("a.jpg")
    info.size, info.mtime = 3, -1  # A negative time makes GNU's header binary, as a huge size does.
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\x80" + (3).to_bytes(11)
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    path = tmp_path / "a.tar"
    path.write_bytes(header + b"abc".ljust(512, b"\0") + bytes(1024))
    assert entries(path) == [("a.jpg", 512, 3)]


@pytest.mark.parametrize("share", [0, 0.1, 0.35, 0.5, 0.77, 0.98])
def test_an_archive_cut_short_anywhere_is_an_error(tmp_path, share):
    whole = write(tmp_path / "a.tar").read_bytes().rstrip(b"\0")
    (tmp_path / "cut.tar").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(TarError, match="it ends at byte"):
        entries(tmp_path / "cut.tar")


def test_an_archive_cut_between_two_files_is_an_error_too(tmp_path):
    path = write(tmp_path / "a.tar")
    second = entries(path)[1].offset - 512
    path.write_bytes(path.read_bytes()[:second])
    with pytest.raises(TarError, match="without an end mark"):
        entries(path)


def test_a_damaged_header_is_an_error_and_not_the_end(tmp_path):
    path = write(tmp_path / "a.tar")
    damaged = bytearray(path.read_bytes())
    begin = entries(path)[1].offset - 512
    for place, value in ((0, b"X"), (124, b"z"), (148, b"what")):
        copy = bytearray(damaged)
        copy[begin + place : begin + place + len(value)] = value
        path.write_bytes(copy)
        with pytest.raises(TarError, match=f"at byte {begin}"):
            entries(path)


@pytest.mark.parametrize("between", [0, 512, 1024, 3 << 20])
def test_archives_joined_by_cat_give_the_files_of_all(tmp_path, between):
    first, second = write(tmp_path / "a.tar", names=["1.jpg"]), write(tmp_path / "b.tar")
    whole = tmp_path / "both.tar"
    whole.write_bytes(first.read_bytes() + bytes(between) + second.read_bytes())
    found = entries(whole)
    assert [entry.name for entry in found] == ["1.jpg", *NAMES]
    behind = len(first.read_bytes()) + between
    assert [entry.offset - behind for entry in found[1:]] == [e.offset for e in entries(second)]


def test_one_block_of_zeros_ends_nothing(tmp_path):
    content = write(tmp_path / "a.tar", names=["1.jpg", "2.jpg"]).read_bytes()
    (tmp_path / "b.tar").write_bytes(content[:1024] + bytes(512) + content[1024:])
    assert [entry.name for entry in entries(tmp_path / "b.tar")] == ["1.jpg", "2.jpg"]


def test_junk_behind_the_end_mark_is_no_part_of_the_archive(tmp_path):
    content = write(tmp_path / "a.tar").read_bytes()
    (tmp_path / "b.tar").write_bytes(content + b"junk" * 200)
    assert len(entries(tmp_path / "b.tar")) == len(NAMES)


def test_a_second_archive_that_is_cut_is_an_error(tmp_path):
    content = write(tmp_path / "a.tar").read_bytes()
    (tmp_path / "b.tar").write_bytes(content + content[:1800])
    with pytest.raises(TarError, match="inside a file"):
        entries(tmp_path / "b.tar")


def in_memory(names, layout):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=layout) as tar:
        for number, name in enumerate(names):
            info = tarfile.TarInfo(name)
            info.size = number * 300
            tar.addfile(info, io.BytesIO(bytes(info.size)))
    return buffer.getvalue()


archives = st.builds(
    lambda names, layout: (names, in_memory(names, layout)),
    st.lists(st.text("ab/é.jpgn ", min_size=1, max_size=130).map(lambda n: f"x{n}y"), max_size=4),
    st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
)


@settings(max_examples=400)
@given(st.lists(archives, min_size=1, max_size=3), st.integers(0, 3))
def test_whatever_was_joined_all_files_are_found(tmp_path_factory, parts, zeros):
    path = tmp_path_factory.mktemp("tar") / "a.tar"
    path.write_bytes(bytes(512 * zeros).join(content for _, content in parts))
    assert [entry.name for entry in entries(path)] == [name for names, _ in parts for name in names]


@settings(max_examples=400)
@given(
    archives,
    st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), max_size=4),
    st.integers(0, 12_000),
)
def test_damage_is_a_tar_error_or_gives_files_inside_the_archive(tmp_path_factory, part, hits, end):
    content = bytearray(part[1])
    for place, value in hits:
        content[place % len(content)] = value
    path = tmp_path_factory.mktemp("tar") / "a.tar"
    path.write_bytes(content[:end])
    with contextlib.suppress(TarError):
        for entry in entries(path):
            assert 0 <= entry.offset <= entry.offset + entry.size <= end


@pytest.mark.parametrize("size", [b"-512", b"x", b""])
def test_a_size_that_is_none_is_an_error(tmp_path, size):
    info = tarfile.TarInfo("a.jpg")
    info.pax_headers = {"size": size.decode()}
    content = info.tobuf(tarfile.PAX_FORMAT)
    (tmp_path / "a.tar").write_bytes(content + bytes(1024))
    with pytest.raises(TarError, match="says a size of"):
        entries(tmp_path / "a.tar")
