"""The CUDA kernels, built by g++ and run on the CPU: see gpu_on_cpu.h."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from cp2fast.batch import RaggedBatch
from cp2fast.config import IMAGENET_MEAN, IMAGENET_STD
from cp2fast.copypaste.cuda.compile import SOURCE
from cp2fast.copypaste.cuda.launch import most_items, normalisation, parts
from cp2fast.copypaste.parameters import Parameters
from cp2fast.copypaste.views import KINDS, pack
from tests.copypaste.cases import Composed

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Kernels:
    """A program that runs the kernels once."""

    program: Path

    @staticmethod
    def build(folder: Path, *options: str) -> Kernels:
        """Compile them, with further options of g++."""
        program = folder / "kernels_on_cpu"
        command = ["g++", "-std=c++17", *options, f"-I{SOURCE.parent}", HERE / "kernels_on_cpu.cpp"]
        done = subprocess.run(
            [*command, "-o", program], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return Kernels(program)

    def __call__(
        self,
        batch: RaggedBatch,
        parameters: Parameters,
        size: int,
        dtype: torch.dtype = torch.float32,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        seed: int = 1,
        skip: int = 0,
    ) -> Composed:
        """Compose a batch.

        Args:
            seed: of the order in which a block's threads take turns.
            skip: bytes from a 16-byte boundary of the memory to the pixels.
        """
        views = pack(batch, parameters)
        samples, pixels = len(views), batch.pixels.numpy().tobytes()
        sides = samples, size, parts(size), most_items(size), KINDS[dtype], dtype.itemsize, skip
        factors = normalisation(tuple(mean), tuple(std))
        header = struct.pack("q7i4xQ6f", len(pixels), *sides, seed, *factors)
        done = subprocess.run(
            [self.program],
            input=header + pixels + views.numpy().tobytes(),
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        output, area = bytearray(done.stdout), samples * size * size
        image = area * 3 * dtype.itemsize
        query, key = (
            torch.frombuffer(output, dtype=dtype, count=3 * area, offset=begin)
            .view(samples, size, size, 3)
            .permute(0, 3, 1, 2)
            for begin in (0, image)
        )
        masks = [
            torch.frombuffer(output, dtype=torch.uint8, count=area, offset=begin)
            for begin in (2 * image, 2 * image + area)
        ]
        assert all((mask <= 1).all() for mask in masks)  # one that was not written is 255
        query_mask, key_mask = (mask.view(samples, size, size).bool() for mask in masks)
        return query, key, query_mask, key_mask
