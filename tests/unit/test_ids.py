"""Messages with an id: what an id is, who is told a first answer, and how little is kept."""

from __future__ import annotations

import asyncio
import math
import threading
import uuid
from email.message import EmailMessage
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rlm_testkit.servers import Server, wait_until

from ratelimit_mail import (
    AsyncLimiter,
    Decision,
    Envelope,
    Limiter,
    MessageRateLimit,
    Policy,
    RateLimitExceeded,
    RecipientRateLimit,
)
from ratelimit_mail.backends import MemoryBackend, RedisBackend
from ratelimit_mail.limits import Limit
from ratelimit_mail.testing import ManualClock

DAY = 86_400

LETTER = Envelope("ann@uwo.ca", ["b@x.org"])


def job(number: object = 1) -> Envelope:
    return Envelope("ann@uwo.ca", ["b@x.org"], id=f"job-{number}")


def policy_of(*limits: Limit, name: str = "test") -> Policy:
    return Policy(name=name, limits=limits, internal_domains=["uwo.ca"])


def limiter_of(
    *limits: Limit, remember: float = 3600
) -> tuple[Limiter, MemoryBackend, ManualClock]:
    clock = ManualClock()
    backend = MemoryBackend(clock)
    limiter = Limiter(policy_of(*limits), backend, remember=remember, sleep=clock.advance)
    return limiter, backend, clock


def used(limiter: Limiter) -> int:
    return limiter.usage("ann@uwo.ca")[0].used


def remembered(backend: MemoryBackend) -> int:
    """How many answers a backend holds."""
    return len(backend._idempotency._idempotency)


# What an id is.


@pytest.mark.parametrize("known_by", ["1", " ", "a:b", "\u00e9", "\U0001f4e7", "x" * 512])
def test_an_id_is_any_printable_text(known_by: str) -> None:
    envelope = Envelope("ann@uwo.ca", ["b@x.org"], id=known_by)
    assert envelope.id == known_by
    limiter, _, _ = limiter_of(MessageRateLimit("9/day"))
    assert all(limiter.try_acquire(envelope) for _ in range(2))
    assert used(limiter) == 1


@pytest.mark.parametrize("known_by", ["", "a\nb", "\x00", "\u2028", "\ud800", "x" * 513])
def test_what_is_no_printable_text_is_named(known_by: str) -> None:
    with pytest.raises(ValueError, match=r"id: .* is not 1 to 512 printable characters") as caught:
        Envelope("ann@uwo.ca", ["b@x.org"], id=known_by)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("known_by", [5, 0, True, b"1", uuid.UUID(int=5), ["1"]])
def test_what_is_no_text_is_named(known_by: Any) -> None:
    with pytest.raises(TypeError, match="id: a string is needed, not"):
        Envelope("ann@uwo.ca", ["b@x.org"], id=known_by)


def test_an_envelope_without_an_id_is_another_one() -> None:
    assert LETTER.id is None
    assert job() != LETTER
    assert job() == job()
    assert job() != job(2)


def test_a_message_has_the_id_that_the_program_gives_and_never_its_own() -> None:
    message = EmailMessage()
    message["From"], message["To"] = "ann@uwo.ca", "b@x.org"
    message["Message-ID"] = "<1@uwo.ca>"
    assert Envelope.from_message(message).id is None
    assert Envelope.from_message(message, id="job-1") == job()


@pytest.mark.parametrize("remember", [0, -1, math.nan, math.inf, -math.inf, 0.000_1, 367 * DAY])
@pytest.mark.parametrize("kind", [Limiter, AsyncLimiter])
def test_a_time_to_remember_that_is_none_is_named(kind: Any, remember: float) -> None:
    with pytest.raises(ValueError, match=r"remember: .* is no number of seconds"):
        kind(policy_of(), remember=remember)


@pytest.mark.parametrize("remember", ["60", True, [60]])
@pytest.mark.parametrize("kind", [Limiter, AsyncLimiter])
def test_a_time_to_remember_that_is_no_number_is_named(kind: Any, remember: Any) -> None:
    with pytest.raises(TypeError, match="remember: seconds are needed"):
        kind(policy_of(), remember=remember)


# Who is told a first answer.


words = st.text(st.characters(categories=["L", "N", "P"]) | st.just(" "), min_size=1, max_size=6)
names = st.sampled_from(["a@x.org", "b@x.org", "1@x.org", '"test:sender"@x.org'])
questions = st.tuples(
    st.none() | words | names,
    st.sampled_from(["a@x.org", "b@x.org", "<>"]),
    st.lists(names, min_size=1, max_size=3, unique=True),
)


