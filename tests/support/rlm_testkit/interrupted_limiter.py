"""A limiter in memory whose calls are broken off by signals again and again."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any, Final

from ratelimit_mail import Decision, Envelope, Limiter, MessageRateLimit, Policy, RecipientRateLimit
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.limiter import Reservation
from ratelimit_mail.testing import ManualClock
from rlm_testkit.builders import envelope_to
from rlm_testkit.interrupts import Alarm, check_columns

__all__ = ["InterruptedLimiter"]

ONE: Final = Policy(name="one", limits=[MessageRateLimit("100000/minute")])
"""Nearly all messages take the fast path."""

SEVERAL: Final = Policy(
    name="several",
    limits=[
        MessageRateLimit("40/minute"),
        RecipientRateLimit("80/minute"),
        MessageRateLimit("40/minute", scope="global"),
        RecipientRateLimit("80/minute", scope="global"),
        MessageRateLimit("200/hour"),
        RecipientRateLimit("70/minute", unique=True),
        RecipientRateLimit("70/minute", unique=True, scope="global"),
    ],
)
"""Each message costs one message and two recipients, of its sender and of all senders together."""

SENDER: Final = "ann@uwo.ca"
MOST: Final = 50
"""How many decisions and reservations are remembered."""


class InterruptedLimiter:
    """Two limiters of one backend, with random calls that signals break off.

    sent, broken_off: the moments of the messages that the first one accepted, and of its calls that
        were broken off.
    """

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.clock = ManualClock()
        self.backend = MemoryBackend(self.clock)
        self.quick = Limiter(ONE, self.backend)
        self.limiter = Limiter(SEVERAL, self.backend)
        self.decisions: list[Decision] = []
        self.reservations: list[Reservation] = []
        self.sent: deque[int] = deque()
        self.broken_off: deque[int] = deque()

    def run(self, interrupts: int) -> None:
        """Make calls until so many were broken off, and check the counts in between."""
        with Alarm(self.random) as alarm:
            while alarm.interrupts < interrupts:
                for _ in range(100):
                    self._take_quickly(alarm)
                    self._call(alarm)
                self.check()

    def _take_quickly(self, alarm: Alarm) -> None:
        before = alarm.interrupts
        decision = alarm.call(partial(self.quick.try_acquire, envelope_to(2, SENDER)))
        if alarm.interrupts > before:
            self.broken_off.append(self.clock())
        elif decision:
            self.sent.append(self.clock())

    def _call(self, alarm: Alarm) -> None:
        self.clock.advance(self.random.choice([0, 0.001, 0.05, 0.2]))
        result = alarm.call(self._operation())
        if isinstance(result, Decision) and result:
            self.decisions.append(result)
            del self.decisions[:-MOST]
        elif isinstance(result, Reservation):
            self.reservations.append(result)
            del self.reservations[:-MOST]

    def _operation(self) -> Callable[[], Any]:
        random, limiter = self.random, self.limiter
        id = random.choice([None, None, str(random.randrange(20))])  # noqa: A001
        recipients = ["b@example.com", "c@example.com"]
        if id is None:
            recipients = [f"{each}@example.com" for each in random.sample(range(99), 2)]
        envelope = Envelope(SENDER, recipients, id=id)
        number = random.randrange(20)
        if number < 4 and self.decisions:
            decision = self.decisions.pop(random.randrange(len(self.decisions)))
            operation = limiter.refund if number < 2 and id is None else limiter.settle
            return partial(operation, decision)
        if number < 6 and self.reservations:
            reservation = self.reservations.pop(0)
            return reservation.cancel if number == 4 else reservation.redeem
        if number == 7:
            return partial(limiter.try_acquire_many, [envelope_to(2, SENDER)] * 3)
        if number == 8 and len(self.reservations) < MOST:
            return partial(limiter.reserve, envelope)
        if number == 9:
            return partial(limiter.usage, SENDER)
        return partial(limiter.try_acquire, envelope)

    def check(self) -> None:
        """Check that the counts agree with each other and with what was sent."""
        check_columns(self.backend)
        for moments in (self.sent, self.broken_off):
            while moments and moments[0] <= self.clock() - 60_000:
                moments.popleft()
        (quick,) = self.quick.usage(SENDER)
        assert len(self.sent) <= quick.used <= len(self.sent) + len(self.broken_off)
        messages, _, recipients, unique = (each.used for each in self.limiter.usage(SENDER))
        of_all = [each.used for each in self.limiter.usage(scope="global")]
        assert [messages, recipients, unique] == of_all
        assert recipients == 2 * messages
        assert min(recipients, 1) <= unique <= recipients
