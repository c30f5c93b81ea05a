"""Tables of the page: what everybody took, and how much that is of the floor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from contenders import ENTRIES
from figures import Figures
from imports import ALONE, WORK
from targets import TARGETS, number

WRONG: Final = 0.005
"""From this share of wrong refusals on, a time is not to be compared."""

Column = tuple[str, str]
"""A group of what was done in turn, and the work in it."""

ONE_SENDER: Final = [
    ("memory, accepted", "accepted"),
    ("memory, day nearly full", "day nearly full"),
    ("memory, denied by the minute", "denied by the minute"),
    ("memory, denied by the day", "denied by the day"),
]
MANY_SENDERS: Final = [
    ("memory, 10,000 senders", "10,000 senders"),
    ("memory, 1,000,000 senders", "1,000,000 senders"),
    ("memory, 8 threads", "8 threads"),
    ("memory, asyncio", "asyncio"),
]
ON_VALKEY: Final = [
    ("Valkey, accepted", "accepted"),
    ("Valkey, fresh senders", "fresh senders"),
    ("Valkey, day nearly full", "day nearly full"),
    ("Valkey, denied by the minute", "denied by the minute"),
    ("Valkey, denied by the day", "denied by the day"),
]
AT_ONCE: Final = [
    ("Valkey, 8 threads", "8 threads"),
    ("Valkey, asyncio, 100 tasks", "asyncio, 100 tasks"),
]
IN_REDIS: Final = [
    ("Redis, accepted", "accepted"),
    ("Redis, fresh senders", "fresh senders"),
    ("Redis, denied by the minute", "denied by the minute"),
]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; the first column is words, the others are figures."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def in_words(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of words, none of it set to the right."""
    return table(head, rows).replace("---:", "---")


def named(name: str) -> str:
    """A contender in a table: ours stands out, and what is not exact has a mark."""
    if ENTRIES[name].kind == "ours":
        return f"**{name}**"
    inexact = ENTRIES[name].kind == "cheap" or name.startswith(("throttled", "token"))
    return f"{name} ~" if inexact else name


def _took(figures: Figures, column: Column, name: str, floor: str) -> str:
    group, work = column
    seconds = figures.median(group, (work, name))
    if seconds is None:
        return "failed" if name in figures.troubles.get(group, {}) else ""
    of_floor = figures.ratio(group, (work, name), (work, floor))
    told = number(seconds * 1e6)
    if of_floor is not None and name != floor:
        told += f" ({number(of_floor)})"
    refused = figures.refused_wrongly(group, (work, name))
    return f"{told}, {refused:.0%} refused wrongly" if refused >= WRONG else told


def times(figures: Figures, columns: Sequence[Column], floor: str) -> str:
    """Microseconds a message, and in brackets how many times the floor's."""
    names = [name for name in ENTRIES if any(name in figures.names(*column) for column in columns)]
    rows = [
        [named(name), *(_took(figures, column, name, floor) for column in columns)]
        for name in names
    ]
    return table(["µs a message", *(work for _, work in columns)], rows)


def targets(figures: Figures) -> str:
    """Each target with its figure."""
    rows = []
    for target in TARGETS:
        bound = f"{'at least' if target.least else 'at most'} {target.bound:g}{target.unit}"
        figure = target.figure(figures)
        if figure is None:
            told, met = "", "not measured"
        else:
            told, met = f"{number(figure)}{target.unit}", "met" if target.met(figure) else "missed"
        rows.append([target.what, bound, f"**{told}**", met, target.peers(figures)])
    return in_words(["what", "target", "figure", "", "peers in this run"], rows)


def _cells(names: list[str], cell: Callable[[str], list[str]]) -> list[list[str]]:
    return [[named(name), *cell(name)] for name in names]


def latency(figures: Figures) -> str:
    """p50, p99 and p99.9."""
    group, work = "memory, latency", "latency"

    def cell(name: str) -> list[str]:
        told = [figures.median(group, (work, name), place) for place in range(3)]
        ratio = figures.ratio(group, (work, name), (work, name), (2, 0))
        return [*(number((each or 0) * 1e6) for each in told), number(ratio or 0)]

    rows = _cells(figures.names(group, work), cell)
    return table(["µs a message", "p50", "p99", "p99.9", "p99.9 / p50"], rows)


def footprint(figures: Figures) -> str:
    """Bytes, and the time of an import."""
    group, works = "memory, footprint", ("bytes a sender", "bytes a message")

    def cell(name: str) -> list[str]:
        told = [figures.median(group, (work, name)) for work in works]
        imported = figures.median("import", (WORK, name))
        return [
            *("" if each is None else number(each) for each in told),
            "" if imported is None else f"{imported * 1e3:.0f} ms",
        ]

    rows = _cells(figures.names(group, works[0]), cell)
    alone = figures.median("import", (WORK, ALONE))
    if alone is not None:
        rows.append([f"`{ALONE}` alone", "", "", f"{alone * 1e3:.1f} ms"])
    return table(["", "a sender with one message", "a message, 1,000 a sender", "import"], rows)


def answers(figures: Figures) -> str:
    """How far above the limit, and what a refusal leaves behind."""

    def cell(name: str) -> list[str]:
        passed = figures.median("answers", ("worst window", name))
        left = figures.median("answers", ("left behind", name))
        return [
            "" if passed is None else f"{passed:,.0f}",
            "" if left is None else (f"yes, {left:.0f} of 30 places" if left else "no"),
        ]

    rows = _cells(figures.names("answers", "worst window"), cell)
    head = ["", "passed in the worst minute, of 1,000", "minute charged though the day refused"]
    return table(head, rows)


def server_time(figures: Figures) -> str:
    """What Valkey says that it was busy with a message."""
    group = "Valkey, server time"
    rows = []
    for work in figures.groups.get(group, {}):
        for name in figures.names(group, work):
            seconds = figures.median(group, (work, name))
            what = work.removeprefix("server time").removeprefix(", ") or "up to 30 recorded"
            rows.append([f"{named(name)}, {what}", number((seconds or 0) * 1e6)])
    return table(["", "µs a message"], rows)
