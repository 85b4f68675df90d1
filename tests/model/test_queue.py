"""The queue against a plain Python ring and against the original's numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from cp2fast.model.queue import enqueue, new_queue


@given(length=st.integers(1, 12), start=st.integers(0, 11), batches=st.lists(st.integers(1, 30)))
def test_keys_enter_a_ring_one_after_another(length: int, start: int, batches: list[int]) -> None:
    ring, place = [-1] * length, start % length
    queue, pointer = torch.full((2, length), -1.0), torch.tensor([place])
    key = 0
    for count in batches:
        keys = range(key, key + count)
        for key in keys:
            ring[place], place = key, (place + 1) % length
        key += 1
        enqueue(queue, pointer, torch.tensor([[k, k] for k in keys], dtype=torch.float32))
        assert queue.tolist() == [ring, ring]
        assert pointer.tolist() == [place]


def test_the_original_wraps_the_same_way(golden: Path) -> None:
    with np.load(golden / "queue_wrap.npz") as stored:
        queues, pointers, batch = stored["queue"], stored["ptr"], int(stored["batch"])
    for before, after, start, end in zip(queues, queues[1:], pointers, pointers[1:], strict=False):
        queue, pointer = torch.from_numpy(before.copy()), torch.tensor([start])
        places = (start + np.arange(batch)) % queue.shape[1]
        enqueue(queue, pointer, torch.from_numpy(after[:, places].T.copy()))
        np.testing.assert_array_equal(queue, after)
        assert pointer.item() == end


def test_the_queue_is_written_in_place() -> None:
    queue, pointer = new_queue(4, 6), torch.zeros(1, dtype=torch.int64)
    address = queue.data_ptr()
    enqueue(queue, pointer, torch.ones(2, 4))
    assert queue.data_ptr() == address
    assert (queue[:, :2] == 1).all()


def test_a_new_queue_holds_unit_vectors() -> None:
    torch.testing.assert_close(new_queue(128, 10).norm(dim=0), torch.ones(10))
