"""Idempotency: a repeated request returns the first answer and is not charged again."""

from __future__ import annotations

import asyncio
import gc
import math
import threading
import tracemalloc
import uuid
from email.message import EmailMessage
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rlm_testkit.builders import campus_policy, envelope_to
from rlm_testkit.servers import Server, wait_until

from ratelimit_mail import (
    AsyncLimiter,
    Decision,
    Envelope,
    Limiter,
    MessageRateLimit,
    RateLimitExceeded,
    RecipientRateLimit,
)
from ratelimit_mail.backends import MemoryBackend, RedisBackend
from ratelimit_mail.limits import Limit
from ratelimit_mail.testing import ManualClock

DAY = 86_400

WITHOUT_ID = envelope_to(["b@x.org"])


def identified(number: object = 1) -> Envelope:
    """Return an envelope with an id."""
    return envelope_to(["b@x.org"], id=f"job-{number}")


def limiter_and_backend(
    *limits: Limit, remember: float = 3600
) -> tuple[Limiter, MemoryBackend, ManualClock]:
    clock = ManualClock()
    backend = MemoryBackend(clock)
    limiter = Limiter(campus_policy(*limits), backend, remember=remember, sleep=clock.advance)
    return limiter, backend, clock


def used(limiter: Limiter) -> int:
    return limiter.usage("ann@uwo.ca")[0].used


def remembered(backend: MemoryBackend) -> int:
    """Return how many answers a backend holds."""
    return len(backend._idempotency._answers)


# What an id is.


@pytest.mark.parametrize("envelope_id", ["1", " ", "a:b", "\u00e9", "\U0001f4e7", "x" * 512])
def test_an_id_is_any_printable_text(envelope_id: str) -> None:
    envelope = envelope_to(["b@x.org"], id=envelope_id)
    assert envelope.id == envelope_id
    limiter, _, _ = limiter_and_backend(MessageRateLimit("9/day"))
    assert all(limiter.try_acquire(envelope) for _ in range(2))
    assert used(limiter) == 1


@pytest.mark.parametrize("envelope_id", ["", "a\nb", "\x00", "\u2028", "\ud800", "x" * 513])
def test_an_id_that_is_not_printable_or_too_long_raises(envelope_id: str) -> None:
    with pytest.raises(ValueError, match=r"id: .* is not 1 to 512 printable characters") as caught:
        Envelope("ann@uwo.ca", ["b@x.org"], id=envelope_id)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("envelope_id", [5, 0, True, b"1", uuid.UUID(int=5), ["1"]])
def test_an_id_that_is_not_a_string_raises(envelope_id: Any) -> None:
    with pytest.raises(TypeError, match="id: a string is needed, not"):
        Envelope("ann@uwo.ca", ["b@x.org"], id=envelope_id)


def test_envelopes_with_different_ids_are_not_equal() -> None:
    assert WITHOUT_ID.id is None
    assert identified() != WITHOUT_ID
    assert identified() == identified()
    assert identified() != identified(2)


def test_the_id_is_an_argument_and_never_the_message_id_header() -> None:
    message = EmailMessage()
    message["From"], message["To"] = "ann@uwo.ca", "b@x.org"
    message["Message-ID"] = "<1@uwo.ca>"
    assert Envelope.from_message(message).id is None
    assert Envelope.from_message(message, id="job-1") == identified()


@pytest.mark.parametrize("remember", [0, -1, math.nan, math.inf, -math.inf, 0.000_1, 367 * DAY])
@pytest.mark.parametrize("limiter_class", [Limiter, AsyncLimiter])
def test_a_remember_time_out_of_range_raises(limiter_class: Any, remember: float) -> None:
    with pytest.raises(ValueError, match=r"remember: .* is not a number of seconds"):
        limiter_class(campus_policy(), remember=remember)


@pytest.mark.parametrize("remember", ["60", True, [60]])
@pytest.mark.parametrize("limiter_class", [Limiter, AsyncLimiter])
def test_a_remember_time_that_is_not_a_number_raises(limiter_class: Any, remember: Any) -> None:
    with pytest.raises(TypeError, match="remember: seconds are needed"):
        limiter_class(campus_policy(), remember=remember)


# Which requests are repetitions.


texts = st.text(st.characters(categories=["L", "N", "P"]) | st.just(" "), min_size=1, max_size=6)
addresses = st.sampled_from(["a@x.org", "b@x.org", "1@x.org", '"test:sender"@x.org'])
requests = st.tuples(
    st.none() | texts | addresses,
    st.sampled_from(["a@x.org", "b@x.org", "<>"]),
    st.lists(addresses, min_size=1, max_size=3, unique=True),
)


