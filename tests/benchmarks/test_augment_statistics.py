"""Composed images look like the original pipeline's; the comparison would notice if not."""

import json
import random
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.augment_statistics import (
    collect,
    is_same,
    main,
    of_cp2fast,
    of_original,
    z_scores,
)
from tests.copypaste.cases import photo

pytestmark = pytest.mark.slow

EPOCHS = 4


@pytest.fixture(scope="module")
def images() -> list[torch.Tensor]:
    return [photo(120 + 7 * i, 200 - 5 * i, seed=i) for i in range(20)]


@pytest.fixture(scope="module")
def of_the_original(images):
    torch.manual_seed(0)
    random.seed(0)
    return collect(of_original(images), len(images), EPOCHS, 10)


def test_composed_images_are_distributed_as_the_originals(images, of_the_original) -> None:
    ours = collect(partial(of_cp2fast, images), len(images), EPOCHS, 10)
    scores = z_scores(ours, of_the_original)
    assert len(scores) == 11
    for name, z in scores.items():
        assert is_same(name, of_the_original[name].mean(), ours[name].mean(), z), name


@pytest.mark.parametrize("count", [6, 12])
def test_no_batch_is_too_small_for_its_own_backgrounds(images, count) -> None:
    found = collect(partial(of_cp2fast, images), count, 1, 5)
    assert found["mean"].shape == (1, count, 2)


@pytest.mark.parametrize(("name", "factor"), [("deviation", 0.97), ("red mean", 1.1)])
def test_a_small_systematic_difference_is_noticed(of_the_original, name, factor) -> None:
    """Of a few per cent, in contrast or in one colour."""
    expected = of_the_original[name]
    values = np.random.default_rng(0).permuted(expected, axis=0)
    values = values * factor + 0.05
    score = z_scores({name: values}, of_the_original)[name]
    assert not is_same(name, expected.mean(), values.mean(), score)


def test_the_script_compares_a_folder_of_photos_and_keeps_what_it_found(
    images, tmp_path, monkeypatch, capsys
) -> None:
    folder, result = tmp_path / "photos", tmp_path / "result.json"
    folder.mkdir()
    for number, image in enumerate(images[:6]):
        Image.fromarray(image.numpy()).save(folder / f"{number}.png")
    monkeypatch.setattr("sys.argv", ["augment_statistics.py", str(folder), str(result)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    assert capsys.readouterr().out.rstrip().endswith("all the same")
    kept = json.loads(result.read_text())
    assert kept["settings"]["photos"] == 6
    assert set(kept["results"]["mean"]) == {"original", "cp2fast", "z"}
