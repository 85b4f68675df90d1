import copy

import torch

from cp2fast.config import ModelSettings
from cp2fast.model.segmenter import Segmenter, build_segmenter
from cp2fast.probe.features import Extractor, dense_features


def network(backbone: str = "test_resnet") -> Segmenter:
    torch.manual_seed(0)
    settings = ModelSettings(backbone=backbone, head_channels=16, size=64, embedding=8)
    return build_segmenter(settings).eval()


def photos(count: int, height: int = 48, width: int = 80) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [
        torch.randint(0, 256, (height, width, 3), dtype=torch.uint8, generator=generator)
        for _ in range(count)
    ]


def test_photos_are_brought_to_whole_cells_and_normalised() -> None:
    white = torch.full((30, 50, 3), 255, dtype=torch.uint8)
    net = network()
    prepare = Extractor(net, "backbone", 60).prepare
    inputs = prepare([white])
    assert inputs.shape == (1, 3, 64, 96)
    expected = torch.tensor([(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225])
    torch.testing.assert_close(inputs[0, :, 7, 9], expected)
    net.mean, net.std = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
    torch.testing.assert_close(prepare([white])[0, :, 7, 9], torch.full((3,), 2.0))


def test_very_long_photos_are_enlarged_by_their_long_side() -> None:
    prepare = Extractor(network(), "backbone", 64).prepare
    assert prepare(photos(1, 20, 80)).shape == (1, 3, 64, 256)
    assert prepare(photos(1, 2, 1000)).shape == (1, 3, 16, 256)
    assert prepare(photos(1, 1000, 2)).shape == (1, 3, 256, 16)


def test_features_can_be_taken_at_three_places() -> None:
    net, inputs = network(), torch.randn(2, 3, 64, 96)
    channels = net.backbone.num_features
    assert dense_features(net, inputs, "backbone").shape == (2, channels, 4, 6)
    assert dense_features(net, inputs, "head").shape == (2, 16, 4, 6)
    torch.testing.assert_close(dense_features(net, inputs, "embedding"), net.embed(inputs))


def test_features_do_not_change_the_network() -> None:
    net = network().train()
    before = copy.deepcopy(net.state_dict())
    dense_features(net, torch.randn(2, 3, 64, 64), "embedding")
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_statistics_are_those_of_the_images_whatever_they_were_before() -> None:
    first, second = network(), network()
    for module in second.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.fill_(3.0)
    images = photos(5)
    extractors = [Extractor(net, "backbone", 48) for net in (first, second)]
    for extractor in extractors:
        extractor.take_statistics(images)
    one, other = (extractor(images) for extractor in extractors)
    torch.testing.assert_close(one, other)
    inputs = extractors[0].prepare(images)
    norm = next(m for m in first.modules() if isinstance(m, torch.nn.BatchNorm2d))
    conv = next(m for m in first.modules() if isinstance(m, torch.nn.Conv2d))
    mean = torch.nn.functional.conv2d(inputs, conv.weight, None, conv.stride, conv.padding)
    torch.testing.assert_close(norm.running_mean, mean.mean(dim=(0, 2, 3)), atol=1e-4, rtol=1e-3)


def test_one_photo_and_photos_of_other_sizes_give_statistics_too() -> None:
    net = network()
    extractor = Extractor(net, "embedding", 48)
    extractor.take_statistics(photos(1))
    extractor.take_statistics([*photos(2), *photos(2, 70, 50)])
    assert extractor(photos(1)).isfinite().all()


def test_a_backbone_without_batch_norm_is_left_as_it_is() -> None:
    net = network("test_vit")
    before = copy.deepcopy(net.backbone.state_dict())
    Extractor(net, "backbone", 64).take_statistics(photos(2))
    after = net.backbone.state_dict()
    assert all(torch.equal(before[name], value) for name, value in after.items())
