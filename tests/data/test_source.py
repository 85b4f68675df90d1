import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from cp2fast.config import DataSettings
from cp2fast.data.bad_images import BadImages
from cp2fast.data.images import ImageSet, list_images
from cp2fast.data.order import plan, substitute
from cp2fast.data.source import available_sources, choose_source, open_source
from cp2fast.errors import UserError
from tests.data import image_files

CPU = torch.device("cpu")
SEED = 3
BATCH = 12
LIMIT = 1_000_000

sources = pytest.mark.parametrize("source", ["dali", "torch"])


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Photos of many sizes and formats, no bad one among them."""
    root = tmp_path_factory.mktemp("photos")
    for number in range(30):
        image = image_files.photo(40 + 7 * number, 150 - 3 * number, seed=number)
        image.save(root / f"photo_{number:02d}.jpg", quality=70 + number)
    files = image_files.jpeg_files() | image_files.other_files()
    for name, encoded in files.items():
        (root / f"{name.replace(' ', '_').replace(':', '')}.jpg").write_bytes(encoded)
    return root


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Good photos with bad files of every kind among them."""
    root = tmp_path_factory.mktemp("mixed")
    for number in range(30):
        image_files.photo(50 + number, 90 - number, seed=number).save(root / f"{number:02d}.jpg")
    image_files.write_bad_entries(root)
    return root


