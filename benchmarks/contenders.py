"""All contenders by their names, and what there is to say of each. None is imported before use."""

from __future__ import annotations

import importlib
from typing import Final, Literal

import attrs
from contender import Contender
from work import NUMBERS, Numbers

Kind = Literal["floor", "ours", "best", "safe", "cheap"]


@attrs.frozen
class Entry:
    """One contender, before it is made."""

    module: str
    function: str
    kind: Kind
    about: str
    slow: bool = False
    """Whether a few turns must do."""

    def make(self, numbers: Numbers = NUMBERS, port: int | None = None) -> Contender:
        """Make it, with counts in Redis where a port is given."""
        made = getattr(importlib.import_module(self.module), self.function)(numbers, port)
        assert isinstance(made, Contender)
        return made


EMPTY: Final = "an empty call"
BY_HAND: Final = "by hand"
NO_OP: Final = "no-op EVALSHA"
SOCKET: Final = "no-op, bare socket"
OURS: Final = "ratelimit-mail"
BUILT: Final = "ratelimit-mail, from strings"
LIMITS: Final = "limits"

ENTRIES: Final = {
    EMPTY: Entry("floors", "empty_call", "floor", "a function that does nothing"),
    BY_HAND: Entry(
        "floors",
        "by_hand",
        "floor",
        "the same exact check in one loop with two deques; without locks, refunds, a time to try "
        "again, or letting go of senders who are gone",
    ),
    SOCKET: Entry("floors", "bare_socket", "floor", "a script that does nothing, by a socket"),
    NO_OP: Entry("floors", "no_op", "floor", "a script that does nothing, by redis-py"),
    OURS: Entry("ours", "try_acquire", "ours", "`Limiter.try_acquire`"),
    BUILT: Entry(
        "ours", "from_strings", "ours", "the same, with the `Envelope` built from plain strings"
    ),
    LIMITS: Entry("peer_limits", "best", "best", "moving window; hit, then hit"),
    "limits, safe": Entry("peer_limits", "safe", "safe", "the same; test, test, hit, hit"),
    "limits, fixed window": Entry("peer_limits", "cheap", "cheap", "hit, then hit; not exact"),
    "pyrate-limiter": Entry(
        "peer_pyrate", "best", "best", "log of the window; `try_acquire` twice, not blocking"
    ),
    "pyrate-limiter, safe": Entry(
        "peer_pyrate", "safe", "safe", "the same; both buckets trimmed and counted first"
    ),
    "pyrate-limiter, GCRA": Entry(
        "peer_pyrate", "cheap", "cheap", "`try_acquire` twice; not exact"
    ),
    "throttled-py": Entry(
        "peer_throttled", "best", "best", "sliding window of two averaged counters; limit, limit"
    ),
    "throttled-py, safe": Entry(
        "peer_throttled", "safe", "safe", "the same; peek, peek, limit, limit"
    ),
    "throttled-py, GCRA": Entry("peer_throttled", "cheap", "cheap", "limit, limit; not exact"),
    "token-throttle": Entry(
        "peer_token_throttle",
        "best",
        "best",
        "token buckets; acquire both at once, then close",
        slow=True,
    ),
}

PACKAGES: Final = ("limits", "pyrate-limiter", "throttled-py", "token-throttle")
"""The peers, as pip calls them."""

IN_MEMORY: Final = [name for name in ENTRIES if name not in (NO_OP, SOCKET)]
IN_REDIS: Final = [
    name for name in ENTRIES if name not in (EMPTY, BY_HAND, BUILT, "pyrate-limiter, GCRA")
]
DECIDING: Final = [name for name, entry in ENTRIES.items() if entry.kind != "floor"]


def of_kinds(names: list[str], *kinds: Kind) -> list[str]:
    """Those of `names` that are of one of the kinds."""
    return [name for name in names if ENTRIES[name].kind in kinds]
