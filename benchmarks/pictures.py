"""Pictures of the page: bars of ratios, on white whatever the page's colour, few words, large."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import attrs
import matplotlib as mpl
from contenders import BY_HAND, ENTRIES, NO_OP, OURS
from figures import Figures
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from targets import TIMES, number

OUR_COLOUR: Final = "#0b6e99"
FLOOR_COLOUR: Final = "#c9ced6"
PEER_COLOUR: Final = "#8a94a3"
INK: Final = "#222222"
WIDTH: Final = 6.0
BAR: Final = 0.3
TITLE: Final = 0.65
FOOT: Final = 0.25
SCALE: Final = "times as long; a logarithmic scale; less is better"


@attrs.frozen
class Panel:
    """Bars under one title."""

    title: str
    bars: Sequence[tuple[str, float]]


def ratios(figures: Figures, title: str, group: str, work: str, floor: str) -> Panel:
    """The floor, this library and the peers' best idioms."""
    bars = []
    for name in figures.names(group, work):
        if name in (floor, OURS) or ENTRIES[name].kind == "best":
            ratio = figures.ratio(group, (work, name), (work, floor))
            if ratio is not None:
                bars.append((name, ratio))
    return Panel(title, sorted(bars, key=lambda bar: (bar[0] != floor, bar[1])))


def tails(figures: Figures) -> Panel:
    """The slowest of a thousand against the median, of each."""
    group, work = "memory, latency", "latency"
    told = (
        (name, figures.ratio(group, (work, name), (work, name), (2, 0)))
        for name in figures.names(group, work)
    )
    bars = [(name, ratio) for name, ratio in told if ratio is not None]
    return Panel("p99.9 of a call against its median", sorted(bars, key=lambda bar: bar[1]))


def _draw(axes: Axes, panel: Panel) -> None:
    names = [name for name, _ in panel.bars]
    values = [value for _, value in panel.bars]
    colours = [
        OUR_COLOUR if name == OURS else FLOOR_COLOUR if name in (BY_HAND, NO_OP) else PEER_COLOUR
        for name in names
    ]
    axes.barh(range(len(names)), values, color=colours, height=0.7)
    axes.set_xscale("log")
    axes.set_xlim(min(0.7, *values) * 0.9, max(values) * 3)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_visible(False)
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)
    for i, (name, value) in enumerate(panel.bars):
        weight = "bold" if name == OURS else "normal"
        axes.text(value * 1.06, i, f"{number(value)}{TIMES}", va="center", weight=weight)
    for label in axes.get_yticklabels():
        if label.get_text() == OURS:
            label.set_fontweight("bold")
    axes.set_title(panel.title, loc="left", fontsize=12, weight="bold")


def draw(panels: Sequence[Panel], path: Path) -> None:
    """Write panels, one above another, as an SVG that is the same for the same figures."""
    shown = [panel for panel in panels if panel.bars]
    if not shown:
        return
    heights = [TITLE + BAR * len(panel.bars) for panel in shown]
    style: Any = {
        "font.size": 12,
        "text.color": INK,
        "ytick.color": INK,
        "axes.edgecolor": FLOOR_COLOUR,
        "svg.hashsalt": "ratelimit-mail",
    }
    with mpl.rc_context(style):
        figure = Figure(
            figsize=(WIDTH, sum(heights) + FOOT), facecolor="white", layout="constrained"
        )
        every = figure.subplots(len(shown), squeeze=False, height_ratios=heights)
        for axes, panel in zip(every[:, 0], shown, strict=True):
            _draw(axes, panel)
        figure.supxlabel(SCALE, fontsize=10, x=0.99, ha="right")
        path.parent.mkdir(exist_ok=True)
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
    # matplotlib leaves spaces at the ends of lines.
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join(line.rstrip() for line in lines) + "\n", encoding="utf-8")


def draw_all(figures: Figures, folder: Path) -> None:
    """Write all pictures; the axes are logarithmic."""
    memory = "accepted, against a loop by hand"
    accepted = ratios(figures, f"In memory: {memory}", "memory, accepted", "accepted", BY_HAND)
    script = "against a script that does nothing"
    on_valkey = ratios(figures, f"On Valkey: {script}", "Valkey, accepted", "accepted", NO_OP)
    draw([accepted, on_valkey], folder / "overview.svg")
    in_memory = [
        ratios(figures, work.capitalize(), f"memory, {work}", work, BY_HAND)
        for work in ("day nearly full", "denied by the minute", "denied by the day")
    ]
    draw(in_memory, folder / "memory.svg")
    on_server = [
        ratios(figures, work.capitalize(), f"Valkey, {work}", work, NO_OP)
        for work in ("fresh senders", "day nearly full", "denied by the minute")
    ]
    tasks = "asyncio, 100 tasks"
    on_server.append(ratios(figures, "100 tasks of asyncio", f"Valkey, {tasks}", tasks, NO_OP))
    draw(on_server, folder / "redis.svg")
    draw([tails(figures)], folder / "latency.svg")
