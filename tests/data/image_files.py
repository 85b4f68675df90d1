"""Image files of every kind, good and bad, made in memory."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

EXIF_ORIENTATION = 0x0112


def photo(width: int, height: int, seed: int = 0) -> Image.Image:
    """Smooth colours with some texture, as JPEG likes it."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (height // 8 + 2, width // 8 + 2, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def as_pillow_reads(encoded: bytes) -> NDArray[np.uint8]:
    """The reference: upright RGB by Pillow alone."""
    with Image.open(io.BytesIO(encoded)) as image:
        upright = ImageOps.exif_transpose(image)
        if "transparency" in upright.info:
            upright = upright.convert("RGBA")
        return np.array(upright.convert("RGB"))


def write_png(pixels: NDArray[Any], bits: int, colour_type: int) -> bytes:
    """A PNG written by hand, for the kinds that Pillow cannot write.

    Args:
        pixels: ``[H, W, channels]``.
        bits: 8 or 16 a channel.
        colour_type: of the PNG header: 0 grey, 2 RGB, 4 grey and alpha, 6 RGBA.
    """
    height, width, _ = pixels.shape
    rows = pixels.astype(">u2" if bits == 16 else "u1")
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    return _png(width, height, bits, colour_type, data)


def _png(width: int, height: int, bits: int, colour_type: int, data: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    )


def jpeg_files() -> dict[str, bytes]:
    image = photo(83, 61)
    cmyk = encode(image.convert("CMYK"), "JPEG")
    adobe = cmyk.index(b"Adobe")
    oriented = {}
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[EXIF_ORIENTATION] = orientation
        oriented[f"exif {orientation}"] = encode(image, "JPEG", exif=exif)
    return oriented | {
        "4:2:0": encode(image, "JPEG", subsampling=2),
        "4:2:2": encode(image, "JPEG", subsampling=1),
        "4:4:4": encode(image, "JPEG", subsampling=0),
        "grey": encode(image.convert("L"), "JPEG"),
        "progressive": encode(image, "JPEG", progressive=True),
        "restart markers": encode(image, "JPEG", restart_marker_blocks=2),
        "stored as RGB": encode(image, "JPEG", keep_rgb=True),
        "CMYK, inverted by Adobe": cmyk,
        "CMYK without Adobe marker": cmyk[: adobe - 4] + cmyk[adobe + 12 :],
        "CMYK with a broken profile": encode(
            image.convert("CMYK"), "JPEG", icc_profile=b"no profile" * 20
        ),
        "broken profile": encode(image, "JPEG", icc_profile=b"no profile" * 20),
        "YCCK": cmyk[: adobe + 11] + b"\x02" + cmyk[adobe + 12 :],
        "arithmetic coding": encode(image, "JPEG").replace(b"\xff\xc0", b"\xff\xc9"),
        # Decoders then take the standard's tables, as in motion JPEG.
        "no Huffman tables": encode(image, "JPEG").replace(b"\xff\xc4", b"\xff\xec"),
        "1 x 1": encode(photo(1, 1), "JPEG"),
        "1 wide": encode(photo(1, 40), "JPEG"),
        "1 high": encode(photo(40, 1), "JPEG"),
    }


def other_files() -> dict[str, bytes]:
    image = photo(83, 61)
    alpha = Image.fromarray(np.add.outer(np.arange(61), np.arange(83)).astype(np.uint8))
    rgba, grey_alpha = image.copy(), image.convert("L")
    rgba.putalpha(alpha)
    grey_alpha.putalpha(alpha)
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = 6
    flipped = rgba.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return {
        "PNG": encode(image, "PNG"),
        "PNG grey": encode(image.convert("L"), "PNG"),
        "PNG grey and alpha": encode(grey_alpha, "PNG"),
        "PNG RGBA": encode(rgba, "PNG"),
        "PNG palette": encode(image.quantize(64), "PNG"),
        "PNG palette, one colour transparent": encode(image.quantize(64), "PNG", transparency=3),
        "PNG palette with alpha": encode(rgba.quantize(64), "PNG"),
        "PNG 1 bit": encode(image.convert("1"), "PNG"),
        "PNG exif 6": encode(image, "PNG", exif=exif),
        "WebP": encode(image, "WEBP"),
        "WebP lossless": encode(image, "WEBP", lossless=True),
        "WebP with alpha": encode(rgba, "WEBP"),
        "WebP exif 6": encode(image, "WEBP", exif=exif),
        "WebP animated": encode(rgba, "WEBP", save_all=True, append_images=[flipped]),
        "GIF": encode(image, "GIF"),
        "BMP": encode(image, "BMP"),
        "PNG animated": encode(image, "PNG", save_all=True, append_images=[image.rotate(180)]),
        "GIF animated": encode(image, "GIF", save_all=True, append_images=[image.rotate(180)]),
    }


