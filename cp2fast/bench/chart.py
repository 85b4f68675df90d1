"""A chart of benchmark reports: a bar for every system and ceiling, one panel per report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cp2fast.bench.report import Report, format_rate
from cp2fast.errors import UserError
from cp2fast.run_folder import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_FORMATS = (".png", ".webp", ".svg", ".pdf")
"""The suffixes of a chart."""
_FAR = 3.0
"""A ceiling this many times above the fastest system is cut, to leave room for the systems."""
_ROOM = 1.18
"""Length of the axis relative to the longest bar, to leave room for the figures."""
_COLOURS = {
    "others": "#a9b4bd",
    "cp2fast": "#2a6f97",
    "cp2fast, decoding alone": "#e3b23c",
    "ceilings": "#c1440e",
}
_LINE = "#1b1b1b"


class Bar(NamedTuple):
    """One bar.

    Attributes:
        label: text on the left.
        rate: samples per second.
        spread: difference between the fastest and the slowest round, in samples per second; 0 if
            unknown.
        kind: determines the colour.
    """

    label: str
    rate: float
    spread: float
    kind: str

    @property
    def end(self) -> float:
        """End of the spread, which is centred on the median, as a report only has its length."""
        return self.rate + self.spread / 2


def plot(reports: Sequence[Report], path: Path) -> None:
    """Draw the reports into a PNG, WebP, SVG or PDF file."""
    with atomic_write(path) as file:
        draw(reports).savefig(
            file,
            format=path.suffix.lstrip(".").lower(),
            dpi=130,
            bbox_inches="tight",  # grows with long names of systems and processors
            pad_inches=0.2,
        )


def check_format(path: Path) -> None:
    """Refuse a chart of another format, before anything is measured.

    Raises:
        UserError: the file's name has none of the suffixes of a chart.
    """
    if path.suffix.lower() not in _FORMATS:
        raise UserError(f"{path}: a chart's name ends in {', '.join(_FORMATS)}: name it so")


def draw(reports: Sequence[Report]) -> Figure:
    """Draw bars with the rounds' spread, and a legend for the colours."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    panels = [list(_bars(report)) for report in reports]
    rows = [len(bars) for bars in panels]
    figure = Figure(
        figsize=(8, 1.2 + 0.36 * sum(rows) + 0.7 * len(rows)),
        layout=ConstrainedLayoutEngine(hspace=0.06),
    )
    places = figure.subplots(len(reports), 1, squeeze=False, height_ratios=rows)[:, 0]
    for axes, report, bars in zip(places, reports, panels, strict=True):
        _draw_panel(axes, bars)
        gpu = "" if report.machine["gpu"] == "none" else f", {report.machine['gpu']}"
        axes.set_title(
            f"bench {report.benchmark}: images/s (median), {report.machine['cores']} cores, "
            f"{report.machine['cpu']}{gpu}",
            loc="left",
            fontsize=10,
        )
    drawn = [bar for bars in panels for bar in bars]
    kinds = {bar.kind for bar in drawn}
    legend: list[Patch | Line2D] = [
        Patch(color=colour, label=kind) for kind, colour in _COLOURS.items() if kind in kinds
    ]
    if any(bar.spread for bar in drawn):
        label = "slowest to fastest round, about the median"
        legend.append(Line2D([], [], color=_LINE, linewidth=1, label=label))
    figure.legend(
        handles=legend, loc="outside upper center", ncols=len(legend), fontsize=8, frameon=False
    )
    return figure


def axis_end(bars: Sequence[Bar]) -> float:
    """The axis's end, beyond all bars except those of ceilings far above all systems."""
    fastest = max(bar.rate for bar in bars if bar.kind != "ceilings")
    near = (b for b in bars if b.kind != "ceilings" or b.rate <= _FAR * fastest)
    return _ROOM * max(bar.end for bar in near)


def _bars(report: Report) -> Iterator[Bar]:
    for result in report.results:
        rate, system = result.images_per_second, result.system
        yield Bar(system, rate, (result.spread or 0.0) * rate, _kind(system))
    for name, rate in report.ceilings.items():
        yield Bar(f"ceiling: {name}", rate, 0.0, "ceilings")


def _draw_panel(axes: Axes, bars: Sequence[Bar]) -> None:
    end = axis_end(bars)
    axes.barh(
        [bar.label for bar in bars],
        [min(bar.rate, end) for bar in bars],
        color=[_COLOURS[bar.kind] for bar in bars],
        height=0.7,
    )
    for row, bar in enumerate(bars):
        if bar.spread:
            ends = [max(0.0, bar.rate - bar.spread / 2), bar.end]
            axes.plot(ends, [row, row], "|-", color=_LINE, linewidth=1, markersize=7)
        figure = format_rate(bar.rate)
        if bar.rate > end:
            text = f"{figure} (bar cut) "
            axes.text(end, row, text, ha="right", va="center", fontsize=9, color="white")
        else:
            axes.text(bar.end, row, f" {figure}", va="center", fontsize=9)
    axes.set_xlim(0, end)
    axes.set_ylim(len(bars) - 0.4, -0.6)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)


def _kind(system: str) -> str:
    if system.startswith("decode-"):
        return "cp2fast, decoding alone"
    return "cp2fast" if system.startswith("cp2fast") else "others"
