"""The metrics of pretraining: one typed row per logged step."""

from __future__ import annotations

from dataclasses import dataclass

from cp2fast.train.accounts import Account


@dataclass(frozen=True)
class Metrics:
    """One row of ``metrics.jsonl``.

    Attributes:
        step: steps done, from 1.
        epoch: passes over the images done, as a fraction.
        loss: instance loss + weight * dense loss, of this step.
        loss_instance: instance loss of this step.
        loss_dense: dense loss of this step.
        accuracy_instance: share of queries whose own key is nearer than every queued one.
        accuracy_dense: share of images whose most similar pair of cells is foreground in both.
        similarity_gap: mean cosine of query foreground cells with key foreground cells, minus the
            mean cosine with key background cells.
        embedding_std: standard deviation of the query vectors over the batch, averaged over
            channels; 1 / sqrt(channels) if they are spread out, 0 if all images are embedded alike.
        effective_rank: directions used by the newest instance vectors in the queue (RankMe); 1 if
            all images get the same vector, at most the number of channels.
        effective_rank_dense: the same for the dense features at all positions in the batch.
        alignment: mean squared distance of an image's two instance vectors; 0 if they are equal.
        uniformity: how evenly the batch's instance vectors are spread over the sphere; 0 if all are
            equal, near -4 if they are spread out.
        queue_fill: share of the queue that holds keys rather than initial random vectors.
        read_retries: temporary disk and server faults that were solved by retrying, over all
            processes, since the run was started or resumed.
        lr: learning rate of this step.
        images_per_second: samples per second over all processes since the last logged step.
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
    read_retries: float
    lr: float
    images_per_second: float
    data_wait: float
    time: dict[Account, float]
