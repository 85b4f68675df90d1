"""The kernel writes the samples it is asked for and no byte beside them."""

import numpy as np
import torch

from cp2fast.batch import RaggedBatch
from cp2fast.config import IMAGENET_MEAN, IMAGENET_STD
from cp2fast.copypaste.cpu.kernel import Inputs, compose
from cp2fast.copypaste.cpu.launch import copy_paste_cpu
from cp2fast.copypaste.cpu.output import Output
from cp2fast.copypaste.cpu.workspace import Workspace
from cp2fast.copypaste.interface import Request
from cp2fast.copypaste.sampling import sample_parameters
from cp2fast.copypaste.views import FLOAT32, pack

CANARY = 0xA5


def test_only_the_samples_asked_for_are_written() -> None:
    size = 21
    random = np.random.default_rng(0)
    sides = [(40, 50), (30, 33), (25, 70)]
    images = [torch.from_numpy(random.integers(0, 256, (*s, 3), dtype=np.uint8)) for s in sides]
    batch = RaggedBatch.pack(images, range(3))
    parameters = sample_parameters(0, 0, batch, size)
    views = pack(batch, parameters)
    request = Request(batch.pixels, views, size, torch.float32, IMAGENET_MEAN, IMAGENET_STD)
    expected = copy_paste_cpu(request)
    words = views.numpy()
    inputs = Inputs(batch.pixels.numpy(), words, words.view(np.float32))
    single = np.full(3 * size * size * 3, CANARY, np.float32)
    mask = np.full((3, size, size), CANARY, np.uint8)
    workspace = Workspace.allocate(size, 70, 6)
    normalisation = np.float32([IMAGENET_MEAN, IMAGENET_STD])
    half, skew = np.empty(0, np.uint16), single.ctypes.data // 4 % 16
    output = Output(*normalisation, FLOAT32, single, half, skew)
    compose(inputs, 1, 1, 2, output, mask.view(np.bool_), workspace)
    out = single.reshape(3, size, size, 3)
    key = torch.from_numpy(out[1]).permute(2, 0, 1)
    assert torch.equal(key, expected[1][1])
    np.testing.assert_array_equal(mask[1], expected[3][1])
    assert (out[[0, 2]] == CANARY).all()
    assert (mask[[0, 2]] == CANARY).all()
