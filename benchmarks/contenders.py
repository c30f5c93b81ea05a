"""All contenders by name: floors, this library and peers. A peer is imported at its first use."""

import pkgutil
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import attrs

from benchmarks.email_check import MINUTE
from ratelimit_mail import Envelope

Check = Callable[[Envelope], object]
"""Decides on a message; the answer is true if the message may go."""
AsyncCheck = Callable[[Envelope], Awaitable[object]]


def _nothing(*_: object) -> Any:
    """Do nothing, for a contender that has no such method."""


@attrs.frozen
class Contender:
    """One way of doing the e-mail check, with its own counts."""

    check: Check
    """The e-mail check."""
    charge_minute: Check = _nothing
    """Charges a message to the minute alone."""
    charge_day: Callable[[str, int], object] = _nothing
    """Charges a number of recipients of a sender to the day alone."""
    check_many: Callable[[list[Envelope]], Sequence[object]] = _nothing
    """Decides on many messages in one call."""
    trims: Sequence[Callable[[], None]] = ()
    """What the peer's background thread does, where that thread is left out."""


def in_sequence(*steps: Callable[[str], object]) -> Check:
    """Return a check that asks one limit of a sender after another, until one refuses."""

    def check(envelope: Envelope) -> bool:
        sender = envelope.sender
        for step in steps:  # noqa: SIM110  a generator would take longer than some steps
            if not step(sender):
                return False
        return True

    return check


def in_sequence_async(*steps: Callable[[str], Awaitable[object]]) -> AsyncCheck:
    """Return the same for asyncio."""

    async def check(envelope: Envelope) -> bool:
        sender = envelope.sender
        for step in steps:
            if not await step(sender):
                return False
        return True

    return check


EMPTY: Final = "an empty call"
BY_HAND: Final = "by hand"
DEQUES: Final = "a dict of two deques"
SOCKET: Final = "no-op, bare socket"
NO_OP: Final = "no-op EVALSHA"
BARE: Final = "bare transaction"
OURS: Final = "ratelimit-mail"
NO_OP_PURE: Final = "no-op EVALSHA, without hiredis"
OURS_PURE: Final = "ratelimit-mail, without hiredis"
BUILT: Final = "ratelimit-mail, from strings"
LIMITS: Final = "limits"
TOKENS: Final = "token-throttle"

FACTORIES: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    EMPTY: ("floors:empty_call", {}),
    BY_HAND: ("floors:by_hand", {}),
    DEQUES: ("floors:two_deques", {}),
    SOCKET: ("floors:bare_socket", {}),
    NO_OP: ("floors:no_op", {}),
    NO_OP_PURE: ("floors:no_op", {"hiredis": False}),
    OURS: ("ours:make", {}),
    OURS_PURE: ("ours:make", {"hiredis": False}),
    BUILT: ("ours:make", {"from_strings": True}),
    LIMITS: ("peer_limits:make", {}),
    "limits, safe": ("peer_limits:make", {"tests_first": True}),
    "limits, fixed window": ("peer_limits:make", {"strategy": "fixed-window"}),
    "pyrate-limiter": ("peer_pyrate:make", {}),
    "pyrate-limiter, safe": ("peer_pyrate:make", {"counts_first": True}),
    "pyrate-limiter, GCRA": ("peer_pyrate:make", {"gcra": True}),
    "throttled-py": ("peer_throttled:make", {}),
    "throttled-py, safe": ("peer_throttled:make", {"peeks_first": True}),
    "throttled-py, GCRA": ("peer_throttled:make", {"algorithm": "gcra"}),
    TOKENS: ("peer_token_throttle:make", {}),
}
"""The function that makes each contender, and its options; FUNCTION_async makes it for asyncio."""

FLOORS: Final = {"memory": BY_HAND, "Valkey": NO_OP, "Redis": NO_OP}  # by store
UNDECIDING: Final = (EMPTY, SOCKET, NO_OP, NO_OP_PURE, BARE)  # their answers are not looked at
PEERS: Final = [name for name, (factory, _) in FACTORIES.items() if factory.startswith("peer")]
BEST: Final = [name for name in PEERS if "," not in name]  # the peers by their best idioms
IN_MEMORY: Final = [EMPTY, BY_HAND, OURS, BUILT, *PEERS]
ON_SERVER: Final = [SOCKET, NO_OP, OURS, *(p for p in PEERS if p != "pyrate-limiter, GCRA")]


def make(name: str, port: int | None = None, minute: int = MINUTE) -> Contender:
    """Return a new contender; its counts are in memory, or on the server at `port`."""
    factory, options = FACTORIES[name]
    contender: Contender = pkgutil.resolve_name(f"benchmarks.{factory}")(port, minute, **options)
    return contender


async def make_async(name: str, port: int | None = None) -> AsyncCheck:
    """Return the e-mail check of a new contender for asyncio."""
    make_check = pkgutil.resolve_name(f"benchmarks.{FACTORIES[name][0]}_async")
    check: AsyncCheck = await make_check(port)
    return check
