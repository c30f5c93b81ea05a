"""Charts with horizontal bars: a row for each sender, limit or policy, its name above the bar."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from matplotlib.ticker import FuncFormatter, MaxNLocator

from ratelimit_mail.cli.replay.html.svg_figure import DARK, svg_figure
from ratelimit_mail.cli.replay.html.time_charts import Chart

__all__ = ["BarSegments", "horizontal_bar_chart"]

LONGEST: Final = 54
"""How many characters of a name fit above a bar."""

PAPER: Final = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}
"""A white background for text, to be legible over the line of the mark."""

BarSegments = tuple[str, str, Sequence[float]]
"""A name, a color, and a value for each row."""


def horizontal_bar_chart(
    name: str,
    title: str,
    words: str,
    labels: Sequence[str],
    segments: Sequence[BarSegments],
    notes: Sequence[str],
    axis: str,
    mark: float | None = None,
) -> Chart:
    """Draw a row for each of `labels`, with its segments in one bar and a note after it.

    mark: a share in percent that is drawn as a line; the values are then in percent.
    """
    count = len(labels)
    with svg_figure(name, f"{title}. {words}", 0.95 + 0.46 * count) as figure:
        axes = figure.axes
        positions = [count - 1 - row for row in range(count)]
        left = [0.0] * count
        for segment, color, values in segments:
            axes.barh(positions, values, left=left, height=0.36, color=color, label=segment)
            left = [a + b for a, b in zip(left, values, strict=True)]
        for position, label, end, note in zip(positions, labels, left, notes, strict=True):
            axes.text(0, position + 0.24, _shortened(label), ha="left", va="bottom", bbox=PAPER)
            axes.annotate(
                note, (end, position), (5, 0), textcoords="offset points", va="center", bbox=PAPER
            )
        widest = max(*left, mark or 0, 1e-9)
        axes.set_xlim(0, widest * 1.3)
        axes.set_ylim(-0.4, count - 0.3)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=mark is None))
        axes.xaxis.set_major_formatter(FuncFormatter(_number if mark is None else _percent))
        axes.set_xlabel(axis)
        if mark is not None:
            line = axes.axvline(mark, color=DARK, linewidth=1.5, linestyle="--")
            line.set_label(f"{mark:g} % of the senders")
        if mark is not None or len(segments) > 1:
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3)
    return Chart(title, words, figure.svg)


def _number(value: float, _: object) -> str:
    return f"{value:,.0f}"


def _percent(value: float, _: object) -> str:
    return f"{value:.6g} %" if value <= 100 else ""


def _shortened(label: str) -> str:
    if len(label) <= LONGEST:
        return label
    half = LONGEST // 2
    return f"{label[: half - 1]}\N{HORIZONTAL ELLIPSIS}{label[-half:]}"
