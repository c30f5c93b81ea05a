"""What a run has measured: kept as JSON, asked for as medians and as ratios."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any, Final

import attrs

Taken = dict[str, dict[str, list[list[float]]]]
"""By work and by contender, the figures of each turn."""

PATH: Final = Path(__file__).parents[1] / "build" / "benchmarks.json"

Who = tuple[str, str]
"""A work, and a contender at it."""


@attrs.define
class Figures:
    """All that one run has measured."""

    machine: dict[str, str] = attrs.Factory(dict)
    groups: dict[str, Taken] = attrs.Factory(dict)
    """What was done in turn, by a name."""
    troubles: dict[str, dict[str, str]] = attrs.Factory(dict)
    """Who could not do what, and the error."""

    def turns(self, group: str, who: Who) -> list[list[float]] | None:
        """The figures of each turn, if there are any."""
        work, name = who
        return self.groups.get(group, {}).get(work, {}).get(name)

    def median(self, group: str, who: Who, place: int = 0) -> float | None:
        """The median of all turns, of one of a turn's figures."""
        turns = self.turns(group, who)
        return None if turns is None else statistics.median(turn[place] for turn in turns)

    def ratio(
        self, group: str, above: Who, below: Who, places: tuple[int, int] = (0, 0)
    ) -> float | None:
        """The median of the ratios, turn by turn, for as many turns as both have."""
        many, few = self.turns(group, above), self.turns(group, below)
        if many is None or few is None:
            return None
        pairs = zip(many, few, strict=False)
        return statistics.median(a[places[0]] / b[places[1]] for a, b in pairs)

    def refused_wrongly(self, group: str, who: Who) -> float:
        """The share of messages that were refused though there was room, where it was looked at."""
        turns = self.turns(group, who) or []
        return sum(turn[1] for turn in turns if len(turn) == 2) / len(turns) if turns else 0.0

    def names(self, group: str, work: str) -> list[str]:
        """Who did a work."""
        return list(self.groups.get(group, {}).get(work, {}))

    def save(self, path: Path = PATH) -> None:
        """Write them down."""
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(attrs.asdict(self), indent=1))

    @classmethod
    def load(cls, path: Path = PATH) -> Figures:
        """Read them again."""
        told: dict[str, Any] = json.loads(path.read_text())
        return cls(**told)