@given(questions, questions)
def test_two_questions_are_charged_twice_and_one_is_charged_once(one: Any, other: Any) -> None:
    limiter, _, _ = limiter_of(MessageRateLimit("9/day", scope="global"))
    for known_by, sender, recipients in (one, other):
        assert limiter.try_acquire(Envelope(sender, recipients, id=known_by))
    same = one == other and one[0] is not None
    assert limiter.usage(scope="global")[0].used == (1 if same else 2)


def test_limiters_of_one_policy_on_one_backend_tell_the_same() -> None:
    clock = ManualClock()
    backend = MemoryBackend(clock)
    one, two = (Limiter(policy_of(MessageRateLimit("2/day")), backend) for _ in range(2))
    held = one.try_acquire(job()), two.try_acquire(job())
    assert used(one) == 1
    assert two.try_acquire(LETTER)
    one.refund(held[0])
    two.refund(held[1])
    assert used(two) == 1


def test_an_answer_is_told_under_a_policy_that_was_changed_since() -> None:
    clock = ManualClock()
    backend = MemoryBackend(clock)
    minute, hour = MessageRateLimit("9/minute"), MessageRateLimit("1/hour")
    before = Limiter(policy_of(minute, hour), backend)
    since = Limiter(policy_of(MessageRateLimit("5/minute")), backend)
    assert before.try_acquire(LETTER)
    assert before.try_acquire(job()).limit == hour
    assert since.try_acquire(job()).retry_after == 3600
    assert since.try_acquire(job(2))


def test_a_refund_of_a_forgotten_answer_leaves_the_one_that_came_after_it() -> None:
    limiter, _, clock = limiter_of(MessageRateLimit("9/minute"), remember=10)
    first = limiter.try_acquire(job())
    clock.advance(10)
    assert limiter.try_acquire(job())
    limiter.refund(first)
    assert used(limiter) == 1
    assert limiter.try_acquire(job())
    assert used(limiter) == 1


def test_what_needs_no_backend_is_not_remembered() -> None:
    limiter, backend, _ = limiter_of(MessageRateLimit("1/day", count="external"))
    inside = Envelope("ann@uwo.ca", ["b@uwo.ca"], id="job-1")
    for _ in range(3):
        assert limiter.try_acquire(inside)
        assert limiter.acquire(inside)
    assert remembered(backend) == 0


