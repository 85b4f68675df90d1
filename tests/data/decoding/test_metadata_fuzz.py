"""Two thousand files with metadata of every kind of brokenness round whole pixels.

All sources read each as the same picture, none calls one bad, and no process ends: the decoders
run in one of their own.
"""

from __future__ import annotations

import pickle
import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cp2fast.data.decoding.orientation import orientation_of, upright_size
from tests.data import image_files, metadata
from tests.processes import Process

pytestmark = pytest.mark.slow

CASES = 2_000
PHOTO = image_files.photo(20, 12)
GREY, CMYK = PHOTO.convert("L"), PHOTO.convert("CMYK")


class Case(NamedTuple):
    """A file, the one of the same pixels without metadata, and the orientation if it is known."""

    encoded: bytes
    plain: bytes
    orientation: int | None


JPEGS = [
    image_files.encode(PHOTO, "JPEG"),
    image_files.encode(PHOTO, "JPEG", progressive=True),
    image_files.encode(PHOTO, "JPEG", restart_marker_blocks=1),
    image_files.encode(GREY, "JPEG"),
    image_files.encode(CMYK, "JPEG"),
]
PNGS = [
    image_files.encode(PHOTO, "PNG"),
    image_files.encode(GREY, "PNG"),
    image_files.encode(PHOTO.quantize(8), "PNG"),
]
WEBP = image_files.encode(PHOTO, "WEBP", lossless=True)

some_bytes = st.binary(max_size=40)
turns = st.integers(1, 8)


@st.composite
def entries(draw: st.DrawFn) -> metadata.Entry:
    """An entry of a directory, most of them odd."""
    tag = draw(st.sampled_from([0x0112, 0x0112, 0x010F, 0x0132, 0x8769, 0x8825, 0x9286, 0xC000]))
    kind = draw(st.sampled_from([*range(14), 16, 99, 129, 65535]))
    count = draw(st.sampled_from([0, 1, 1, 1, 2, 40, 60_000, 0xFFFFFFFF]))
    short = st.builds(lambda n: struct.pack("<H", n), st.integers(0, 10))
    return tag, kind, count, draw(st.one_of(short, st.binary(min_size=4, max_size=12)))


@st.composite
def blocks(draw: st.DrawFn) -> bytes:
    """An Exif block: whole, cut, with bytes changed, or none at all."""
    order = draw(st.sampled_from("<>"))
    inside = draw(st.lists(entries(), max_size=4))
    if draw(st.booleans()):
        place = draw(st.integers(0, len(inside)))
        inside.insert(place, metadata.orientation(draw(st.integers(0, 10)), order))
    block = bytearray(metadata.tiff(inside, order, draw(st.sampled_from([0, 8, 60_000]))))
    for place, value in draw(
        st.lists(st.tuples(st.integers(0, 60), st.integers(0, 255)), max_size=2)
    ):
        if place < len(block):
            block[place] = value
    cut = draw(st.one_of(st.just(len(block)), st.integers(0, len(block))))
    prefix = draw(st.sampled_from([b"", b"", b"Exif\0\0", b"Exif\0\0Exif\0\0"]))
    return prefix + bytes(block[:cut]) + draw(st.sampled_from([b"", b"", bytes(2000)]))


identifiers = st.sampled_from([b"Exif\0\0", b"Exif\0\0", b"Exif\0\xff", b"Exif", b"exif\0\0"])
segments = st.one_of(
    st.builds(metadata.exif_segment, blocks(), identifiers),
    st.builds(metadata.exif_segment, st.builds(metadata.turned, turns)),
    st.builds(lambda n, x: metadata.xmp_segment(metadata.xmp(n, x)), turns, some_bytes),
    st.builds(lambda m, b: metadata.segment(m, b), st.integers(0xE0, 0xEF), some_bytes),
    st.builds(lambda b: metadata.segment(0xE2, b"ICC_PROFILE\0" + b), some_bytes),
    st.builds(lambda b: metadata.segment(0xE2, b"MPF\0" + b), some_bytes),
    st.builds(lambda b: metadata.segment(0xED, b"Photoshop 3.0\08BIM" + b), some_bytes),
    st.builds(lambda b: metadata.segment(0xEE, b"Adobe"[: len(b)] + b[:6]), some_bytes),
    st.builds(lambda b: metadata.segment(0xE0, b"JFIF\0" + b[:8]), some_bytes),
    st.builds(lambda b: metadata.segment(0xFE, b), some_bytes),
    st.sampled_from([b"\xff" * 3, b"\xff\xe5\0\0", b"\xff\xe1\0\1", b"\xff\xfe\0\2"]),
)


