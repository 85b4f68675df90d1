"""What pretraining logs: one typed row a logged step."""

from __future__ import annotations

from dataclasses import dataclass

from cp2fast.train.accounts import Account


@dataclass(frozen=True)
class Metrics:
    """One row of ``metrics.jsonl``.

    Attributes:
        step: steps done, from 1.
        epoch: passes over the images done, with fraction.
        loss: instance loss + weight * dense loss, of this step.
        loss_instance: of this step.
        loss_dense: of this step.
        accuracy_instance: share of queries whose own key is nearer than every queued one.
        accuracy_dense: share of images whose most similar pair of cells is foreground twice.
        similarity_gap: mean cosine of query foreground cells to key foreground cells minus to key
            background cells.
        embedding_std: standard deviation of the query vectors over the batch, mean of the channels;
            1 / sqrt(channels) where they are spread, 0 where all images look alike.
        effective_rank: directions that the newest instance vectors in the queue use (RankMe): 1
            where all images get one vector, at most the number of channels.
        effective_rank_dense: the same of the dense features of all places in the batch.
        alignment: mean squared distance of an image's two instance vectors: 0 where they agree.
        uniformity: how evenly the batch's instance vectors lie on the sphere: 0 where all are
            equal, near -4 where they are spread.
        queue_fill: share of the queue that holds keys rather than its random start.
        read_retries: faults of disks and servers that passed when they were tried again, of all
            processes, since the run was started or resumed.
        lr: learning rate of this step.
        images_per_second: samples over all processes since the last logged step.
        data_wait: share of that time spent waiting for data.
        time: shares of that time by account (``train.accounts``), which add up to 1.
    """

    step: int
    epoch: float
    loss: float
    loss_instance: float
    loss_dense: float
    accuracy_instance: float
    accuracy_dense: float
    similarity_gap: float
    embedding_std: float
    effective_rank: float
    effective_rank_dense: float
    alignment: float
    uniformity: float
    queue_fill: float
    read_retries: int
    lr: float
    images_per_second: float
    data_wait: float
    time: dict[Account, float]
