"""Read from a backend what was sent, and enter it into the backend of a simulation.

A backend says how much a window holds, for windows of any length. The difference between two
lengths is what was sent between two moments, so a search over the lengths finds each event. It is
exact while the backend's clock stands still. Otherwise, and where there are too many events for the
number of readings, an event is taken to be later than it was: a plan is then never too early.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Final, NamedTuple

from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.backends.base import REFUSE, TAKE, Backend, Intent
from ratelimit_mail.counting.charge import NO_LIMIT, Charge, Count, Ledger, costs_of
from ratelimit_mail.counting.window import Retention, Window
from ratelimit_mail.envelope import Envelope
from ratelimit_mail.limiter.blocks import register_name
from ratelimit_mail.policy import Policy
from ratelimit_mail.testing import ManualClock

__all__ = ["copy_history"]

WINDOWS: Final = 256
"""How many windows are read at once."""

READINGS: Final = 24
"""How often one count is read at most: at least 6,000 of its events have a time of their own."""


class _Interval(NamedTuple):
    """Events whose ages are from `low` on and below `high`, in milliseconds.

    until_low, until_high: what was sent, and that with refused attempts, at younger ages.
    """

    low: int
    high: int
    until_low: tuple[int, int]
    until_high: tuple[int, int]

    @property
    def sent(self) -> int:
        return self.until_high[0] - self.until_low[0]

    @property
    def refused(self) -> int:
        return self.until_high[1] - self.until_low[1] - self.sent

    @property
    def weight(self) -> int:
        """By how much the times of its events are unknown, all of them together."""
        return (self.until_high[1] - self.until_low[1]) * (self.high - self.low)


def copy_history(
    backend: Backend,
    policy: Policy,
    envelopes: Iterable[Envelope],
    memory: MemoryBackend,
    clock: ManualClock,
) -> int:
    """Enter into `memory` what `backend` has counted for the subjects of `envelopes`, and blocks.

    clock: the clock of `memory`; it is set to the backend's present, which is returned.

    Booked places are not copied.
    """
    register = backend.read_register(register_name(policy))
    start = register.now
    ledgers: dict[tuple[str, str], Ledger] = {}
    for envelope in envelopes:
        for ledger, subject, _ in policy.plan(envelope, start).charges:
            ledgers.setdefault((ledger.name, subject), ledger)
    events: list[tuple[int, Charge, Intent]] = []
    for (_, subject), ledger in ledgers.items():
        for count in ledger.counts:
            recording = _recording(ledger, count.unit, count.retention)
            for interval in _intervals(backend, ledger, count, subject, start):
                for amount, intent in ((interval.sent, TAKE), (interval.refused, REFUSE)):
                    if amount:
                        costs = costs_of(count.unit, amount)
                        events.append((interval.low, (recording, subject, costs), intent))
    now = backend.read_register(register_name(policy)).now
    for age, charge, intent in sorted(events, key=lambda event: -event[0]):
        clock.set(now - age)
        memory.apply([charge], intent)
    clock.set(now)
    memory.write_register(register_name(policy), register.entries)
    return now


def _intervals(
    backend: Backend, ledger: Ledger, count: Count, subject: str, start: int
) -> list[_Interval]:
    """Return the events of one count; an interval of one millisecond is exact."""
    span = count.retention.span
    [total] = _read(backend, ledger, count, subject, [span])
    pending = [_Interval(0, span, (0, 0), total)] if any(total) else []
    events: list[_Interval] = []
    for _ in range(READINGS):
        # A clock that moves cannot tell apart what is closer than the time that reading takes.
        width = max(1, backend.now() - start)
        events += (each for each in pending if each.high - each.low <= width)
        pending = [each for each in pending if each.high - each.low > width]
        if not pending:
            break
        pending.sort(key=lambda each: -each.weight)
        divided, pending = pending[:WINDOWS], pending[WINDOWS:]
        ages = [_cuts(each, WINDOWS // len(divided)) for each in divided]
        readings = iter(_read(backend, ledger, count, subject, list(chain(*ages))))
        for interval, cuts in zip(divided, ages, strict=True):
            pending += _divided(interval, cuts, list(islice(readings, len(cuts))))
    return events + pending


def _cuts(interval: _Interval, number: int) -> list[int]:
    """Return at most `number` ages that cut an interval into equal ones."""
    low, high = interval.low, interval.high
    number = min(number, high - low - 1)
    return [low + (high - low) * i // (number + 1) for i in range(1, number + 1)]


def _divided(
    interval: _Interval, cuts: Sequence[int], readings: Sequence[tuple[int, int]]
) -> Iterator[_Interval]:
    """Yield the intervals between cuts in which there are events."""
    low, until_low = interval.low, interval.until_low
    ends = [*zip(cuts, readings, strict=True), (interval.high, interval.until_high)]
    for high, (sent, attempts) in ends:
        # Readings of a clock that moves may contradict one another a little.
        sent = min(max(sent, until_low[0]), interval.until_high[0])
        attempts = min(max(attempts, until_low[1]), interval.until_high[1])
        attempts = max(attempts, until_low[1] + sent - until_low[0])
        until_high = (sent, attempts)
        if until_high != until_low:
            yield _Interval(low, high, until_low, until_high)
        low, until_low = high, until_high


def _read(
    backend: Backend, ledger: Ledger, count: Count, subject: str, ages: Sequence[int]
) -> list[tuple[int, int]]:
    """Return what was sent at younger ages, and that with refused attempts."""
    kinds = (False, True) if count.counts_denied else (False,)
    windows = tuple(Window(1, age, denied=denied) for age in ages for denied in kinds)
    reader = Count(count.unit, windows, count.retention)
    [readings] = backend.usage(Ledger(ledger.name, (reader,), ledger.span, ledger.tag_of), subject)
    used = [each.used for each in readings]
    if not count.counts_denied:
        return [(each, each) for each in used]
    return [
        (sent, max(sent, attempts)) for sent, attempts in zip(used[::2], used[1::2], strict=True)
    ]


def _recording(ledger: Ledger, unit: int, retention: Retention) -> Ledger:
    """Return a ledger that records one unit, refused attempts included, and refuses nothing."""
    window = Window(NO_LIMIT, retention.span, denied=True)
    return Ledger(ledger.name, (Count(unit, (window,), retention),), ledger.span, ledger.tag_of)