@given(requests, requests)
def test_different_requests_are_charged_twice_and_a_repeated_one_once(
    first: Any, second: Any
) -> None:
    limiter, _, _ = limiter_and_backend(MessageRateLimit("9/day", scope="global"))
    for envelope_id, sender, recipients in (first, second):
        assert limiter.try_acquire(Envelope(sender, recipients, id=envelope_id))
    is_repeated = first == second and first[0] is not None
    assert limiter.usage(scope="global")[0].used == (1 if is_repeated else 2)


def test_limiters_of_one_policy_on_one_backend_share_answers() -> None:
    clock = ManualClock()
    backend = MemoryBackend(clock)
    one, two = (Limiter(campus_policy(MessageRateLimit("2/day")), backend) for _ in range(2))
    decisions = one.try_acquire(identified()), two.try_acquire(identified())
    assert used(one) == 1
    assert two.try_acquire(WITHOUT_ID)
    one.refund(decisions[0])
    two.refund(decisions[1])
    assert used(two) == 1


def test_an_answer_is_repeated_under_a_policy_that_has_changed_since() -> None:
    clock = ManualClock()
    backend = MemoryBackend(clock)
    minute, hour = MessageRateLimit("9/minute"), MessageRateLimit("1/hour")
    before = Limiter(campus_policy(minute, hour), backend)
    since = Limiter(campus_policy(MessageRateLimit("5/minute")), backend)
    assert before.try_acquire(WITHOUT_ID)
    assert before.try_acquire(identified()).limit == hour
    assert since.try_acquire(identified()).retry_after == 3600
    assert since.try_acquire(identified(2))


def test_a_refund_of_an_expired_answer_leaves_the_later_charge() -> None:
    limiter, _, clock = limiter_and_backend(MessageRateLimit("9/minute"), remember=10)
    first = limiter.try_acquire(identified())
    clock.advance(10)
    assert limiter.try_acquire(identified())
    limiter.refund(first)
    assert used(limiter) == 1
    assert limiter.try_acquire(identified())
    assert used(limiter) == 1


def test_an_answer_that_needs_no_backend_is_not_remembered() -> None:
    limiter, backend, _ = limiter_and_backend(MessageRateLimit("1/day", count="external"))
    internal = envelope_to(["b@uwo.ca"], id="job-1")
    for _ in range(3):
        assert limiter.try_acquire(internal)
        assert limiter.acquire(internal)
    assert remembered(backend) == 0


def test_threads_that_use_the_same_id_are_charged_once() -> None:
    limiter = Limiter(campus_policy(MessageRateLimit("1000/day")))
    threads, ids = 8, 50
    barrier = threading.Barrier(threads)
    decisions: list[Decision] = []

    def work() -> None:
        for number in range(ids):
            barrier.wait(timeout=30)
            decisions.append(limiter.try_acquire(identified(number)))

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for thread in workers:
        thread.start()
    for thread in workers:
        thread.join()
    assert len(decisions) == threads * ids
    assert all(decisions)
    assert used(limiter) == ids
    for decision in decisions:
        limiter.refund(decision)
    assert used(limiter) == 0


async def test_an_async_limiter_repeats_first_answers_too() -> None:
    clock = ManualClock()
    limiter = AsyncLimiter(
        campus_policy(MessageRateLimit("2/minute")),
        MemoryBackend(clock),
        remember=90,
        sleep=clock.sleep,
    )
    assert all([await limiter.try_acquire(identified()) for _ in range(3)])
    assert all(
        await limiter.try_acquire_many([identified(), identified(2), identified(), identified(2)])
    )
    assert not await limiter.try_acquire(identified(3))
    start = clock()
    for _ in range(2):
        assert await limiter.acquire(identified(4))
        assert clock() - start == 60_000
    first, again = await limiter.reserve(identified(5)), await limiter.reserve(identified(5))
    assert first.at == again.at
    clock.advance(29.999)
    assert await limiter.try_acquire(identified())
    assert (await limiter.usage("ann@uwo.ca"))[0].used == 2
    clock.advance(0.001)
    assert not await limiter.try_acquire(identified())


async def test_after_a_cancelled_wait_the_same_id_is_a_new_request() -> None:
    clock = ManualClock()
    limiter = AsyncLimiter(campus_policy(MessageRateLimit("1/minute")), MemoryBackend(clock))
    assert await limiter.try_acquire(WITHOUT_ID)
    waiting = asyncio.create_task(limiter.acquire(identified()))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (await limiter.reserve(WITHOUT_ID)).delay == 60
    assert (await limiter.reserve(identified())).delay == 120


def test_a_refused_wait_is_repeated_with_the_time_that_remains() -> None:
    limiter, _, clock = limiter_and_backend(
        MessageRateLimit("1/minute"), RecipientRateLimit("9/day")
    )
    assert limiter.try_acquire(WITHOUT_ID)
    for wait in (60, 59):
        with pytest.raises(RateLimitExceeded) as caught:
            limiter.acquire(identified(), timeout=0)
        assert caught.value.decision.retry_after == wait
        assert caught.value.decision.limit == MessageRateLimit("1/minute")
        clock.advance(1)


