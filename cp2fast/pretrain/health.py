"""Warnings, each given once, when the metrics show that training is broken."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from cp2fast.pretrain.metrics import Metrics
from cp2fast.train.advice import Streaks


@dataclass(frozen=True)
class Symptom:
    """A symptom of a broken run.

    Attributes:
        after: share of the run that must be done before the symptom is meaningful.
        shows: whether a logged step has the symptom.
        warning: one line: problem, reason, and the setting to change.
    """

    after: float
    shows: Callable[[Metrics], bool]
    warning: str


class Health:
    """Checks every logged step of a run."""

    def __init__(self, embedding: int, queue: int, total_steps: int) -> None:
        """Prepare to check a run.

        Args:
            embedding: channels of the embedding.
            queue: keys in the queue.
            total_steps: number of steps of the run.
        """
        self._streaks = Streaks(symptoms(embedding, queue))
        self._total_steps = total_steps

    def check(self, metrics: Metrics) -> list[str]:
        """Warn, once each, about symptoms found in ten consecutive logged steps."""
        share_done = metrics.step / self._total_steps
        found = self._streaks.found(lambda s: share_done > s.after and s.shows(metrics))
        return [symptom.warning for symptom in found]


def symptoms(embedding: int, queue: int) -> list[Symptom]:
    """The symptoms to check, for an embedding of this many channels and a queue of this length."""
    spread, chance = 1 / math.sqrt(embedding), math.log(1 + queue)
    return [
        Symptom(
            0.1,
            lambda m: m.embedding_std < 0.02 * spread,
            f"the embedding has collapsed: all images get nearly the same vector (embedding_std is "
            f"below 2 % of the {spread:.3f} of spread vectors); lower train.lr, or raise "
            "model.momentum",
        ),
        Symptom(
            0.2,
            lambda m: m.effective_rank < 2 and m.embedding_std >= 0.02 * spread,
            "the instance vectors lie along one direction (effective_rank is below 2 of at most "
            f"{embedding}): images are told apart by one thing alone; lower train.lr, or raise "
            "model.momentum",
        ),
        Symptom(
            0.2,
            lambda m: m.effective_rank_dense < 2,
            "the dense features have collapsed: all places of all images get nearly the same "
            f"vector (effective_rank_dense is below 2 of at most {embedding}); lower train.lr, or "
            "lower model.dense_weight",
        ),
        Symptom(
            0.2,
            lambda m: m.loss_instance > chance and m.queue_fill == 1,
            f"the instance loss is no better than a guess among the {queue} keys of the queue "
            f"({chance:.2f}): the network does not learn to tell images apart; lower train.lr",
        ),
        Symptom(
            0.5,
            lambda m: m.similarity_gap <= 0,
            "similarity_gap is not above 0: foreground cells are no more alike than foreground and "
            "background; raise model.dense_weight, or look at preview.png",
        ),
    ]
