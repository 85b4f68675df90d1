"""The two losses against the original's numbers and against loops in plain NumPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cp2fast.model.loss import (
    accuracy_dense,
    accuracy_instance,
    dense_loss,
    instance_loss,
    pool_instances,
    positive_pairs,
    sample_mask,
    similarities,
    similarity_gap,
)
from cp2fast.model.queue import enqueue

DENSE_LOSS_OVER_KEYS = {0: 5.335077, 1: 5.333246, 2: 5.321212}


def unit_maps(batch: int, positions: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randn(2, batch, 8, positions, generator=generator, dtype=torch.float64)
    query, key = F.normalize(maps, dim=2)
    return query, key


def random_masks(batch: int, positions: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    masks = (torch.rand(2, batch, positions, generator=generator) < 0.6).double()
    masks[:, :, 0] = 1
    query, key = masks
    return query, key


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_original_losses_and_gradient_are_reproduced(golden: Path, seed: int) -> None:
    with np.load(golden / "loss_only.npz") as stored:
        case = {n.removeprefix(f"seed{seed}_"): stored[n] for n in stored if f"seed{seed}_" in n}
    query = torch.from_numpy(case["q"]).double().requires_grad_()
    key = torch.from_numpy(case["k"]).double()
    query_mask, key_mask = (torch.from_numpy(case[f"mask_{v}"]).double() for v in "qk")
    queue, pointer = (
        torch.from_numpy(case["queue"]).double(),
        torch.tensor([int(case["queue_ptr"])]),
    )

    unit_query, unit_key = F.normalize(query, dim=1), F.normalize(key, dim=1)
    key_vectors = pool_instances(unit_key, key_mask)
    loss_instance, logits = instance_loss(
        pool_instances(unit_query, query_mask), key_vectors, queue, float(case["temperature"])
    )
    similarity = similarities(unit_query, unit_key)
    positive = positive_pairs(query_mask, key_mask)
    loss_dense = dense_loss(similarity, positive, "query")
    loss = loss_instance + float(case["dense_weight"]) * loss_dense
    loss.backward()
    assert query.grad is not None

    def close(ours: Tensor, name: str) -> None:
        np.testing.assert_allclose(ours.detach().numpy(), case[name], rtol=2e-6, atol=2e-6)

    close(loss_instance, "loss_instance")
    close(loss_dense, "loss_dense")
    close(loss, "loss")
    close(logits, "logits_moco")
    close(similarity[:, ::7, ::7], "logits_dense_slice")
    close(100 * accuracy_instance(logits), "acc_instance")
    close(100 * accuracy_dense(similarity, positive), "acc_dense")
    np.testing.assert_allclose(query.grad.numpy(), case["grad_q"], rtol=1e-3, atol=1e-8)
    assert dense_loss(similarity, positive, "key").item() == pytest.approx(
        DENSE_LOSS_OVER_KEYS[seed], abs=1e-6
    )
    enqueue(queue, pointer, key_vectors)
    close(queue, "queue_after")
    assert pointer.item() == case["queue_ptr_after"]


@pytest.mark.parametrize("axis", ["query", "key"])
def test_the_dense_loss_averages_positive_pairs_image_by_image(axis: str) -> None:
    query, key = unit_maps(batch=3, positions=10, seed=0)
    query_mask, key_mask = random_masks(batch=3, positions=10, seed=1)
    images = []
    for b in range(3):
        losses = []
        for x in range(10):
            for y in range(10):
                if query_mask[b, x] and key_mask[b, y]:
                    cosines = (
                        [float(query[b, :, other] @ key[b, :, y]) for other in range(10)]
                        if axis == "query"
                        else [float(query[b, :, x] @ key[b, :, other]) for other in range(10)]
                    )
                    own = float(query[b, :, x] @ key[b, :, y])
                    losses.append(np.log(np.exp(cosines).sum()) - own)
        images.append(np.mean(losses))
    ours = dense_loss(similarities(query, key), positive_pairs(query_mask, key_mask), axis)
    assert ours.item() == pytest.approx(np.mean(images), rel=1e-12)


def test_an_image_without_foreground_adds_nothing_to_the_dense_loss() -> None:
    query, key = unit_maps(batch=2, positions=10, seed=2)
    query_mask, key_mask = random_masks(batch=2, positions=10, seed=3)
    similarity = similarities(query, key)
    first = dense_loss(similarity[:1], positive_pairs(query_mask, key_mask)[:1], "query")
    query_mask[1] = 0
    both = dense_loss(similarity, positive_pairs(query_mask, key_mask), "query")
    assert both.item() == pytest.approx(first.item() / 2)


def test_an_unknown_axis_is_refused() -> None:
    with pytest.raises(ValueError, match="axis"):
        dense_loss(torch.zeros(1, 2, 2), torch.ones(1, 2, 2), "x")


def test_a_mask_is_sampled_at_the_centre_of_each_cell() -> None:
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[0, 2, 6] = True  # the centre of row 0, column 1 at stride 4
    mask[0, 3, 3] = True  # in the cell of row 0, column 0, beside its centre
    assert sample_mask(mask, 4).tolist() == [[[False, True], [False, False]]]


def test_pooled_vectors_ignore_the_background_and_have_unit_length() -> None:
    dense, _ = unit_maps(batch=2, positions=10, seed=4)
    mask, _ = random_masks(batch=2, positions=10, seed=5)
    disturbed = torch.where(mask[:, None] == 1, dense, -dense)
    pooled = pool_instances(dense, mask)
    torch.testing.assert_close(pool_instances(disturbed, mask), pooled)
    torch.testing.assert_close(pooled.norm(dim=1), torch.ones(2, dtype=torch.float64))


def test_the_similarity_gap_compares_key_foreground_with_key_background() -> None:
    similarity = torch.tensor([[[0.9, 0.1], [0.5, 0.5]]])
    query_mask, key_mask = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0]])
    assert similarity_gap(similarity, query_mask, key_mask).item() == pytest.approx(0.8)


def test_accuracies_count_images() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 2.0]])
    assert accuracy_instance(logits).item() == 0.5
    similarity = torch.tensor([[[0.9, 0.1], [0.5, 0.5]], [[0.1, 0.9], [0.5, 0.5]]])
    positive = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]]).expand(2, 2, 2)
    assert accuracy_dense(similarity, positive).item() == 0.5


def test_the_gradient_of_the_instance_loss_is_autograds_of_cross_entropy() -> None:
    generator = torch.Generator().manual_seed(0)
    vectors = F.normalize(torch.randn(2, 6, 8, generator=generator, dtype=torch.float64), dim=2)
    queue = F.normalize(torch.randn(8, 50, generator=generator, dtype=torch.float64), dim=0)
    query, key = vectors[0].requires_grad_(), vectors[1]
    logits = torch.cat([(query * key).sum(1, keepdim=True), query @ queue], dim=1) / 0.2
    expected = F.cross_entropy(logits, torch.zeros(6, dtype=torch.int64))
    loss, _ = instance_loss(query, key, queue, 0.2)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(
        torch.autograd.grad(3 * loss, query), torch.autograd.grad(3 * expected, query)
    )


def test_the_queue_may_be_overwritten_between_the_loss_and_its_backward_pass() -> None:
    query, key = unit_maps(4, 1, seed=0)
    query, key, queue = query[..., 0].requires_grad_(), key[..., 0], unit_maps(1, 30, seed=1)[0][0]
    (expected,) = torch.autograd.grad(instance_loss(query, key, queue, 0.2)[0], query)
    loss, _ = instance_loss(query, key, queue, 0.2)
    queue.zero_()
    torch.testing.assert_close(torch.autograd.grad(loss, query)[0], expected)
