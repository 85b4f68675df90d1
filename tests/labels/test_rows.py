from pathlib import Path

import pytest

from cp2fast.errors import UserError
from cp2fast.labels.rows import read_rows


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_any_usual_delimiter_and_blank_rows_are_taken(tmp_path: Path, delimiter: str) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text(f"a {delimiter} b\n\n{delimiter}\nc{delimiter}d\n")
    assert read_rows(path) == [(1, ["a", "b"]), (4, ["c", "d"])]


def test_what_is_no_csv_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("a,b\n" + "x" * 200_000)
    with pytest.raises(UserError, match=r"pairs.csv is no CSV file"):
        read_rows(path)
