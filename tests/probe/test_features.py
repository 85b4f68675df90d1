import copy

import torch

from cp2fast.config import ModelSettings
from cp2fast.model.segmenter import Segmenter, build_segmenter
from cp2fast.probe.features import dense_features, prepare, take_statistics

CPU = torch.device("cpu")


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
    inputs = prepare([white], 60, net, CPU)
    assert inputs.shape == (1, 3, 64, 96)
    expected = torch.tensor([(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225])
    torch.testing.assert_close(inputs[0, :, 7, 9], expected)
    net.mean, net.std = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
    torch.testing.assert_close(prepare([white], 60, net, CPU)[0, :, 7, 9], torch.full((3,), 2.0))


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
    inputs = prepare(images, 48, first, CPU)
    for net in (first, second):
        take_statistics(net, images, 48, "backbone", CPU)
    features = dense_features(first, inputs, "backbone")
    torch.testing.assert_close(features, dense_features(second, inputs, "backbone"))
    norm = next(m for m in first.modules() if isinstance(m, torch.nn.BatchNorm2d))
    conv = next(m for m in first.modules() if isinstance(m, torch.nn.Conv2d))
    mean = torch.nn.functional.conv2d(inputs, conv.weight, None, conv.stride, conv.padding)
    torch.testing.assert_close(norm.running_mean, mean.mean(dim=(0, 2, 3)), atol=1e-4, rtol=1e-3)


def test_one_photo_and_photos_of_other_sizes_give_statistics_too() -> None:
    net = network()
    take_statistics(net, photos(1), 48, "embedding", CPU)
    take_statistics(net, [*photos(2), *photos(2, 70, 50)], 48, "embedding", CPU)
    assert dense_features(net, torch.randn(1, 3, 48, 48), "embedding").isfinite().all()


def test_a_backbone_without_batch_norm_is_left_as_it_is() -> None:
    net = network("test_vit")
    before = copy.deepcopy(net.backbone.state_dict())
    take_statistics(net, photos(2), 64, "backbone", CPU)
    after = net.backbone.state_dict()
    assert all(torch.equal(before[name], value) for name, value in after.items())
