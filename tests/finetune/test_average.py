"""The average that is saved in place of the weights that learn."""

from __future__ import annotations

import torch

from cp2fast.config import ModelSettings
from cp2fast.finetune.average import Average
from cp2fast.model.segmenter import Segmenter, build_segmenter


def network() -> Segmenter:
    return build_segmenter(ModelSettings(backbone="test_resnet", head="linear", size=32))


def test_it_is_the_decayed_sum_of_all_steps() -> None:
    learning = network()
    average, weight = Average(learning, 0.5), learning.decode_head.conv_seg.bias
    expected = weight.detach().double()
    for step in range(6):
        with torch.no_grad():
            weight.add_(torch.randn(len(weight)))
        average.update()
        decay = min(0.5, (1 + step) / (10 + step))  # short at first
        expected = decay * expected + (1 - decay) * weight.detach().double()
    found = average.network.decode_head.conv_seg.bias
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
    assert not found.requires_grad


def test_a_restart_begins_again_with_the_weights_of_now() -> None:
    learning = network()
    average, weight = Average(learning, 0.9), learning.decode_head.conv_seg.bias
    for _ in range(5):
        average.update()
    with torch.no_grad():
        now = weight.add_(1).clone()
    average.restart()
    found = average.network.decode_head.conv_seg.bias
    assert torch.equal(found, now)
    with torch.no_grad():
        weight.add_(1)
    average.update()
    torch.testing.assert_close(found, 0.1 * now + 0.9 * (now + 1))  # short at first


def test_it_has_the_newest_statistics() -> None:
    learning = network().train()
    average = Average(learning, 0.999)
    learning(torch.randn(2, 3, 32, 32))
    average.update()
    ours, theirs = (net.backbone.bn1.running_mean for net in (learning, average.network))
    assert torch.equal(ours, theirs)


def test_average_and_weights_go_on_from_a_checkpoint() -> None:
    learning = network()
    average = Average(learning, 0.9)
    with torch.no_grad():
        learning.decode_head.conv_seg.bias.add_(1)
    average.update()
    state = average.state_dict()

    again = network()
    resumed = Average(again, 0.9)
    resumed.load_state_dict(state)
    for net, other in ((again, learning), (resumed.network, average.network)):
        for name, tensor in other.state_dict().items():
            assert torch.equal(net.state_dict()[name], tensor), name
    resumed.update()
    average.update()
    ours, theirs = (one.network.decode_head.conv_seg.bias for one in (resumed, average))
    assert torch.equal(ours, theirs)


def test_without_a_decay_nothing_is_copied() -> None:
    with torch.inference_mode():  # what is made here cannot be written to outside
        learning = network()
    average = Average(learning, None)
    average.update()
    average.take_buffers()
    assert average.network is learning
