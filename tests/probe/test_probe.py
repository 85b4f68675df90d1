"""Probes of small networks on generated scenes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from cp2fast.config import LabelledDataSettings, ModelSettings
from cp2fast.data.scenes import generate_scenes
from cp2fast.errors import UserError
from cp2fast.labels.dataset import LabelledData
from cp2fast.labels.open import open_labelled
from cp2fast.model.segmenter import build_segmenter
from cp2fast.probe.features import Extractor
from cp2fast.probe.probe import ProbeScores, class_shares, probe, segment, subset


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> LabelledData:
    root = tmp_path_factory.mktemp("data") / "scenes"
    generate_scenes(root, 16, seed=0)
    settings = LabelledDataSettings(root=root, workers=1)
    return open_labelled(settings, root)


def probed(
    data: LabelledData, labels: float = 0.5, seeds: tuple[int, ...] = (0,)
) -> list[ProbeScores]:
    torch.manual_seed(0)
    network = build_segmenter(ModelSettings(backbone="test_resnet", head_channels=8, size=64))
    return probe(Extractor(network, "backbone", 64), data, labels=labels, seeds=seeds)


def test_a_probe_is_a_function_of_network_images_and_seed(data: LabelledData) -> None:
    first, second = probed(data, seeds=(0, 1)), probed(data, seeds=(1, 0))
    assert [one.seed for one in first] == [0, 1]
    for one, other in zip(first, reversed(second), strict=True):
        assert one.knn == other.knn
        assert one.linear == other.linear
    assert first[0].images == round(0.5 * len(data.train))
    assert 0 < first[0].linear.miou < 1
    assert first[0].linear != first[1].linear


def test_colours_that_are_the_labels_are_learned(data: LabelledData, tmp_path: Path) -> None:
    for example in (*data.train, *data.val):  # halves, black of class 0 and white of class 1
        labels = np.zeros((64, 64), np.uint8)
        labels[:, 32:] = 1
        Image.fromarray(labels).save(tmp_path / f"{example.image.stem}.png")
        grey = np.repeat(255 * labels[..., None], 3, axis=2)
        Image.fromarray(grey).save(tmp_path / f"{example.image.stem}.jpg", quality=95)

    def moved(examples: list) -> list:
        return [
            e._replace(
                image=tmp_path / f"{e.image.stem}.jpg", mask=tmp_path / f"{e.image.stem}.png"
            )
            for e in examples
        ]

    halves = replace(data, classes=("left", "right"), train=moved(data.train), val=moved(data.val))
    [found] = probed(halves)
    assert found.linear.miou > 0.7
    assert found.knn.miou > 0.7


def test_subsets_are_drawn_by_their_seed_and_hold_at_least_one() -> None:
    assert subset(100, 0.1, 3) == subset(100, 0.1, 3)
    assert subset(100, 0.1, 3) != subset(100, 0.1, 4)
    assert len(subset(100, 0.001, 0)) == 1
    assert subset(5, 1.0, 0) == [0, 1, 2, 3, 4]


def test_the_shares_of_a_cell_are_those_of_its_pixels() -> None:
    labels = torch.zeros(1, 32, 32, dtype=torch.uint8)
    labels[:, :8, :16], labels[:, 16:, 16:] = 1, 255
    shares = class_shares(labels, 2, (2, 2))[0]
    torch.testing.assert_close(shares[0], torch.tensor([[0.5, 1.0], [1.0, 0.0]]))
    torch.testing.assert_close(shares[1], torch.tensor([[0.5, 0.0], [0.0, 0.0]]))


def test_votes_of_cells_become_labels_of_pixels() -> None:
    features = torch.zeros(1, 1, 2, 2)
    features[..., 1] = 1

    def right_is_1(features_NC: Tensor) -> Tensor:
        return torch.cat([1 - features_NC, features_NC], dim=1)

    predicted = segment(right_is_1, features, (8, 8))
    assert (predicted[:, :, :4] == 0).all()
    assert (predicted[:, :, 4:] == 1).all()


class LargestTensor(TorchDispatchMode):
    """Records the most values of any tensor that is computed inside."""

    values = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        result = function(*arguments, **(keywords or {}))
        if isinstance(result, Tensor):
            self.values = max(self.values, result.numel())
        return result


def test_memory_does_not_grow_with_classes_times_pixels() -> None:
    classes, size, cells = 300, (600, 400), (6, 4)
    torch.manual_seed(0)
    votes = torch.rand(2, classes, *cells)
    labels = torch.randint(0, 256, (2, *size), dtype=torch.uint8)
    with LargestTensor() as largest:
        predicted = segment(lambda features_NC: features_NC, votes, size)
        shares = class_shares(labels, 200, cells)
    assert largest.values <= 2**26 < classes * predicted[0].numel()
    whole = F.interpolate(votes[:1], size, mode="bilinear").argmax(dim=1)
    assert (predicted[:1] == whole).float().mean() > 0.9999  # the others are ties
    of_class = labels[:1, None] == torch.arange(9)[:, None, None]
    assert torch.equal(shares[:1, :9], F.interpolate(of_class.float(), cells, mode="area"))


def test_splits_without_a_common_class_are_refused(data: LabelledData, tmp_path: Path) -> None:
    def of_class(label: int, examples: list) -> list:
        changed = []
        for e in examples:
            mask = tmp_path / f"{e.mask.stem}-{label}.png"
            with Image.open(e.mask) as before:
                Image.new("L", before.size, label).save(mask)
            changed.append(e._replace(mask=mask))
        return changed

    apart = replace(data, train=of_class(0, data.train), val=of_class(1, data.val))
    with pytest.raises(UserError, match="no class is in both splits") as caught:
        probed(apart)
    assert "\n" not in str(caught.value)
    ignored = replace(data, train=of_class(255, data.train))
    with pytest.raises(UserError, match="nothing to learn from"):
        probed(ignored)


def test_a_mask_of_another_size_is_refused(data: LabelledData, tmp_path: Path) -> None:
    mask = tmp_path / "small.png"
    Image.new("L", (5, 5)).save(mask)
    wrong = replace(data, train=[e._replace(mask=mask) for e in data.train])
    with pytest.raises(UserError, match="they must be of one size"):
        probed(wrong)
