"""The targets that this library set itself, and what a run says of each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs
from contenders import BUILT, BY_HAND, ENTRIES, LIMITS, NO_OP, OURS
from figures import Figures
from imports import ALONE, WORK

Figure = Callable[[Figures], float | None]
Words = Callable[[Figures], str]

TIMES: Final = "\N{MULTIPLICATION SIGN}"


@attrs.frozen
class Target:
    """One row of the table."""

    what: str
    bound: float
    figure: Figure
    peers: Words
    unit: str = TIMES
    least: bool = False
    """Whether the figure must be at least the bound, not at most."""

    def met(self, figure: float) -> bool:
        """Whether a figure meets it."""
        return figure >= self.bound if self.least else figure <= self.bound


def ratio(group: str, work: str, above: str, below: str) -> Figure:
    """How many times one contender takes what another does at the same work."""
    return lambda figures: figures.ratio(group, (work, above), (work, below))


def peers(figures: Figures, group: str, work: str) -> list[str]:
    """The peers, with their best idioms, that did a work."""
    return [name for name in figures.names(group, work) if ENTRIES[name].kind == "best"]


def fastest_peer(figures: Figures, group: str, work: str) -> str | None:
    """Whose best idiom takes the least time."""
    times = {name: figures.median(group, (work, name)) for name in peers(figures, group, work)}
    told = {name: seconds for name, seconds in times.items() if seconds is not None}
    return min(told, key=told.__getitem__) if told else None


def number(figure: float) -> str:
    """Three digits that tell, and no more."""
    if figure >= 100:
        return f"{figure:,.0f}"
    return f"{figure:.1f}" if figure >= 10 else f"{figure:.2f}"


def _range(group: str, work: str, floor: str) -> Words:
    """From the least to the most that peers take of the floor."""

    def words(figures: Figures) -> str:
        told = [
            figures.ratio(group, (work, name), (work, floor))
            for name in peers(figures, group, work)
        ]
        found = sorted(each for each in told if each is not None)
        return f"{number(found[0])} to {number(found[-1])}" if found else ""

    return words


def _of_peers(group: str, work: str, scale: float = 1.0, unit: str = "") -> Words:
    """The medians of all peers."""

    def words(figures: Figures) -> str:
        told = []
        for name in peers(figures, group, work):
            figure = figures.median(group, (work, name))
            if figure is not None:
                told.append(f"`{name}` {number(figure * scale)}{unit}")
        return ", ".join(told)

    return words


def _against_fastest(figures: Figures) -> float | None:
    group, work = "memory, accepted", "accepted"
    peer = fastest_peer(figures, group, work)
    return None if peer is None else figures.ratio(group, (work, peer), (work, OURS))


def _many(figures: Figures, name: str) -> float | None:
    group = "memory, 1,000,000 senders"
    return figures.ratio(group, ("1,000,000 senders", name), ("accepted", name))


def _tail(figures: Figures, name: str) -> float | None:
    who = ("latency", name)
    return figures.ratio("memory, latency", who, who, (2, 0))


def _each(figure: Callable[[Figures, str], float | None], group: str, work: str) -> Words:
    """One figure of each peer, and of the loop written by hand."""

    def words(figures: Figures) -> str:
        told = []
        for name in figures.names(group, work):
            found = None if name == OURS else figure(figures, name)
            if found is not None:
                told.append(f"`{name}` {number(found)}")
        return ", ".join(told)

    return words


def _scaled(group: str, who: tuple[str, str], scale: float) -> Figure:
    def figure(figures: Figures) -> float | None:
        found = figures.median(group, who)
        return None if found is None else found * scale

    return figure


def _nothing(_: Figures) -> str:
    return ""


BATCHES: Final = ("batches", OURS)
SERVER: Final = "Valkey, server time"
FOOT: Final = "memory, footprint"

TARGETS: Final = [
    Target(
        "memory, the e-mail check, against the loop by hand",
        2.5,
        ratio("memory, accepted", "accepted", OURS, BY_HAND),
        _range("memory, accepted", "accepted", BY_HAND),
    ),
    Target(
        "memory, how many times as fast as the fastest peer's best idiom",
        4,
        _against_fastest,
        lambda figures: f"`{fastest_peer(figures, 'memory, accepted', 'accepted')}` is the fastest",
        least=True,
    ),
    Target(
        "memory, envelope built from plain strings and checked, against `limits`' two hits alone",
        1,
        ratio("memory, accepted", "accepted", BUILT, LIMITS),
        _nothing,
    ),
    Target(
        "memory, 1,000,000 senders against 1",
        1.6,
        lambda figures: _many(figures, OURS),
        _each(_many, "memory, 1,000,000 senders", "1,000,000 senders"),
    ),
    Target(
        "p99.9 against p50, 2,000 senders resident",
        20,
        lambda figures: _tail(figures, OURS),
        _each(_tail, "memory, latency", "latency"),
    ),
    Target(
        "bytes a recorded message, 1,000 a sender",
        24,
        _scaled(FOOT, ("bytes a message", OURS), 1),
        _of_peers(FOOT, "bytes a message"),
        " B",
    ),
    Target(
        "bytes a sender with one message",
        600,
        _scaled(FOOT, ("bytes a sender", OURS), 1),
        _of_peers(FOOT, "bytes a sender"),
        " B",
    ),
    Target(
        "Valkey, the e-mail check, against a no-op EVALSHA of the same client",
        1.3,
        ratio("Valkey, accepted", "accepted", OURS, NO_OP),
        _range("Valkey, accepted", "accepted", NO_OP),
    ),
    Target(
        "the same in Redis",
        1.3,
        ratio("Redis, accepted", "accepted", OURS, NO_OP),
        _nothing,
    ),
    Target(
        "server time a check, by Valkey's own account",
        20,
        _scaled(SERVER, ("server time", OURS), 1e6),
        _of_peers(SERVER, "server time", 1e6, " µs"),
        " µs",
    ),
    Target(
        "the same with 100,000 messages of the sender recorded",
        20,
        _scaled(SERVER, ("server time, 100,000 recorded", OURS), 1e6),
        _nothing,
        " µs",
    ),
    Target(
        "Valkey, batches of 100, messages a second against single calls",
        8,
        lambda figures: figures.ratio("Valkey, batches", BATCHES, BATCHES, (0, 1)),
        lambda _: "none has it",
        least=True,
    ),
    Target(
        "asyncio on Valkey, 100 tasks, against no-op EVALSHA in the same shape",
        1.5,
        ratio("Valkey, asyncio, 100 tasks", "asyncio, 100 tasks", OURS, NO_OP),
        _range("Valkey, asyncio, 100 tasks", "asyncio, 100 tasks", NO_OP),
    ),
    Target(
        "`import ratelimit_mail` beyond `import attrs`",
        30,
        _scaled("import", (WORK, ALONE), 1e3),
        _nothing,
        " ms",
    ),
    Target(
        "the same with all names that the e-mail check needs",
        30,
        _scaled("import", (WORK, OURS), 1e3),
        lambda figures: ", ".join(
            f"`{name}` {number(1e3 * (figures.median('import', (WORK, name)) or 0))} ms"
            for name in figures.names("import", WORK)
            if name not in (OURS, ALONE)
        ),
        " ms",
    ),
]
