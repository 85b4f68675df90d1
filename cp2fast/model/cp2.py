"""CP2: query encoder, key encoder, queue of keys and two contrastive losses (paper, section 3).

In each step the query is embedded. The key encoder moves a little towards the query encoder and
embeds the key. The pooled foregrounds are contrasted with the queue, and the positions with each
other. Then the new keys are enqueued.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from cp2fast.config import ModelSettings
from cp2fast.model.gather import gather, shuffle, unshuffle
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
from cp2fast.model.queue import enqueue, new_queue
from cp2fast.model.segmenter import Segmenter, build_segmenter, check_size
from cp2fast.model.signals import Vectors


@dataclass(frozen=True)
class CP2Output:
    """The output of one step: scalars on the network's device; only ``loss`` has a gradient.

    Attributes:
        loss: the loss to minimise: instance loss plus weighted dense loss.
        loss_instance: InfoNCE of the pooled foregrounds against the queue.
        loss_dense: contrastive loss of the positions.
        accuracy_instance: fraction of queries whose own key is nearer than every key in the queue.
        accuracy_dense: fraction of images whose most similar pair is two foreground positions.
        similarity_gap: mean cosine of query foreground and key foreground positions, minus that
            of query foreground and key background positions.
        embedding_std: standard deviation of the query vectors over the batch, averaged over
            channels; near 0 if all images have similar vectors, 1 / sqrt(C) if they are spread out.
        vectors: vectors from which signals are computed when logging.
    """

    loss: Tensor
    loss_instance: Tensor
    loss_dense: Tensor
    accuracy_instance: Tensor
    accuracy_dense: Tensor
    similarity_gap: Tensor
    embedding_std: Tensor
    vectors: Vectors


class CP2(nn.Module):
    """The pretraining network; works in one process, and under DDP with batches of equal size.

    The buffers are equal on all ranks by construction, except for the batch norm statistics, so
    DDP need not broadcast them.
    """

    queue: Tensor
    queue_ptr: Tensor

    def __init__(self, encoder: Segmenter, settings: ModelSettings) -> None:
        super().__init__()
        self.settings = settings
        self.register_buffer("queue", new_queue(settings.embedding, settings.queue))
        self.register_buffer("queue_ptr", torch.zeros(1, dtype=torch.int64))
        # The losses do not use the class logits: no gradient, hence no weight decay.
        encoder.decode_head.conv_seg.requires_grad_(False)
        self.encoder_q = encoder
        self.encoder_k = copy.deepcopy(encoder).requires_grad_(False)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        query_mask: Tensor,
        key_mask: Tensor,
        *,
        move_key_encoder: bool = True,
    ) -> CP2Output:
        """Contrast one batch of composed pairs, and add its keys to the queue.

        Args:
            query: images ``[B, 3, S, S]``.
            key: images like ``query``.
            query_mask: ``[B, S, S]``, True on the foreground.
            key_mask: like ``query_mask``.
            move_key_encoder: False for all but the first batch of an optimiser step.
        """
        query_BCX = _unit(self.encoder_q.embed(query))
        with torch.no_grad():
            if move_key_encoder:
                self._momentum_update_key_encoder()
            key_BCY = self._embed_keys(key)
        return self._contrast(
            query_BCX, key_BCY, self._cells(query_mask, query_BCX), self._cells(key_mask, key_BCY)
        )

    @torch.no_grad()
    def take_keys(self, key: Tensor, key_mask: Tensor) -> None:
        """Add the keys of a batch to the queue without contrasting them.

        This fills the queue with keys instead of random vectors before the first step. Shapes are
        those of ``forward``.
        """
        key_BCY = self._embed_keys(key)
        with torch.autocast(key_BCY.device.type, enabled=False):
            key_BC = pool_instances(key_BCY, self._cells(key_mask, key_BCY))
        enqueue(self.queue, self.queue_ptr, gather(key_BC))

    def newest_keys(self, count: int) -> Tensor:
        """The last ``count`` enqueued vectors, ``[count, C]``, newest first."""
        ago = torch.arange(1, count + 1, device=self.queue.device)
        return self.queue[:, (self.queue_ptr - ago) % self.queue.shape[1]].T

    def _embed_keys(self, key: Tensor) -> Tensor:
        return _unit(unshuffle(self.encoder_k.embed(shuffle(key))))

    def _cells(self, mask_BSS: Tensor, dense_BCX: Tensor) -> Tensor:
        """The mask at the cells of ``dense_BCX``, in its dtype: ``[B, X]``."""
        return sample_mask(mask_BSS, self.encoder_q.embedding_stride).flatten(1).to(dense_BCX.dtype)

    @torch.no_grad()
    def _momentum_update_key_encoder(self) -> None:
        """Move the key encoder's parameters: key = momentum * key + (1 - momentum) * query.

        Batch norm statistics are not averaged: each encoder has its own.
        """
        update = get_ema_multi_avg_fn(self.settings.momentum)  # type: ignore[no-untyped-call]
        update(list(self.encoder_k.parameters()), list(self.encoder_q.parameters()), None)

    def _contrast(
        self, query_BCX: Tensor, key_BCY: Tensor, query_mask_BX: Tensor, key_mask_BY: Tensor
    ) -> CP2Output:
        settings = self.settings
        # bfloat16 cosines would be too coarse at this temperature.
        with torch.autocast(query_BCX.device.type, enabled=False):
            query_BC = pool_instances(query_BCX, query_mask_BX)
            key_BC = pool_instances(key_BCY, key_mask_BY)
            loss_instance, logits = instance_loss(
                query_BC, key_BC, self.queue, settings.temperature
            )
            similarity_BXY = similarities(query_BCX, key_BCY)
            positive_BXY = positive_pairs(query_mask_BX, key_mask_BY)
            loss_dense = dense_loss(similarity_BXY, positive_BXY, settings.dense_axis)
        enqueue(self.queue, self.queue_ptr, gather(key_BC))

        similarity_BXY = similarity_BXY.detach()
        return CP2Output(
            loss=loss_instance + settings.dense_weight * loss_dense,
            loss_instance=loss_instance.detach(),
            loss_dense=loss_dense.detach(),
            accuracy_instance=accuracy_instance(logits),
            accuracy_dense=accuracy_dense(similarity_BXY, positive_BXY),
            similarity_gap=similarity_gap(similarity_BXY, query_mask_BX, key_mask_BY),
            embedding_std=query_BC.detach().std(dim=0, correction=0).mean(),
            vectors=Vectors(query_BC.detach(), key_BC, query_BCX.detach()),
        )


def build_cp2(settings: ModelSettings, seed: int) -> CP2:
    """Build the network of ``settings`` on the CPU, with weights that depend only on ``seed``.

    Torch's global generator is unchanged. ``settings.init`` is not used here, but by
    ``load_weights``.

    Raises:
        UserError: no such backbone, or the image size is not a multiple of its stride.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        encoder = build_segmenter(settings)
        check_size(encoder, settings.backbone, settings.size)
        return CP2(encoder, settings)


def _unit(embedding_BCHW: Tensor) -> Tensor:
    """Flatten the positions and normalise each to unit length: ``[B, C, X]``, float32 or better."""
    dtype = torch.promote_types(embedding_BCHW.dtype, torch.float32)
    return F.normalize(embedding_BCHW.flatten(2).to(dtype), dim=1)
