"""The accounts of a run, against a clock that is moved on, and kernels."""

import time
import tracemalloc

import pytest
import torch

from cp2fast.train.accounts import ACCOUNTS, Accounts, shares_of
from tests.train.clock import Clock

CPU = torch.device("cpu")


@pytest.fixture
def accounts(clock: Clock) -> Accounts:
    return Accounts(CPU, clock.now)


def test_every_second_belongs_to_one_account(accounts: Accounts, clock: Clock) -> None:
    clock.now += 2
    for _ in range(3):
        accounts.wait_for_data()
        clock.now += 1
        accounts.switch("step")
        clock.now += 5
        with accounts.on("save"):
            clock.now += 3
    spent = accounts.lap()
    assert tuple(spent) == ACCOUNTS
    # What is waited for before the first batch belongs to the start.
    assert spent == {"data": 2, "step": 15, "save": 9, "evaluate": 0, "log": 0, "start": 3}


def test_a_lap_begins_where_the_one_before_ended(accounts: Accounts, clock: Clock) -> None:
    accounts.switch("step")
    clock.now += 1
    first = accounts.lap()
    with accounts.on("log"):
        clock.now += 3
        second = accounts.lap()
    nothing = dict.fromkeys(ACCOUNTS, 0)
    assert first == nothing | {"step": 1}
    assert second == nothing | {"log": 3}
    assert accounts.shares() == nothing | {"step": 0.25, "log": 0.75}


def test_the_account_that_paid_before_pays_again_also_after_an_error(
    accounts: Accounts, clock: Clock
) -> None:
    accounts.switch("step")
    with pytest.raises(ValueError, match="x"), accounts.on("evaluate"):
        raise ValueError("x")
    clock.now += 1
    assert accounts.lap() == dict.fromkeys(ACCOUNTS, 0) | {"step": 1}


def test_shares_add_up_to_one_also_where_nothing_was_spent() -> None:
    assert sum(shares_of(dict.fromkeys(ACCOUNTS, 0.1)).values()) == pytest.approx(1, abs=1e-4)
    assert set(shares_of(dict.fromkeys(ACCOUNTS, 0.0)).values()) == {0.0}


def test_marks_do_not_pile_up() -> None:
    accounts = Accounts(CPU, time.perf_counter())
    tracemalloc.start()
    sizes = []
    for _ in range(2):
        for _ in range(1000):
            accounts.wait_for_data()
            accounts.switch("step")
        sizes.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert sizes[1] - sizes[0] < 10_000  # ten bytes a mark


@pytest.mark.gpu
def test_waiting_for_a_busy_gpu_is_the_step_s_time() -> None:
    device = torch.device("cuda")
    matrix = torch.randn(8192, 8192, device=device)
    accounts = Accounts(device, time.perf_counter())
    accounts.switch("step")
    for _ in range(20):
        matrix @ matrix
    accounts.switch("data")  # the host waits for a batch while the GPU is at work
    time.sleep(0.001)
    accounts.switch("step")
    spent = accounts.lap()
    assert spent["data"] < 0.2 * spent["step"]
