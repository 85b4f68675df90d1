"""The CPU backend takes memory in its first call, and none of the outputs' size after that."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

STEADY_STATE = """
import ctypes, resource
from pathlib import Path
import torch
from cp2fast.batch import RaggedBatch
from cp2fast.copypaste.sampling import sample_parameters
from cp2fast.copypaste.op import copy_paste

# Every page of 4 KiB that the system hands out is a fault of its own then.
PR_SET_THP_DISABLE = 41
assert ctypes.CDLL(None).prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0

def kibibytes(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))

def compose(samples):
    images = [torch.full((40, 50, 3), i, dtype=torch.uint8) for i in range(samples)]
    batch = RaggedBatch.pack(images, range(samples))
    parameters = sample_parameters(0, 0, batch, 224)
    return lambda: copy_paste(batch, parameters, 224, torch.float32, "cpu")

compose(3)()  # compiles
step = compose(64)
Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
before = kibibytes("VmRSS")
made = step()
peak = kibibytes("VmHWM") - before
tensors = made.query, made.key, made.query_mask, made.key_mask
outputs = sum(tensor.untyped_storage().nbytes() for tensor in tensors) // 1024
del tensors

for _ in range(3):  # one held while the next one is made
    made = step()
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    made = step()
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
print(outputs, peak, faults * 4 // 5)
"""


@pytest.fixture(scope="module")
def measured() -> tuple[int, int, int]:
    """KiB, of a process of its own: the outputs, the first call's peak, new memory a call."""
    command = [sys.executable, "-c", STEADY_STATE]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    outputs, peak, fresh = map(int, done.stdout.split())
    return outputs, peak, fresh


def test_no_temporary_is_larger_than_the_outputs(measured: tuple[int, int, int]) -> None:
    outputs, peak, _ = measured
    assert outputs / 2 < peak < 2 * outputs


def test_after_the_first_calls_nothing_of_the_outputs_size_is_taken_anew(
    measured: tuple[int, int, int],
) -> None:
    outputs, _, fresh = measured
    assert fresh < outputs / 20