@st.composite
def jpegs(draw: st.DrawFn) -> Case:
    plain, inserted = draw(st.sampled_from(JPEGS)), draw(st.lists(segments, max_size=4))
    if draw(st.booleans()):
        # Before everything else and whole, so it counts.
        value = draw(turns)
        first = metadata.exif_segment(metadata.turned(value))
        return Case(metadata.in_jpeg(plain, first, *inserted), plain, value)
    return Case(metadata.in_jpeg(plain, *inserted), plain, None)


names = st.one_of(
    st.sampled_from(
        b"eXIf eXIf tEXt zTXt iTXt iCCP gAMA cHRM sRGB pHYs tIME bKGD sBIT hIST".split()
    ),
    st.sampled_from(b"tRNS sPLT acTL fcTL fdAT caBX".split()),
    st.from_regex(rb"[a-z][A-Za-z][A-Z][A-Za-z]", fullmatch=True),
)
texts = st.sampled_from([b"", b"Comment\0\0", b"XML:com.adobe.xmp\0\0\0\0\0", b"x\0\0"])


@st.composite
def chunks(draw: st.DrawFn) -> bytes:
    name, body = draw(names), draw(texts) + draw(some_bytes)
    if name == b"eXIf":
        body = draw(blocks())
    chunk = metadata.chunk(name, body)
    return chunk if draw(st.integers(0, 5)) else chunk[:-4] + b"\1\2\3\4"


@st.composite
def pngs(draw: st.DrawFn) -> Case:
    plain = draw(st.sampled_from(PNGS))
    before, after = draw(st.lists(chunks(), max_size=2)), draw(st.lists(chunks(), max_size=2))
    encoded = metadata.in_png(metadata.in_png(plain, *after, before=b"IEND"), *before)
    return Case(encoded, plain, None)


@st.composite
def webps(draw: st.DrawFn) -> Case:
    flags = draw(st.sampled_from([0x08, 0x08, 0x0C, 0x04, 0]))
    parts = [b"VP8X", struct.pack("<I", 10), bytes([flags, 0, 0, 0])]
    parts += [(20 - 1).to_bytes(3, "little"), (12 - 1).to_bytes(3, "little"), WEBP[12:]]
    for name in draw(st.lists(st.sampled_from([b"EXIF", b"EXIF", b"XMP ", b"abcd"]), max_size=3)):
        body = draw(blocks()) if name == b"EXIF" else draw(some_bytes)
        parts += [name, struct.pack("<I", len(body)), body, bytes(len(body) % 2)]
    body = b"".join(parts)
    return Case(b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body, WEBP, None)


def generated() -> list[Case]:
    """As many as the suite tries: half of them JPEG, for which there are the most decoders."""
    cases: list[Case] = []

    @settings(
        max_examples=CASES,
        phases=[Phase.generate],
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.one_of(jpegs(), jpegs(), pngs(), webps()))
    def collect(case: Case) -> None:
        cases.append(case)

    collect()
    return cases


def test_all_sources_make_the_same_of_any_metadata(tmp_path: Path) -> None:
    cases = generated()
    assert len(cases) >= CASES
    folder = tmp_path / "photos"
    folder.mkdir()
    by_name = {f"{number:04d}.jpg": case for number, case in enumerate(cases)}
    for name, case in by_name.items():
        (folder / name).write_bytes(case.encoded)
    script = "import sys; from tests.data.decode_all import main; main(sys.argv[1])"
    process = Process(folder, script=script)
    _, errors = process.communicate()
    assert process.returncode == 0, errors[-2000:]
    sizes, seen = pickle.loads((tmp_path / "photos.pickle").read_bytes())  # noqa: S301
    plain = {case.plain: image_files.as_pillow_reads(case.plain) for case in cases}
    for name, case in by_name.items():
        found = orientation_of(case.encoded)
        assert case.orientation in (None, found), case.encoded.hex()
        expected = turned(plain[case.plain], found)
        assert sizes[name] == upright_size(12, 20, found), case.encoded.hex()
        for source, images in seen.items():
            if name in images:
                image = images[name]
                assert not isinstance(image, str), f"{source}: {image}: {case.encoded.hex()}"
                assert image.shape == expected.shape, f"{source}: {case.encoded.hex()}"
                worst = np.abs(image.astype(int) - expected).max()
                assert worst <= 1, f"{source}: {worst} levels: {case.encoded.hex()}"
    assert all(
        len(images) == len(cases) for source, images in seen.items() if "beton" not in source
    )


def turned(image: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """By numpy alone, as the standard shows it."""
    steps = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: np.rot90(a, 2),
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(a.swapaxes(0, 1), 2),
        8: lambda a: np.rot90(a, 1),
    }
    return steps[orientation](image)
