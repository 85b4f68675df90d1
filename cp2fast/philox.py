"""Counter-based random numbers: every draw is a pure function of (seed, stream, counter).

Philox4x32-10 of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). Nothing
here has state, so a sample's augmentation, an epoch's order and a batch's partners are the
same for any worker, rank, batch or restart.
"""

from enum import IntEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

_MULTIPLIER_0 = np.uint64(0xD2511F53)
_MULTIPLIER_1 = np.uint64(0xCD9E8D57)
_WEYL_0 = 0x9E3779B9
_WEYL_1 = 0xBB67AE85
_LOW = np.uint64(0xFFFFFFFF)
_WORD = np.uint64(32)
_ROUNDS = 10


class Stream(IntEnum):
    """What a draw is for; two streams never share a number."""

    VIEW = 0
    """Crop, flip, colour and blur of one view; the block is view * 16 + block."""
    PASTE = 1
    """The rectangle in which the foreground is pasted."""
    PARTNER = 2
    """The image of the batch that provides the background."""
    ORDER = 3
    """The order of an epoch."""
    SUBSTITUTE = 4
    """The image that replaces an unreadable one."""
    BACKGROUND = 5
    """The two independent background images of a sample."""
    SCENE = 6
    """The generated demo scenes."""
    LABELLED = 7
    """Crop, flip and colours of a labelled image."""
    DROPOUT = 8
    """The seed of a step's dropout."""
    CACHE = 12
    """Which images to keep in a cache that cannot hold all."""
    PROBE = 14
    """Which images of a probe have labels, and which cells are candidates for neighbours."""
    EXPORT_CHECK = 15
    """The images on which an exported file is compared with its network."""
    SURVEY = 19
    """The images from which ``data.range=auto`` is determined."""


def philox(key: tuple[int, int], counter: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Ten rounds of Philox4x32.

    Args:
        key: two 32-bit words.
        counter: uint32 ``[..., 4]``.

    Returns:
        uint32 ``[..., 4]``, four independent uniform words per counter.
    """
    c0, c1, c2, c3 = (counter[..., i].astype(np.uint64) for i in range(4))
    k0, k1 = key
    for _ in range(_ROUNDS):
        product_0, product_1 = _MULTIPLIER_0 * c0, _MULTIPLIER_1 * c2
        c0, c1, c2, c3 = (
            (product_1 >> _WORD) ^ c1 ^ np.uint64(k0),
            product_1 & _LOW,
            (product_0 >> _WORD) ^ c3 ^ np.uint64(k1),
            product_0 & _LOW,
        )
        k0, k1 = (k0 + _WEYL_0) & 0xFFFFFFFF, (k1 + _WEYL_1) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=-1).astype(np.uint32)


def words(
    seed: int, stream: Stream, epoch: ArrayLike, index: ArrayLike, block: ArrayLike = 0
) -> NDArray[np.uint32]:
    """Four random words for each (epoch, index, block); the arguments broadcast.

    Args:
        seed: any integer; its low 64 bits are the key.
        stream: what the draw is for.
        epoch: less than 2**32.
        index: number of the image in the data set, less than 2**48.
        block: less than 2**16, for draws that need more than four words.

    Returns:
        uint32 ``[..., 4]``.
    """
    index_, epoch_, block_ = np.broadcast_arrays(
        np.asarray(index, np.uint64), np.asarray(epoch, np.uint64), np.asarray(block, np.uint64)
    )
    counter = np.stack(
        [
            index_ & _LOW,
            (index_ >> _WORD) | (block_ << np.uint64(16)),
            epoch_ & _LOW,
            np.full_like(index_, int(stream)),
        ],
        axis=-1,
    ).astype(np.uint32)
    return philox((seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF), counter)


def uniform(
    seed: int, stream: Stream, epoch: ArrayLike, index: ArrayLike, block: ArrayLike = 0
) -> NDArray[np.float64]:
    """Four uniform numbers in [0, 1) for each (epoch, index, block): float64 ``[..., 4]``."""
    return words(seed, stream, epoch, index, block).astype(np.float64) * 2.0**-32


def integers(
    seed: int, stream: Stream, epoch: ArrayLike, index: ArrayLike, count: int, block: ArrayLike = 0
) -> NDArray[np.int64]:
    """Four uniform integers in [0, count) for each (epoch, index, block): int64 ``[..., 4]``."""
    return (uniform(seed, stream, epoch, index, block) * count).astype(np.int64)


def permutation(
    seed: int, stream: Stream, epoch: int, count: int, block: int = 0
) -> NDArray[np.int64]:
    """A uniform permutation of ``range(count)``, made by sorting the numbers by random keys."""
    random = words(seed, stream, epoch, np.arange(count), block).astype(np.uint64)
    return np.argsort((random[:, 0] << _WORD) | random[:, 1], kind="stable")
