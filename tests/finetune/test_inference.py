"""Whole-image, sliding-window, multi-scale and mirrored inference."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.overrides import TorchFunctionMode

from cp2fast.config import FinetuneSettings, ModelSettings, PretrainSettings
from cp2fast.copypaste.reference import normalise
from cp2fast.finetune.inference import probability_bands, segment, segment_tiles
from cp2fast.finetune.start import build_network, resolve
from cp2fast.model.segmenter import build_segmenter
from cp2fast.weights.trained import open_trained


class Darkness(nn.Module):
    """Class 1 where a cell of 4 x 4 pixels is dark: a network whose right answers are known."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, int]] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append((images.shape[2], images.shape[3]))
        light = nn.functional.avg_pool2d(images.mean(1, keepdim=True), 4, ceil_mode=True)
        return torch.cat([light, -light], dim=1)

    def upsample(self, logits: Tensor, size: tuple[int, int]) -> Tensor:
        return interpolate(logits, size, mode="bilinear")


def settings(size: int = 32, short_side: int = 48, **evaluation: Any) -> FinetuneSettings:
    return FinetuneSettings.model_validate(
        {"data": {"short_side": short_side}, "model": {"size": size}, "evaluation": evaluation}
    )


def halves(height: int, width: int) -> tuple[Tensor, Tensor]:
    """A bright image whose left third is dark, and its labels."""
    labels = torch.zeros(1, height, width, dtype=torch.int64)
    labels[..., : width // 3] = 1
    return torch.where(labels[..., None] == 1, 10, 240).byte().expand(-1, -1, -1, 3), labels


@pytest.mark.parametrize(
    "evaluation",
    [
        {},
        {"mode": "slide"},
        {"scales": [0.5, 1.0, 1.5], "flip": "horizontal"},
        {"mode": "slide", "scales": [0.75, 1.25], "flip": "horizontal"},
        {"short_side": 20},
    ],
)
@pytest.mark.parametrize("shape", [(96, 144), (45, 71), (131, 37)])
def test_every_mode_segments_images_of_any_size_at_that_size(
    evaluation: dict[str, Any], shape: tuple[int, int]
) -> None:
    image, labels = halves(*shape)
    predicted = segment(Darkness(), image, settings(**evaluation))
    assert predicted.shape == labels.shape
    assert (predicted == labels).double().mean() > 0.9


def test_the_network_sees_the_image_at_the_short_side() -> None:
    network = Darkness()
    segment(network, halves(96, 144)[0], settings())
    segment(network, halves(144, 96)[0], settings(short_side=24))
    assert network.seen == [(48, 72), (36, 24)]


def test_windows_cover_the_image_and_end_at_its_edge() -> None:
    network = Darkness()
    segment(network, halves(48, 100)[0], settings(mode="slide", stride=0.5))
    assert len(network.seen) == 2 * 6  # Tops 0, 16; lefts 0, 16, 32, 48, 64, 68.
    assert set(network.seen) == {(32, 32)}


class Pixelwise(Darkness):
    """The darkness of each pixel, whatever is around it."""

    def forward(self, images: Tensor) -> Tensor:
        light = images.mean(1, keepdim=True)
        return torch.cat([light, -light], dim=1)


def test_overlapping_windows_are_averaged() -> None:
    images = torch.randint(0, 256, (1, 48, 100, 3), dtype=torch.uint8)
    whole, slide = (
        next(next(probability_bands(Pixelwise(), images, settings(mode=mode, stride=0.5))))
        for mode in ("whole", "slide")
    )
    torch.testing.assert_close(slide, whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", [(20, 150), (90, 20)])
def test_a_tile_is_scaled_alike_in_a_picture_narrower_than_it(shape: tuple[int, int]) -> None:
    """As one that is not cut off: 64 pixels become the short side of 48."""
    network, picture = Darkness(), np.zeros((*shape, 3), np.uint8)
    for _ in segment_tiles(network, picture, settings(), 64, torch.device("cpu"), False):
        pass
    assert set(network.seen) == {tuple(round(min(length, 64) * 48 / 64) for length in shape)}


def test_an_image_smaller_than_the_window_is_one_window() -> None:
    network = Darkness()
    segment(network, halves(48, 48)[0], settings(size=64, mode="slide"))
    assert network.seen == [(48, 48)]


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return build_segmenter(ModelSettings(backbone="resnet18", head_channels=8), 5).eval()


def test_the_whole_image_is_the_plain_forward_pass(network: nn.Module) -> None:
    images = torch.randint(256, (2, 48, 64, 3), dtype=torch.uint8)
    with torch.no_grad():
        predicted = segment(network, images, settings())
        logits = network(normalise(images.permute(0, 3, 1, 2) / 255))
    expected = interpolate(logits, (48, 64), mode="bilinear").argmax(1)
    assert torch.equal(predicted, expected)


def test_a_window_as_large_as_the_image_changes_nothing(network: nn.Module) -> None:
    images = torch.randint(256, (1, 48, 48, 3), dtype=torch.uint8)
    with torch.no_grad():
        whole = segment(network, images, settings(size=48))
        windows = segment(network, images, settings(size=48, mode="slide"))
    assert torch.equal(whole, windows)


def test_mirrored_images_give_mirrored_labels(network: nn.Module) -> None:
    images = torch.randint(256, (1, 48, 64, 3), dtype=torch.uint8)
    both = settings(flip="horizontal")
    with torch.no_grad():
        predicted, mirrored = segment(network, images, both), segment(network, images.flip(2), both)
    assert torch.equal(predicted.flip(2), mirrored)


def test_images_are_normalised_as_the_network_was_trained(tmp_path: Path) -> None:
    """From the settings of a pretraining, through a fine-tuning's, to its checkpoint."""
    pretrained = PretrainSettings.model_validate(
        {
            "model": {"backbone": "test_resnet", "head_channels": 8, "size": 32, "queue": 64},
            "augment": {"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.6, 0.7]},
        }
    )
    encoder = build_segmenter(pretrained.model)
    state = {f"encoder_q.{name}": tensor for name, tensor in encoder.state_dict().items()}
    checkpoint = {"model": state, "settings": pretrained.model_dump(mode="json")}
    torch.save(checkpoint, tmp_path / "pretrained.pt")
    loaded = open_trained(tmp_path / "pretrained.pt").network
    assert (loaded.mean, loaded.std) == (pretrained.augment.mean, pretrained.augment.std)

    data, init = {"root": "voc", "short_side": 32}, str(tmp_path / "pretrained.pt")
    given = FinetuneSettings.model_validate({"data": data, "model": {"init": init}})
    resolved = resolve(given)
    assert (resolved.model.mean, resolved.model.std) == (loaded.mean, loaded.std)
    network = build_network(resolved.model, 3, seed=0).eval()
    torch.save(
        {
            "kind": "finetune",
            "model": network.state_dict(),
            "settings": resolved.model_dump(mode="json"),
            "classes": ["a", "b", "c"],
        },
        tmp_path / "finetuned.pt",
    )
    finetuned = open_trained(tmp_path / "finetuned.pt").network

    images = torch.randint(256, (1, 32, 32, 3), dtype=torch.uint8)
    plain = images.permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(v)[:, None, None] for v in (loaded.mean, loaded.std))
    with torch.no_grad():
        labels = segment(finetuned, images, resolved)
        logits = finetuned((plain - mean) / std)
    expected = interpolate(logits, (32, 32), mode="bilinear").argmax(1)
    assert torch.equal(labels, expected)


@pytest.mark.parametrize("evaluation", [{}, {"scales": [0.5, 1.0], "flip": "horizontal"}])
def test_bands_of_rows_are_those_of_the_whole(evaluation: dict[str, Any]) -> None:
    images = torch.randint(0, 256, (2, 61, 45, 3), dtype=torch.uint8)
    network, given = Darkness(), settings(**evaluation)
    for image in images[:, None]:
        ((whole,),) = probability_bands(network, image, given)
        assert torch.allclose(whole.sum(dim=0), torch.ones(61, 45), atol=1e-5)
        for rows in (1, 7, 60):
            ((*bands,),) = probability_bands(network, image, given, most=rows * 2 * 45)
            assert [band.shape[1] for band in bands[:-1]] == [rows] * (len(bands) - 1)
            torch.testing.assert_close(torch.cat(bands, dim=1), whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize("evaluation", [{}, {"scales": [0.5, 1.0], "flip": "horizontal"}])
@pytest.mark.parametrize("most", [1 << 27, 7 * 5 * 45, 1])
def test_labels_are_the_most_probable_whatever_is_in_memory_at_once(
    network: nn.Module, evaluation: dict[str, Any], most: int
) -> None:
    images = torch.randint(0, 256, (2, 61, 45, 3), dtype=torch.uint8)
    with torch.no_grad():
        found = probability_bands(network, images, settings(**evaluation))
        expected = torch.stack([whole.argmax(dim=0) for (whole,) in found])
        assert torch.equal(segment(network, images, settings(**evaluation), most), expected)


class Largest(TorchFunctionMode):
    """Notes the number of elements of the largest tensor that is made."""

    elements = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.elements = max(self.elements, result.numel())
        return result


def test_a_batch_needs_the_probabilities_of_one_image_at_a_time(network: nn.Module) -> None:
    images = torch.randint(0, 256, (8, 96, 96, 3), dtype=torch.uint8)
    with torch.no_grad(), Largest() as largest:
        segment(network, images, settings(short_side=32))
    assert largest.elements == images.numel() < 5 * images[..., 0].numel()
