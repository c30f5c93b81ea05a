"""The figures of a run, from pytest-benchmark's JSON: medians, and ratios round by round."""

import math
import statistics
from typing import Any, Final

from benchmarks.contenders import BEST, OURS

WRONG: Final = 0.005  # from this share of wrong answers on, a time is not compared
TIMES: Final = "\N{MULTIPLICATION SIGN}"


def number(figure: float | None) -> str:
    """Return a figure with three significant digits, or an empty string without one."""
    if figure is None:
        return ""
    if figure >= 100:
        return f"{figure:,.0f}"
    return f"{figure:.1f}" if figure >= 10 else f"{figure:.2f}"


class Results:
    """The benchmarks of one run, by group and contender. What was not measured is None."""

    def __init__(self, report: dict[str, Any]) -> None:
        self.report = report
        self.groups: dict[str, dict[str, Any]] = {}
        for entry in report["benchmarks"]:
            self.groups.setdefault(entry["group"], {})[entry["extra_info"]["contender"]] = entry

    def extra(self, group: str, name: str) -> dict[str, Any]:
        """Return what a benchmark has as `extra_info`."""
        return dict(self.groups.get(group, {}).get(name, {}).get("extra_info", {}))

    def names(self, *groups: str) -> list[str]:
        """Return the contenders that were measured in any of the groups."""
        return list(dict.fromkeys(name for group in groups for name in self.groups.get(group, {})))

    def median(self, group: str, name: str, scale: float = 1.0) -> float | None:
        """Return the median of all rounds, a message, in a unit of which a second has `scale`."""
        entry = self.groups.get(group, {}).get(name)
        if entry is None:
            return None
        return float(entry["stats"]["median"]) * scale / int(entry["extra_info"]["messages"])

    def ratio(self, group: str, name: str, other: str) -> float | None:
        """Return how many times as long a contender takes as what was timed beside it."""
        beside = self.extra(group, name).get("beside", {}).get(other)
        if beside is None:
            return None
        rounds = self.groups[group][name]["stats"]["data"]
        return float(statistics.median(a / b for a, b in zip(rounds, beside, strict=True)))

    def fastest_peer(self, group: str) -> str:
        """Return the peer whose best idiom takes the least of this library's time."""
        return min(BEST, key=lambda name: self.ratio(group, name, OURS) or math.inf)

    def against_ours(self, group: str, name: str) -> float | None:
        """Return the ratio to this library, of the medians where the two did not alternate."""
        theirs, ours = self.median(group, name), self.median(group, OURS)
        return self.ratio(group, name, OURS) or (theirs / ours if theirs and ours else None)
