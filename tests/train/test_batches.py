"""Batches made in a thread ahead of the training; on a GPU, see tests/pretrain/test_on_a_gpu.py."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import torch

from cp2fast.train.batches import load_ahead

CPU = torch.device("cpu")


def test_they_come_in_order_with_their_images_and_are_made_in_another_thread() -> None:
    makers = set()

    def made() -> Iterator[tuple[tuple[torch.Tensor], list[int]]]:
        for number in range(5):
            makers.add(threading.current_thread().name)
            yield (torch.tensor(number),), [2 * number, 2 * number + 1]

    loaded = list(load_ahead(made(), CPU))
    assert [int(each.ready()[0]) for each in loaded] == list(range(5))
    assert [number for each in loaded for number in each.images] == list(range(10))
    assert threading.current_thread().name not in makers


def test_closing_them_closes_what_makes_them() -> None:
    closed = threading.Event()

    def made() -> Iterator[tuple[tuple[torch.Tensor], list[int]]]:
        try:
            while True:
                yield (torch.zeros(1),), [0]
        finally:
            closed.set()

    loaded = load_ahead(made(), CPU)
    next(loaded)
    loaded.close()
    assert closed.is_set()
