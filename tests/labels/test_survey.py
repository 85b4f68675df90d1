from pathlib import Path

from cp2fast.labels.survey import shares_in_words, survey
from tests.labels.small_sets import opened, pairs


def test_a_table_tells_the_shares_of_the_pixels(tmp_path: Path) -> None:
    data = opened(pairs(tmp_path), classes=["sky", "road", "sea", "moon"])
    found = survey(data)
    lines = shares_in_words(found, data)
    assert lines[0].split() == ["class", "train", "val"]
    assert lines[1].split() == ["sky", "33.33", "%", "33.33", "%"]
    assert lines[4].split() == ["moon", "none", "none"]
    assert any("moon (3)" in warning and "add images" in warning for warning in found.warnings)
