"""Google's store and Hugging Face's hub, by their own clients, from servers as processes."""

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from cp2fast.data.image_sets.listing import list_images
from tests.servers import free_port, process

ROOTS = {
    "gs": ["gs://pictures/shards", "gs://pictures/photos", "gs://pictures/shards/s-{0..1}.tar"],
    "hf": [
        "hf://datasets/me/pictures/shards",
        "hf://datasets/me/pictures/photos",
        "hf://datasets/me/pictures/shards/*.tar",
    ],
}
MISSING = {"gs": "gs://pictures/none.tar", "hf": "hf://datasets/me/pictures/none.tar"}
LIST = """
import json, sys
from cp2fast.data.image_sets.listing import list_images
from cp2fast.data.sources.read_ahead import fetched
from cp2fast.errors import UserError
found = []
*roots, missing = sys.argv[1:]
for root in roots:
    images = list_images(root)
    names = [images.name(number).rpartition("/")[2] for number in range(len(images))]
    contents = [images.read(number).decode() for number in fetched(images, range(len(images)))]
    found.append([names, contents, images.skipped])
try:
    list_images(missing)
except UserError as error:
    found.append(str(error))
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bucket, which is a repository too: ten photos in a folder, and in two shards."""
    root = tmp_path_factory.mktemp("clouds") / "pictures"
    (root / "photos" / "deep").mkdir(parents=True)
    (root / "shards").mkdir()
    for shard in range(2):
        with tarfile.open(root / "shards" / f"s-{shard}.tar", "w") as tar:
            for number in range(5):
                path = root / "photos" / "deep" / f"{shard}-{number}.jpg"
                path.write_text(f"photo {shard}-{number} " * 99)
                tar.add(path, path.name)
            tar.add(path, "film.mp4")
    return root


@pytest.mark.slow
@pytest.mark.parametrize(
    ("protocol", "library", "place"),
    [("gs", "gcsfs", "STORAGE_EMULATOR_HOST"), ("hf", "huggingface_hub", "HF_ENDPOINT")],
)
def test_what_lies_there_is_listed_and_read(
    protocol: str, library: str, place: str, folder: Path, tmp_path: Path
) -> None:
    pytest.importorskip(library)
    port = free_port()
    module, served = ("gcs_server", folder.parent) if protocol == "gs" else ("hub_server", folder)
    words = [sys.executable, "-m", f"tests.{module}", str(served), str(port)]
    with process(words, port):
        environment = os.environ | {
            place: f"http://127.0.0.1:{port}",
            "XDG_CACHE_HOME": str(tmp_path),
            "NO_GCE_CHECK": "true",
        }
        done = subprocess.run(
            [sys.executable, "-c", LIST, *ROOTS[protocol], MISSING[protocol]],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    *found, missing = json.loads(done.stdout)
    assert "is not there (404)" in missing
    for root, (names, contents, skipped) in zip(ROOTS[protocol], found, strict=True):
        here = list_images(folder / ("photos" if "photos" in root else "shards"))
        assert names == [here.name(n).rpartition("/")[2] for n in range(len(here))], root
        assert contents == [here.read(n).decode() for n in range(len(here))], root
        assert skipped == here.skipped, root
    assert not done.stderr
