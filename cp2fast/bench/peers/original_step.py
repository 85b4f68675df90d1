"""The original CP2 training step: plain convolutions, NCHW, float32, a loop for the average.

Written from the paper (sections 3 and 4.1) and the behaviour of the original's ``builder.py`` and
``main.py``, for comparison. The network's layers and weights are cp2fast's, so both systems must
give the same losses; the way a step is computed is the original's. The keys' average is updated
parameter by parameter, the queue is copied in each step, the logits are kept for the backward pass,
and the optimiser is torch's default.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from cp2fast.batch import CopyPasteBatch
from cp2fast.model.cp2 import CP2
from cp2fast.model.dilated import DilatedConv2d
from cp2fast.model.pooled import PooledConv2d


def trainer(network: CP2, lr: float) -> Callable[[CopyPasteBatch], Tensor]:
    """A function that does one step and returns its loss.

    Args:
        network: modified: its convolutions become plain, its memory format NCHW.
        lr: learning rate of SGD with momentum 0.9 and weight decay 1e-4.
    """
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload, unused-ignore]
    for module in network.modules():
        if isinstance(module, DilatedConv2d | PooledConv2d):
            module.eval()  # the plain convolution
    optimizer = torch.optim.SGD(
        network.encoder_q.parameters(), lr=lr, momentum=0.9, weight_decay=1e-4
    )

    def step(batch: CopyPasteBatch) -> Tensor:
        loss = _loss(network, batch)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss.detach()

    return step


def _loss(network: CP2, batch: CopyPasteBatch) -> Tensor:
    settings = network.settings
    cell = network.encoder_q.embedding_stride  # 16 for both of its backbones
    query_mask, key_mask = (
        mask[:, cell // 2 :: cell, cell // 2 :: cell].float().flatten(1)
        for mask in (batch.query_mask, batch.key_mask)
    )
    query_BCX = F.normalize(network.encoder_q.embed(batch.query.contiguous()), dim=1).flatten(2)
    with torch.no_grad():
        _update_key_encoder(network)
        key_BCY = F.normalize(network.encoder_k.embed(batch.key.contiguous()), dim=1).flatten(2)

    query_BC = F.normalize((query_BCX * query_mask[:, None]).sum(2), dim=1)
    key_BC = F.normalize((key_BCY * key_mask[:, None]).sum(2), dim=1)
    positive = torch.einsum("nc,nc->n", query_BC, key_BC)[:, None]
    negative = torch.einsum("nc,ck->nk", query_BC, network.queue.clone().detach())
    logits = torch.cat([positive, negative], dim=1) / settings.temperature
    labels = torch.zeros(len(logits), dtype=torch.int64, device=logits.device)
    loss_instance = F.cross_entropy(logits, labels)

    similarity_BXY = torch.einsum("ncx,ncy->nxy", query_BCX, key_BCY)
    positive_BXY = torch.einsum("nx,ny->nxy", query_mask, key_mask)
    log_probability = F.log_softmax(similarity_BXY, dim=1)
    pairs = positive_BXY.sum(dim=(1, 2))
    loss_dense = -((log_probability * positive_BXY).sum(dim=(1, 2)) / pairs).mean()

    with torch.no_grad():
        pointer = int(network.queue_ptr)
        network.queue[:, pointer : pointer + len(key_BC)] = key_BC.T
        network.queue_ptr[0] = (pointer + len(key_BC)) % network.queue.shape[1]
    return loss_instance + settings.dense_weight * loss_dense


def _update_key_encoder(network: CP2) -> None:
    m = network.settings.momentum
    pairs = zip(network.encoder_q.parameters(), network.encoder_k.parameters(), strict=True)
    for query, key in pairs:
        key.data = key.data * m + query.data * (1.0 - m)
