"""Where a peer is better than this library: everything on the page is looked at."""

from __future__ import annotations

from typing import Final

from contenders import ENTRIES, OURS
from figures import Figures
from tables import AT_ONCE, MANY_SENDERS, ON_VALKEY, ONE_SENDER, WRONG, named
from targets import number

PEERS: Final = ("best", "safe", "cheap")
PLACES: Final = ((ONE_SENDER + MANY_SENDERS, "memory"), (ON_VALKEY + AT_ONCE, "Valkey"))


def _less(figures: Figures, group: str, work: str, place: int = 0) -> str:
    """The peers that have less of something, and how much of ours it is."""
    told = []
    for name in figures.names(group, work):
        wrong = figures.refused_wrongly(group, (work, name))
        if name in ENTRIES and ENTRIES[name].kind in PEERS and wrong < WRONG:
            ratio = figures.ratio(group, (work, name), (work, OURS), (place, place))
            if ratio is not None and ratio < 1:
                told.append(f"{named(name)} {number(ratio)}")
    return "; ".join(told)


def _less_spread(figures: Figures) -> str:
    """The peers whose slowest calls are nearer to their own median."""
    group, work = "memory, latency", "latency"
    spread = {
        name: figures.ratio(group, (work, name), (work, name), (2, 0))
        for name in figures.names(group, work)
    }
    ours = spread.get(OURS)
    return "; ".join(
        f"{named(name)} {number(found / ours)}"
        for name, found in spread.items()
        if ENTRIES[name].kind in PEERS and found and ours and found < ours
    )


def lines(figures: Figures) -> str:
    """One line for each work in which any peer is better."""
    found = {
        f"{where}, {work}": _less(figures, group, work)
        for columns, where in PLACES
        for group, work in columns
    }
    for place, what in enumerate(("p50", "p99", "p99.9")):
        found[f"memory, {what}"] = _less(figures, "memory, latency", "latency", place)
    found["memory, p99.9 against p50"] = _less_spread(figures)
    for work in ("bytes a sender", "bytes a message"):
        found[work] = _less(figures, "memory, footprint", work)
    found["server time"] = _less(figures, "Valkey, server time", "server time")
    found["import"] = _less(figures, "import", "import")
    return "\n".join(f"- {what}: {told}" for what, told in found.items() if told) or "- nowhere"
