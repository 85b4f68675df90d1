"""The peers do the work they are measured on, and a report says what it measured."""

import json

import pytest
import torch

from cp2fast.bench.augment import bench_augment
from cp2fast.bench.peers import dali_all, kornia_aug, original, torchvision_v2

SIZE = 48


@pytest.fixture(scope="module")
def images() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randint(0, 256, (60 + 7 * i, 90 - 5 * i, 3), dtype=torch.uint8, generator=generator)
        for i in range(8)
    ]


@pytest.mark.parametrize("peer", [original, torchvision_v2, kornia_aug])
def test_a_peer_composes_normalised_pairs_with_rectangular_foregrounds(peer, images) -> None:
    torch.manual_seed(0)
    query, key, query_mask, key_mask = peer.composer(images, SIZE)(range(6))
    for composed, masks in ((query, query_mask), (key, key_mask)):
        assert composed.shape == (6, 3, SIZE, SIZE)
        assert composed.isfinite().all()
        assert -2.2 < composed.min() < -0.5 < 0.5 < composed.max() < 2.7
        assert masks.dtype == torch.bool
        for mask in masks:
            assert torch.equal(mask, mask.any(1)[:, None] & mask.any(0)[None])
            assert 0.45 < mask.float().mean() < 0.85
    assert not torch.equal(query, key)


def test_dalis_peer_composes_decoded_images(images) -> None:
    arrays = [image.numpy() for image in images]
    numbers = iter([range(6)] * 9)
    batches = dali_all.composed(arrays.__getitem__, numbers, 6, SIZE, 1, None, encoded=False)
    query, key, query_mask, _ = next(batches)
    assert query.shape == key.shape == (6, 3, SIZE, SIZE)
    assert -2.2 < query.min() < -0.5 < 0.5 < query.max() < 2.7
    assert 0.4 < query_mask.float().mean() < 0.9


def test_a_report_holds_every_system_and_can_be_kept(images) -> None:
    measured = bench_augment(images, size=SIZE, batch_size=4, rounds=2, seconds=0.01)
    report = json.loads(json.dumps(measured.to_json()))
    rows = {row["system"]: row for row in report["results"]}
    assert {"original", "torchvision", "kornia", "dali-all", "cp2fast-cpu"} <= set(rows)
    assert ("cp2fast-cuda" in rows) == torch.cuda.is_available()
    assert ("cp2fast-cuda" in report["missing"]) != torch.cuda.is_available()
    assert rows["original"]["ratio_to_original"] == 1
    assert all(row["images_per_second"] > 0 for row in rows.values())
    assert 0 < rows["cp2fast-cpu"]["share_of_ceiling"] < 1
    assert "cp2fast-" in report["bottleneck"]
    assert report["machine"]["cores"] >= 1
    assert torch.__version__.startswith(report["versions"]["torch"])
