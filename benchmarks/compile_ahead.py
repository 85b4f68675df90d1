"""Compile the encoders for some settings, for later processes that share the cache on disk.

python -m benchmarks.compile_ahead [KEY=VALUE ...]
"""

from __future__ import annotations

import sys

import torch

from cp2fast import recipes
from cp2fast.bench.train import compiled_learner
from cp2fast.config import PretrainSettings


def main() -> None:
    settings = recipes.load(PretrainSettings, None, sys.argv[1:])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    compiled_learner(settings, device, print)


if __name__ == "__main__":
    main()
