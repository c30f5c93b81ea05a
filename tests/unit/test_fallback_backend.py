"""A limiter whose backend is away: what it answers meanwhile, and when it asks again."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from ratelimit_mail import (
    Action,
    AsyncLimiter,
    Decision,
    Envelope,
    Limiter,
    MessageRateLimit,
    Policy,
    RateLimitExceeded,
    RecipientLimit,
    RecipientRateLimit,
)
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.backends.adapters import InlineAdapter
from ratelimit_mail.backends.base import TAKE, Intent, Message, Reading, Verdict
from ratelimit_mail.backends.outage.circuit_breaker import CircuitBreaker
from ratelimit_mail.counting.charge import Charge, Ledger
from ratelimit_mail.exceptions import BackendError, BackendUnavailable
from ratelimit_mail.testing import BruteForceBackend, ManualClock

POLICY = Policy(
    name="test",
    internal_domains=["uwo.ca"],
    limits=[
        RecipientLimit(20),
        MessageRateLimit("8/minute"),
        RecipientRateLimit("40/day", count="external"),
    ],
)
LETTER = Envelope("ann@uwo.ca", ["b@x.org"])
LARGE = Envelope("ann@uwo.ca", [f"r{i}@x.org" for i in range(6)])
TOO_LARGE = Envelope("ann@uwo.ca", [f"r{i}@x.org" for i in range(21)])

UNREACHABLE = BackendUnavailable("the server is away")
BROKEN = BackendError("not ours")


class Sometimes:
    """A backend in memory that may be away.

    error: what each call meets instead. away: the part that is away; None: all of it.
    """

    def __init__(self, clock: Callable[[], int]) -> None:
        self._memory = MemoryBackend(clock)
        self.error: BaseException | None = None
        self.away: str | None = None
        self.calls: list[str] = []

    def _called(self, verb: str, part: str = "") -> None:
        self.calls.append(verb)
        if self.error is not None and self.away in (None, part):
            raise self.error

    def apply(self, charges: Sequence[Charge], intent: Intent = TAKE) -> Verdict:
        self._called("apply", charges[0][1])
        return self._memory.apply(charges, intent)

    def apply_many(self, messages: Sequence[Message]) -> list[Verdict]:
        self._called("apply_many")
        return self._memory.apply_many(messages)

    def refund(self, receipt: Any) -> None:
        self._called("refund")
        self._memory.refund(receipt)

    def shard_of(self, charges: Sequence[Charge]) -> str:
        return "" if self.away is None else charges[0][1]

    def now(self) -> int:
        return self._memory.now()

    def usage(self, ledger: Ledger, subject: str) -> list[list[Reading]]:
        self._called("read")
        return self._memory.usage(ledger, subject)

    def reset(self, ledgers: Sequence[Ledger], subject: str) -> None:
        self._called("forget")
        self._memory.reset(ledgers, subject)


class Awaited:
    """The same, to be awaited. silent: it takes a message and does not answer."""

    def __init__(self, backend: Sometimes) -> None:
        self._backend = backend
        self.silent = False

    async def apply(self, charges: Sequence[Charge], intent: Intent = TAKE) -> Verdict:
        if self.silent:
            self._backend.calls.append("apply")
            await asyncio.Event().wait()
        return self._backend.apply(charges, intent)

    async def apply_many(self, messages: Sequence[Message]) -> list[Verdict]:
        return self._backend.apply_many(messages)

    async def refund(self, receipt: Any) -> None:
        self._backend.refund(receipt)

    def shard_of(self, charges: Sequence[Charge]) -> str:
        return self._backend.shard_of(charges)

    def now(self) -> int:
        return self._backend.now()

    async def usage(self, ledger: Ledger, subject: str) -> list[list[Reading]]:
        return self._backend.usage(ledger, subject)

    async def reset(self, ledgers: Sequence[Ledger], subject: str) -> None:
        self._backend.reset(ledgers, subject)


class House:
    """A limiter of either colour, its backend, and the clock by which that is tried again."""

    def __init__(self, colour: str, instead: Any = "raise", **options: Any) -> None:
        self.clock = ManualClock()
        self.backend = Sometimes(self.clock)
        self.seconds = 1000.0
        self.slept: list[float] = []
        options = {"on_backend_error": instead, **options}
        self.limiter: Any
        if colour == "blocking":
            self.limiter = Limiter(POLICY, self.backend, sleep=self.slept.append, **options)
        else:
            self.awaited = Awaited(self.backend)
            self.limiter = AsyncLimiter(POLICY, self.awaited, sleep=self._sleep, **options)
        self.limiter._backend._steps._breakers[""] = CircuitBreaker(lambda: self.seconds)

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    def __getattr__(self, verb: str) -> Any:
        """A verb of the limiter, waited for."""
        found = getattr(self.limiter, verb)
        if not inspect.iscoroutinefunction(found):
            return found
        return lambda *args, **options: asyncio.run(found(*args, **options))

    def goes_away(self, error: BaseException = UNREACHABLE) -> None:
        self.backend.error = error

    def comes_back(self) -> None:
        self.backend.error = None

    def tried(self) -> int:
        """How often the backend was called since this was last asked."""
        calls = len(self.backend.calls)
        self.backend.calls.clear()
        return calls


colours = pytest.mark.parametrize("colour", ["blocking", "awaited"])


def fallback() -> MemoryBackend:
    return MemoryBackend(ManualClock())


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(record.levelname, record.getMessage()) for record in caplog.records]


# How often the backend is asked.


@colours
@pytest.mark.parametrize("instead", ["raise", "allow", "deny", "memory"])
def test_while_it_is_away_it_is_asked_only_now_and_then(colour: str, instead: str) -> None:
    house = House(colour, fallback() if instead == "memory" else instead)

    def ask() -> None:
        try:
            house.try_acquire(LETTER)
        except BackendUnavailable:
            assert instead == "raise"

    house.goes_away()
    ask()
    assert house.tried() == 1
    for pause in (0.05, 0.1, 0.2, 0.4, 0.5, 0.5):
        house.seconds += pause - 0.001
        for _ in range(3):
            ask()
        assert house.tried() == 0
        house.seconds += 0.002
        for _ in range(3):
            ask()
        assert house.tried() == 1


@colours
def test_as_soon_as_it_answers_all_is_normal(colour: str) -> None:
    house = House(colour, "allow")
    house.goes_away()
    for _ in range(5):
        house.seconds += 1
        assert house.try_acquire(LETTER).degraded
    house.comes_back()
    assert house.try_acquire(LETTER).degraded
    house.seconds += 0.51
    assert not house.try_acquire(LETTER).degraded
    assert not house.try_acquire(LETTER).degraded
    assert house.usage("ann@uwo.ca")[0].used == 2


@colours
def test_an_outage_is_told_once_and_its_end_too(
    colour: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "ratelimit_mail")
    house = House(colour, "allow")
    house.goes_away()
    for _ in range(4):
        house.try_acquire(LETTER)
        house.seconds += 1
    house.comes_back()
    house.try_acquire(LETTER)
    house.try_acquire(LETTER)
    (begins, ends) = told(caplog)
    assert begins[0] == "WARNING"
    assert str(UNREACHABLE) in begins[1]
    assert ends == ("INFO", "the backend is back")


@colours
def test_one_part_that_is_away_leaves_the_others_alone(colour: str) -> None:
    house = House(colour, "allow")
    house.backend.away = "ann@uwo.ca"
    house.goes_away()
    assert house.try_acquire(LETTER).degraded
    for _ in range(3):
        assert not house.try_acquire(Envelope("bob@uwo.ca", ["b@x.org"])).degraded


# What is answered.


@colours
def test_raise_raises_and_says_where_nothing_was_tried(colour: str) -> None:
    house = House(colour)
    house.goes_away()
    with pytest.raises(BackendUnavailable) as caught:
        house.try_acquire(LETTER)
    assert caught.value is UNREACHABLE
    for verb in (house.try_acquire, house.check, house.acquire, house.reserve):
        with pytest.raises(BackendUnavailable, match=r"the server is away \(not tried again"):
            verb(LETTER)
    with pytest.raises(BackendUnavailable):
        house.try_acquire_many([LETTER])


@colours
def test_allow_accepts_and_charges_nothing(colour: str) -> None:
    house = House(colour, "allow")
    house.goes_away()
    for _ in range(2):  # tried in vain, and not tried
        for decision in (house.try_acquire(LETTER), house.check(LETTER), house.acquire(LETTER)):
            assert (decision.action, decision.degraded) == (Action.ACCEPT, True)
            assert (decision.limit, decision.retry_after) == (None, 0)
            assert str(decision.reply) == "250 2.0.0 OK"
        reservation = house.reserve(LETTER, max_delay=0)
        assert reservation.delay == 0
        assert reservation.decision.degraded
        assert [each.degraded for each in house.try_acquire_many([LETTER] * 9)] == [True] * 9
    assert house.slept == []
    house.comes_back()
    house.seconds += 1
    assert house.usage("ann@uwo.ca")[0].used == 0


@colours
def test_what_was_allowed_is_refunded_without_a_call(colour: str) -> None:
    house = House(colour, "allow")
    house.goes_away()
    decision = house.try_acquire(LETTER)
    house.tried()
    house.seconds += 1
    house.refund(decision)
    assert house.tried() == 0
    with pytest.raises(ValueError, match="refunded or cancelled already"):
        house.refund(decision)


@colours
def test_deny_defers_until_it_is_tried_again(colour: str) -> None:
    house = House(colour, "deny")
    house.goes_away()
    for wait in (0.05, 0.1, 0.2, 0.4, 0.5, 0.5):
        decision = house.try_acquire(LETTER)
        assert (decision.action, decision.degraded) == (Action.DEFER, True)
        assert decision.limit is None
        assert decision.retry_after == pytest.approx(wait, abs=0.002)
        house.seconds += wait / 2
        assert house.check(LETTER).retry_after == pytest.approx(max(wait / 2, 0.05), abs=0.002)
        house.seconds += wait / 2 + 0.001
    (denied,) = house.try_acquire_many([LETTER])
    assert str(denied.reply) == "451 4.3.0 Sending limits cannot be checked now. Try again later."
    with pytest.raises(ValueError, match="nothing to refund"):
        house.refund(denied)


@colours
@pytest.mark.parametrize("verb", ["acquire", "reserve"])
def test_deny_lets_nobody_wait(colour: str, verb: str) -> None:
    house = House(colour, "deny")
    house.goes_away()
    with pytest.raises(RateLimitExceeded, match=r"the backend is away; it fits in 0\.05") as caught:
        getattr(house, verb)(LETTER)
    assert caught.value.decision.degraded
    assert house.slept == []


@colours
@pytest.mark.parametrize("instead", ["allow", "deny", "memory"])
def test_what_can_never_go_is_rejected_all_the_same(colour: str, instead: str) -> None:
    house = House(colour, fallback() if instead == "memory" else instead)
    house.goes_away()
    for _ in range(2):
        decision = house.try_acquire(TOO_LARGE)
        assert (decision.action, decision.limit) == (Action.REJECT, RecipientLimit(20))
        with pytest.raises(RateLimitExceeded, match="it can never go"):
            house.acquire(TOO_LARGE)


@colours
def test_what_needs_no_backend_is_not_degraded(colour: str) -> None:
    house = House(colour, "deny")
    house.limiter = type(house.limiter)(
        Policy(
            name="outside",
            limits=[MessageRateLimit("1/day", count="external")],
            internal_domains=["uwo.ca"],
        ),
        house.limiter._backend,
    )
    house.goes_away()
    inside = Envelope("ann@uwo.ca", ["b@uwo.ca"])
    batch = house.try_acquire_many([inside, LETTER, inside])
    assert [each.degraded for each in batch] == [False, True, False]
    assert [each.allowed for each in batch] == [True, False, True]


# Another backend meanwhile.


@colours
def test_another_backend_counts_its_share_meanwhile(colour: str) -> None:
    house = House(colour, fallback(), fallback_share=1 / 4)
    house.goes_away()
    decisions = [house.try_acquire(LETTER) for _ in range(4)]
    assert [each.allowed for each in decisions] == [True, True, False, False]
    assert all(each.degraded for each in decisions)
    refused = decisions[-1]
    assert refused.limit == MessageRateLimit("8/minute")  # the whole, not its share
    assert refused.retry_after == 60
    assert "rate limit exceeded" in str(refused.reply)
    # The backend itself knows nothing of that.
    house.comes_back()
    house.seconds += 1
    assert not house.try_acquire(LETTER).degraded
    assert house.usage("ann@uwo.ca")[0].used == 1


@colours
def test_a_message_that_no_share_has_room_for_is_deferred(colour: str) -> None:
    house = House(colour, fallback(), fallback_share=1 / 8)
    house.goes_away()
    decision = house.try_acquire(LARGE)  # six of the five that are an eighth of forty
    assert (decision.action, decision.degraded) == (Action.DEFER, True)
    assert decision.limit is None
    assert 0 < decision.retry_after <= 0.5
    assert house.try_acquire(LETTER)


@colours
def test_a_refund_goes_to_where_the_charge_is(colour: str) -> None:
    house = House(colour, fallback(), fallback_share=1 / 8)
    before = house.try_acquire(LETTER)
    house.goes_away()
    local = house.try_acquire(LETTER)
    assert not house.try_acquire(LETTER)
    house.refund(local)
    assert house.try_acquire(LETTER)
    house.comes_back()
    house.seconds += 1
    house.refund(before)
    assert house.usage("ann@uwo.ca")[0].used == 0


@colours
def test_what_was_counted_meanwhile_is_refunded_there_also_afterwards(colour: str) -> None:
    house = House(colour, fallback(), fallback_share=1 / 8)
    house.goes_away()
    local = house.try_acquire(LETTER)
    house.comes_back()
    house.seconds += 1
    assert not house.try_acquire(LETTER).degraded
    house.refund(local)
    assert house.usage("ann@uwo.ca")[0].used == 1
    house.goes_away()
    assert house.try_acquire(LETTER)


@colours
def test_bookings_and_waits_go_on_in_the_other_backend(colour: str) -> None:
    house = House(colour, fallback(), fallback_share=1 / 8)
    house.goes_away()
    assert house.acquire(LETTER).degraded
    assert house.acquire(LETTER).degraded
    assert house.slept == [60]
    reservation = house.reserve(LETTER)
    assert reservation.delay == 120
    if colour == "blocking":
        reservation.cancel()
    else:
        asyncio.run(reservation.cancel())
    assert house.reserve(LETTER).delay == 120
    with pytest.raises(RateLimitExceeded) as caught:
        house.reserve(LETTER, max_delay=5)
    assert caught.value.decision.degraded
    assert caught.value.decision.limit == MessageRateLimit("8/minute")


@colours
def test_an_id_is_charged_once_in_the_other_backend(colour: str) -> None:
    house = House(colour, fallback(), fallback_share=1 / 4)
    job = Envelope("ann@uwo.ca", ["b@x.org"], id="job-1")
    house.goes_away()
    assert all(house.try_acquire(job) for _ in range(5))
    assert house.try_acquire(LETTER)
    assert not house.try_acquire(LETTER)


@colours
def test_a_batch_is_decided_in_order_by_the_other_backend(colour: str) -> None:
    house = House(colour, fallback(), fallback_share=1 / 4)
    house.goes_away()
    for expected in ([1, 1, 0], [0, 0, 0]):
        decisions = house.try_acquire_many([LETTER] * 3)
        assert [bool(each) for each in decisions] == expected
        assert all(each.degraded for each in decisions)


@colours
def test_an_other_backend_that_fails_too_says_so(colour: str) -> None:
    clock = ManualClock()
    other = Sometimes(clock)
    house = House(colour, other if colour == "blocking" else Awaited(other))
    house.goes_away()
    other.error = BackendUnavailable("nor is the other one there")
    with pytest.raises(BackendUnavailable, match="nor is the other one there"):
        house.try_acquire(LETTER)


# What only the backend can give, and what is no outage.


@colours
@pytest.mark.parametrize("instead", ["raise", "allow", "deny", "memory"])
def test_usage_and_reset_raise_whatever_is_done_instead(colour: str, instead: str) -> None:
    house = House(colour, fallback() if instead == "memory" else instead)
    house.goes_away()
    for verb in (house.usage, house.reset):
        for pause in (0, 1):
            house.seconds += pause
            with pytest.raises(BackendUnavailable):
                verb("ann@uwo.ca")


@colours
@pytest.mark.parametrize("instead", ["raise", "allow", "deny", "memory"])
def test_what_does_not_pass_by_itself_is_raised_always(colour: str, instead: str) -> None:
    house = House(colour, fallback() if instead == "memory" else instead)
    house.goes_away(BROKEN)
    for _ in range(3):
        with pytest.raises(BackendError) as caught:
            house.try_acquire(LETTER)
        assert caught.value is BROKEN
    assert house.tried() == 3  # it is no outage
    with pytest.raises(BackendError):
        house.try_acquire_many([LETTER])


@colours
def test_a_try_that_meets_another_error_lets_the_next_one_try(colour: str) -> None:
    house = House(colour, "allow")
    house.goes_away()
    house.try_acquire(LETTER)
    house.seconds += 1
    house.goes_away(BROKEN)
    for _ in range(2):
        with pytest.raises(BackendError):
            house.try_acquire(LETTER)
    house.comes_back()
    assert not house.try_acquire(LETTER).degraded


@colours
def test_a_refund_that_fails_can_be_asked_for_again(colour: str) -> None:
    house = House(colour)
    decision = house.try_acquire(LETTER)
    house.goes_away()
    with pytest.raises(BackendUnavailable):
        house.check(LETTER)
    for _ in range(2):
        with pytest.raises(BackendUnavailable):
            house.refund(decision)
    house.comes_back()
    house.seconds += 1
    house.refund(decision)
    assert house.usage("ann@uwo.ca")[0].used == 0


@colours
@pytest.mark.parametrize("instead", ["allow", "deny", "memory"])
def test_a_refund_that_is_lost_is_told(
    colour: str, instead: str, caplog: pytest.LogCaptureFixture
) -> None:
    house = House(colour, fallback() if instead == "memory" else instead)
    decision = house.try_acquire(LETTER)
    house.goes_away()
    house.refund(decision)
    (lost,) = (each for each in told(caplog) if each[1].startswith("a refund is lost"))
    assert lost[0] == "WARNING"
    house.comes_back()
    house.seconds += 1
    assert house.usage("ann@uwo.ca")[0].used == 1


def test_a_wait_that_is_broken_off_while_it_is_away_raises_what_broke_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    backend = Sometimes(ManualClock())

    def sleep(_: float) -> None:
        backend.error = UNREACHABLE
        raise KeyboardInterrupt

    limiter = Limiter(
        Policy(name="test", limits=[MessageRateLimit("1/minute")]), backend, sleep=sleep
    )
    assert limiter.acquire(LETTER)
    with pytest.raises(KeyboardInterrupt):
        limiter.acquire(LETTER)
    assert ("WARNING", "a wait that was broken off stays counted: the server is away") in told(
        caplog
    )


# Tries that end without an answer.


def test_a_try_that_is_interrupted_lets_the_next_one_try() -> None:
    house = House("blocking", "allow")
    house.goes_away()
    house.try_acquire(LETTER)
    house.seconds += 1
    house.goes_away(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        house.try_acquire(LETTER)
    house.comes_back()
    assert not house.try_acquire(LETTER).degraded


def silent_house() -> House:
    """A limiter whose backend went away a while ago, and now takes messages without an answer."""
    house = House("awaited", "allow")
    house.goes_away()
    house.try_acquire(LETTER)
    house.comes_back()
    house.seconds += 1
    house.tried()
    house.awaited.silent = True
    return house


def test_one_task_at_a_time_tries_and_the_others_do_not_wait_for_it() -> None:
    house = silent_house()

    async def come_together() -> list[Decision]:
        trying = asyncio.create_task(house.limiter.try_acquire(LETTER))
        await asyncio.sleep(0)
        others = await asyncio.gather(*(house.limiter.try_acquire(LETTER) for _ in range(10)))
        assert not trying.done()
        trying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await trying
        return others

    assert all(each.degraded for each in asyncio.run(come_together()))
    assert house.tried() == 1


def test_a_try_that_is_cancelled_lets_the_next_one_try() -> None:
    house = silent_house()

    async def cancel_one() -> None:
        trying = asyncio.create_task(house.limiter.try_acquire(LETTER))
        await asyncio.sleep(0)
        trying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await trying

    asyncio.run(cancel_one())
    house.awaited.silent = False
    assert not house.try_acquire(LETTER).degraded


def test_a_try_that_nobody_awaits_any_more_lets_the_next_one_try() -> None:
    house = silent_house()

    async def throw_one_away() -> None:
        trying = house.limiter.try_acquire(LETTER)
        trying.send(None)
        trying.close()

    asyncio.run(throw_one_away())
    house.awaited.silent = False
    assert not house.try_acquire(LETTER).degraded


# Arguments.


@pytest.mark.parametrize("instead", ["ignore", "", "Raise", None, 5, ["allow"], MemoryBackend])
@pytest.mark.parametrize("kind", [Limiter, AsyncLimiter])
def test_what_is_nothing_to_do_instead_is_named(kind: Any, instead: Any) -> None:
    with pytest.raises(
        TypeError,
        match=r"on_backend_error: .* is neither 'raise', 'allow' or 'deny', nor a backend",
    ):
        kind(POLICY, on_backend_error=instead)


def test_another_backend_of_the_other_colour_is_refused() -> None:
    clock = ManualClock()
    with pytest.raises(TypeError, match=r"on_backend_error: .* must be awaited: use AsyncLimiter"):
        Limiter(POLICY, on_backend_error=InlineAdapter(MemoryBackend(clock)))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"on_backend_error: .* would block the event loop"):
        AsyncLimiter(POLICY, on_backend_error=BruteForceBackend(clock))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [Limiter, AsyncLimiter])
def test_memory_does_instead_in_both_colours(kind: Any) -> None:
    assert kind(POLICY, on_backend_error=MemoryBackend())
