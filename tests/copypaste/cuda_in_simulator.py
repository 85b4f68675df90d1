"""Hold the CUDA backend to the reference in numba's simulator; run by test_cuda.py.

A process of its own, as NUMBA_ENABLE_CUDASIM=1 must be set before numba is imported.
"""

import sys
from dataclasses import fields, replace

import torch
from hypothesis import given, seed, settings

from cp2fast.batch import RaggedBatch
from cp2fast.copypaste.cuda import copy_paste_cuda
from cp2fast.copypaste.draw import draw
from cp2fast.copypaste.parameters import Parameters
from tests.copypaste import cases
from tests.copypaste.cases import arguments, assert_same_bits, photo


@seed(0)
@settings(deadline=None, max_examples=12, database=None)
@given(cases.cases(max_size=10, max_height=90, max_width=90))
def agrees_with_the_reference(case: tuple[RaggedBatch, Parameters, int]) -> None:
    """In one tile and in several, with rows longer than a chunk and shorter."""
    batch, parameters, size = case
    ours = copy_paste_cuda(*arguments(batch, parameters), size, torch.float32)
    cases.assert_agrees(ours, batch, parameters, size)


def rounds_as_torch_does_and_changes_no_bit_with_the_batch() -> None:
    batch = RaggedBatch.pack([photo(20 + i, 31 - i, seed=i) for i in range(3)], range(3))
    size, drawn = 9, draw(0, 0, batch, 9, "batch")
    parameters = replace(drawn, jitter=torch.ones_like(drawn.jitter))
    whole = copy_paste_cuda(*arguments(batch, parameters), size, torch.float32)
    one = Parameters(*(getattr(parameters, f.name)[1:2] for f in fields(parameters)))
    alone = copy_paste_cuda(*arguments(batch, one), size, torch.float32)
    assert_same_bits(alone, tuple(x[1:2] for x in whole))
    for dtype in (torch.bfloat16, torch.float16):
        half = copy_paste_cuda(*arguments(batch, one), size, dtype)
        assert_same_bits(half, (alone[0].to(dtype), alone[1].to(dtype), *alone[2:]))


def nothing_but_the_crops_is_read() -> None:
    """The simulator checks no bounds below zero, so what lies around the crops must not matter."""
    batch = RaggedBatch.pack([photo(33, 44, seed=i) for i in range(3)], range(3))
    size, parameters = 9, draw(1, 0, batch, 9, "batch")
    one = Parameters(*(getattr(parameters, f.name)[:1] for f in fields(parameters)))
    expected = copy_paste_cuda(*arguments(batch, one), size, torch.float32)
    images = [batch.image(i).clone() for i in range(3)]
    for i, image in enumerate(images):
        cropped = torch.zeros(image.shape[:2], dtype=torch.bool)
        for top, left, height, width in one.box[one.source == i].tolist():
            cropped[top : top + height, left : left + width] = True
        image[~cropped] = 255 - image[~cropped]
    other = RaggedBatch.pack(images, batch.index)
    assert_same_bits(copy_paste_cuda(*arguments(other, one), size, torch.float32), expected)


if __name__ == "__main__":
    for check in (
        agrees_with_the_reference,
        rounds_as_torch_does_and_changes_no_bit_with_the_batch,
        nothing_but_the_crops_is_read,
    ):
        check()
        print(check.__name__.replace("_", " "), flush=True)
    sys.exit(0)