def test_threads_that_ask_with_one_id_are_charged_once() -> None:
    limiter = Limiter(policy_of(MessageRateLimit("1000/day")))
    threads, jobs = 8, 50
    barrier = threading.Barrier(threads)
    decisions: list[Decision] = []

    def work() -> None:
        for number in range(jobs):
            barrier.wait(timeout=30)
            decisions.append(limiter.try_acquire(job(number)))

    started = [threading.Thread(target=work) for _ in range(threads)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    assert len(decisions) == threads * jobs
    assert all(decisions)
    assert used(limiter) == jobs
    for decision in decisions:
        limiter.refund(decision)
    assert used(limiter) == 0


async def test_the_async_limiter_tells_first_answers_too() -> None:
    clock = ManualClock()
    limiter = AsyncLimiter(
        policy_of(MessageRateLimit("2/minute")),
        MemoryBackend(clock),
        remember=90,
        sleep=clock.sleep,
    )
    assert all([await limiter.try_acquire(job()) for _ in range(3)])
    assert all(await limiter.try_acquire_many([job(), job(2), job(), job(2)]))
    assert not await limiter.try_acquire(job(3))
    start = clock()
    for _ in range(2):
        assert await limiter.acquire(job(4))
        assert clock() - start == 60_000
    first, again = await limiter.reserve(job(5)), await limiter.reserve(job(5))
    assert first.at == again.at
    clock.advance(29.999)
    assert await limiter.try_acquire(job())
    assert (await limiter.usage("ann@uwo.ca"))[0].used == 2
    clock.advance(0.001)
    assert not await limiter.try_acquire(job())


async def test_a_job_whose_wait_was_cancelled_is_a_new_question() -> None:
    clock = ManualClock()
    limiter = AsyncLimiter(policy_of(MessageRateLimit("1/minute")), MemoryBackend(clock))
    assert await limiter.try_acquire(LETTER)
    waiting = asyncio.create_task(limiter.acquire(job()))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (await limiter.reserve(LETTER)).delay == 60
    assert (await limiter.reserve(job())).delay == 120


def test_a_refused_wait_is_told_again_as_it_was() -> None:
    limiter, _, clock = limiter_of(MessageRateLimit("1/minute"), RecipientRateLimit("9/day"))
    assert limiter.try_acquire(LETTER)
    for wait in (60, 59):
        with pytest.raises(RateLimitExceeded) as caught:
            limiter.acquire(job(), timeout=0)
        assert caught.value.decision.retry_after == wait
        assert caught.value.decision.limit == MessageRateLimit("1/minute")
        clock.advance(1)


# How little is kept.


def test_ids_are_forgotten_when_their_time_is_over() -> None:
    limiter, backend, clock = limiter_of(MessageRateLimit("1000/hour"), remember=60)
    for number in range(20_000):
        clock.advance(1)
        limiter.try_acquire(job(number))
        assert remembered(backend) <= 61


def test_refusals_are_forgotten_too() -> None:
    limiter, backend, clock = limiter_of(MessageRateLimit("1/minute"), remember=600)
    for number in range(20_000):
        clock.advance(1)
        limiter.try_acquire(job(number))
    assert remembered(backend) <= 601


def test_a_flood_of_ids_is_forgotten_by_the_calls_of_others() -> None:
    limiter, backend, clock = limiter_of(MessageRateLimit("100000/day"), remember=60)
    for number in range(20_000):
        limiter.try_acquire(job(number))
    assert remembered(backend) == 20_000
    clock.advance(60)
    for number in range(20_000):
        limiter.try_acquire(job(f"later-{number}"))
        clock.advance(0.1)
    assert remembered(backend) <= 601


def test_what_was_refunded_is_not_kept() -> None:
    limiter, backend, _ = limiter_of(MessageRateLimit("9/day"))
    for number in range(1000):
        limiter.refund(limiter.try_acquire(job(number)))
    assert limiter.check(LETTER)
    assert remembered(backend) == 0


def test_an_id_that_is_remembered_for_long_does_not_keep_the_others() -> None:
    _, backend, clock = limiter_of()
    limits = MessageRateLimit("100000/day")
    long, short = (
        Limiter(policy_of(limits, name=name), backend, remember=seconds)
        for name, seconds in (("long", 7 * DAY), ("short", 60))
    )
    for number in range(2):
        long.try_acquire(job(number))
    for number in range(5000):
        clock.advance(1)
        short.try_acquire(job(number))
    assert remembered(backend) <= 200


def test_ids_are_forgotten_after_the_clock_was_a_year_ahead() -> None:
    limiter, backend, clock = limiter_of(MessageRateLimit("100000/hour"), remember=60)
    start = clock()
    clock.set(start + 365 * DAY * 1000)
    for number in range(2):
        limiter.try_acquire(job(f"ahead-{number}"))
    clock.set(start)
    for number in range(5000):
        clock.advance(1)
        limiter.try_acquire(job(number))
    assert remembered(backend) <= 200


# Refunds after an answer was forgotten, on a server.


def test_a_refund_counts_though_the_same_was_asked_anew_since(server: Server) -> None:
    clock = ManualClock()
    with server.client() as client:
        backend = RedisBackend(client, prefix=f"test-{uuid.uuid4().hex}:", clock=clock)
        limiter = Limiter(policy_of(MessageRateLimit("9/minute")), backend, remember=10)
        first = limiter.try_acquire(job())
        clock.advance(10)
        second = limiter.try_acquire(job())
        assert used(limiter) == 2
        limiter.refund(first)
        assert used(limiter) == 1
        limiter.refund(second)
        assert used(limiter) == 0


def test_two_holders_refund_once_though_the_answer_is_forgotten(server: Server) -> None:
    prefix = f"test-{uuid.uuid4().hex}:"
    with server.client() as client:

        def answers() -> list[bytes]:
            keys = client.scan_iter(match=f"{prefix}*")
            return [key for key in keys if client.type(key) == b"string"]

        policy = policy_of(MessageRateLimit("9/day"))
        limiter = Limiter(policy, RedisBackend(client, prefix=prefix), remember=0.5)
        # Of one batch, so that they stand at the same moment.
        first, _ = limiter.try_acquire_many([job(), LETTER])
        second = limiter.try_acquire(job())
        assert len(answers()) == 1
        wait_until(lambda: not answers())
        limiter.refund(first)
        limiter.refund(second)
        assert used(limiter) == 1
