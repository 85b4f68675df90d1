"""Pictures of any size, whose pixels lie in mapped files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cp2fast.finetune.outputs import mapped

OPEN_IN_LITTLE_MEMORY = """
import resource, sys
from pathlib import Path
import numpy as np, tifffile
from PIL import Image
from cp2fast.data.image_sets.image_set import ImageSet
from cp2fast.data.decoding.levels import BY_TYPE
from cp2fast.finetune.outputs import Outputs, Photo
from cp2fast.finetune.picture import open_picture, picture_size

folder = Path(sys.argv[1])

def write(side):
    rows, columns = np.mgrid[:side, :side]
    pixels = np.stack([rows // 32, columns // 32, (rows + columns) // 64], axis=2).astype(np.uint8)
    Image.fromarray(pixels).save(folder / f"{side}.png", compress_level=1)
    Image.fromarray(pixels).save(folder / f"{side}.jpg")
    tifffile.imwrite(folder / f"{side}.tif", pixels)
    tifffile.imwrite(folder / f"{side}z.tif", pixels, compression="zlib", rowsperstrip=64)
    return pixels.astype(np.int64).sum()

def total(name):
    outputs = Outputs(folder / "m.png", folder / "m.jpg", None)
    photo = Photo(ImageSet.of_files([folder / name]), 0, outputs)
    pixels = open_picture(photo, BY_TYPE)
    assert pixels.shape[:2] == picture_size(photo)
    bands = range(0, len(pixels), 256)
    return sum(int(pixels[top : top + 256].sum(dtype=np.int64)) for top in bands)

names = ["{}.png", "{}.tif", "{}z.tif", "{}.jpg"]
write(64)
for name in names:  # imports and compiles what there is to
    total(name.format(64))
expected = write(4800)
used = int(open("/proc/self/status").read().split("VmData:")[1].split()[0]) * 1024
most = used + (48 << 20)  # the picture has 69 MB
resource.setrlimit(resource.RLIMIT_DATA, (most, most))
for name in names:
    found = total(name.format(4800))
    assert abs(found - expected) < 1e-3 * expected, name
    print(name, flush=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_pixels_are_not_held_in_memory(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", OPEN_IN_LITTLE_MEMORY, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["{}.png", "{}.tif", "{}z.tif", "{}.jpg"], done.stderr


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_all_room_on_the_disk_is_taken_at_once_by_a_file_without_a_name(tmp_path: Path) -> None:
    array = mapped(tmp_path, np.float16, (3, 500, 700))
    links = [path for path in list(Path("/proc/self/fd").iterdir()) if path.exists()]
    [file] = [path for path in links if str(tmp_path) in os.readlink(path)]
    assert file.stat().st_blocks * 512 >= array.nbytes
    assert not array.any()
    assert list(tmp_path.iterdir()) == []
