"""The pairs that are looked at are the pairs that are trained on."""

from pathlib import Path

import pytest
import torch

from cp2fast.config import AugmentSettings, PretrainSettings
from cp2fast.data.image_sets.listing import list_images
from cp2fast.data.order import plan
from cp2fast.data.sources.bad_images import BadImages
from cp2fast.data.sources.choice import choose_source
from cp2fast.data.sources.open import open_source
from cp2fast.errors import UserError
from cp2fast.inspection.pairs import displayable, first_pairs
from cp2fast.pretrain.batches import compose

CPU = torch.device("cpu")


def with_data(settings: PretrainSettings, **data: object) -> PretrainSettings:
    return settings.model_copy(update={"data": settings.data.model_copy(update=data)})


@pytest.mark.parametrize("background", ["batch", "independent"])
def test_they_are_those_of_the_first_step_of_a_run(
    settings: PretrainSettings, scenes: Path, tmp_path: Path, background: str
) -> None:
    settings = with_data(settings, background=background, batch_size=8)
    images = list_images(scenes)
    steps = plan(
        seed=0, count=12, batch_size=8, start=0, stop=1, independent=background == "independent"
    )
    bad = BadImages(tmp_path, 1)
    choice = choose_source(settings.data, images, CPU)
    decoded = open_source(choice, settings.data, images, steps, 0, CPU, bad)
    made = compose(
        decoded,
        settings,
        seed=0,
        start=0,
        steps_per_epoch=1,
        total_steps=1,
        device=CPU,
        dtype=torch.float32,
    )
    trained_on, _ = next(made)
    pairs = first_pairs(settings, 8)
    torch.testing.assert_close(pairs.composed.query, trained_on.query, rtol=0, atol=0)
    torch.testing.assert_close(pairs.composed.key, trained_on.key, rtol=0, atol=0)


@pytest.mark.parametrize("source", ["torch", "dali"])
def test_every_source_gives_the_same_pairs(settings: PretrainSettings, source: str) -> None:
    pairs = first_pairs(with_data(settings, source=source), 2)
    assert pairs.source.name == source
    expected = first_pairs(settings, 2)
    assert pairs.names == expected.names
    assert (pairs.composed.query - expected.composed.query).abs().mean() < 0.02


def test_a_broken_photo_is_replaced_and_named(settings: PretrainSettings, tmp_path: Path) -> None:
    for number, photo in enumerate(sorted((settings.data.root / "JPEGImages").iterdir())):
        (tmp_path / photo.name).write_bytes(b"" if number == 3 else photo.read_bytes())
    pairs = first_pairs(with_data(settings, root=tmp_path), 12)
    assert len(pairs) == 12
    [line] = pairs.bad
    assert "scene_00003.jpg" in line
    assert "empty file" in line


def test_there_are_no_more_pairs_than_photos(settings: PretrainSettings) -> None:
    assert len(first_pairs(settings, 13)) == 12


def test_too_few_photos_for_one_pair_are_refused(
    settings: PretrainSettings, tmp_path: Path
) -> None:
    for photo in sorted((settings.data.root / "JPEGImages").iterdir())[:2]:
        (tmp_path / photo.name).write_bytes(photo.read_bytes())
    with pytest.raises(UserError, match="2 images"):
        first_pairs(with_data(settings, root=tmp_path), 1)


def test_a_displayed_image_has_the_colours_of_its_photo(settings: PretrainSettings) -> None:
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    colours = torch.rand(8, 8, 3, generator=torch.Generator().manual_seed(0))
    normalised = ((colours - mean) / std).permute(2, 0, 1)
    torch.testing.assert_close(displayable(normalised, AugmentSettings()), colours)
