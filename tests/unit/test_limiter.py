"""The verbs of both limiters: what they take, what they refuse, who may take back what."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

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

LETTER = Envelope("ann@uwo.ca", ["bob@example.com"])
INTERNAL = Envelope("ann@uwo.ca", ["bob@uwo.ca"])


def policy(*limits: Any, name: str = "test") -> Policy:
    return Policy(name=name, limits=limits, internal_domains=["uwo.ca"])


def limiter_of(*limits: Any) -> tuple[Limiter, ManualClock]:
    clock = ManualClock()
    return Limiter(policy(*limits), MemoryBackend(clock), sleep=clock.advance), clock


class NoBackend:
    """A backend that must not be asked."""

    def _asked(self, *_: object) -> Any:
        raise AssertionError("the backend was asked")

    apply = apply_many = shard_of = refund = now = usage = reset = _asked


def test_a_message_with_nothing_to_count_touches_no_backend() -> None:
    limiter = Limiter(policy(MessageRateLimit("1/day", count="external")), NoBackend())
    assert limiter.try_acquire(INTERNAL)
    assert limiter.check(INTERNAL)
    assert limiter.acquire(INTERNAL)
    assert limiter.reserve(INTERNAL).delay == 0
    limiter.refund(limiter.try_acquire(INTERNAL))


def test_too_many_recipients_touch_no_backend() -> None:
    limiter = Limiter(policy(RecipientLimit(1), MessageRateLimit("1/day")), NoBackend())
    many = Envelope("ann@uwo.ca", ["b@x.org", "c@x.org"])
    for decision in (limiter.try_acquire(many), limiter.check(many)):
        assert (decision.action, decision.retry_after) == (Action.REJECT, None)
        assert decision.limit == RecipientLimit(1)
    with pytest.raises(RateLimitExceeded):
        limiter.acquire(many)


def test_the_limit_that_rejects_speaks_before_one_that_defers_for_longer() -> None:
    defers = MessageRateLimit("1/day")
    rejects = RecipientRateLimit("1/minute", on_excess="reject")
    limiter, _ = limiter_of(defers, rejects)
    assert limiter.try_acquire(LETTER)
    decision = limiter.try_acquire(LETTER)
    assert (decision.action, decision.limit) == (Action.REJECT, rejects)
    assert decision.retry_after == 86_400


def test_of_two_limits_that_defer_the_one_that_holds_longest_speaks() -> None:
    limiter, clock = limiter_of(MessageRateLimit("1/minute"), MessageRateLimit("1/hour"))
    assert limiter.try_acquire(LETTER)
    assert limiter.try_acquire(LETTER).limit == MessageRateLimit("1/hour")
    clock.advance(60)
    assert limiter.try_acquire(LETTER).limit == MessageRateLimit("1/hour")


def test_a_decision_names_the_tier() -> None:
    by_smtp = Tier("submission", when=protocol("smtp"), limits=[MessageRateLimit("1/minute")])
    limiter = Limiter(Policy(name="tiers", tiers=[by_smtp]))
    smtp = Envelope("ann@uwo.ca", ["b@x.org"], Client(protocol="smtp"))
    assert limiter.try_acquire(smtp).tier == "submission"
    assert limiter.try_acquire(smtp).tier == "submission"
    assert limiter.try_acquire(LETTER).tier is None


@pytest.mark.parametrize("timeout", [-1, -0.001, math.nan, -math.inf])
def test_a_wait_of_less_than_nothing_is_refused(timeout: float) -> None:
    limiter, _ = limiter_of(MessageRateLimit("1/day"))
    with pytest.raises(ValueError, match=r"timeout: .* is not a number of seconds"):
        limiter.acquire(LETTER, timeout=timeout)
    with pytest.raises(ValueError, match="max_delay"):
        limiter.reserve(LETTER, max_delay=timeout)
    with pytest.raises(ValueError, match="timeout"):
        limiter.limited(timeout=timeout)
    assert limiter.usage("ann@uwo.ca")[0].used == 0


@pytest.mark.parametrize("timeout", ["60", True, [1]])
def test_a_wait_that_is_no_number_is_refused(timeout: Any) -> None:
    limiter, _ = limiter_of(MessageRateLimit("1/day"))
    with pytest.raises(TypeError, match="timeout: seconds are needed"):
        limiter.acquire(LETTER, timeout=timeout)


@pytest.mark.parametrize("timeout", [None, math.inf, 86_400])
def test_a_wait_that_is_long_enough_waits(timeout: float | None) -> None:
    limiter, clock = limiter_of(MessageRateLimit("1/day"))
    start = clock()
    assert limiter.acquire(LETTER, timeout)
    assert limiter.acquire(LETTER, timeout)
    assert clock() - start == 86_400_000


def test_a_timeout_that_cannot_be_met_raises_at_once_and_charges_nothing() -> None:
    limiter, clock = limiter_of(MessageRateLimit("1/minute"))
    assert limiter.acquire(LETTER)
    start = clock()
    with pytest.raises(RateLimitExceeded) as caught:
        limiter.acquire(LETTER, timeout=59)
    assert clock() == start
    assert caught.value.decision.retry_after == 60
    assert "it fits in 60 seconds" in str(caught.value)
    assert limiter.acquire(LETTER, timeout=60)


def test_what_waits_behind_others_of_its_sender_names_a_limit() -> None:
    limiter, _ = limiter_of(RecipientRateLimit("5/minute"))
    assert limiter.acquire(Envelope("ann@uwo.ca", [f"r{i}@x.org" for i in range(4)]))
    limiter.reserve(Envelope("ann@uwo.ca", [f"r{i}@x.org" for i in range(2)]))
    with pytest.raises(RateLimitExceeded) as caught:
        limiter.reserve(LETTER, max_delay=1)
    decision = caught.value.decision
    assert (decision.limit, decision.retry_after) == (RecipientRateLimit("5/minute"), 60)


def test_behind_others_of_its_sender_the_limit_with_the_least_room_speaks() -> None:
    day = RecipientRateLimit("5/day")
    limiter, _ = limiter_of(MessageRateLimit("100/minute", on_excess="reject"), day)
    assert limiter.acquire(Envelope("ann@uwo.ca", [f"r{i}@x.org" for i in range(4)]))
    limiter.reserve(Envelope("ann@uwo.ca", [f"r{i}@x.org" for i in range(3)]))
    with pytest.raises(RateLimitExceeded) as caught:
        limiter.reserve(LETTER, max_delay=5)
    decision = caught.value.decision
    assert (decision.action, decision.limit) == (Action.DEFER, day)


def test_a_wait_that_is_interrupted_gives_its_place_back() -> None:
    clock = ManualClock()

    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    limiter = Limiter(policy(MessageRateLimit("1/minute")), MemoryBackend(clock), sleep=interrupted)
    assert limiter.acquire(LETTER)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            limiter.acquire(LETTER)
    assert limiter.reserve(LETTER).delay == 60


def test_a_decision_is_refunded_once() -> None:
    limiter, _ = limiter_of(MessageRateLimit("2/minute"))
    decision = limiter.try_acquire(LETTER)
    assert limiter.try_acquire(LETTER)
    limiter.refund(decision)
    with pytest.raises(ValueError, match="refunded or cancelled already"):
        limiter.refund(decision)
    assert limiter.usage("ann@uwo.ca")[0].used == 1


def test_what_was_not_charged_cannot_be_refunded() -> None:
    limiter, _ = limiter_of(MessageRateLimit("1/minute"))
    looked_at = limiter.check(LETTER)
    assert limiter.try_acquire(LETTER)
    for decision in (looked_at, limiter.try_acquire(LETTER), limiter.check(LETTER)):
        with pytest.raises(ValueError, match="nothing to refund"):
            limiter.refund(decision)
    with pytest.raises(TypeError, match="a Decision is needed, not True"):
        limiter.refund(True)  # type: ignore[arg-type]
    assert limiter.usage("ann@uwo.ca")[0].used == 1


def test_a_decision_is_refunded_where_it_was_made() -> None:
    backend = MemoryBackend()
    limiter, other = (Limiter(policy(MessageRateLimit("1/minute")), backend) for _ in range(2))
    decision = limiter.try_acquire(LETTER)
    with pytest.raises(ValueError, match="another limiter"):
        other.refund(decision)
    limiter.refund(decision)
    assert other.try_acquire(LETTER)


def test_a_reservation_is_cancelled_once() -> None:
    limiter, _ = limiter_of(MessageRateLimit("1/minute"))
    reservation = limiter.reserve(LETTER)
    assert reservation.decision.allowed
    reservation.cancel()
    with pytest.raises(ValueError, match="already"):
        reservation.cancel()
    with pytest.raises(ValueError, match="already"):
        limiter.refund(reservation.decision)


def test_usage_and_reset_take_any_scope() -> None:
    limiter, _ = limiter_of(
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
def test_a_subject_that_is_none_is_named(subject: Any, scope: Any, error: Any) -> None:
    limiter, _ = limiter_of(MessageRateLimit("9/minute"))
    for verb in (limiter.usage, limiter.reset):
        with pytest.raises(error):
            verb(subject, scope=scope)


def test_usage_reads_the_limits_of_the_clients_tier() -> None:
    tier = Tier("submission", when=protocol("smtp"), limits=[MessageRateLimit("3/minute")])
    limiter = Limiter(Policy(name="t", limits=[MessageRateLimit("9/day")], tiers=[tier]))
    assert [u.limit.limit for u in limiter.usage("ann@uwo.ca")] == [9]
    usages = limiter.usage("ann@uwo.ca", client=Client(protocol="smtp"))
    assert [u.limit.limit for u in usages] == [9, 3]


def test_a_backend_of_the_other_colour_is_refused() -> None:
    with pytest.raises(TypeError, match="AsyncLimiter"):
        Limiter(policy(), InlineAdapter(MemoryBackend()))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Limiter"):
        AsyncLimiter(policy(), NoBackend())


def test_what_is_no_backend_is_named() -> None:
    for kind in (Limiter, AsyncLimiter):
        with pytest.raises(TypeError, match="backend: 5 is not a backend such as"):
            kind(policy(), 5)  # type: ignore[arg-type]


def test_what_is_no_policy_and_no_envelope_is_named() -> None:
    with pytest.raises(TypeError, match="a Policy is needed"):
        Limiter("leeds")  # type: ignore[arg-type]
    limiter, _ = limiter_of()
    with pytest.raises(TypeError, match="an Envelope is needed, not"):
        limiter.try_acquire("ann@uwo.ca")  # type: ignore[arg-type]


def test_a_clock_in_seconds_is_refused() -> None:
    with pytest.raises(TypeError, match="integer milliseconds"):
        MemoryBackend(clock=lambda: 1.5)  # type: ignore[arg-type,return-value]


async def test_the_async_limiter_has_the_same_verbs() -> None:
    clock = ManualClock()
    limiter = AsyncLimiter(
        policy(RecipientLimit(2), MessageRateLimit("1/minute")),
        MemoryBackend(clock),
        sleep=clock.sleep,
    )
    decision = await limiter.try_acquire(LETTER)
    assert decision
    assert (await limiter.try_acquire(LETTER)).retry_after == 60
    assert (await limiter.check(LETTER)).retry_after == 60
    (usage,) = await limiter.usage("ann@uwo.ca")
    assert usage.used == 1
    await limiter.refund(decision)
    reservation = await limiter.reserve(LETTER)
    await reservation.cancel()
    with pytest.raises(ValueError, match="already"):
        await reservation.cancel()
    assert await limiter.acquire(LETTER)
    start = clock()
    assert await limiter.acquire(LETTER)
    assert clock() - start == 60_000
    with pytest.raises(RateLimitExceeded):
        await limiter.acquire(LETTER, timeout=1)
    await limiter.reset("ann@uwo.ca")
    assert await limiter.acquire(LETTER, timeout=0)
    assert await limiter.try_acquire(Envelope("ann@uwo.ca", ["b@x.org"] * 2 + ["c@x.org"])) == (
        await limiter.check(LETTER)
    )
    never = Envelope("ann@uwo.ca", ["a@x.org", "b@x.org", "c@x.org"])
    assert (await limiter.check(never)).retry_after is None
    assert (await limiter.try_acquire(never)).retry_after is None


async def test_a_cancelled_wait_leaves_nothing_charged() -> None:
    clock = ManualClock()
    limiter = AsyncLimiter(policy(MessageRateLimit("1/minute")), MemoryBackend(clock))
    assert await limiter.acquire(LETTER)
    waits = [asyncio.create_task(limiter.acquire(LETTER)) for _ in range(5)]
    await asyncio.sleep(0)
    assert (await limiter.usage("ann@uwo.ca"))[0].resets_in == 360
    for wait in waits:
        wait.cancel()
    assert all(
        isinstance(end, asyncio.CancelledError)
        for end in await asyncio.gather(*waits, return_exceptions=True)
    )
    assert (await limiter.usage("ann@uwo.ca"))[0].resets_in == 60
    assert (await limiter.reserve(LETTER)).delay == 60


def test_a_decision_says_true_only_when_it_accepts() -> None:
    limiter, _ = limiter_of(MessageRateLimit("1/minute"))
    accepted, deferred = limiter.try_acquire(LETTER), limiter.try_acquire(LETTER)
    assert isinstance(accepted, Decision)
    assert (accepted.allowed, bool(accepted), accepted.action) == (True, True, Action.ACCEPT)
    assert (deferred.allowed, bool(deferred), deferred.action) == (False, False, Action.DEFER)


def test_a_timeout_of_retry_after_is_long_enough_to_the_millisecond() -> None:
    for milliseconds in (1001, 2003, 4007, 8191, 16_387, 59_999):
        limiter, clock = limiter_of(MessageRateLimit("1/minute"))
        assert limiter.acquire(LETTER)
        clock.advance((60_000 - milliseconds) / 1000)
        wait = limiter.check(LETTER).retry_after
        assert wait == milliseconds / 1000
        assert limiter.acquire(LETTER, timeout=wait)


def test_a_timeout_of_ages_is_any_time() -> None:
    limiter, _ = limiter_of(MessageRateLimit("1/day"))
    for _ in range(3):
        assert limiter.acquire(LETTER, timeout=10**400)


def test_a_sleep_of_the_other_colour_is_refused() -> None:
    with pytest.raises(TypeError, match=r"sleep: .* is async"):
        Limiter(policy(), sleep=asyncio.sleep)
    for sleep in (ManualClock().advance, print):
        with pytest.raises(TypeError, match=r"sleep: .* is not an async function"):
            AsyncLimiter(policy(), sleep=sleep)  # type: ignore[arg-type]


def test_a_client_that_is_none_is_named() -> None:
    limiter, _ = limiter_of(MessageRateLimit("1/day"))
    with pytest.raises(TypeError, match="client: a Client is needed"):
        limiter.usage("ann@uwo.ca", client="10.0.0.1")  # type: ignore[arg-type]


def test_what_is_not_counted_waits_for_nobody() -> None:
    def never(seconds: float) -> None:
        raise AssertionError("waited")

    clock = ManualClock()
    limit = MessageRateLimit("1/day", count="external")
    limiter = Limiter(policy(limit), MemoryBackend(clock), sleep=never)
    limiter.reserve(LETTER)
    limiter.reserve(LETTER)
    assert limiter.acquire(INTERNAL, timeout=0)
