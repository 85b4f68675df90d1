"""One step of the contrast: what moves, what does not, and what it reports."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cp2fast.config import ModelSettings
from cp2fast.errors import UserError
from cp2fast.model.cp2 import CP2, CP2Output, build_cp2
from cp2fast.model.segmenter import build_segmenter

SETTINGS = ModelSettings(
    backbone="resnet18", head="fcn", head_channels=16, embedding=8, size=64, queue=10
)


def random_batch(samples: int, size: int = 64) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    query, key = torch.randn(2, samples, 3, size, size, generator=generator)
    query_mask, key_mask = torch.zeros(2, samples, size, size, dtype=torch.bool)
    query_mask[:, :50, 5:] = True
    key_mask[:, 10:, :50] = True
    return query, key, query_mask, key_mask


@pytest.fixture
def cp2() -> CP2:
    return build_cp2(SETTINGS, seed=0)


def test_weights_depend_on_the_seed_alone_and_leave_the_generator_as_it_was() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = build_cp2(SETTINGS, seed=5).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    again, other = build_cp2(SETTINGS, seed=5).state_dict(), build_cp2(SETTINGS, seed=6)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["queue"], other.queue)
    assert not torch.equal(
        first["encoder_q.backbone.conv1.weight"], other.encoder_q.backbone.conv1.weight
    )


def test_both_encoders_start_equal(cp2: CP2) -> None:
    key_state = cp2.encoder_k.state_dict()
    assert all(torch.equal(t, key_state[n]) for n, t in cp2.encoder_q.state_dict().items())


@pytest.mark.parametrize(
    ("case", "backbone", "head"),
    [
        ("r50_aspp", "resnet50", "aspp"),
        ("r50_fcn", "resnet50", "fcn"),
        ("vits_aspp", "vit_small_patch16_224", "aspp"),
    ],
)
def test_names_shapes_and_types_are_the_original_ones(
    golden: Path, case: str, backbone: str, head: str
) -> None:
    lines = (golden / f"state_dict_keys_{case}.txt").read_text().splitlines()
    rows = [line.split("\t")[:3] for line in lines if line.startswith("module.")]
    settings = ModelSettings(backbone=backbone, head=head)
    with torch.device("meta"):
        state = CP2(build_segmenter(settings), settings).state_dict()
    assert [
        [f"module.{n}", str(tuple(t.shape)), str(t.dtype).removeprefix("torch.")]
        for n, t in sorted(state.items())
    ] == sorted(rows)


def test_the_key_encoder_follows_by_a_thousandth_before_it_embeds(cp2: CP2) -> None:
    with torch.no_grad():
        for parameter in cp2.encoder_q.parameters():
            parameter.add_(torch.randn_like(parameter))
    before = copy.deepcopy(cp2.encoder_k)
    cp2(*random_batch(4))

    for key, old, query in zip(
        cp2.encoder_k.parameters(),
        before.parameters(),
        cp2.encoder_q.parameters(),
        strict=True,
    ):
        torch.testing.assert_close(key, 0.999 * old + 0.001 * query)
    before.load_state_dict(dict(cp2.encoder_k.named_parameters()), strict=False)
    _, key_view, _, key_mask = random_batch(4)
    dense = F.normalize(before.embed(key_view), dim=1)
    pooled = F.normalize((dense * key_mask[:, None, 8::16, 8::16]).sum(dim=(2, 3)), dim=1)
    torch.testing.assert_close(cp2.queue[:, :4].T, pooled)


def test_the_key_encoder_stays_for_further_batches_of_one_step(cp2: CP2) -> None:
    with torch.no_grad():
        for parameter in cp2.encoder_q.parameters():
            parameter.add_(1.0)
    before = [parameter.clone() for parameter in cp2.encoder_k.parameters()]
    cp2(*random_batch(4), move_key_encoder=False)
    assert all(map(torch.equal, before, cp2.encoder_k.parameters()))


def test_the_key_encoder_keeps_its_own_running_statistics(cp2: CP2) -> None:
    query, key, *masks = random_batch(4)
    momentum, start = 0.1, 1.0  # of the running variance
    cp2(query, 3 * key, *masks)
    variance = [
        (encoder.backbone.bn1.running_var - (1 - momentum) * start).mean().item()
        for encoder in (cp2.encoder_q, cp2.encoder_k)
    ]
    assert variance[1] == pytest.approx(9 * variance[0], rel=0.05)


def test_only_the_query_encoder_learns_and_its_class_logits_do_not(cp2: CP2) -> None:
    query, key, *masks = random_batch(4)
    key.requires_grad_()
    cp2(query, key, *masks).loss.backward()
    assert key.grad is None
    assert all(parameter.grad is None for parameter in cp2.encoder_k.parameters())
    without = {n for n, p in cp2.encoder_q.named_parameters() if p.grad is None}
    assert without == {"decode_head.conv_seg.weight", "decode_head.conv_seg.bias"}


def test_the_moving_average_includes_the_class_logits(cp2: CP2) -> None:
    with torch.no_grad():
        cp2.encoder_q.decode_head.conv_seg.bias.fill_(1.0)
    cp2(*random_batch(4))
    torch.testing.assert_close(cp2.encoder_k.decode_head.conv_seg.bias, torch.full((21,), 0.001))


def test_keys_are_enqueued_and_wrap(cp2: CP2) -> None:
    start = cp2.queue.clone()
    for pointer in (4, 8, 2):
        cp2(*random_batch(4))
        assert cp2.queue_ptr.tolist() == [pointer]
    assert not torch.isclose(cp2.queue, start).all(dim=0).any()
    torch.testing.assert_close(cp2.queue.norm(dim=0), torch.ones(10))


@pytest.mark.parametrize("is_autocast", [False, True])
def test_keys_can_be_taken_before_the_first_step(cp2: CP2, is_autocast: bool) -> None:
    query, key, query_mask, key_mask = random_batch(4)
    before = [parameter.clone() for parameter in cp2.encoder_k.parameters()]
    contrasted = copy.deepcopy(cp2)
    with torch.autocast("cpu", torch.bfloat16, enabled=is_autocast):
        cp2.take_keys(key, key_mask)
        assert all(map(torch.equal, before, cp2.encoder_k.parameters()))
        contrasted(query, key, query_mask, key_mask)  # both encoders are equal: nothing to average
    torch.testing.assert_close(cp2.queue, contrasted.queue)
    assert cp2.queue_ptr.item() == 4


def test_the_loss_weighs_its_two_parts(cp2: CP2) -> None:
    output = cp2(*random_batch(4))
    torch.testing.assert_close(output.loss.detach(), output.loss_instance + 0.2 * output.loss_dense)
    values = vars(output) | vars(output.vectors)
    vectors = values.pop("vectors")
    assert [name for name, value in values.items() if value.requires_grad] == ["loss"]
    assert vectors.dense.shape == (4, SETTINGS.embedding, 16)


def test_settings_reach_the_losses(cp2: CP2) -> None:
    def step(**changes: object) -> CP2Output:
        return build_cp2(SETTINGS.model_copy(update=changes), seed=0)(*random_batch(4))

    plain = cp2(*random_batch(4))
    assert step(dense_axis="key").loss_dense != plain.loss_dense
    assert step(temperature=1.0).loss_instance != plain.loss_instance
    weighted = step(dense_weight=2.0)
    torch.testing.assert_close(weighted.loss.detach(), plain.loss_instance + 2.0 * plain.loss_dense)


def test_gap_and_deviation_are_those_of_the_embedded_cells(cp2: CP2) -> None:
    query, key, query_mask, key_mask = random_batch(4)
    keys = F.normalize(copy.deepcopy(cp2.encoder_k).embed(key).flatten(2), dim=1)
    output = cp2(query, key, query_mask, key_mask)  # both encoders are equal: nothing to average
    cosine = torch.einsum("bcx,bcy->bxy", output.vectors.dense, keys)
    ours, theirs = (mask[:, 8::16, 8::16].flatten(1) for mask in (query_mask, key_mask))
    alike = cosine[ours[:, :, None] & theirs[:, None]].mean()
    unlike = cosine[ours[:, :, None] & ~theirs[:, None]].mean()
    torch.testing.assert_close(output.similarity_gap, alike - unlike, atol=1e-5, rtol=1e-4)
    deviation = output.vectors.query.std(dim=0, unbiased=False).mean()
    torch.testing.assert_close(output.embedding_std, deviation)


def test_equal_images_have_no_deviation(cp2: CP2) -> None:
    query, key, *masks = random_batch(4)
    assert cp2(query, key, *masks).embedding_std > 1e-3
    assert cp2(query[:1].expand_as(query), key, *masks).embedding_std < 1e-6


def test_losses_under_autocast_are_in_full_precision(cp2: CP2) -> None:
    full = copy.deepcopy(cp2)(*random_batch(4))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = cp2(*random_batch(4))
    mixed.loss.backward()
    assert mixed.loss.dtype == torch.float32
    assert mixed.loss.item() == pytest.approx(full.loss.item(), rel=0.05)


def test_a_size_that_does_not_divide_into_cells_is_refused() -> None:
    with pytest.raises(UserError, match=r"^model.size=100 .* multiple of 16; use model.size=96$"):
        build_cp2(SETTINGS.model_copy(update={"size": 100}), seed=0)


def test_the_newest_keys_are_those_of_the_last_batches_newest_first(cp2: CP2) -> None:
    taken = []
    for _ in range(4):
        _, key, _, key_mask = random_batch(3)
        place = int(cp2.queue_ptr)
        cp2.take_keys(key + torch.randn(3, 1, 1, 1), key_mask)
        taken += [cp2.queue[:, (place + n) % 10].clone() for n in range(3)]
    torch.testing.assert_close(cp2.newest_keys(7), torch.stack(taken[::-1][:7]))


@pytest.mark.parametrize(
    ("backbone", "head", "size", "cells"),
    [
        ("test_convnext", "segformer", 64, 4),
        ("test_efficientnet", "fcn", 64, 4),
        ("vit_small_patch14_dinov2", "linear", 42, 3),
    ],
)
def test_the_dense_contrast_is_on_the_grid_of_the_network(
    backbone: str, head: str, size: int, cells: int
) -> None:
    settings = ModelSettings(
        backbone=backbone, head=head, head_channels=8, embedding=8, queue=8, size=size
    )
    network = build_cp2(settings, seed=0)
    images = torch.randn(3, 3, size, size)
    mask = torch.zeros(3, size, size, dtype=torch.bool)
    cell = network.encoder_q.embedding_stride
    mask[:, cell // 2, cell // 2] = True  # one centre alone
    output = network(images, images, mask, mask)
    assert output.vectors.dense.shape[2] == cells**2
    output.loss.backward()
    assert all(p.grad is not None for p in network.parameters() if p.requires_grad)


def test_images_that_do_not_divide_into_patches_are_refused_with_the_nearest_size() -> None:
    with pytest.raises(UserError, match=r"a multiple of 14; use model\.size=518"):
        build_cp2(ModelSettings(backbone="vit_small_patch14_dinov2", size=512), seed=0)
