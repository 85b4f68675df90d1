"""The chart of reports: what is cut, what the colours say, and that nothing leaves the picture."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.colors import to_hex
from PIL import Image

from cp2fast.bench.chart import Bar, axis_end, draw, plot
from cp2fast.bench.timing import Rate
from tests.bench.test_report import report


def with_ceilings(**ceilings):
    return replace(report(), ceilings=ceilings)


def test_the_chart_has_a_bar_for_every_system_and_ceiling(tmp_path) -> None:
    plot([report()], tmp_path / "one.png")
    plot([report(), report()], tmp_path / "two.png")
    with Image.open(tmp_path / "one.png") as one, Image.open(tmp_path / "two.png") as two:
        assert one.format == "PNG"
        assert two.height > 1.5 * one.height
        colours = {colour for _, colour in one.convert("RGB").getcolors(1 << 20)}
    assert {(0x2A, 0x6F, 0x97), (0xA9, 0xB4, 0xBD), (0xC1, 0x44, 0x0E)} <= colours


@pytest.mark.parametrize("times", [0.5, 1.05, 1.5, 3.0])
def test_a_ceiling_that_fits_is_drawn_whole(times) -> None:
    drawn = with_ceilings(memory=50.0 * times)
    (axes,) = draw([drawn]).axes
    assert [bar.get_width() for bar in axes.patches] == [10, 50, 50 * times]
    assert axes.get_xlim()[1] > 1.1 * max(50, 50 * times)
    assert not any("cut" in text.get_text() for text in axes.texts)


def test_a_ceiling_far_above_ends_with_the_axis_and_says_so() -> None:
    (axes,) = draw([with_ceilings(memory=1000.0)]).axes
    end = axes.get_xlim()[1]
    assert [bar.get_width() for bar in axes.patches] == [10, 50, end]
    assert axes.texts[-1].get_text().strip() == "1,000 (bar cut)"
    assert 50 < end < 100


def test_a_system_is_never_cut() -> None:
    bars = [Bar("original", 1.0, 0.0, "others"), Bar("cp2fast-cpu", 900.0, 500.0, "cp2fast")]
    assert axis_end(bars) > 900 + 500 / 2


def test_the_spread_is_a_line_of_its_length_about_the_median() -> None:
    (axes,) = draw([report()]).axes
    ends = {tuple(line.get_xdata()) for line in axes.lines}
    assert ends == {(5.0, 15.0), (40.0, 60.0)}  # 10 +- 100 % / 2, and 50 +- 40 % / 2


def test_a_single_round_has_no_line() -> None:
    once = report({"cp2fast-cpu": Rate((40.0,))})
    figure = draw([once])
    assert not figure.axes[0].lines
    assert "round" not in " ".join(text.get_text() for text in figure.legends[0].get_texts())


def test_the_legend_names_the_colours_that_are_there() -> None:
    one = report()
    decoding = replace(one.results[1], system="decode-torch")
    figure = draw([replace(one, results=[*one.results, decoding])])
    (legend,) = figure.legends
    colours = {
        text.get_text(): to_hex(handle.get_facecolor())
        for text, handle in zip(legend.get_texts(), legend.get_patches(), strict=False)
    }
    assert list(colours) == ["others", "cp2fast", "cp2fast, decoding alone", "ceilings"]
    bars = [to_hex(bar.get_facecolor()) for bar in figure.axes[0].patches]
    assert bars == [*list(colours.values())[:3], colours["ceilings"]]
    assert len(set(bars)) == 4
    (without,) = draw([one]).legends
    assert "decoding" not in " ".join(text.get_text() for text in without.get_texts())


def test_nothing_touches_the_edge_of_the_picture(tmp_path) -> None:
    long = with_ceilings(**{"matrix products of a system with a very long name indeed": 1e6})
    machine = long.machine | {"cpu": "A Processor of Many Words @ 2.40 GHz", "gpu": "A Large GPU"}
    plot([replace(long, machine=machine)], tmp_path / "chart.png")
    with Image.open(tmp_path / "chart.png") as image:
        pixels = np.asarray(image.convert("L"))
    for edge in (pixels[:12], pixels[-12:], pixels[:, :12].T, pixels[:, -12:].T):
        assert (edge == 255).all()