def sixteen_bit_files() -> dict[str, tuple[bytes, NDArray[np.uint8]]]:
    """PNG of 16 bits a channel, with the pixels that they should become: rounded, not cut."""
    rgb = np.array(photo(83, 61))
    low = np.random.default_rng(1).integers(0, 256, rgb.shape, dtype=np.uint16)
    deep = rgb.astype(np.uint16) * 256 + low
    grey, alpha = deep[:, :, :1], deep[:, :, 1:2]
    rgb = np.round(deep / 257).astype(np.uint8)
    grey_rgb = rgb[:, :, :1].repeat(3, 2)
    return {
        "PNG 16-bit grey": (write_png(grey, 16, 0), grey_rgb),
        "PNG 16-bit RGB": (write_png(deep, 16, 2), rgb),
        "PNG 16-bit grey and alpha": (
            write_png(np.concatenate([grey, alpha], 2), 16, 4),
            grey_rgb,
        ),
        "PNG 16-bit RGBA": (write_png(np.concatenate([deep, alpha], 2), 16, 6), rgb),
    }


def bad_files() -> dict[str, bytes]:
    """Files that must be refused, by a file name that says why."""
    image = photo(97, 71)
    sequential, progressive = encode(image, "JPEG"), encode(image, "JPEG", progressive=True)
    png, webp = encode(image, "PNG"), encode(image, "WEBP", lossless=True)
    frame = sequential.index(b"\xff\xc0")
    scan = sequential.index(b"\xff\xda") + 14
    header_crc = 8 + 8 + 13
    return {
        "empty.jpg": b"",
        "text.jpg": b"Not an image, whatever its name says.\n" * 20,
        "page.png": b"<!doctype html><title>404</title>",
        "signature_only.jpg": sequential[:3],
        "header_only.jpg": sequential[:scan],
        "half_header.jpg": sequential[: scan // 2],
        "truncated_early.jpg": sequential[: scan + 50],
        "truncated_half.jpg": sequential[: (scan + len(sequential)) // 2],
        "truncated_late.jpg": sequential[:-12],
        "truncated_progressive.jpg": progressive[: len(progressive) // 2],
        "marker_in_the_middle.jpg": sequential[: scan + 400]
        + b"\xff\x31"
        + sequential[scan + 402 :],
        "marker_in_the_middle_progressive.jpg": _break_second_scan(progressive),
        "huffman_table.jpg": _with_broken_huffman_table(sequential),
        "no_quantisation_table.jpg": sequential.replace(b"\xff\xdb", b"\xff\xec"),
        "twelve_bits.jpg": sequential[: frame + 4] + b"\x0c" + sequential[frame + 5 :],
        "lossless.jpg": sequential[: frame + 1] + b"\xc3" + sequential[frame + 2 :],
        "page.webp": b"RIFF" + webp[4:12] + b"junk" * 40,
        "no_such_size.jpg": _with_size(sequential, 0, 0),
        "huge.jpg": _with_size(sequential, 60_000, 60_000),
        "huge.png": png[:16] + struct.pack(">II", 60_000, 60_000) + png[24:],
        "huge_but_valid_header.png": _png(40_000, 40_000, 8, 2, zlib.compress(b"\0" * 64)),
        "truncated.png": png[: len(png) // 2],
        "header_crc.png": png[:header_crc] + b"\0\0\0\0" + png[header_crc + 4 :],
        "corrupt.png": png[: len(png) // 2] + b"\x99" * 40 + png[len(png) // 2 + 40 :],
        "truncated.webp": webp[: len(webp) // 2],
    }


def damaged_but_readable_files() -> dict[str, bytes]:
    """Damage that libjpeg reads past, with wrong pixels from there on."""
    jpeg = encode(photo(97, 71), "JPEG")
    files = {"higher_than_its_data.jpg": _with_size(jpeg, 142, 97)}
    scan = jpeg.index(b"\xff\xda") + 14
    for place in (20, 300, 900):
        flipped = bytes([jpeg[scan + place] ^ 0x10])
        files[f"flipped_{place}.jpg"] = jpeg[: scan + place] + flipped + jpeg[scan + place + 1 :]
    return files


def write_bad_entries(folder: Path) -> None:
    """Bad files, and entries that are no readable files at all."""
    for name, encoded in bad_files().items():
        (folder / name).write_bytes(encoded)
    (folder / "dangling.jpg").symlink_to(folder / "nowhere.jpg")
    (folder / "device.jpg").symlink_to("/dev/zero")
    os.mkfifo(folder / "pipe.jpg")
    if os.geteuid() != 0:  # root may read everything
        (folder / "locked.jpg").write_bytes(encode(photo(20, 20), "JPEG"))
        (folder / "locked.jpg").chmod(0)


def _break_second_scan(progressive: bytes) -> bytes:
    second = progressive.index(b"\xff\xda", progressive.index(b"\xff\xda") + 2)
    return progressive[: second + 20] + b"\xff\x31" + progressive[second + 22 :]


def _with_broken_huffman_table(jpeg: bytes) -> bytes:
    """More codes of one bit than there are."""
    table = jpeg.index(b"\xff\xc4")
    return jpeg[: table + 5] + b"\x07" + jpeg[table + 6 :]


def _with_size(jpeg: bytes, height: int, width: int) -> bytes:
    frame = jpeg.index(b"\xff\xc0")
    return jpeg[: frame + 5] + struct.pack(">HH", height, width) + jpeg[frame + 9 :]
