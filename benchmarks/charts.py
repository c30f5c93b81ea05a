"""The pictures of the page: bars of ratios on a linear scale, in the theme of the reader.

A bar that is far longer than the others is broken, and its figure stands beside it. The text of the
pictures is text, and their styles follow `prefers-color-scheme`.
"""

from itertools import pairwise
from pathlib import Path
from xml.sax.saxutils import escape

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

KINDS = {OURS: "ours", BY_HAND: "floor", NO_OP: "floor"}
"""The classes of the bars; any other is a peer's."""

WIDTH, LEFT, RIGHT = 460, 130, 400
ROW, BAR = 24, 16
FAR = 2.0
"""So many times as long as the next bar is too far for the scale."""

STYLE = """
  text { font: 14px system-ui, sans-serif; fill: #222222 }
  .bold { font-weight: bold }
  .small { font-size: 12px; fill: #5a6270 }
  .grid { stroke: #dfe3e8 }
  .ours { fill: #0b6e99 }
  .floor { fill: #b4bcc8 }
  .peer { fill: #8a94a3 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6e9ee }
    .small { fill: #a7b0bd }
    .grid { stroke: #3a414d }
    .ours { fill: #4db8e5 }
    .floor { fill: #565f6e }
    .peer { fill: #7d8796 }
  }
"""


def _bars(results: Results, group: str) -> tuple[str, list[tuple[str, float]]]:
    """Return a title, and the ratios of this library and the peers' best idioms to the floor."""
    floor = "p50" if group == "memory, p99.9" else FLOORS[group.partition(",")[0]]
    ratios = {name: results.ratio(group, name, floor) for name in (BY_HAND, OURS, *BEST)}
    shown = sorted((ratio, name) for name, ratio in ratios.items() if ratio is not None)
    if floor in KINDS:
        shown.insert(0, (1.0, floor))
    title = f"{group[0].upper()}{group[1:]}"
    whole = title if floor in KINDS else f"{title}, against {floor}"
    return whole, [(name, ratio) for ratio, name in shown]


def _longest(ratios: list[float]) -> float:
    """Return the longest bar that the scale shows in full."""
    ordered = sorted(ratios)
    for shorter, longer in pairwise(ordered):
        if shorter > 1 and longer > FAR * shorter and longer > FAR * ordered[len(ordered) // 2]:
            return shorter
    return ordered[-1]


def _step(longest: float) -> float:
    """Return the distance of the ticks: 1, 2 or 5 times a power of ten, for at most six of them."""
    step = 1.0
    while longest / step > 6:
        step *= 2.5 if str(step)[0] == "2" else 2
    return step


def _chart(title: str, bars: list[tuple[str, float]], top: int) -> tuple[list[str], int]:
    """Return the lines of one chart, and where it ends."""
    longest = _longest([ratio for _, ratio in bars])
    scale = (RIGHT - LEFT - 60) / longest
    lines = [f'<text class="bold" x="0" y="{top + 16}">{escape(title)}</text>']
    first, bottom = top + 28, top + 28 + ROW * len(bars)
    for i in range(int(longest / _step(longest)) + 1):
        tick = i * _step(longest)
        x = LEFT + tick * scale
        lines.append(f'<path class="grid" d="M{x:.1f} {first}V{bottom}"/>')
        label = f"{tick:g}{TIMES}" if tick else "0"
        lines.append(
            f'<text class="small" x="{x:.1f}" y="{bottom + 14}" text-anchor="middle">{label}</text>'
        )
    for i, (name, ratio) in enumerate(bars):
        y = first + ROW * i
        bold = ' class="bold"' if name == OURS else ""
        end = LEFT + ratio * scale if ratio <= longest else RIGHT
        shape = f"M{LEFT} {y + 4}H{end:.1f}v{BAR}H{LEFT}z"
        if ratio > longest:  # a gap shows that the bar is not drawn in full
            gap = RIGHT - 30
            shape = (
                f"M{LEFT} {y + 4}H{gap}l-6 {BAR}H{LEFT}zM{gap + 5} {y + 4}H{end}v{BAR}H{gap - 1}z"
            )
        lines += [
            f'<text{bold} x="{LEFT - 8}" y="{y + 16}" text-anchor="end">{escape(name)}</text>',
            f'<path class="{KINDS.get(name, "peer")}" d="{shape}"/>',
            f'<text{bold} x="{end + 6:.1f}" y="{y + 16}">{number(ratio)}{TIMES}</text>',
        ]
    return lines, bottom + 34


def _svg(charts: list[tuple[str, list[tuple[str, float]]]]) -> str:
    """Return a picture of charts, one above another."""
    body: list[str] = []
    top = 0
    for title, bars in charts:
        lines, top = _chart(title, bars, top)
        body += lines
    note = "times as long as the floor, on a linear scale; shorter is better"
    body.append(f'<text class="small" x="0" y="{top + 4}">{note}</text>')
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top + 12}"'
            f' width="{WIDTH}" height="{top + 12}" role="img">',
            f"<style>{STYLE}</style>",
            *body,
            "</svg>",
            "",
        ]
    )


def draw(results: Results, folder: Path) -> None:
    """Write the pictures as SVG files that are the same for the same figures."""
    folder.mkdir(exist_ok=True)
    for picture, groups in PICTURES.items():
        shown = [group for group in groups if OURS in results.groups.get(group, {})]
        if shown:
            text = _svg([_bars(results, group) for group in shown])
            (folder / f"{picture}.svg").write_text(text, encoding="utf-8")
