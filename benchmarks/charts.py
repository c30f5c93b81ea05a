"""The pictures of the page: bars of ratios on a logarithmic scale."""

from pathlib import Path

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.contenders import BEST, BY_HAND, FLOORS, NO_OP, OURS
from benchmarks.results import TIMES, Results, number

DENIED = ["day nearly full", "denied by the minute", "denied by the day"]
ON_SERVER = [
    "fresh senders",
    "day nearly full",
    "denied by the minute",
    "asyncio, 100 tasks",
]
PICTURES = {
    "overview": ["memory, accepted", "Valkey, accepted"],
    "memory": [f"memory, {work}" for work in DENIED],
    "redis": [f"Valkey, {work}" for work in ON_SERVER],
    "latency": ["memory, p99.9"],
}
"""The groups that each picture shows, one above another."""
FILL = {OURS: "#0b6e99", BY_HAND: "#c9ced6", NO_OP: "#c9ced6"}
PEER_FILL = "#8a94a3"


def _draw(axes: Axes, results: Results, group: str) -> None:
    """Draw the ratios of this library and the peers' best idioms, after the floor."""
    floor = "p50" if group == "memory, p99.9" else FLOORS[group.partition(",")[0]]
    bars = {name: results.ratio(group, name, floor) for name in (BY_HAND, OURS, *BEST)}
    shown = sorted((ratio, name) for name, ratio in bars.items() if ratio is not None)
    if floor in FILL:
        shown.insert(0, (1.0, floor))
    names = [name for _, name in shown]
    values = [ratio for ratio, _ in shown]
    drawn = axes.barh(names, values, color=[FILL.get(name, PEER_FILL) for name in names])
    labels = axes.bar_label(drawn, [f" {number(value)}{TIMES}" for value in values])
    for text in (axes.get_yticklabels()[names.index(OURS)], labels[names.index(OURS)]):
        text.set_fontweight("bold")
    axes.set_xscale("log")
    axes.set_xlim(min(0.7, *values) * 0.9, max(values) * 3)
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_visible(False)
    title = f"{group[0].upper()}{group[1:]}"
    axes.set_title(title if floor in FILL else f"{title}, against {floor}")


def draw(results: Results, folder: Path) -> None:
    """Write the pictures as SVG files that are the same for the same figures."""
    folder.mkdir(exist_ok=True)
    for picture, groups in PICTURES.items():
        shown = [group for group in groups if OURS in results.groups.get(group, {})]
        if not shown:
            continue
        with matplotlib.style.context(Path(__file__).with_suffix(".mplstyle")):
            figure = Figure(figsize=(6.0, 0.25 + 2.45 * len(shown)))
            rows = figure.subplots(len(shown), squeeze=False)
            for axes, group in zip(rows[:, 0], shown, strict=True):
                _draw(axes, results, group)
            scale = "times as long; a logarithmic scale; less is better"
            figure.supxlabel(scale, fontsize=10, x=0.99, ha="right")
            path = folder / f"{picture}.svg"
            figure.savefig(path, metadata={"Date": None, "Creator": None})
        # matplotlib leaves spaces at the ends of lines.
        lines = path.read_text(encoding="utf-8").splitlines()
        path.write_text("\n".join(line.rstrip() for line in lines) + "\n", encoding="utf-8")
