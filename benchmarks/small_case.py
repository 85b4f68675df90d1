"""A few small calls of the op, for compute-sanitizer on a GPU."""

from typing import cast

import torch

from cp2fast.batch import RaggedBatch
from cp2fast.copypaste.backends import Backend
from cp2fast.copypaste.op import copy_paste
from cp2fast.copypaste.sampling import sample_parameters

SIZES = [(33, 47), (120, 80), (1, 1), (64, 300)]

if __name__ == "__main__":
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    generator = torch.Generator().manual_seed(0)
    images = [
        torch.randint(0, 256, (*size, 3), dtype=torch.uint8, generator=generator) for size in SIZES
    ]
    batch = RaggedBatch.pack(images, range(len(SIZES)))
    for size in (17, 64):
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            parameters = sample_parameters(0, size, batch, size)
            copy_paste(
                batch.to(device), parameters, size, dtype, backend=cast(Backend, device.type)
            )
    if device.type == "cuda":
        torch.cuda.synchronize()
