"""Ranks from the environment, and a process group of two real processes."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from cp2fast.errors import UserError
from cp2fast.train.distributed import (
    Ranks,
    device_of,
    process_group,
    ranks_from_environment,
)
from tests.processes import Process, torchrun, two_ranks
from tests.servers import free_port
from tests.train.tasks import TORCHRUN

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")

TWO_RANKS = """
import torch, torch.distributed as dist
from cp2fast.train.distributed import device_of, process_group, ranks_from_environment
ranks = ranks_from_environment()
with process_group(ranks, device_of("cpu", ranks), timeout_minutes=-0.3):
    total = torch.tensor([10.0 + ranks.rank])
    dist.all_reduce(total)
    print(f"rank {ranks.rank} main {ranks.is_main} of {ranks.world_size} sum {total.item()}")
assert not dist.is_initialized()
"""

TWICE = """
import sys, time, torch, torch.distributed as dist
from cp2fast.train.distributed import device_of, process_group, ranks_from_environment
ranks = ranks_from_environment()
for number in (1, 2):
    time.sleep(3 * ranks.rank * (number - 1))
    with process_group(ranks, device_of("cpu", ranks), timeout_minutes=-0.3):
        total = torch.tensor([10.0 + ranks.rank])
        dist.all_reduce(total)
        sys.stdout.write(f"group {number}: {total.item()}\\n")
"""


def test_without_torchrun_there_is_one_process_and_no_group(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    ranks = ranks_from_environment()
    assert ranks == Ranks(rank=0, world_size=1, local_rank=0)
    assert ranks.is_main
    with process_group(ranks, CPU, timeout_minutes=1):
        assert not torch.distributed.is_initialized()


def test_torchrun_says_who_one_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    assert ranks_from_environment() == Ranks(rank=5, world_size=8, local_rank=1)
    assert not ranks_from_environment().is_main


@pytest.mark.parametrize(
    "ranks",
    ["x 2 0", "2 2 0", "-1 2 0", "0 0 0", "0 2 x"],
    ids=lambda ranks: ranks.replace(" ", "_"),
)
def test_ranks_that_do_not_fit_together_are_refused(
    ranks: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in zip(("RANK", "WORLD_SIZE", "LOCAL_RANK"), ranks.split(), strict=True):
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=r"do not fit together \(RANK=.*torchrun"):
        ranks_from_environment()


@pytest.mark.parametrize(("address", "port"), [("", "29500"), ("127.0.0.1", "x")])
def test_processes_that_cannot_meet_are_refused(
    address: str, port: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MASTER_ADDR", address)
    monkeypatch.setenv("MASTER_PORT", port)
    with (
        pytest.raises(UserError, match=f"MASTER_ADDR={address} MASTER_PORT={port}"),
        process_group(Ranks(0, 2, 0), torch.device("cpu"), 1.0),
    ):
        pass


@pytest.mark.parametrize("minutes", ["-0.3", "1e8", "1e300"])
def test_two_processes_meet_and_part_with_any_timeout(minutes: str) -> None:
    ranks = two_ranks(script=TWO_RANKS.replace("-0.3", minutes))
    said = [rank.communicate() for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], said
    assert [output for output, _ in said] == [
        "rank 0 main True of 2 sum 21.0\n",
        "rank 1 main False of 2 sum 21.0\n",
    ]


@pytest.fixture
def torchruns() -> Iterator[dict[str, object]]:
    """What torchrun sets for its processes; its store outlives them."""
    store = dist.TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    yield {"MASTER_PORT": store.port, "TORCHELASTIC_USE_AGENT_STORE": True}
    del store


def test_a_script_may_join_its_processes_again_and_need_not_be_in_step(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(TWICE)
    launch = torchrun(*TORCHRUN[2:], tmp_path / "script.py")
    output, errors = launch.communicate()
    assert launch.returncode == 0, errors
    assert sorted(output.splitlines()) == ["group 1: 21.0"] * 2 + ["group 2: 21.0"] * 2


def test_processes_meet_again_after_a_restart_that_one_machine_counts_and_the_other_does_not(
    torchruns: dict[str, object],
) -> None:
    """As torchrun counts: a machine whose own processes were well has not restarted them."""
    for counts in ((0, 0), (0, 1)):
        ranks = [
            Process(
                script=TWO_RANKS, RANK=r, LOCAL_RANK=0, WORLD_SIZE=2, MASTER_ADDR="localhost",
                TORCHELASTIC_RESTART_COUNT=counts[r], **torchruns,
            )
            for r in (0, 1)
        ]  # fmt: skip
        said = [rank.communicate() for rank in ranks]
        assert ["sum 21.0" in output for output, _ in said] == [True, True], said


@pytest.mark.parametrize(
    ("rank", "said"),
    [
        (0, "rank 1 of 2 has not joined within"),
        (1, "rank 1 of 2 .* rank 0 at localhost:{MASTER_PORT} "),
    ],
    ids=["the main process", "another"],
)
def test_a_process_that_waits_in_vain_says_for_whom(
    monkeypatch: pytest.MonkeyPatch, torchruns: dict[str, object], rank: int, said: str
) -> None:
    for name, value in torchruns.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    with (
        pytest.raises(UserError, match=said.format(**torchruns)),
        process_group(Ranks(rank, 2, rank), CPU, timeout_minutes=-0.49),
    ):
        pass


@pytest.mark.parametrize("rank", [0, 1])
def test_without_torchrun_too_a_process_that_waits_in_vain_says_so(
    monkeypatch: pytest.MonkeyPatch, rank: int
) -> None:
    port = free_port()
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    monkeypatch.setenv("MASTER_PORT", str(port))
    with (
        pytest.raises(UserError, match=f"rank {rank} of 2 .* rank 0 at localhost:{port} "),
        process_group(Ranks(rank, 2, rank), CPU, timeout_minutes=-0.495),
    ):
        pass


def test_a_process_that_is_in_a_group_of_torchs_is_told_to_leave_it() -> None:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        with (
            pytest.raises(UserError, match="destroy_process_group"),
            process_group(Ranks(0, 2, 0), CPU, timeout_minutes=1),
        ):
            pass
    finally:
        dist.destroy_process_group()


def test_the_cpu_can_always_be_had() -> None:
    assert device_of("cpu", Ranks(3, 8, 3)) == CPU


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_auto_is_the_cpu_and_cuda_is_refused() -> None:
    assert device_of("auto", Ranks(0, 1, 0)) == CPU
    with pytest.raises(UserError, match=r"train\.device=cuda"):
        device_of("cuda", Ranks(0, 1, 0))


@pytest.mark.gpu
def test_more_processes_than_gpus_are_refused() -> None:
    count = torch.cuda.device_count()
    assert device_of("auto", Ranks(0, 1, 0)) == torch.device("cuda", 0)
    with pytest.raises(UserError, match=f"nproc-per-node {count}"):
        device_of("auto", Ranks(count, count + 1, count))
