"""Memory of a worker is gone with its last user."""

import os
from pathlib import Path

import torch

from cp2fast.data.workers.shared_memory import Lender


def open_blocks() -> int:
    links = (os.path.realpath(f"/proc/self/fd/{one}") for one in os.listdir("/proc/self/fd"))
    return sum("memfd:cp2fast-batch" in link for link in links)


def test_a_block_that_is_dropped_before_it_is_lent_is_closed() -> None:
    memory, before = Lender(), open_blocks()
    block = memory.allocate(1000)
    assert open_blocks() > before
    del block
    assert open_blocks() == before


def test_the_descriptor_of_a_block_that_is_lent_is_its_borrowers() -> None:
    memory, before = Lender(), open_blocks()
    part = torch.from_numpy(memory.allocate(1000)[:10])
    loan, descriptor = memory.lend(part)
    memory.take_back([loan.key])
    del part
    assert open_blocks() == before + 1
    assert Path(f"/proc/self/fd/{descriptor}").stat().st_size == 1000
    os.close(descriptor)
