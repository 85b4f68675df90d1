"""Labelled images, decoded ahead in threads, in an order that is a function of the seed.

    plan -> threads: read, decode, cut -> crops of a step -> device: assemble

Decoding releases Python's lock, so threads do, and nothing is copied between processes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import batched, groupby
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from cp2fast.config import FinetuneSettings
from cp2fast.data.decode import BadImage, decode_image, read_image
from cp2fast.data.order import plan, steps_per_epoch
from cp2fast.data.voc import Example, VocData, read_example
from cp2fast.errors import UserError
from cp2fast.finetune.augment import Crop, assemble, cut

Item = TypeVar("Item")
Result = TypeVar("Result")
