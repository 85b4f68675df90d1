"""CP2: a query and a key encoder, a queue of keys, and the two contrasts (paper, section 3).

Step by step: the query is embedded; the key encoder moves a little towards the query encoder and
embeds the key; the foregrounds are contrasted as wholes, against the queue, and position by
position; the new keys are enqueued.
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
    """What one step gives: scalars on the network's device; only ``loss`` has a gradient.

    Attributes:
        loss: to minimise: the instance loss plus the weighted dense loss.
        loss_instance: InfoNCE of the pooled foregrounds against the queue.
        loss_dense: contrast of the positions.
        accuracy_instance: fraction of queries whose own key is nearer than the whole queue.
        accuracy_dense: fraction of images whose most similar pair is of two foreground positions.
        similarity_gap: mean cosine of query foreground and key foreground positions, minus that
            of query foreground and key background positions.
        embedding_deviation: standard deviation of the query vectors over the batch, mean of the
            channels; near 0 means that all images look alike, 1 / sqrt(C) that they are spread.
        vectors: from which signals are computed where they are logged.
    """

    loss: Tensor
    loss_instance: Tensor
    loss_dense: Tensor
    accuracy_instance: Tensor
    accuracy_dense: Tensor
    similarity_gap: Tensor
    embedding_deviation: Tensor
    vectors: Vectors


class CP2(nn.Module):
    """The pretraining network; works in one process, and under DDP with batches of one size.

    The buffers are the same on all ranks by construction, except for the statistics of batch
    norm, so DDP need not broadcast them.
    """

    queue: Tensor
    queue_ptr: Tensor

    def __init__(self, encoder: Segmenter, settings: ModelSettings) -> None:
        super().__init__()
        self.settings = settings
        self.register_buffer("queue", new_queue(settings.embedding, settings.queue))
        self.register_buffer("queue_ptr", torch.zeros(1, dtype=torch.int64))
        # No contrast reaches the class logits: they get no gradient, hence no weight decay.
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
        """Contrast one batch of composed pairs, and take its keys into the queue.

        Args:
            query: ``[B, 3, S, S]``.
            key: as ``query``.
            query_mask: ``[B, S, S]``, True on the foreground.
            key_mask: as ``query_mask``.
            move_key_encoder: False for all but the first batch of an optimiser's step.
        """
        query_BCX = _unit(self.encoder_q.embed(query))
        with torch.no_grad():
            if move_key_encoder:
                self._update_key_encoder()
            key_BCY = self._embed_keys(key)
        return self._contrast(
            query_BCX, key_BCY, self._cells(query_mask, query_BCX), self._cells(key_mask, key_BCY)
        )

    @torch.no_grad()
    def take_keys(self, key: Tensor, key_mask: Tensor) -> None:
        """Take the keys of a batch into the queue without contrasting them.

        For a queue that holds keys rather than random vectors before the first step.

        Args:
            key: ``[B, 3, S, S]``.
            key_mask: ``[B, S, S]``, True on the foreground.
        """
        key_BCY = self._embed_keys(key)
        key_BC = pool_instances(key_BCY, self._cells(key_mask, key_BCY))
        enqueue(self.queue, self.queue_ptr, gather(key_BC))

    def newest_keys(self, count: int) -> Tensor:
        """The ``count`` vectors that were enqueued last, ``[count, C]``, newest first."""
        ago = torch.arange(1, count + 1, device=self.queue.device)
        return self.queue[:, (self.queue_ptr - ago) % self.queue.shape[1]].T

    def _embed_keys(self, key: Tensor) -> Tensor:
        return _unit(unshuffle(self.encoder_k.embed(shuffle(key))))

    def _cells(self, mask_BSS: Tensor, dense_BCX: Tensor) -> Tensor:
        """The mask at the cells of ``dense_BCX``, in its dtype: ``[B, X]``."""
        return sample_mask(mask_BSS, self.encoder_q.embedding_stride).flatten(1).to(dense_BCX.dtype)

    @torch.no_grad()
    def _update_key_encoder(self) -> None:
        """Moving average of the parameters; the key encoder's batch norm statistics are its own."""
        update = get_ema_multi_avg_fn(self.settings.momentum)  # type: ignore[no-untyped-call]
        update(list(self.encoder_k.parameters()), list(self.encoder_q.parameters()), None)

    def _contrast(
        self, query_BCX: Tensor, key_BCY: Tensor, query_mask_BX: Tensor, key_mask_BY: Tensor
    ) -> CP2Output:
        settings = self.settings
        # Cosines in bfloat16 would be too coarse for the temperature.
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
            embedding_deviation=query_BC.detach().std(dim=0, correction=0).mean(),
            vectors=Vectors(query_BC.detach(), key_BC, query_BCX.detach()),
        )


def build_cp2(settings: ModelSettings, seed: int) -> CP2:
    """The network that ``settings`` describe, on the CPU, its weights a function of ``seed`` alone.

    Torch's global generator is left as it was. ``settings.init`` is not read: ``load_weights``
    does that.

    Raises:
        UserError: no such backbone, or the images do not divide into its cells.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        encoder = build_segmenter(settings)
        check_size(encoder, settings.backbone, settings.size)
        return CP2(encoder, settings)


def _unit(embedding_BCHW: Tensor) -> Tensor:
    """Positions in a row, each a unit vector: ``[B, C, X]``, in float32 or better."""
    dtype = torch.promote_types(embedding_BCHW.dtype, torch.float32)
    return F.normalize(embedding_BCHW.flatten(2).to(dtype), dim=1)