def batches(root, source, bad, *, steps=None, decode="cpu", device=CPU):
    images = list_images(root)
    settings = DataSettings(source=source, decode=decode, workers=2, max_pixels=LIMIT)
    steps = steps or 2 * (len(images) // BATCH)
    order = plan(seed=SEED, count=len(images), batch_size=BATCH, start=0, stop=steps)
    return list(open_source(settings, images, order, SEED, device, bad))


def planned(count, steps):
    order = plan(seed=SEED, count=count, batch_size=BATCH, start=0, stop=steps)
    return [numbers.tolist() for numbers in order]


@sources
def test_batches_hold_the_planned_images_as_pillow_reads_them(source, photos, tmp_path):
    images = list_images(photos)
    result = batches(photos, source, BadImages(tmp_path, 0))
    assert [batch.index.tolist() for batch in result] == planned(len(images), len(result))
    for batch in result:
        assert batch.pixels.dtype == torch.uint8
        assert (batch.offset.dtype, batch.index.dtype) == (torch.int64, torch.int64)
        assert (batch.height.dtype, batch.width.dtype) == (torch.int32, torch.int32)
        for position, index in enumerate(batch.index.tolist()):
            expected = image_files.as_pillow_reads(images.read(index))
            image = batch.image(position).numpy()
            assert image.shape == expected.shape, images.name(index)
            assert np.abs(image.astype(int) - expected).max() <= 1, images.name(index)


@sources
def test_bad_images_give_way_to_their_substitutes_and_are_listed(source, mixed, tmp_path):
    images = list_images(mixed)
    bad = BadImages(tmp_path, max_fraction=1)
    result = batches(mixed, source, bad)
    good = {n for n in range(len(images)) if Path(images.name(n)).stem.isdecimal()}
    failed = []

    def readable(number):
        chain = [number, *(substitute(SEED, number, k, len(images)) for k in range(100))]
        first = next(place for place, index in enumerate(chain) if index in good)
        failed.extend(chain[:first])
        return chain[first]

    expected = [[readable(number) for number in step] for step in planned(len(images), len(result))]
    assert [batch.index.tolist() for batch in result] == expected
    for batch in result:
        for position, index in enumerate(batch.index.tolist()):
            reference = image_files.as_pillow_reads(images.read(index))
            difference = np.abs(batch.image(position).numpy().astype(int) - reference)
            assert difference.max() <= 1
    listed = [line.split("\t")[0] for line in bad.path.read_text().splitlines()]
    assert listed == list(dict.fromkeys(images.name(index) for index in failed))
    assert bad.state_dict() == {"tried": BATCH * len(result) + len(failed), "bad": len(failed)}
    assert len(listed) >= 15


def test_the_sources_list_bad_images_alike(mixed, tmp_path):
    lists = []
    for source in ("dali", "torch"):
        bad = BadImages(tmp_path / source, max_fraction=1)
        batches(mixed, source, bad)
        lists.append(bad.path.read_text())
    assert lists[0] == lists[1]


@sources
def test_too_many_bad_images_end_the_run(source, mixed, tmp_path):
    with pytest.raises(UserError, match=r"images could not be read .*data.max_bad_fraction=0.1"):
        batches(mixed, source, BadImages(tmp_path, max_fraction=0.1), steps=40)


@sources
def test_a_folder_of_only_bad_images_ends_the_run(source, tmp_path):
    (tmp_path / "images").mkdir()
    image_files.write_bad_entries(tmp_path / "images")
    with pytest.raises(UserError, match="could not be read"):
        batches(tmp_path / "images", source, BadImages(tmp_path, max_fraction=0.5), steps=1)
    with pytest.raises(UserError, match="found no readable image after 100 substitutes"):
        batches(tmp_path / "images", source, BadImages(tmp_path, max_fraction=1), steps=1)


def test_auto_takes_dali_for_jpeg_and_torch_for_the_rest():
    settings = DataSettings()
    assert choose_source(settings, ImageSet.of_files(["a.png", "b.JPG"]), CPU).name == "dali"
    choice = choose_source(settings, ImageSet.of_files(["a.png", "b.webp"]), CPU)
    assert (choice.name, choice.decode) == ("torch", "cpu")
    assert "no JPEG" in choice.reason


def test_what_works_here_has_no_problem_and_the_rest_says_how_to_get_it():
    problems = available_sources()
    assert problems.keys() == {"torch", "dali", "ffcv"}
    assert problems["torch"] is None
    assert problems["dali"] is None
    assert problems["ffcv"] is None or "apt-get install" in problems["ffcv"]


def test_the_source_asked_for_is_taken():
    for source in ("dali", "torch"):
        choice = choose_source(DataSettings(source=source), ImageSet.of_files(["a.png"]), CPU)
        assert (choice.name, choice.decode) == (source, "cpu")
    gpu = choose_source(
        DataSettings(source="auto", decode="gpu"),
        ImageSet.of_files(["a.jpg"]),
        torch.device("cuda"),
    )
    assert (gpu.name, gpu.decode) == ("dali", "gpu")


@pytest.mark.parametrize(
    ("settings", "device", "message"),
    [
        ({"source": "ffcv"}, "cpu", r"reads .beton files.*data.source=dali"),
        ({"decode": "gpu"}, "cpu", r"data.decode=gpu needs a GPU.*data.decode=cpu"),
        ({"source": "torch", "decode": "gpu"}, "cuda", r"needs DALI: set data.source=dali"),
    ],
)
def test_what_cannot_work_is_refused(settings, device, message):
    with pytest.raises(UserError, match=message):
        choose_source(DataSettings(**settings), ImageSet.of_files(["a.jpg"]), torch.device(device))


@pytest.mark.parametrize(
    ("init", "found"),
    [
        ("raise ModuleNotFoundError", "is not installed: pip install nvidia-dali-cuda130"),
        ("raise OSError('libcuda is too old')", "is installed but broken .libcuda is too old."),
    ],
)
def test_without_a_working_dali_auto_goes_on_and_asking_for_it_does_not(tmp_path, init, found):
    (tmp_path / "nvidia" / "dali").mkdir(parents=True)
    (tmp_path / "nvidia" / "__init__.py").write_text("")
    (tmp_path / "nvidia" / "dali" / "__init__.py").write_text(init)
    script = """
import re, sys, torch
from cp2fast.config import DataSettings
from cp2fast.data.images import ImageSet
from cp2fast.data.source import choose_source
from cp2fast.errors import UserError

cpu, images = torch.device("cpu"), ImageSet.of_files(["a.jpg"])
choice = choose_source(DataSettings(), images, cpu)
assert choice.name == "torch" and re.search(sys.argv[1], choice.reason), choice
try:
    choose_source(DataSettings(source="dali"), images, cpu)
except UserError as error:
    assert re.search(sys.argv[1], str(error)), error
else:
    sys.exit("no error")
"""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", script, found],
        env={"PYTHONPATH": f"{tmp_path}:{root}", "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="decoding on the GPU needs a GPU")
def test_the_gpu_decodes_the_same_images(photos, mixed, tmp_path):
    for root in (photos, mixed):
        gpu = torch.device("cuda", torch.cuda.current_device())
        on_gpu = batches(root, "dali", BadImages(tmp_path / "g", 1), decode="gpu", device=gpu)
        on_cpu = batches(root, "dali", BadImages(tmp_path / "c", 1))
        for a, b in zip(on_gpu, on_cpu, strict=True):
            assert a.pixels.device == gpu
            assert a.index.tolist() == b.index.tolist()
            for position in range(len(b)):
                difference = (a.image(position).cpu().int() - b.image(position).int()).abs()
                # NVIDIA's decoder rounds the colour conversion and the inverse DCT its own way.
                assert difference.float().mean() < 1
                assert difference.max() <= 8
