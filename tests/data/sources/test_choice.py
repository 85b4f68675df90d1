"""What ``auto`` chooses, on machines and cards of all kinds, none of which need be here."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cp2fast.config import DataSettings
from cp2fast.cores import decodes_apart
from cp2fast.data.image_sets.image_set import ImageSet
from cp2fast.data.sources.choice import available_sources, choose_source
from cp2fast.errors import UserError

CPU, GPU = torch.device("cpu"), torch.device("cuda")
SOURCES = ("turbo", "dali", "torch")
PHOTOS = ImageSet.of_files(["a.png", "b.JPG"])


@pytest.mark.parametrize(
    ("device", "cores", "broken", "expected"),
    [
        (CPU, 2, (), ("turbo", "cpu", False)),
        (CPU, 2, ("turbo",), ("torch", "cpu", False)),
        (GPU, 16, (), ("turbo", "cpu", True)),
        (GPU, 4, (), ("dali", "gpu", True)),
        (GPU, 4, ("dali",), ("turbo", "cpu", True)),
        (GPU, 4, ("dali", "turbo"), ("torch", "cpu", True)),
    ],
)
def test_auto_takes_what_is_fastest_on_a_machine(device, cores, broken, expected):
    def problem(name):
        return f"{name} is broken" if name in broken else None

    choice = choose_source(DataSettings(), PHOTOS, device, cores=cores, problem=problem)
    assert choice[:3] == expected
    if "turbo" in broken:
        assert choice.reason == "turbo is broken"


def test_decoding_is_apart_from_a_thread_that_launches_kernels_whatever_decodes():
    assert decodes_apart(GPU)
    assert not decodes_apart(CPU)
    for source in SOURCES:
        settings = DataSettings(source=source, decode="cpu")
        assert choose_source(settings, PHOTOS, GPU, problem=lambda name: None).apart
        assert not choose_source(settings, PHOTOS, CPU, problem=lambda name: None).apart


def test_auto_takes_libjpeg_turbo_for_jpeg_and_torch_for_the_rest():
    settings = DataSettings()
    assert choose_source(settings, ImageSet.of_files(["a.png", "b.JPG"]), CPU).name == "turbo"
    choice = choose_source(settings, ImageSet.of_files(["a.png", "b.webp"]), CPU)
    assert (choice.name, choice.decode) == ("torch", "cpu")
    assert "no JPEG" in choice.reason


def test_what_works_here_has_no_problem_and_the_rest_says_how_to_get_it():
    problems = available_sources()
    assert problems.keys() == {"turbo", "torch", "dali"}
    assert set(problems.values()) == {None}


def test_the_source_asked_for_is_taken():
    for source in SOURCES:
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
        ({"source": "ffcv"}, "cpu", r"reads .beton files.*data.source=turbo"),
        ({"decode": "gpu"}, "cpu", r"data.decode=gpu needs a GPU.*data.decode=cpu"),
        ({"source": "torch", "decode": "gpu"}, "cuda", r"needs DALI: set data.source=dali"),
    ],
)
def test_what_cannot_work_is_refused(settings, device, message):
    with pytest.raises(UserError, match=message):
        choose_source(DataSettings(**settings), ImageSet.of_files(["a.jpg"]), torch.device(device))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("package", "source", "install"),
    [
        ("nvidia/dali", "dali", "pip install nvidia-dali-cuda130"),
        ("simplejpeg", "turbo", "pip install simplejpeg"),
    ],
)
@pytest.mark.parametrize(
    ("init", "found"),
    [
        ("raise ModuleNotFoundError", "is not installed: {}"),
        ("raise OSError('libfoo is too old')", "is installed but broken .libfoo is too old.: {}"),
    ],
)
def test_without_a_working_library_auto_goes_on_and_asking_for_it_does_not(
    tmp_path, package, source, install, init, found
):
    folder = tmp_path / package
    folder.mkdir(parents=True)
    for above in {folder, folder.parent} - {tmp_path}:
        (above / "__init__.py").write_text("")
    (folder / "__init__.py").write_text(init)
    script = """
import re, sys, torch
from cp2fast.config import DataSettings
from cp2fast.data.image_sets.image_set import ImageSet
from cp2fast.data.sources.choice import choose_source
from cp2fast.errors import UserError

source, found = sys.argv[1:]
cpu, images = torch.device("cpu"), ImageSet.of_files(["a.jpg"])
choice = choose_source(DataSettings(), images, cpu)
assert choice.name == ("torch" if source == "turbo" else "turbo"), choice
try:
    choose_source(DataSettings(source=source), images, cpu)
except UserError as error:
    assert re.search(found, str(error)), error
else:
    sys.exit("no error")
"""
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", script, source, found.format(install)],
        env={"PYTHONPATH": f"{tmp_path}:{root}", "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
