"""What people see of a report."""

import io
import json

import pytest
from rich.console import Console

from cp2fast.bench.show import read_kept, show, show_against
from cp2fast.bench.timing import Rate
from cp2fast.errors import UserError
from tests.bench.test_report import report


def said(function, *arguments) -> str:
    console = Console(file=io.StringIO(), width=120)
    function(*arguments, console)
    return console.file.getvalue()


def test_the_table_names_systems_what_is_missing_and_the_bottleneck() -> None:
    text = said(show, report())
    for part in ("cp2fast-cpu", " 50 ", "4.00", "50%", "kornia: not installed", "decode 100"):
        assert part in text
    assert text.rstrip().endswith("decoding limits")


def test_a_single_round_has_a_dash_for_its_spread(tmp_path) -> None:
    once = report({"cp2fast-cpu": Rate((40.0,))})
    (row,) = (line for line in said(show, once).splitlines() if "cp2fast-cpu" in line)
    assert row.split("│")[3].strip() == "-"
    kept = tmp_path / "kept.json"
    kept.write_text(json.dumps(once.to_json()))
    (row,) = (x for x in said(show_against, once, read_kept(kept)).splitlines() if "cp2fast" in x)
    assert row.split("│")[5].strip() == "-"


def test_a_kept_result_is_compared_by_ratio(tmp_path) -> None:
    kept = tmp_path / "kept.json"
    before = report().to_json()
    before["results"][1]["images_per_second"] = 25.0
    before["machine"]["cores"] = 999
    kept.write_text(json.dumps(before))
    text = said(show_against, report(), read_kept(kept))
    assert "2.00" in text
    assert "another machine: cores was 999" in text


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"results": [{}]}'])
def test_what_is_no_result_is_refused(tmp_path, content) -> None:
    kept = tmp_path / "kept.json"
    kept.write_text(content)
    with pytest.raises(UserError, match="not a result of cp2fast bench"):
        read_kept(kept)
