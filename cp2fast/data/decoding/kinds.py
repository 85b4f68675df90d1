"""Describe the content of a file, for messages about files whose name is wrong."""

from __future__ import annotations

from cp2fast.data.decoding import jpeg

_SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": "a PNG image",
    b"GIF8": "a GIF image",
    b"BM": "a BMP image",
    b"II*\0": "a TIFF image",
    b"MM\0*": "a TIFF image",
    b"II+\0": "a TIFF image",
    b"MM\0+": "a TIFF image",
    b"\xff\x0a": "a JPEG XL image",
    b"\0\0\0\x0cJXL \r\n\x87\n": "a JPEG XL image",
    b"\0\0\0\x0cjP  ": "a JPEG 2000 image",
    b"\xff\x4f\xff\x51": "a JPEG 2000 image",
    b"\0\0\1\0": "an icon (ICO)",
    b"8BPS": "a Photoshop file",
    b"P4\n": "a PBM image",
    b"P5\n": "a PGM image",
    b"P6\n": "a PPM image",
    b"\x76\x2f\x31\x01": "an OpenEXR image",
    b"%PDF": "a PDF",
    b"PK\x03\x04": "a zip archive",
    b"\x1f\x8b": "a gzip archive",
    b"BZh": "a bzip2 archive",
    b"7z\xbc\xaf\x27\x1c": "a 7-Zip archive",
    b"\xfd7zXZ": "an xz archive",
    b"\x28\xb5\x2f\xfd": "a Zstandard archive",
    b"Rar!": "a RAR archive",
    b"version https://git-lfs": "a Git LFS pointer without its content (git lfs pull fetches it)",
    b"\x93NUMPY": "a numpy array",
    b"\x89HDF": "an HDF5 file",
    b"SQLite format 3": "an SQLite database",
}
_BRANDS = {
    b"avif": "an AVIF image",
    b"avis": "an AVIF image",
    b"mif1": "an AVIF image",
    b"msf1": "an AVIF image",
    b"crx ": "a raw photo (CR3)",
}
"""Brands of ISO base media files; any other brand is a video."""

_HEIF = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_MOST_BRANDS = 512
"""Bytes of the box that lists the brands."""

_RIFF = {b"WEBP": "a WebP image", b"AVI ": "a video", b"WAVE": "a sound"}
_LOOKED_AT = 512
_TEXT_BYTES = frozenset(range(0x20, 0x7F)) | {0x09, 0x0A, 0x0C, 0x0D}


def kind_of(content: bytes) -> str:
    """A noun with its article: "a TIFF image", "an HTML page", "an empty file".

    Args:
        content: the beginning of the file, 64 KiB or more.
    """
    if not content:
        return "an empty file"
    if content.startswith(jpeg.SIGNATURE):
        header = jpeg.read_header(content)
        bits = 8 if header is None else header.precision
        return (
            "a JPEG image"
            if bits == 8
            else f"a JPEG image of {bits} bits a channel (8 can be read)"
        )
    for signature, kind in _SIGNATURES.items():
        if content.startswith(signature):
            return kind
    if is_heif(content):
        return "a HEIC image"
    if content[4:8] == b"ftyp":
        return _BRANDS.get(content[8:12], "a video")
    if content[128:132] == b"DICM":
        return "a DICOM image"
    if content.startswith(b"RIFF"):
        return _RIFF.get(content[8:12], "a file of no known kind")
    if content[257:262] == b"ustar":
        return "a tar archive"
    return _kind_of_text(content[:_LOOKED_AT])


def is_heif(content: bytes) -> bool:
    """Whether a file is HEIC or another HEIF, except AVIF, by its brands."""
    if content[4:8] != b"ftyp":
        return False
    size = min(int.from_bytes(content[:4]), _MOST_BRANDS)
    brands = {content[8:12], *(content[at : at + 4] for at in range(16, size, 4))}
    return not brands.isdisjoint(_HEIF) and brands.isdisjoint((b"avif", b"avis"))


def _kind_of_text(begin: bytes) -> str:
    if not any(begin):
        return "a file of zeros, such as a broken download or disk leaves"
    text = begin.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "an HTML page, such as a failed download leaves"
    if b"<svg" in text:
        return "an SVG drawing"
    if text.startswith(b"<?xml"):
        return "XML"
    if text.startswith((b"{", b"[")) and _TEXT_BYTES.issuperset(begin):
        return "JSON"
    return "text" if _TEXT_BYTES.issuperset(begin) else "a file of no known kind"
