"""ColumnChart: columns over time, stacked, with a line for a limit; its geometry and its words.

The drawing is stretched to the width of the page, and labels are text beside it, so that they have
the same size on every screen. Every column shows its values under the pointer.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, tzinfo
from typing import ClassVar, Final

import attrs

from ratelimit_mail.cli.html.axes import Scale, Tick, scale_for, time_ticks

__all__ = ["ColumnChart", "Series", "column_chart"]

WIDTH: Final = 1000

FEWEST: Final = 12
"""The smallest number of columns that a chart has room for, so that a lone column is not wide."""

MOST_IN_TABLE: Final = 62
"""The most columns whose numbers are in a table below the chart, too."""

LOG_RATIO: Final = 20
"""The axis is logarithmic if the highest column is this many times the limit, or the reverse."""


@attrs.frozen
class Series:
    """A value for each column, with a name and the name of a color."""

    name: str
    values: Sequence[int]
    color: str


@attrs.frozen
class Box:
    """A part of a column: its color, its top from above, and its height."""

    color: str
    top: float
    height: float


@attrs.frozen
class Column:
    """A column: its name, its place, its boxes from the bottom, and the numbers of the series."""

    name: str
    left: float
    width: float
    boxes: Sequence[Box]
    values: Sequence[int]


@attrs.frozen(kw_only=True)
class ColumnChart:
    """A chart of columns. name: unique within the page. words: what it shows.

    label: what the numbers of the axis are. mark: the place of the line of a limit, from above.
    """

    template: ClassVar[str] = "column_chart.html.j2"

    name: str
    title: str
    words: str
    label: str
    period: str
    legend: Sequence[tuple[str, str]]
    series: Sequence[str]
    columns: Sequence[Column]
    y_ticks: Sequence[Tick]
    x_ticks: Sequence[Tick]
    mark: float | None = None
    wide: bool = False

    @property
    def has_table(self) -> bool:
        """Whether the numbers are few enough to be a table as well."""
        return len(self.columns) <= MOST_IN_TABLE


def column_chart(
    name: str,
    title: str,
    words: str,
    *,
    label: str,
    period: str,
    edges: Sequence[int],
    names: Sequence[str],
    series: Sequence[Series],
    limit: int | None = None,
    zone: tzinfo = UTC,
    wide: bool = False,
) -> ColumnChart:
    """Return a chart with a column for each two of `edges`, which are milliseconds.

    label: what the numbers are. period: what one column is. names: what each column is called.
    limit: a number that is drawn as a line; columns above it have another color.
    """
    totals = [sum(values) for values in zip(*(each.values for each in series), strict=True)]
    highest = max(totals, default=0)
    is_log = limit is not None and not limit / LOG_RATIO <= highest <= limit * LOG_RATIO
    scale = scale_for(max(highest, limit or 0, 1), log=is_log)
    start, end = edges[0], edges[-1]
    room = max(0, FEWEST - len(totals)) * (end - start) // len(totals) // 2
    start, end = start - room, end + room
    legend = [(each.name, each.color) for each in series] if len(series) > 1 else []
    if limit is not None:
        legend = [("within the limit", "mail"), ("above it", "rejected")]
        legend.append((f"limit {limit:,}", "limit"))
    return ColumnChart(
        name=name,
        title=title,
        words=words,
        label=f"{label} (log scale)" if is_log else label,
        period=period,
        legend=legend,
        series=[each.name for each in series],
        columns=[
            Column(
                name=names[i],
                left=round(WIDTH * (edges[i] - start) / (end - start), 2),
                width=round(WIDTH * (edges[i + 1] - edges[i]) / (end - start), 2),
                boxes=_boxes([(each.color, each.values[i]) for each in series], scale, limit),
                values=[each.values[i] for each in series],
            )
            for i, total in enumerate(totals)
            if total
        ],
        y_ticks=scale.ticks,
        x_ticks=time_ticks(start, end, zone),
        mark=None if limit is None else round(100 - scale.place(limit), 2),
        wide=wide,
    )


def _boxes(values: Sequence[tuple[str, int]], scale: Scale, limit: int | None) -> list[Box]:
    boxes = []
    total = 0
    for color, value in values:
        if not value:
            continue
        low = scale.place(total) if total else 0.0
        total += value
        high = scale.place(total)
        if limit is not None and total > limit:
            color = "rejected"
        # A low column among high ones would not be visible.
        boxes.append(Box(color, round(100 - high, 2), round(max(high - low, 0.6), 2)))
    return boxes
