import math

import pytest
import torch
import torch.nn.functional as F

from cp2fast.model.signals import Vectors, alignment, effective_rank, signals, uniformity


def test_equal_vectors_have_rank_one() -> None:
    vectors = F.normalize(torch.randn(1, 128), dim=1).expand(500, -1)
    assert effective_rank(vectors).item() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("directions", [2, 7, 32])
def test_orthogonal_directions_used_equally_are_counted(directions: int) -> None:
    basis = torch.linalg.qr(torch.randn(64, 64))[0][:directions]
    assert effective_rank(basis.repeat(5, 1)).item() == pytest.approx(directions, rel=1e-3)


@pytest.mark.parametrize("shape", [(300, 40), (20, 64)])
def test_the_rank_is_that_of_the_singular_values(shape: tuple[int, int]) -> None:
    vectors = torch.randn(shape) * torch.logspace(0, -2, shape[1])
    singular = torch.linalg.svdvals(vectors.double())
    shares = singular / singular.sum()
    expected = math.exp(-sum(share * math.log(share) for share in shares.tolist()))
    assert effective_rank(vectors).item() == pytest.approx(expected, rel=1e-6)


def test_vectors_of_zeros_have_rank_one() -> None:
    assert effective_rank(torch.zeros(8, 4)).item() == 1


def test_alignment_is_the_mean_squared_distance_of_pairs() -> None:
    axes = torch.eye(4)
    assert alignment(axes, axes).item() == 0
    assert alignment(axes, axes.roll(1, 0)).item() == pytest.approx(2)
    assert alignment(axes, -axes).item() == pytest.approx(4)


def test_uniformity_of_equal_vectors_is_zero_and_of_random_ones_near_minus_four() -> None:
    vector = F.normalize(torch.randn(1, 128), dim=1)
    assert uniformity(vector.expand(50, -1)).item() == pytest.approx(0, abs=1e-3)
    assert uniformity(F.normalize(torch.randn(400, 128), dim=1)).item() == pytest.approx(
        -3.94, abs=0.05
    )


def test_uniformity_is_the_logarithm_of_the_mean_over_distinct_pairs() -> None:
    vectors = F.normalize(torch.randn(9, 5), dim=1)
    potentials = [
        math.exp(-2 * float((vectors[i] - vectors[j]).square().sum()))
        for i in range(9)
        for j in range(9)
        if i != j
    ]
    expected = math.log(sum(potentials) / len(potentials))
    assert uniformity(vectors).item() == pytest.approx(expected, abs=1e-5)


def test_one_vector_has_no_uniformity() -> None:
    assert uniformity(torch.ones(1, 3)).item() == 0


def test_the_signals_of_a_batch_are_those_of_its_vectors() -> None:
    query, key = (F.normalize(torch.randn(6, 16), dim=1) for _ in range(2))
    dense = F.normalize(torch.randn(6, 16, 9), dim=1)
    found = signals(query, Vectors(query, key, dense))
    assert found.effective_rank == pytest.approx(effective_rank(query).item())
    places = torch.stack([dense[b, :, x] for b in range(6) for x in range(9)])
    assert found.effective_rank_dense == pytest.approx(effective_rank(places).item())
    assert found.alignment == pytest.approx(alignment(query, key).item())
    assert found.uniformity == pytest.approx(uniformity(query).item())
