"""A buffer is used again when nobody holds any part of it, and never before."""

import threading

import torch

from cp2fast.buffers import Buffers


def test_a_buffer_that_nobody_holds_is_used_again() -> None:
    buffers = Buffers(keep=2)
    first = buffers.take(1_000_000)
    place = first.data_ptr()
    del first
    again = buffers.take(999_000)
    assert again.data_ptr() == place
    assert again.shape == (999_000,)


def test_a_view_keeps_the_buffer_from_being_used_again() -> None:
    buffers = Buffers(keep=8)
    views = []
    for number in range(8):
        whole = buffers.take(3000)
        whole.fill_(number)
        views.append((whole[30:60].view(2, 5, 3), whole.numpy()[5:9], whole.split(100)[7]))
    del whole
    for number, held in enumerate(views):
        assert all((torch.as_tensor(view) == number).all() for view in held)
    assert len({held[0].data_ptr() for held in views}) == 8


def test_no_more_buffers_are_kept_than_asked_for() -> None:
    buffers = Buffers(keep=1)
    held = [buffers.take(100) for _ in range(5)]
    places = {tensor.data_ptr() for tensor in held}
    held.clear()
    assert buffers.kept == 1
    assert buffers.take(100).data_ptr() in places


def test_a_larger_size_gets_a_larger_buffer_in_place_of_a_smaller_one() -> None:
    buffers = Buffers(keep=1)
    buffers.take(100)
    place = buffers.take(10_000).data_ptr()
    assert buffers.kept == 1
    assert buffers.take(10_000).data_ptr() == place


def test_buffers_are_aligned_for_any_type() -> None:
    buffers = Buffers(keep=4)
    assert {buffers.take(size).data_ptr() % 64 for size in (1, 100, 10_001, 5_000_000)} == {0}


def test_threads_take_and_return_at_once_and_none_gets_what_another_holds() -> None:
    buffers = Buffers(keep=4)
    disturbed = []

    def fill_and_look(number: int) -> None:
        for _ in range(2000):
            mine = buffers.take(64)
            mine.fill_(number)
            if not (mine == number).all():
                disturbed.append(number)

    threads = [threading.Thread(target=fill_and_look, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert disturbed == []
