"""Crops of labelled images: image and labels together, as drawn."""

import colorsys

import numpy as np
import pytest
import torch
from torch import Tensor

from cp2fast.config import IMAGENET_MEAN, IMAGENET_STD, FinetuneSettings
from cp2fast.finetune.augment import (
    MAX_SHARE,
    Crop,
    assemble,
    cut,
    distort,
    hsv_of,
    resize_scale,
    rgb_of,
)

CPU = torch.device("cpu")


def settings(**changes: object) -> FinetuneSettings:
    data = {"short_side": 64, "scale_low": 0.5, "scale_high": 2.0} | changes
    return FinetuneSettings.model_validate(
        {"data": data, "model": {"size": 64}, "train": {"seed": 3}}
    )


def chequered(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Labels 1 to 4 in blocks of 8 pixels, and an image in which each label has its own grey."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    labels = (1 + (rows // 8 % 2) * 2 + columns // 8 % 2).byte()
    return (labels * 50)[..., None].expand(-1, -1, 3).contiguous(), labels


def plain(crop: Crop) -> Crop:
    """Without distortion."""
    return Crop(crop.image, crop.labels, crop.size, crop.flip, (0.9,) * 8)


def test_a_crop_is_a_function_of_seed_epoch_and_number() -> None:
    image, labels = chequered(90, 120)

    def drawn(epoch: int, index: int) -> list[object]:
        crop = cut(image, labels, settings(), epoch, index)
        return [crop.image.tolist(), crop.size, crop.flip, crop.colour]

    assert drawn(0, 5) == drawn(0, 5)
    assert drawn(0, 5) != drawn(1, 5)
    assert drawn(0, 5) != drawn(0, 6)


@pytest.mark.parametrize("shape", [(90, 120), (33, 47), (300, 20), (1, 1), (17, 400)])
def test_images_of_any_size_fill_a_batch(shape: tuple[int, int]) -> None:
    image, labels = chequered(*shape)
    crops = [cut(image, labels, settings(), 0, index) for index in range(12)]
    images, masks = assemble(crops, 64, CPU)
    assert images.shape == (12, 3, 64, 64)
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert masks.shape == (12, 64, 64)
    assert masks.dtype == torch.uint8
    assert images.isfinite().all()


def test_an_image_is_scaled_to_one_pixel_at_least() -> None:
    image, labels = chequered(90, 120)
    crop = cut(image, labels, settings(scale_low=0.0009, scale_high=0.001), 0, 0)
    assert crop.size == (1, 1)


def test_labels_stay_on_their_pixels() -> None:
    image, labels = chequered(90, 120)
    crops = [plain(cut(image, labels, settings(), 0, index)) for index in range(20)]
    assert {crop.flip for crop in crops} == {False, True}
    images, masks = assemble(crops, 64, CPU)
    mean, std = (torch.tensor(v)[None, :, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD))
    grey = ((images * std + mean) * 255).mean(1)
    inside = masks != 255
    right = (grey / 50).round() == masks
    assert right[inside].double().mean() > 0.8  # Not where resizing mixed two blocks.
    assert (masks[inside] <= 4).all()


def test_what_is_padded_is_ignored_and_has_the_mean_colour() -> None:
    image, labels = chequered(40, 40)
    small = settings(short_side=32, scale_low=1.0, scale_high=1.0)
    crop = cut(image, labels, small, 0, 0)
    assert crop.size == (32, 32)
    images, masks = assemble([crop], 64, CPU)
    padded = masks[0] == 255
    assert not padded[:32, :32].any()
    assert padded[32:].all()
    assert padded[:, 32:].all()
    assert not images[0, :, padded].any()


def test_the_scales_are_uniform_between_their_bounds() -> None:
    image, labels = chequered(128, 128)
    crops = [cut(image, labels, settings(), 0, index) for index in range(400)]
    # A crop of 64 px from 128 px brought to 64 s spans 64 * 128 / (64 s) px of the image.
    scales = np.array([128 / crop.image.shape[0] for crop in crops])
    larger = scales[scales > 1.02]
    assert larger.max() <= 2.05
    assert np.mean(scales > 1.02) == pytest.approx(2 / 3, abs=0.07)
    assert np.mean(larger) == pytest.approx(1.5, abs=0.05)
    assert np.mean([crop.flip for crop in crops]) == pytest.approx(0.5, abs=0.08)


def test_places_reach_every_edge() -> None:
    _, labels = chequered(128, 128)
    positions = torch.arange(128 * 128).view(128, 128, 1).expand(-1, -1, 3)
    fixed = settings(scale_low=2.0, scale_high=2.0)
    corners = [int(cut(positions, labels, fixed, 0, index).image[0, 0, 0]) for index in range(400)]
    tops, lefts = np.divmod(corners, 128)
    for start in (tops, lefts):
        assert start.min() <= 1
        assert start.max() >= 63
        assert start.mean() == pytest.approx(32, abs=3)


def test_a_crop_nearly_all_of_one_class_is_drawn_again() -> None:
    image, _ = chequered(128, 128)
    labels = torch.zeros(128, 128, dtype=torch.uint8)
    labels[:, 96:] = 1
    fixed = settings(scale_low=2.0, scale_high=2.0)
    crops = [cut(image, labels, fixed, 0, index) for index in range(100)]
    share = np.array([crop.labels.double().mean().item() for crop in crops])
    mixed = (share > 1 - MAX_SHARE) & (share < MAX_SHARE)
    # One try in four would be mixed; of ten tries one nearly always is.
    assert mixed.mean() > 0.85


def test_a_very_long_image_is_scaled_by_its_long_side() -> None:
    assert resize_scale(375, 500, 512) == pytest.approx(512 / 375)
    assert resize_scale(100, 4000, 512) == pytest.approx(2048 / 4000)


def test_a_photo_much_larger_than_the_crop_is_antialiased() -> None:
    image = torch.zeros(512, 512, 3, dtype=torch.uint8)
    image[::2] = 255  # Stripes too fine for the output: only their mean can be right.
    fixed = settings(scale_low=1.0, scale_high=1.0)
    crop = plain(cut(image, torch.zeros(512, 512, dtype=torch.uint8), fixed, 0, 0))
    images, _ = assemble([crop], 64, CPU)
    grey = images[0, 0] * IMAGENET_STD[0] + IMAGENET_MEAN[0]
    assert (grey - 0.5).abs().max() < 0.02


def test_hue_saturation_and_value_are_those_of_the_standard_library_and_back() -> None:
    colours = torch.rand(200, 3, generator=torch.Generator().manual_seed(2))
    colours[:3] = torch.tensor([[0.0, 0, 0], [1, 1, 1], [0.5, 0.5, 0.2]])
    images = colours.view(200, 3, 1, 1)
    hue, saturation, value = hsv_of(images)
    expected = torch.tensor([colorsys.rgb_to_hsv(*colour) for colour in colours.tolist()])
    found = torch.cat([hue, saturation, value], dim=1).flatten(1)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(rgb_of(hue, saturation, value), images, atol=1e-6, rtol=0)


def test_without_its_coins_distortion_changes_nothing() -> None:
    images = torch.rand(4, 3, 8, 8)
    torch.testing.assert_close(distort(images, torch.full((4, 8), 0.9)), images, atol=1e-5, rtol=0)


def test_brightness_contrast_saturation_and_hue_do_what_they_say() -> None:
    image = torch.tensor([0.6, 0.4, 0.2]).view(1, 3, 1, 1)
    never, low = 0.9, 0.0

    def distorted(column: int, amount: float) -> list[float]:
        random = torch.full((1, 8), never)
        random[0, column], random[0, 4 + column] = low, amount
        return distort(image, random).flatten().tolist()

    approx = pytest.approx
    assert distorted(0, 1.0) == approx([v + 32 / 255 for v in (0.6, 0.4, 0.2)], abs=1e-5)
    assert distorted(1, 0.0) == approx([0.3, 0.2, 0.1], abs=1e-5)
    # Half the saturation keeps the largest channel and halves the distance of the others to it.
    assert distorted(2, 0.0) == approx([0.6, 0.5, 0.4], abs=1e-5)
    # Orange has a hue of 30 degrees; 36 more make 66.
    assert distorted(3, 1.0) == approx([0.56, 0.6, 0.2], abs=1e-5)


@pytest.mark.parametrize(
    ("brightness_s_coin", "expected"),
    [
        (0.3, (1.0, 0.875, 0.65)),  # (1.0, 0.75, 0.3) by the contrast, then half the saturation
        (0.1, (1.0, 0.975, 0.75)),  # (0.8, 0.65, 0.5) by the saturation, then the contrast
    ],
    ids=["second", "last"],
)
def test_contrast_changes_before_or_after_the_colours(
    brightness_s_coin: float, expected: tuple[float, ...]
) -> None:
    image = torch.tensor([0.8, 0.5, 0.2]).view(1, 3, 1, 1)
    coins, amounts = [brightness_s_coin, 0.0, 0.0, 0.9], [0.5, 1.0, 0.0, 0.5]
    distorted = distort(image, torch.tensor([coins + amounts])).flatten().tolist()
    assert distorted == pytest.approx(expected, abs=1e-5)


def test_distortion_stays_in_range() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(64, 3, 4, 4, generator=generator)
    out = distort(images, torch.rand(64, 8, generator=generator))
    assert out.min() >= 0
    assert out.max() <= 1
    assert (out != images).flatten(1).any(1).double().mean() > 0.8
