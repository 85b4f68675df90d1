"""The accounts of a run, against sleeps and kernels of known length."""

import time
import tracemalloc

import pytest
import torch

from cp2fast.train.accounts import ACCOUNTS, Accounts, shares_of

CPU = torch.device("cpu")


def test_every_second_belongs_to_one_account() -> None:
    began = time.perf_counter()
    accounts = Accounts(CPU, began)
    time.sleep(0.02)
    for _ in range(3):
        accounts.wait_for_data()
        time.sleep(0.01)
        accounts.switch("step")
        time.sleep(0.02)
        with accounts.on("save"):
            time.sleep(0.01)
    spent = accounts.lap()
    assert sum(spent.values()) == pytest.approx(time.perf_counter() - began, abs=0.01)
    assert tuple(spent) == ACCOUNTS
    assert spent["evaluate"] == spent["log"] == 0
    # What is waited for before the first batch belongs to the start.
    assert spent["start"] >= 0.03
    assert spent["data"] >= 0.02
    assert spent["step"] >= 0.06
    assert spent["save"] >= 0.03


def test_a_lap_begins_where_the_one_before_ended() -> None:
    accounts = Accounts(CPU, time.perf_counter())
    accounts.switch("step")
    time.sleep(0.01)
    first = accounts.lap()
    with accounts.on("log"):
        time.sleep(0.01)
        second = accounts.lap()
    assert second["log"] >= 0.01
    assert first["step"] >= 0.01
    assert second["step"] < 0.01
    assert sum(accounts.shares().values()) == pytest.approx(1, abs=1e-4)


def test_the_account_that_paid_before_pays_again_also_after_an_error() -> None:
    accounts = Accounts(CPU, time.perf_counter())
    accounts.switch("step")
    with pytest.raises(ValueError, match="x"), accounts.on("evaluate"):
        raise ValueError("x")
    accounts.lap()
    time.sleep(0.01)
    spent = accounts.lap()
    assert spent["step"] >= 0.01
    assert spent["evaluate"] == 0


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
