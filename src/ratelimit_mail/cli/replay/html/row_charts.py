"""Pictures of bars that lie: one row for each sender, limit or policy, its name above the bar."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from matplotlib.ticker import FuncFormatter, MaxNLocator

from ratelimit_mail.cli.replay.html.canvas import DARK, picture
from ratelimit_mail.cli.replay.html.time_charts import Chart

__all__ = ["Part", "in_rows"]

LONGEST: Final = 54
"""How many letters of a name fit above a bar."""

PAPER: Final = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}
"""What keeps letters legible where the mark runs behind them."""

Part = tuple[str, str, Sequence[float]]
"""A name, a colour, and a value for each row."""


def in_rows(
    name: str,
    title: str,
    words: str,
    labels: Sequence[str],
    parts: Sequence[Part],
    notes: Sequence[str],
    axis: str,
    mark: float | None = None,
) -> Chart:
    """A row for each of `labels` with its parts side by side, and a note behind.

    mark: a share in percent that is drawn as a line; the values are percent then.
    """
    count = len(labels)
    with picture(name, f"{title}. {words}", 0.95 + 0.46 * count) as drawn:
        axes = drawn.axes
        places = [count - 1 - row for row in range(count)]
        left = [0.0] * count
        for part, colour, values in parts:
            axes.barh(places, values, left=left, height=0.36, color=colour, label=part)
            left = [a + b for a, b in zip(left, values, strict=True)]
        for place, label, end, note in zip(places, labels, left, notes, strict=True):
            axes.text(0, place + 0.24, _shortened(label), ha="left", va="bottom", bbox=PAPER)
            axes.annotate(
                note, (end, place), (5, 0), textcoords="offset points", va="center", bbox=PAPER
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
        if mark is not None or len(parts) > 1:
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3)
    return Chart(title, words, drawn.svg)


def _number(value: float, _: object) -> str:
    return f"{value:,.0f}"


def _percent(value: float, _: object) -> str:
    return f"{value:.6g} %" if value <= 100 else ""


def _shortened(label: str) -> str:
    if len(label) <= LONGEST:
        return label
    half = LONGEST // 2
    return f"{label[: half - 1]}\N{HORIZONTAL ELLIPSIS}{label[-half:]}"