# What is remembered, and for how long.


def test_answers_are_forgotten_when_they_expire() -> None:
    limiter, backend, clock = limiter_and_backend(MessageRateLimit("1000/hour"), remember=60)
    for number in range(5_000):
        clock.advance(1)
        limiter.try_acquire(identified(number))
        assert remembered(backend) <= 61


def test_refusals_are_forgotten_when_they_expire() -> None:
    limiter, backend, clock = limiter_and_backend(MessageRateLimit("1/minute"), remember=600)
    for number in range(5_000):
        clock.advance(1)
        limiter.try_acquire(identified(number))
    assert remembered(backend) <= 601


def test_a_flood_of_ids_is_forgotten_by_later_calls_with_other_ids() -> None:
    limiter, backend, clock = limiter_and_backend(MessageRateLimit("100000/day"), remember=60)
    for number in range(5_000):
        limiter.try_acquire(identified(number))
    assert remembered(backend) == 5_000
    clock.advance(60)
    for number in range(5_000):
        limiter.try_acquire(identified(f"later-{number}"))
        clock.advance(0.1)
    assert remembered(backend) <= 601


def test_a_refunded_answer_is_not_remembered() -> None:
    limiter, backend, _ = limiter_and_backend(MessageRateLimit("9/day"))
    for number in range(1000):
        limiter.refund(limiter.try_acquire(identified(number)))
    assert limiter.check(WITHOUT_ID)
    assert remembered(backend) == 0


def test_an_answer_with_a_long_lifetime_does_not_keep_shorter_ones() -> None:
    _, backend, clock = limiter_and_backend()
    limit = MessageRateLimit("100000/day")
    long, short = (
        Limiter(campus_policy(limit, name=policy_name), backend, remember=seconds)
        for policy_name, seconds in (("long", 7 * DAY), ("short", 60))
    )
    for number in range(2):
        long.try_acquire(identified(number))
    for number in range(5000):
        clock.advance(1)
        short.try_acquire(identified(number))
    assert remembered(backend) <= 200


def test_answers_are_forgotten_after_the_clock_was_a_year_ahead() -> None:
    limiter, backend, clock = limiter_and_backend(MessageRateLimit("100000/hour"), remember=60)
    start = clock()
    clock.set(start + 365 * DAY * 1000)
    for number in range(2):
        limiter.try_acquire(identified(f"ahead-{number}"))
    clock.set(start)
    for number in range(5000):
        clock.advance(1)
        limiter.try_acquire(identified(number))
    assert remembered(backend) <= 200


# Refunds after an answer expired, on a server.


def test_a_refund_of_an_expired_answer_counts_after_the_request_was_charged_anew(
    server: Server,
) -> None:
    clock = ManualClock()
    with server.client() as client:
        backend = RedisBackend(client, prefix=f"test-{uuid.uuid4().hex}:", clock=clock)
        limiter = Limiter(campus_policy(MessageRateLimit("9/minute")), backend, remember=10)
        first = limiter.try_acquire(identified())
        clock.advance(10)
        second = limiter.try_acquire(identified())
        assert used(limiter) == 2
        limiter.refund(first)
        assert used(limiter) == 1
        limiter.refund(second)
        assert used(limiter) == 0


def test_two_holders_of_an_answer_refund_it_once_also_after_it_expired(server: Server) -> None:
    prefix = f"test-{uuid.uuid4().hex}:"
    with server.client() as client:

        def remembered_keys() -> list[bytes]:
            keys = client.scan_iter(match=f"{prefix}*", count=10_000)
            return [key for key in keys if client.type(key) == b"string"]

        policy = campus_policy(MessageRateLimit("9/day"))
        limiter = Limiter(policy, RedisBackend(client, prefix=prefix), remember=0.5)
        # In one batch, so that they are counted at the same moment.
        first, _ = limiter.try_acquire_many([identified(), WITHOUT_ID])
        second = limiter.try_acquire(identified())
        assert len(remembered_keys()) == 1
        wait_until(lambda: not remembered_keys())
        limiter.refund(first)
        limiter.refund(second)
        assert used(limiter) == 1


def test_ids_whose_messages_were_refunded_take_no_memory() -> None:
    clock = ManualClock()
    limiter = Limiter(campus_policy(MessageRateLimit("100000/day")), MemoryBackend(clock))

    def send_and_refund(numbers: range) -> None:
        for number in numbers:
            limiter.refund(limiter.try_acquire(identified(number)))
        limiter.usage("ann@uwo.ca")  # which applies the last refund

    send_and_refund(range(500))
    tracemalloc.start()
    send_and_refund(range(500, 3500))
    gc.collect()  # the interpreter keeps some tuples that were freed until then
    allocated, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert allocated < 100_000
    assert limiter.usage("ann@uwo.ca")[0].used == 0
