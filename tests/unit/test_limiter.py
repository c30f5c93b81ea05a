"""The methods of Limiter and AsyncLimiter: arguments, decisions, waits, refunds, usage."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest
from rlm_testkit.builders import campus_policy, envelope_to, limiter_with_clock

from ratelimit_mail import (
    Action,
    AsyncLimiter,
    Client,
    Decision,
    Envelope,
    Limiter,
    MessageRateLimit,
    Policy,
    RateLimitExceeded,
    RecipientLimit,
    RecipientRateLimit,
    Tier,
)
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.backends.adapters import InlineAdapter
from ratelimit_mail.conditions import protocol
from ratelimit_mail.testing import ManualClock

EXTERNAL = envelope_to(["bob@example.com"])
INTERNAL = envelope_to(["bob@uwo.ca"])


class UnusableBackend:
    """A backend that must not be called, except for its blocks."""

    def _fail(self, *_: object) -> Any:
        raise AssertionError("the backend was called")

    apply = apply_many = shard_of = refund = now = usage = top = reset = _fail
    settle = redeem = read_register = write_register = _fail


def limiter_under(*limits: Any) -> tuple[Limiter, ManualClock]:
    return limiter_with_clock(campus_policy(*limits))


def test_a_message_with_nothing_to_count_needs_no_call_of_the_backend() -> None:
    limiter = Limiter(campus_policy(MessageRateLimit("1/day", count="external")), UnusableBackend())
    assert limiter.try_acquire(INTERNAL)
    assert limiter.check(INTERNAL)
    assert limiter.acquire(INTERNAL)
    assert limiter.reserve(INTERNAL).delay == 0
    limiter.refund(limiter.try_acquire(INTERNAL))


def test_a_message_with_too_many_recipients_needs_no_call_of_the_backend() -> None:
    limiter = Limiter(
        campus_policy(RecipientLimit(1), MessageRateLimit("1/day")), UnusableBackend()
    )
    many = envelope_to(2)
    for decision in (limiter.try_acquire(many), limiter.check(many)):
        assert (decision.action, decision.retry_after) == (Action.REJECT, None)
        assert decision.limit == RecipientLimit(1)
    with pytest.raises(RateLimitExceeded):
        limiter.acquire(many)


def test_a_decision_names_a_rejecting_limit_before_one_that_defers_for_longer() -> None:
    defers = MessageRateLimit("1/day")
    rejects = RecipientRateLimit("1/minute", on_excess="reject")
    limiter, _ = limiter_under(defers, rejects)
    assert limiter.try_acquire(EXTERNAL)
    decision = limiter.try_acquire(EXTERNAL)
    assert (decision.action, decision.limit) == (Action.REJECT, rejects)
    assert decision.retry_after == 86_400


def test_of_two_deferring_limits_a_decision_names_the_one_with_the_longest_wait() -> None:
    limiter, clock = limiter_under(MessageRateLimit("1/minute"), MessageRateLimit("1/hour"))
    assert limiter.try_acquire(EXTERNAL)
    assert limiter.try_acquire(EXTERNAL).limit == MessageRateLimit("1/hour")
    clock.advance(60)
    assert limiter.try_acquire(EXTERNAL).limit == MessageRateLimit("1/hour")


def test_a_decision_names_the_tier() -> None:
    by_smtp = Tier("submission", when=protocol("smtp"), limits=[MessageRateLimit("1/minute")])
    limiter = Limiter(Policy(name="tiers", tiers=[by_smtp]))
    smtp = envelope_to(client=Client(protocol="smtp"))
    assert limiter.try_acquire(smtp).tier == "submission"
    assert limiter.try_acquire(smtp).tier == "submission"
    assert limiter.try_acquire(EXTERNAL).tier is None


@pytest.mark.parametrize("timeout", [-1, -0.001, math.nan, -math.inf, -(10**400)])
def test_a_negative_timeout_or_max_delay_raises(timeout: float) -> None:
    limiter, _ = limiter_under(MessageRateLimit("1/day"))
    with pytest.raises(ValueError, match=r"timeout: .* is not a number of seconds"):
        limiter.acquire(EXTERNAL, timeout=timeout)
    with pytest.raises(ValueError, match="max_delay"):
        limiter.reserve(EXTERNAL, max_delay=timeout)
    with pytest.raises(ValueError, match="timeout"):
        limiter.limited(timeout=timeout)
    assert limiter.usage("ann@uwo.ca")[0].used == 0


@pytest.mark.parametrize("limiter_class", [Limiter, AsyncLimiter])
def test_a_sleep_that_cannot_be_called_raises(limiter_class: type[Any]) -> None:
    with pytest.raises(TypeError, match=r"sleep: 5 is not an? "):
        limiter_class(Policy(name="test"), sleep=5)


@pytest.mark.parametrize("timeout", ["60", True, [1]])
def test_a_timeout_that_is_not_a_number_raises(timeout: Any) -> None:
    limiter, _ = limiter_under(MessageRateLimit("1/day"))
    with pytest.raises(TypeError, match="timeout: seconds are needed"):
        limiter.acquire(EXTERNAL, timeout=timeout)


@pytest.mark.parametrize("timeout", [None, math.inf, 86_400])
def test_acquire_waits_if_the_timeout_is_long_enough(timeout: float | None) -> None:
    limiter, clock = limiter_under(MessageRateLimit("1/day"))
    start = clock()
    assert limiter.acquire(EXTERNAL, timeout)
    assert limiter.acquire(EXTERNAL, timeout)
    assert clock() - start == 86_400_000


def test_a_timeout_that_cannot_be_met_raises_at_once_and_charges_nothing() -> None:
    limiter, clock = limiter_under(MessageRateLimit("1/minute"))
    assert limiter.acquire(EXTERNAL)
    start = clock()
    with pytest.raises(RateLimitExceeded) as caught:
        limiter.acquire(EXTERNAL, timeout=59)
    assert clock() == start
    assert caught.value.decision.retry_after == 60
    assert "it fits in 60 seconds" in str(caught.value)
    assert limiter.acquire(EXTERNAL, timeout=60)


def test_a_message_behind_earlier_bookings_of_its_sender_is_deferred_by_a_limit() -> None:
    limiter, _ = limiter_under(RecipientRateLimit("5/minute"))
    assert limiter.acquire(envelope_to(4))
    limiter.reserve(envelope_to(2))
    with pytest.raises(RateLimitExceeded) as caught:
        limiter.reserve(EXTERNAL, max_delay=1)
    decision = caught.value.decision
    assert (decision.limit, decision.retry_after) == (RecipientRateLimit("5/minute"), 60)


def test_a_message_behind_earlier_bookings_is_deferred_by_the_limit_with_the_least_room() -> None:
    day = RecipientRateLimit("5/day")
    limiter, _ = limiter_under(MessageRateLimit("100/minute", on_excess="reject"), day)
    assert limiter.acquire(envelope_to(4))
    limiter.reserve(envelope_to(3))
    with pytest.raises(RateLimitExceeded) as caught:
        limiter.reserve(EXTERNAL, max_delay=5)
    decision = caught.value.decision
    assert (decision.action, decision.limit) == (Action.DEFER, day)


def test_an_interrupted_wait_gives_its_booking_back() -> None:
    clock = ManualClock()

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    limiter = Limiter(
        campus_policy(MessageRateLimit("1/minute")), MemoryBackend(clock), sleep=interrupt
    )
    assert limiter.acquire(EXTERNAL)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            limiter.acquire(EXTERNAL)
    assert limiter.reserve(EXTERNAL).delay == 60


def test_a_decision_is_refunded_once() -> None:
    limiter, _ = limiter_under(MessageRateLimit("2/minute"))
    decision = limiter.try_acquire(EXTERNAL)
    assert limiter.try_acquire(EXTERNAL)
    limiter.refund(decision)
    with pytest.raises(ValueError, match="refunded or cancelled already"):
        limiter.refund(decision)
    assert limiter.usage("ann@uwo.ca")[0].used == 1


def test_a_decision_that_charged_nothing_cannot_be_refunded() -> None:
    limiter, _ = limiter_under(MessageRateLimit("1/minute"))
    checked = limiter.check(EXTERNAL)
    assert limiter.try_acquire(EXTERNAL)
    for decision in (checked, limiter.try_acquire(EXTERNAL), limiter.check(EXTERNAL)):
        with pytest.raises(ValueError, match="nothing to refund"):
            limiter.refund(decision)
    with pytest.raises(TypeError, match="a Decision is needed, not True"):
        limiter.refund(True)  # type: ignore[arg-type]
    assert limiter.usage("ann@uwo.ca")[0].used == 1


def test_a_decision_is_refunded_by_the_limiter_that_made_it() -> None:
    backend = MemoryBackend()
    limiter, other = (
        Limiter(campus_policy(MessageRateLimit("1/minute")), backend) for _ in range(2)
    )
    decision = limiter.try_acquire(EXTERNAL)
    with pytest.raises(ValueError, match="another limiter"):
        other.refund(decision)
    limiter.refund(decision)
    assert other.try_acquire(EXTERNAL)


def test_a_reservation_is_cancelled_once() -> None:
    limiter, _ = limiter_under(MessageRateLimit("1/minute"))
    reservation = limiter.reserve(EXTERNAL)
    assert reservation.decision.allowed
    reservation.cancel()
    with pytest.raises(ValueError, match="already"):
        reservation.cancel()
    with pytest.raises(ValueError, match="already"):
        limiter.refund(reservation.decision)


def test_usage_and_reset_take_any_scope() -> None:
    limiter, _ = limiter_under(
        MessageRateLimit("9/minute", scope="sender_domain"),
        MessageRateLimit("9/minute", scope=("sender", "client")),
        MessageRateLimit("9/minute", scope="recipient"),
        MessageRateLimit("9/minute", scope="user"),
    )
    client = Client(address="10.0.0.1", user="ann")
    assert limiter.try_acquire(Envelope("ann@uwo.ca", ["bob@Example.com"], client))
    pair = ("client", "sender")
    for scope, subject in (
        ("sender_domain", "UWO.ca"),
        (pair, ("10.0.0.1", "ann@uwo.ca")),
        ("recipient", "bob@example.COM"),
        ("user", "ann"),
    ):
        assert [u.used for u in limiter.usage(subject, scope=scope)] == [1]
        limiter.reset(subject, scope=scope)
        assert [u.used for u in limiter.usage(subject, scope=scope)] == [0]
    assert limiter.usage("ann@uwo.ca") == ()


@pytest.mark.parametrize(
    ("subject", "scope", "error"),
    [
        ("ann", "sender", ValueError),
        (None, "sender", ValueError),
        (b"ann@uwo.ca", "sender", (TypeError, ValueError)),
        ("x", "global", ValueError),
        ("ann@uwo.ca", ("sender", "client"), ValueError),
        (("ann@uwo.ca", "10.0.0.1"), "sender", ValueError),
        ("no-ip", "client", ValueError),
        ("ann@uwo.ca", "nobody", ValueError),
    ],
)
def test_an_invalid_subject_or_scope_raises(subject: Any, scope: Any, error: Any) -> None:
    limiter, _ = limiter_under(MessageRateLimit("9/minute"))
    for method in (limiter.usage, limiter.reset):
        with pytest.raises(error):
            method(subject, scope=scope)


def test_usage_reads_the_limits_of_the_clients_tier() -> None:
    tier = Tier("submission", when=protocol("smtp"), limits=[MessageRateLimit("3/minute")])
    limiter = Limiter(Policy(name="t", limits=[MessageRateLimit("9/day")], tiers=[tier]))
    assert [u.limit.limit for u in limiter.usage("ann@uwo.ca")] == [9]
    usages = limiter.usage("ann@uwo.ca", client=Client(protocol="smtp"))
    assert [u.limit.limit for u in usages] == [9, 3]


def test_an_async_backend_for_a_sync_limiter_or_the_reverse_raises() -> None:
    with pytest.raises(TypeError, match="AsyncLimiter"):
        Limiter(campus_policy(), InlineAdapter(MemoryBackend()))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Limiter"):
        AsyncLimiter(campus_policy(), UnusableBackend())


def test_a_backend_that_is_not_one_raises() -> None:
    for limiter_class in (Limiter, AsyncLimiter):
        with pytest.raises(TypeError, match="backend: 5 is not a backend such as"):
            limiter_class(campus_policy(), 5)  # type: ignore[arg-type]


def test_a_policy_or_envelope_of_another_type_raises() -> None:
    with pytest.raises(TypeError, match="a Policy is needed"):
        Limiter("leeds")  # type: ignore[arg-type]
    limiter, _ = limiter_under()
    with pytest.raises(TypeError, match="an Envelope is needed, not"):
        limiter.try_acquire("ann@uwo.ca")  # type: ignore[arg-type]


def test_a_clock_that_returns_seconds_raises() -> None:
    with pytest.raises(TypeError, match="integer milliseconds"):
        MemoryBackend(clock=lambda: 1.5)  # type: ignore[arg-type,return-value]


async def test_an_async_limiter_has_the_same_methods() -> None:
    clock = ManualClock()
    limiter = AsyncLimiter(
        campus_policy(RecipientLimit(2), MessageRateLimit("1/minute")),
        MemoryBackend(clock),
        sleep=clock.sleep,
    )
    decision = await limiter.try_acquire(EXTERNAL)
    assert decision
    assert (await limiter.try_acquire(EXTERNAL)).retry_after == 60
    assert (await limiter.check(EXTERNAL)).retry_after == 60
    (usage,) = await limiter.usage("ann@uwo.ca")
    assert usage.used == 1
    await limiter.refund(decision)
    reservation = await limiter.reserve(EXTERNAL)
    await reservation.cancel()
    with pytest.raises(ValueError, match="already"):
        await reservation.cancel()
    assert await limiter.acquire(EXTERNAL)
    start = clock()
    assert await limiter.acquire(EXTERNAL)
    assert clock() - start == 60_000
    with pytest.raises(RateLimitExceeded):
        await limiter.acquire(EXTERNAL, timeout=1)
    await limiter.reset("ann@uwo.ca")
    assert await limiter.acquire(EXTERNAL, timeout=0)
    assert await limiter.try_acquire(Envelope("ann@uwo.ca", ["b@x.org"] * 2 + ["c@x.org"])) == (
        await limiter.check(EXTERNAL)
    )
    never = envelope_to(3)
    assert (await limiter.check(never)).retry_after is None
    assert (await limiter.try_acquire(never)).retry_after is None


async def test_a_cancelled_wait_leaves_nothing_charged() -> None:
    clock = ManualClock()
    limiter = AsyncLimiter(campus_policy(MessageRateLimit("1/minute")), MemoryBackend(clock))
    assert await limiter.acquire(EXTERNAL)
    tasks = [asyncio.create_task(limiter.acquire(EXTERNAL)) for _ in range(5)]
    await asyncio.sleep(0)
    assert (await limiter.usage("ann@uwo.ca"))[0].resets_in == 360
    for task in tasks:
        task.cancel()
    assert all(
        isinstance(result, asyncio.CancelledError)
        for result in await asyncio.gather(*tasks, return_exceptions=True)
    )
    assert (await limiter.usage("ann@uwo.ca"))[0].resets_in == 60
    assert (await limiter.reserve(EXTERNAL)).delay == 60


def test_a_decision_is_true_only_if_it_accepts() -> None:
    limiter, _ = limiter_under(MessageRateLimit("1/minute"))
    accepted, deferred = limiter.try_acquire(EXTERNAL), limiter.try_acquire(EXTERNAL)
    assert isinstance(accepted, Decision)
    assert (accepted.allowed, bool(accepted), accepted.action) == (True, True, Action.ACCEPT)
    assert (deferred.allowed, bool(deferred), deferred.action) == (False, False, Action.DEFER)


def test_a_timeout_of_retry_after_is_long_enough_to_the_millisecond() -> None:
    for milliseconds in (1001, 2003, 4007, 8191, 16_387, 59_999):
        limiter, clock = limiter_under(MessageRateLimit("1/minute"))
        assert limiter.acquire(EXTERNAL)
        clock.advance((60_000 - milliseconds) / 1000)
        wait = limiter.check(EXTERNAL).retry_after
        assert wait == milliseconds / 1000
        assert limiter.acquire(EXTERNAL, timeout=wait)


def test_a_huge_timeout_waits_for_any_time() -> None:
    limiter, _ = limiter_under(MessageRateLimit("1/day"))
    for _ in range(3):
        assert limiter.acquire(EXTERNAL, timeout=10**400)


def test_an_async_sleep_for_a_sync_limiter_or_the_reverse_raises() -> None:
    with pytest.raises(TypeError, match=r"sleep: .* is async"):
        Limiter(campus_policy(), sleep=asyncio.sleep)
    for sleep in (ManualClock().advance, print):
        with pytest.raises(TypeError, match=r"sleep: .* is not an async function"):
            AsyncLimiter(campus_policy(), sleep=sleep)  # type: ignore[arg-type]


def test_a_client_of_another_type_raises() -> None:
    limiter, _ = limiter_under(MessageRateLimit("1/day"))
    with pytest.raises(TypeError, match="client: a Client is needed"):
        limiter.usage("ann@uwo.ca", client="10.0.0.1")  # type: ignore[arg-type]


def test_a_message_with_nothing_to_count_does_not_wait_behind_bookings() -> None:
    def sleep(seconds: float) -> None:
        raise AssertionError("it waited")

    clock = ManualClock()
    limit = MessageRateLimit("1/day", count="external")
    limiter = Limiter(campus_policy(limit), MemoryBackend(clock), sleep=sleep)
    limiter.reserve(EXTERNAL)
    limiter.reserve(EXTERNAL)
    assert limiter.acquire(INTERNAL, timeout=0)
