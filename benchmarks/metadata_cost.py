"""What reading the orientation costs beside decoding, on photos as cameras write them.

    python benchmarks/metadata_cost.py [--json FILE]

Time of this process alone, so that other work on the machine counts little; best of many rounds.
"""

from __future__ import annotations

import argparse
import io
import json
import struct
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from cp2fast.data.decoding import jpeg
from cp2fast.data.decoding.decode import decode_image
from cp2fast.data.decoding.orientation import jpeg_orientation, orientation_of
from cp2fast.machine import machine, versions

SIZE = (468, 401)
"""The mean size of ImageNet's photos."""
ROUNDS, CALLS = 30, 50


def photo() -> bytes:
    """A JPEG of 100 KB: smooth colours with the noise of a sensor."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (50, 60, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize(SIZE, Image.Resampling.BICUBIC), np.int64)
    noisy = (smooth + random.integers(-25, 25, smooth.shape)).clip(0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noisy).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def with_metadata(encoded: bytes) -> bytes:
    """The photo with an Exif block of a camera's length and a colour profile."""
    exif = Image.Exif()
    exif[0x010F], exif[0x0110], exif[0x0112], exif[0x0132] = "maker", "model", 1, "2024:01:01"
    block = exif.tobytes() + bytes(8000)
    profile = b"ICC_PROFILE\0\1\1" + bytes(3000)
    segments = b"".join(
        marker + struct.pack(">H", len(body) + 2) + body
        for marker, body in ((b"\xff\xe1", block), (b"\xff\xe2", profile))
    )
    return encoded[:2] + segments + encoded[2:]


def microseconds(call: Callable[[], object], calls: int) -> float:
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.process_time()
        for _ in range(calls):
            call()
        best = min(best, time.process_time() - began)
    return 1e6 * best / calls


def measure(encoded: bytes) -> dict[str, float]:
    header = jpeg.read_header(encoded)
    if header is None:
        raise ValueError("the photo has no header")
    decoding = microseconds(lambda: decode_image(encoded, 10**9), 1)
    alone = microseconds(lambda: orientation_of(encoded), CALLS)
    beside = microseconds(lambda: jpeg_orientation(encoded, header), CALLS)
    return {
        "bytes": len(encoded),
        "decoding_us": decoding,
        "orientation_us": alone,
        "orientation_with_header_us": beside,
        "share_of_decoding": alone / decoding,
        "share_with_header": beside / decoding,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    plain = photo()
    result = {
        "machine": machine(),
        "versions": versions(),
        "results": {"plain": measure(plain), "with metadata": measure(with_metadata(plain))},
    }
    print(json.dumps(result["results"], indent=2))
    path = parser.parse_args().json
    if path is not None:
        path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
