"""What the provider sees: no window of the arrivals holds more than the limit.

The claim: where each message is settled at the end of its sending, and each sending takes less
than a window, the arrivals at the provider keep to every limit, wherever a window begins, whatever
the delays between the admission, the arrival and the end, however late bookings are redeemed, and
if programs are stopped: a sending during which its program is stopped may take longer than a
window, so its message is not counted here, but it must not make room for other messages. The
throughput is then N·W / (W + the mean time of a sending).
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from itertools import count as count_up
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ratelimit_mail import (
    Decision,
    Envelope,
    Limiter,
    MessageRateLimit,
    Policy,
    RecipientRateLimit,
)
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.limiter import Reservation
from ratelimit_mail.limits import RateLimit
from ratelimit_mail.testing import ManualClock

START = 1_700_000_000_000
DOMAINS = ("example.com", "example.net")


class Arrival(NamedTuple):
    """What reached the provider at one moment, in milliseconds since the start.

    took: milliseconds from the admission of the message to the end of its sending.
    """

    at: int
    sender: str
    recipients: tuple[str, ...]
    took: int


class Stop(NamedTuple):
    """A time, in milliseconds since the start, in which a program does nothing."""

    program: int
    begin: int
    end: int


class Delays(NamedTuple):
    """The delays of a run in milliseconds, each between 0 and the number.

    sending: from the admission of a message to the end of its sending.
    late: from the time of a booking to its redemption; of one in `stopped_one_in`, up to
        `stopped`.
    """

    sending: int
    late: int = 20
    stopped: int = 0
    stopped_one_in: int = 20


class Provider:
    """Programs that send by one limiter, and the arrivals at their provider.

    share_direct: the share of messages that use `try_acquire` and ask again; the others are booked.
    share_failed, share_refused: the shares of sendings that fail, so that nothing arrives, and of
        recipients that the provider refuses.
    programs, stops: how many programs share the messages, and when they are stopped.
    """

    def __init__(
        self,
        limits: Sequence[RateLimit],
        source: random.Random,
        delays: Delays,
        *,
        share_direct: float = 0.2,
        share_failed: float = 0.0,
        share_refused: float = 0.0,
        most_recipients: int = 1,
        senders: int = 1,
        programs: int = 1,
        stops: Sequence[Stop] = (),
    ) -> None:
        self._clock = ManualClock(START)
        self._limiter = Limiter(Policy(name="test", limits=limits), MemoryBackend(self._clock))
        self._source, self._delays = source, delays
        self._share_direct = share_direct
        self._share_failed = share_failed
        self._share_refused = share_refused
        self._most_recipients = most_recipients
        self._senders = [f"sender{number}@uwo.ca" for number in range(senders)]
        self._programs, self._stops = programs, stops
        self._steps: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._numbers = count_up()
        self.arrivals: list[Arrival] = []
        self.booked_anew = 0

    def run(self, messages: int, within: int) -> None:
        """Send so many messages, which programs begin to ask for within so many milliseconds."""
        for _ in range(messages):
            program = self._source.randrange(self._programs)
            self._at(self._source.randint(0, within), self._ask, program, self._envelope())
        while self._steps:
            now, _, step, arguments = heappop(self._steps)
            self._clock.set(START + now)
            step(now, *arguments)

    def _at(self, moment: int, step: Callable[..., None], program: int, *arguments: Any) -> None:
        moment = self._when_it_runs(program, moment)
        heappush(self._steps, (moment, next(self._numbers), step, (program, *arguments)))

    def _when_it_runs(self, program: int, moment: int) -> int:
        """Return `moment`, or when the program goes on if it is stopped then."""
        for stop in sorted(self._stops):
            if stop.program == program and stop.begin <= moment < stop.end:
                moment = stop.end
        return moment

    def _envelope(self) -> Envelope:
        recipients = self._source.randint(1, self._most_recipients)
        addresses = [f"user{number}@{self._source.choice(DOMAINS)}" for number in range(recipients)]
        return Envelope(self._source.choice(self._senders), addresses)

    def _ask(self, now: int, program: int, envelope: Envelope) -> None:
        if self._source.random() < self._share_direct:
            if decision := self._limiter.try_acquire(envelope):
                self._send(now, program, envelope, decision)
            else:
                self._at(now + self._source.randint(1, 200), self._ask, program, envelope)
        else:
            reservation = self._limiter.reserve(envelope)
            moment = reservation.at - START + self._late()
            self._at(moment, self._redeem, program, envelope, reservation)

    def _late(self) -> int:
        is_stopped = self._source.randrange(self._delays.stopped_one_in) == 0
        return self._source.randint(0, self._delays.stopped if is_stopped else self._delays.late)

    def _redeem(self, now: int, program: int, envelope: Envelope, reservation: Reservation) -> None:
        decision = reservation.redeem()
        if decision:
            self._send(now, program, envelope, reservation.decision)
            return
        assert decision.retry_after is not None
        self.booked_anew += 1
        again = now + round(decision.retry_after * 1000) + self._late()
        self._at(again, self._redeem, program, envelope, reservation)

    def _send(self, now: int, program: int, envelope: Envelope, decision: Decision) -> None:
        end = now + self._source.randint(0, self._delays.sending)
        moment = self._when_it_runs(program, self._source.randint(now, end))
        end = self._when_it_runs(program, max(moment, end))
        if self._source.random() < self._share_failed:
            self._at(end, self._refund, program, decision)
            return
        reached = [
            each for each in envelope.recipients if self._source.random() >= self._share_refused
        ]
        if reached:
            self.arrivals.append(Arrival(moment, envelope.sender, tuple(reached), end - now))
        refused = set(envelope.recipients) - set(reached)
        self._at(end, self._settle, program, decision, refused)

    def _refund(self, _now: int, _program: int, decision: Decision) -> None:
        self._limiter.refund(decision)

    def _settle(self, _now: int, _program: int, decision: Decision, refused: set[str]) -> None:
        self._limiter.settle(decision, refused)


def most_in_a_window(arrivals: Sequence[Arrival], limit: RateLimit) -> int:
    """Return the most that any window of the provider holds for any subject of `limit`.

    Leaves out the messages whose sending took a window of `limit` or longer.
    """
    most = 0
    ordered = sorted(arrival for arrival in arrivals if arrival.took < limit.window)
    costs = [subject_costs(limit, arrival) for arrival in ordered]
    held: Counter[str] = Counter()
    first = 0
    for arrival, cost in zip(ordered, costs, strict=True):
        while ordered[first].at <= arrival.at - limit.window:
            held.subtract(costs[first])
            first += 1
        held.update(cost)
        most = max(most, *held.values())
    return most


def subject_costs(limit: RateLimit, arrival: Arrival) -> Counter[str]:
    if limit.scope == ("recipient_domain",):
        costs = Counter(address.partition("@")[2] for address in arrival.recipients)
        return costs if limit.unit == "recipients" else Counter(dict.fromkeys(costs, 1))
    subject = arrival.sender if limit.scope == ("sender",) else ""
    return Counter({subject: len(arrival.recipients) if limit.unit == "recipients" else 1})


def rate_limits() -> st.SearchStrategy[list[RateLimit]]:
    windows = st.sampled_from(["second", "2 seconds", "5 seconds"])
    limit = st.builds(
        lambda kind, number, window, scope, resolution: kind(
            f"{number}/{window}", scope=scope, resolution=resolution
        ),
        st.sampled_from([MessageRateLimit, RecipientRateLimit]),
        st.integers(3, 9),
        windows,
        st.sampled_from(["sender", "global", "recipient_domain"]),
        st.sampled_from([None, None, "1 second"]),
    )
    return st.lists(limit, min_size=1, max_size=3)


@settings(max_examples=settings().max_examples // 2)
@given(
    limits=rate_limits(),
    source=st.randoms(use_true_random=False),
    sending=st.sampled_from([0, 10, 400, 999]),
    late=st.sampled_from([0, 20, 500]),
    stopped=st.sampled_from([0, 1_000, 55_000]),
    shares=st.tuples(*[st.sampled_from([0.0, 0.2, 0.5])] * 3),
    senders=st.integers(1, 3),
    stops=st.lists(
        st.builds(
            lambda program, begin, length: Stop(program, begin, begin + length),
            st.integers(0, 1),
            st.integers(0, 6_000),
            st.sampled_from([500, 2_500, 55_000]),
        ),
        max_size=2,
    ),
)
def test_no_window_of_the_provider_holds_more_than_the_limit(
    limits: list[RateLimit],
    source: random.Random,
    sending: int,
    late: int,
    stopped: int,
    shares: tuple[float, float, float],
    senders: int,
    stops: list[Stop],
) -> None:
    direct, failed, refused = shares
    provider = Provider(
        limits,
        source,
        Delays(sending, late, stopped, 5),
        share_direct=direct,
        share_failed=failed,
        share_refused=refused,
        most_recipients=3,
        senders=senders,
        programs=2,
        stops=stops,
    )
    provider.run(messages=60, within=3_000)
    for limit in limits:
        assert most_in_a_window(provider.arrivals, limit) <= limit.limit


THIRTY_A_SECOND = MessageRateLimit("30/second")


THIRTY_RECIPIENTS_A_SECOND = RecipientRateLimit("30/second")
REFUSING: dict[str, Any] = {"most_recipients": 3, "share_refused": 0.4}
STOPPING: dict[str, Any] = {
    "programs": 3,
    "stops": [Stop(0, 900, 56_000), Stop(1, 2_500, 4_500), Stop(1, 5_000, 60_000)],
}


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.drill) for seed in (1, 2))]
)
@pytest.mark.parametrize(
    ("limit", "delays", "options"),
    [
        (THIRTY_A_SECOND, Delays(400), {}),
        (THIRTY_A_SECOND, Delays(999, 500), {}),
        (THIRTY_A_SECOND, Delays(10, 0), {}),
        (THIRTY_A_SECOND, Delays(400, 20, 55_000, 10), {}),
        (THIRTY_A_SECOND, Delays(400), STOPPING),
        (THIRTY_A_SECOND, Delays(999), {"share_failed": 0.4}),
        (THIRTY_RECIPIENTS_A_SECOND, Delays(999), REFUSING),
        (MessageRateLimit("30/second", scope="global"), Delays(400), {"senders": 5}),
        (
            RecipientRateLimit("30/second", scope="global"),
            Delays(999, 500),
            {"senders": 5, "share_failed": 0.1, **REFUSING, **STOPPING},
        ),
    ],
    ids=[
        "usual",
        "slow",
        "quick",
        "bookings are redeemed late",
        "programs are stopped",
        "sendings fail",
        "recipients are refused",
        "senders share a limit",
        "all together",
    ],
)
def test_long_runs_keep_to_the_limit(
    limit: RateLimit, delays: Delays, options: dict[str, Any], seed: int
) -> None:
    provider = Provider([limit], random.Random(seed), delays, **options)
    provider.run(messages=300, within=3_000)
    assert len(provider.arrivals) >= 100
    assert most_in_a_window(provider.arrivals, limit) <= 30


def test_the_throughput_is_what_the_time_of_the_sendings_allows() -> None:
    provider = Provider([THIRTY_A_SECOND], random.Random(1), Delays(400, 0), share_direct=0.0)
    provider.run(messages=600, within=0)
    moments = [arrival.at for arrival in provider.arrivals]
    seconds = (max(moments) - min(moments)) / 1000
    expected = 30 * 1000 / (1000 + 200)
    assert most_in_a_window(provider.arrivals, THIRTY_A_SECOND) <= 30
    assert len(moments) / seconds >= 0.9 * expected


def test_without_settling_the_provider_sees_more_than_the_limit() -> None:
    # So that these tests would notice if nothing was settled.
    provider = Provider([THIRTY_A_SECOND], random.Random(1), Delays(400), share_direct=0.0)
    provider._settle = lambda *_: None  # type: ignore[method-assign]
    provider.run(messages=300, within=0)
    assert most_in_a_window(provider.arrivals, THIRTY_A_SECOND) > 30
