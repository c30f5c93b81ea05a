"""Names what became slower since an earlier run: `python -m benchmarks.changes OLD.json NEW.json`.

Ratios to the floors are compared, which were timed beside each benchmark: so the two runs may be of
different machines.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.contenders import PEERS
from benchmarks.results import TIMES, Results, number

MOST: Final = 1.10
"""A ratio that has grown by more is named; the runs of one version differ by less."""


class Change(NamedTuple):
    """How a ratio to what was timed beside a benchmark has changed."""

    group: str
    contender: str
    floor: str
    before: float
    after: float

    @property
    def factor(self) -> float:
        """How many times as large the ratio is now."""
        return self.after / self.before

    def __str__(self) -> str:
        return (
            f"{self.group}, {self.contender}: {number(self.before)} to {number(self.after)} times"
            f" {self.floor} ({TIMES}{self.factor:.2f})"
        )


def changes(old: Results, new: Results) -> Iterator[Change]:
    """Yield the change of each ratio of this library that both runs have."""
    for group, entries in new.groups.items():
        for name in entries:
            if name in PEERS:
                continue
            for floor in new.extra(group, name).get("beside", {}):
                before, after = old.ratio(group, name, floor), new.ratio(group, name, floor)
                if before and after:
                    yield Change(group, name, floor, before, after)


def main() -> int:
    """Print what became slower by over a tenth, slowest first; return 1 if anything did."""
    old, new = (Results(json.loads(Path(each).read_text("utf-8"))) for each in sys.argv[1:3])
    all_changes = list(changes(old, new))
    slower = sorted(
        (each for each in all_changes if each.factor > MOST), key=lambda each: -each.factor
    )
    for change in slower:
        print(change)
    print(f"{len(slower)} of {len(all_changes)} ratios are over {MOST - 1:.0%} larger than before.")
    return 1 if slower or not all_changes else 0


if __name__ == "__main__":
    sys.exit(main())
