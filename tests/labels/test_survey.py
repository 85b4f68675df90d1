import tracemalloc
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from cp2fast.errors import UserError
from cp2fast.labels.survey import shares_in_words, survey
from tests.labels.small_sets import NAMED, mask, opened, pairs, photo


def test_a_table_tells_the_shares_of_the_pixels(tmp_path: Path) -> None:
    data = opened(pairs(tmp_path), classes=["sky", "road", "sea", "moon"])
    found = survey(data)
    lines = shares_in_words(found, data)
    assert lines[0].split() == ["class", "train", "val"]
    assert lines[1].split() == ["sky", "33.33", "%", "33.33", "%"]
    assert lines[4].split() == ["moon", "none", "none"]
    assert any("moon (3)" in warning and "add images" in warning for warning in found.warnings)


@pytest.mark.parametrize("unknown", ["ignore", "refuse"])
def test_strange_colours_take_no_more_memory_in_many_masks_than_in_few(
    tmp_path: Path, unknown: str
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (100, 100, 3), np.uint8)

    def most_memory(count: int) -> int:
        root = tmp_path / str(count)
        for number in range(count):
            photo(root / f"images/{number}.jpg", 84, height=100)
            mask(root / f"masks/{number}.png", noise)
        data = opened(root, colours=NAMED, unknown=unknown)
        tracemalloc.start()
        with suppress(UserError):
            survey(data)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    assert most_memory(20) < most_memory(5) + 3e6  # one mask's colours take 1e6
