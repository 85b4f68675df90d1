"""Steps of the learner against plain loops over its own network."""

import copy

import pytest
import torch

from cp2fast.bench.train import random_pairs
from cp2fast.config import ModelSettings, PretrainSettings, TrainSettings
from cp2fast.pretrain.learner import build_learner
from cp2fast.train.learner import Learner, mean_loss

CPU = torch.device("cpu")
MODEL = ModelSettings(
    backbone="test_resnet", head_channels=16, embedding=8, size=32, queue=16, momentum=0.5
)


def learner(**train: object) -> Learner:
    return build_learner(PretrainSettings(model=MODEL, train=TrainSettings(**train)), CPU)


def test_gradients_are_averaged_over_the_batches_of_a_step() -> None:
    batches = [random_pairs(4, 32, CPU, torch.float32), random_pairs(6, 32, CPU, torch.float32)]
    ours = learner(gradient_accumulation_steps=2, lr=0.1)
    network = copy.deepcopy(ours.network)
    optimizer = torch.optim.SGD(
        network.encoder_q.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4
    )
    for _ in range(2):
        outputs = ours.step(iter(batches))
        loss = torch.zeros(())
        for number, b in enumerate(batches):
            output = network(b.query, b.key, b.query_mask, b.key_mask, move_key_encoder=number == 0)
            loss = loss + output.loss / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        torch.testing.assert_close(mean_loss(outputs), loss.detach())
    torch.testing.assert_close(ours.network.state_dict(), network.state_dict())
    assert ours.network.queue_ptr.item() == 20 % 16


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_step_in_bfloat16_moves_float32_weights(optimizer: str) -> None:
    ours = learner(precision="bf16", optimizer=optimizer)
    before = next(ours.network.encoder_q.parameters()).detach().clone()
    [output] = ours.step(iter([random_pairs(4, 32, CPU, torch.bfloat16)]))
    assert output.loss.isfinite()
    after = next(ours.network.encoder_q.parameters())
    assert after.dtype == torch.float32
    assert not torch.equal(before, after)
