"""A report follows from the rates."""

import json

import pytest

from cp2fast.bench.report import Report, reports_of, results_of
from cp2fast.bench.timing import Rate

RATES = {"original": Rate((10.0, 20.0, 10.0)), "cp2fast-cpu": Rate((40.0, 60.0, 50.0))}


def report(rates=RATES):
    ceilings = {"decode": 100.0}
    return Report(
        "augment",
        {"size": 32},
        results_of(rates, ceilings, limited_by={"cp2fast-cpu": "decode"}),
        ceilings,
        bottleneck="decoding limits",
        missing={"kornia": "not installed"},
    )


def test_rows_hold_medians_spreads_ratios_and_shares() -> None:
    original, ours = report().results
    assert (original.images_per_second, original.spread) == (10.0, 1.0)
    assert original.ratio_to_original == 1.0
    assert original.share_of_ceiling is None
    assert (ours.images_per_second, ours.share_of_ceiling) == (50.0, 0.5)
    assert ours.ratio_to_original == pytest.approx(4.0)  # of 4, 3 and 5, round by round


def test_without_the_original_there_is_no_ratio() -> None:
    (ours,) = report({"cp2fast-cpu": RATES["cp2fast-cpu"]}).results
    assert ours.ratio_to_original is None


def test_the_json_has_what_the_format_promises() -> None:
    kept = report().to_json()
    assert {"machine", "versions", "ceilings", "bottleneck", "results"} <= kept.keys()
    assert set(kept["results"][0]) == {
        "system",
        "images_per_second",
        "spread",
        "ratio_to_original",
        "share_of_ceiling",
    }
    assert kept["versions"]["commit"]


def test_a_kept_result_is_the_report_again() -> None:
    kept = json.loads(json.dumps(report().to_json()))
    assert reports_of(kept) == [report()]
    assert reports_of({"benchmark": "all", "reports": [kept, kept]}) == [report(), report()]
