"""Charts over time: bars for each bin, and the peaks of each limit with a line for the limit."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC
from typing import Final

import attrs
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ratelimit_mail.cli.replay.html.svg_figure import DARK, MAIL, REJECTED, svg_figure
from ratelimit_mail.cli.replay.time_bins import DAY, Bins, moment

__all__ = ["Chart", "Series", "bars_over_time", "peaks_against_limit"]

HEIGHT: Final = 2.7

TICKS: Final = ["%Y", "%b", "%b %d", "%H:%M", "%H:%M", "%H:%M:%S"]
"""Years, months, days, hours, minutes and seconds on the axis of time."""

FEWEST_BINS: Final = 12
"""The smallest number of bins that a chart has room for, so that a lone bar is not too wide."""

LOG_RATIO: Final = 20
"""The axis is logarithmic if the peak is this many times the limit, or the limit the peak."""


@attrs.frozen
class Chart:
    """A title, a description in words, and a chart; no chart if the words are enough."""

    title: str
    words: str
    svg: Markup | None = None


@attrs.frozen
class Series:
    """A value for each bin, with a name and a color."""

    name: str
    values: Sequence[int]
    color: str


def bars_over_time(
    name: str, title: str, words: str, bins: Bins, label: str, *series: Series, stacked: bool
) -> Chart:
    """Draw bars for each bin, stacked, or one series in front of the other."""
    with svg_figure(name, f"{title}. {words}", HEIGHT) as figure:
        axes = figure.axes
        base = np.zeros(len(bins))
        for each in series:
            heights = np.array(each.values, dtype=float)
            _bars(axes, bins, base, base + heights, each.name, each.color)
            if stacked:
                base += heights
        top = max(float(base.max()), *(max(each.values) for each in series))
        axes.set_ylim(0, top * 1.08)
        _finish_axes(axes, bins, label, legend=len(series) > 1)
    return Chart(title, words, figure.svg)


def peaks_against_limit(
    name: str, title: str, words: str, bins: Bins, label: str, peaks: Sequence[int], limit: int
) -> Chart:
    """Draw the peak of each bin, and the limit as a line."""
    with svg_figure(name, f"{title}. {words}", HEIGHT) as figure:
        axes = figure.axes
        heights = np.array(peaks, dtype=float)
        highest = max(float(heights.max()), float(limit))
        floor = 0.0
        if not limit / LOG_RATIO <= heights.max() <= limit * LOG_RATIO:
            axes.set_yscale("log")
            floor, label = 0.8, f"{label} (log scale)"
            axes.set_ylim(floor, highest * 2)
        else:
            axes.set_ylim(0, highest * 1.12)
        base = np.full(len(bins), floor)
        for part, color, shown in (
            ("within the limit", MAIL, heights <= limit),
            ("above it", REJECTED, heights > limit),
        ):
            if np.any(shown & (heights > 0)):
                _bars(axes, bins, base, np.where(shown, heights, 0), part, color)
        axes.axhline(limit, color=DARK, linewidth=1.5, linestyle="--", label=f"limit {limit:,}")
        _finish_axes(axes, bins, label, legend=True)
    return Chart(title, words, figure.svg)


def _bars(
    axes: Axes, bins: Bins, base: np.ndarray, tops: np.ndarray, name: str, color: str
) -> None:
    """Draw all bars of one color as one path, which is a tenth of the size of rectangles."""
    edges = np.array(bins.edges, dtype=float) / DAY
    shown = np.flatnonzero(tops > base)
    left, right, low, high = edges[shown], edges[shown + 1], base[shown], tops[shown]
    corners = np.stack(
        [
            np.stack([left, low], axis=1),
            np.stack([left, high], axis=1),
            np.stack([right, high], axis=1),
            np.stack([right, low], axis=1),
        ],
        axis=1,
    )
    path = Path.make_compound_path(*(Path(each, closed=False) for each in corners))
    # With an edge, a single bar among hundreds of bins is visible.
    axes.add_patch(PathPatch(path, facecolor=color, edgecolor=color, linewidth=0.3, label=name))


def _finish_axes(axes: Axes, bins: Bins, label: str, *, legend: bool) -> None:
    first, last = bins.edges[0] / DAY, bins.edges[-1] / DAY
    room = max(0.0, FEWEST_BINS - len(bins)) * (last - first) / len(bins) / 2
    axes.set_xlim(first - room, last + room)
    axes.xaxis_date(UTC)
    locator = AutoDateLocator(tz=UTC, minticks=3, maxticks=7)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(
        ConciseDateFormatter(  # type: ignore[no-untyped-call]
            locator, tz=UTC, formats=TICKS, zero_formats=["", *TICKS[:5]], show_offset=False
        )
    )
    axes.set_xlabel(_span(bins))
    if axes.get_yscale() == "linear":
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.grid(visible=True, axis="y")
    # The label is above the chart, because a long one does not fit along the axis.
    if legend:
        axes.legend(
            loc="lower left", bbox_to_anchor=(0, 1.02), ncols=3, title=label, alignment="left"
        )
    else:
        axes.set_title(label, loc="left", fontsize="medium")


def _span(bins: Bins) -> str:
    """Return the label of the time axis: its start, its end, and the length of one bar."""
    first, last = moment(bins.edges[0]), moment(bins.edges[-1] - 1)
    if len(bins) == 1 and bins.unit in ("minute", "hour"):
        span = f"{first:%Y-%m-%d %H:%M}"
    elif first.date() == last.date():
        span = f"{first:%Y-%m-%d %H:%M} to {last:%H:%M}"
    else:
        span = f"{first:%Y-%m-%d} to {last:%Y-%m-%d}"
    return f"{span} UTC, one bar per {bins.unit}"
