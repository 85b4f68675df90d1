"""One small call of the CUDA op, for compute-sanitizer."""

import torch

from cp2fast.batch import RaggedBatch
from cp2fast.copypaste.draw import draw
from cp2fast.copypaste.op import copy_paste

SIZES = [(33, 47), (120, 80), (1, 1), (64, 300)]

if __name__ == "__main__":
    generator = torch.Generator().manual_seed(0)
    images = [
        torch.randint(0, 256, (*size, 3), dtype=torch.uint8, generator=generator) for size in SIZES
    ]
    batch = RaggedBatch.pack(images, range(len(SIZES)))
    for size in (17, 64):
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            parameters = draw(0, size, batch, size, "batch")
            copy_paste(batch.to(torch.device("cuda")), parameters, size, dtype, backend="cuda")
    torch.cuda.synchronize()
