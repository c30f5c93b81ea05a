"""A call of MemoryBackend that an exception breaks off charges all of a message or none of it.

A signal handler may raise between any two instructions of Python.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Final

import attrs
import pytest
from rlm_testkit.builders import accepted_in_a_row, envelope_to
from rlm_testkit.interrupted_limiter import InterruptedLimiter
from rlm_testkit.interrupts import check_columns, interrupt_at

from ratelimit_mail import (
    Envelope,
    Limiter,
    MessageRateLimit,
    Policy,
    RateLimitExceeded,
    RecipientRateLimit,
)
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.testing import BruteForceBackend, ManualClock

POLICIES: Final = {
    "one subject": Policy(name="test", limits=[MessageRateLimit("9/minute")]),
    "two units": Policy(
        name="test",
        limits=[
            MessageRateLimit("6/minute"),
            RecipientRateLimit("20/2 minutes", denied="count"),
            RecipientRateLimit("60/10 minutes"),
        ],
    ),
    "several subjects": Policy(
        name="test",
        limits=[
            MessageRateLimit("6/minute"),
            RecipientRateLimit("15/minute", scope="global"),
            MessageRateLimit("4/minute", scope="recipient"),
        ],
    ),
    "unique recipients": Policy(
        name="test",
        limits=[MessageRateLimit("6/minute"), RecipientRateLimit("3/2 minutes", unique=True)],
    ),
    "unique recipients of several subjects": Policy(
        name="test",
        limits=[
            MessageRateLimit("5/minute"),
            RecipientRateLimit("4/minute", unique=True, scope="global"),
            RecipientRateLimit("3/2 minutes", unique=True, count="external"),
        ],
    ),
    "calendar": Policy(
        name="test",
        limits=[
            MessageRateLimit("8/calendar hour", time_zone="Europe/Berlin"),
            RecipientRateLimit("30/calendar day", time_zone="Europe/Berlin", denied="count"),
            RecipientRateLimit("4/calendar hour", unique=True, scope="global"),
        ],
    ),
    "seconds": Policy(
        name="test",
        limits=[RecipientRateLimit("30/minute", resolution="2 seconds", denied="count")],
    ),
}

ONE, TWO = envelope_to(1), envelope_to(2)
OTHER = envelope_to(1, "bob@uwo.ca")
NEW = envelope_to(2, "kim@uwo.ca")


BEFORE_MIDNIGHT: Final = 1_700_002_760_000
"""40 seconds before a day begins in Berlin."""


class Scene:
    """A limiter that has counted some messages, on any backend."""

    def __init__(self, policy: Policy, backend: type[Any]) -> None:
        self.clock = ManualClock(BEFORE_MIDNIGHT)
        self.backend = backend(self.clock)
        self.limiter = Limiter(policy, self.backend, sleep=self.clock.advance)
        self.decisions = []
        self.sending: AbstractContextManager[Any] = contextlib.nullcontext()
        for envelope in (ONE, TWO, OTHER, ONE):
            self.decisions.append(self.limiter.try_acquire(envelope))
            self.clock.advance(3)
        with_id = Envelope("ann@uwo.ca", ["c@example.com"], id="1")
        self.decisions.append(self.limiter.try_acquire(with_id))
        self.reservations = [self.limiter.reserve(ONE) for _ in range(4)]
        self.clock.advance(20)

    def counts(self) -> list[Any]:
        """Return all that can be seen of the counts, now and later."""
        seen: list[Any] = []
        limiter = self.limiter
        for _ in range(3):
            for sender in ("ann@uwo.ca", "bob@uwo.ca", "kim@uwo.ca"):
                seen.append(limiter.usage(sender))
                seen.append(limiter.check(envelope_to(2, sender)).retry_after)
            seen.append(limiter.usage(scope="global"))
            self.clock.advance(23)
        senders = ("ann@uwo.ca", "bob@uwo.ca", "kim@uwo.ca")
        seen += [accepted_in_a_row(limiter, envelope_to(1, sender), 100) for sender in senders]
        for sender in (*senders, *senders):
            with contextlib.suppress(RateLimitExceeded):  # is blocked
                seen.append(limiter.reserve(envelope_to(2, sender)).at)
        return seen


Step = Callable[[Scene], Any]


def take(envelope: Envelope) -> Step:
    return lambda scene: scene.limiter.try_acquire(envelope)


def take_together(*envelopes: Envelope) -> Step:
    return lambda scene: scene.limiter.try_acquire_many(envelopes)


def refund(number: int) -> Step:
    def steps(scene: Scene) -> None:
        scene.limiter.refund(scene.decisions[number])
        scene.limiter.usage("ann@uwo.ca")  # which applies it

    return steps


def settle(number: int) -> Step:
    return lambda scene: scene.limiter.settle(scene.decisions[number])


def reserve(max_delay: float | None) -> Step:
    def step(scene: Scene) -> None:
        with contextlib.suppress(RateLimitExceeded):
            scene.limiter.reserve(TWO, max_delay)

    return step


def cancel(scene: Scene) -> None:
    scene.reservations[2].cancel()
    scene.limiter.usage("ann@uwo.ca")  # which applies it


def redeem(number: int) -> Step:
    return lambda scene: scene.reservations[number].redeem()


def nothing(_: Scene) -> None:
    pass


def after_idle_times(scene: Scene) -> None:
    for _ in range(2):
        scene.clock.advance(601)
        scene.limiter.check(ONE)
    scene.clock.advance(601)


def while_sending(scene: Scene) -> None:
    """Let a new sender begin to send a message, its latest one."""
    scene.limiter.try_acquire(NEW)
    scene.sending = scene.limiter.sending(NEW)
    scene.sending.__enter__()
    scene.clock.advance(4)


def end_sending(scene: Scene) -> None:
    scene.sending.__exit__(None, None, None)


@attrs.frozen
class Case:
    """Steps, each of which is done or not when they are broken off.

    before: what is done before. call: does all of the steps; None for one after the other.
    """

    steps: Sequence[Step]
    before: Step = nothing
    call: Step | None = None

    def run(self, scene: Scene) -> None:
        if self.call is not None:
            self.call(scene)
            return
        for step in self.steps:
            step(scene)


CASES: Final = {
    "take": Case([take(ONE)]),
    "take three times": Case([take(ONE), take(OTHER), take(TWO)]),
    "take together": Case([take(OTHER), take(NEW), take(ONE)], call=take_together(OTHER, NEW, ONE)),
    "take as a new sender": Case([take(NEW)]),
    "take with an id": Case([take(envelope_to(1, id="2"))]),
    "take after idle times": Case([take(TWO), take(NEW)], before=after_idle_times),
    "refuse": Case([take(envelope_to(16)), take(envelope_to(16))]),
    "refund": Case([refund(0), refund(1)]),
    "refund with an id": Case([refund(4)]),
    "settle": Case([settle(3)]),
    "settle with an id": Case([settle(4)]),
    "settle older ones": Case([settle(0), settle(1)]),
    "take and settle": Case([take(OTHER), settle(2)]),
    "settle at the end of a sending": Case([end_sending], before=while_sending),
    "settle a booking": Case([lambda scene: scene.limiter.settle(scene.reservations[0].decision)]),
    "reserve": Case([reserve(None)]),
    "reserve and cancel": Case([reserve(None), cancel, reserve(None), reserve(None)]),
    "reserve too far": Case([reserve(0)]),
    "cancel": Case([cancel]),
    "redeem": Case([redeem(0)]),
    "redeem early": Case([redeem(3)]),
    "redeem late": Case([take(TWO), redeem(0), redeem(1)]),
    "usage": Case([lambda scene: scene.limiter.usage("ann@uwo.ca")]),
    "reset": Case([lambda scene: scene.limiter.reset("ann@uwo.ca")]),
    "check": Case([lambda scene: scene.limiter.check(TWO)]),
    "block": Case([lambda scene: scene.limiter.block("ann@uwo.ca")]),
}


def check_interruptions(policy: Policy, case: Case, event: str, step: int, first: int = 0) -> int:
    """Break a case off at its events; then the counts are those after some of its steps.

    step: how many events to go on by. Return how often it was broken off.
    """
    after = []
    for number in range(len(case.steps) + 1):
        scene = Scene(policy, BruteForceBackend)
        case.before(scene)
        for each in case.steps[:number]:
            each(scene)
        after.append(scene.counts())
    number = first
    while True:
        scene = Scene(policy, MemoryBackend)
        case.before(scene)
        is_broken_off = interrupt_at(number, event, partial(case.run, scene))
        assert not scene.backend._lock.locked()
        assert scene.counts() in (after if is_broken_off else after[-1:]), f"{event} {number}"
        check_columns(scene.backend)
        if not is_broken_off:
            return (number - first) // step
        number += step


every_case = pytest.mark.parametrize("case", CASES)
every_policy = pytest.mark.parametrize("policy", POLICIES)


@every_policy
@every_case
def test_a_call_that_is_broken_off_at_any_line_charges_all_or_nothing(
    policy: str, case: str
) -> None:
    # Of all lines every 37th, from another one in each case; a drill tries all.
    first = (13 * list(CASES).index(case) + list(POLICIES).index(policy)) % 37
    check_interruptions(POLICIES[policy], CASES[case], "line", 37, first)


@pytest.mark.drill
@pytest.mark.timeout(1800)
@every_policy
@every_case
def test_a_call_that_is_broken_off_at_any_instruction_charges_all_or_nothing(
    policy: str, case: str
) -> None:
    check_interruptions(POLICIES[policy], CASES[case], "opcode", 1)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="it needs timers of Unix")
def test_calls_that_signals_break_off_leave_counts_that_agree() -> None:
    limiter = InterruptedLimiter(seed=1)
    limiter.run(interrupts=2000)


def test_a_message_that_two_subjects_are_charged_for_is_charged_to_both_or_none() -> None:
    policy = Policy(
        name="test", limits=[MessageRateLimit("9/day"), MessageRateLimit("9/day", scope="global")]
    )
    number, is_broken_off = 0, True
    while is_broken_off:
        limiter = Limiter(policy, MemoryBackend(ManualClock()))
        is_broken_off = interrupt_at(number, "opcode", partial(limiter.try_acquire, ONE))
        assert limiter.usage("ann@uwo.ca")[0].used == limiter.usage(scope="global")[0].used
        number += 1
    assert number > 100


def test_a_register_that_is_written_while_an_exception_comes_is_read_again() -> None:
    number, is_broken_off = 0, True
    while is_broken_off:
        limiter = Limiter(POLICIES["one subject"], MemoryBackend(ManualClock()))
        limiter.try_acquire(ONE)
        is_broken_off = interrupt_at(
            number, "opcode", partial(limiter.block, "ann@uwo.ca", reason="test")
        )
        assert bool(limiter.blocks()) != limiter.try_acquire(ONE).allowed
        number += 1
    assert number > 20


def test_a_message_after_a_sending_whose_end_is_broken_off_counts_once() -> None:
    number, is_broken_off = 0, True
    while is_broken_off:
        clock = ManualClock()
        limiter = Limiter(POLICIES["one subject"], MemoryBackend(clock))
        sending = limiter.sending(ONE)
        sending.__enter__()
        clock.advance(1)
        end = partial(sending.__exit__, None, None, None)
        is_broken_off = interrupt_at(number, "opcode", end)
        # Nothing comes between: the quickest way of the next message is what is tested.
        assert accepted_in_a_row(limiter, ONE, 100) == 8
        assert limiter.usage("ann@uwo.ca")[0].used == 9
        number += 1
    assert number > 50


def test_a_settlement_that_comes_while_the_lock_is_held_is_applied_by_the_next_call() -> None:
    clock = ManualClock()
    backend = MemoryBackend(clock)
    limiter = Limiter(POLICIES["one subject"], backend)
    decision = limiter.try_acquire(ONE)
    clock.advance(20)
    with backend._lock:  # as where the garbage collector ends a sending
        limiter.settle(decision)
    assert limiter.usage("ann@uwo.ca")[0].resets_in == 60
