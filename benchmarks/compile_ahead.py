"""Compile the encoders of some settings once, for the later processes that share the cache on disk.

python benchmarks/compile_ahead.py [KEY=VALUE ...]
"""

from __future__ import annotations

import sys

import torch

from cp2fast import recipes
from cp2fast.bench.train import random_pairs
from cp2fast.config import PretrainSettings
from cp2fast.pretrain.learner import build_learner
from cp2fast.train.compile import compile_encoders


def main() -> None:
    settings = recipes.load(PretrainSettings, None, sys.argv[1:])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    learner = build_learner(settings, device)
    batch = random_pairs(settings.data.batch_size, settings.model.size, device, learner.dtype)
    compile_encoders(learner.network, settings.train.compile, batch.query, learner.dtype, print)


if __name__ == "__main__":
    main()
