"""What a server has lost is not taken out: no other message's charge pays for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from rlm_testkit.redis_backends import (
    ANN,
    KINDS,
    BackendFactory,
    both_kinds,
    envelope_from,
    unique_prefix,
)
from rlm_testkit.servers import Server, valkey

from ratelimit_mail import Decision, Limiter, MessageRateLimit, Policy, RecipientRateLimit
from ratelimit_mail.backends.redis.codec import Receipt
from ratelimit_mail.limits import Limit
from ratelimit_mail.testing import ManualClock

prefix = pytest.fixture(unique_prefix)
backends = pytest.fixture(both_kinds, params=KINDS)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Start a server that may be emptied."""
    server = Server(valkey())
    yield server
    server.stop()


LIMITS: dict[str, list[Limit]] = {
    "plain": [MessageRateLimit("10/minute")],
    "resolution": [MessageRateLimit("10/minute", resolution="1 second")],
    "two limits": [MessageRateLimit("10/minute"), RecipientRateLimit("99/day")],
    "spread": [RecipientRateLimit("2/minute", on_oversize="spread", resolution="1 second")],
}


def fill(limiter: Limiter, recipients: int) -> list[Decision]:
    """Charge messages one after another until one is refused."""
    decisions: list[Decision] = []
    while decision := limiter.try_acquire(envelope_from(recipients=recipients)):
        decisions.append(decision)
    return decisions


def fill_as_batch(limiter: Limiter, recipients: int) -> list[Decision]:
    """Charge as many messages at once."""
    decisions = limiter.try_acquire_many([envelope_from(recipients=recipients)] * 10)
    return [decision for decision in decisions if decision]


def fill_with_ids(limiter: Limiter, recipients: int) -> list[Decision]:
    """Charge messages with ids until one is refused."""
    decisions: list[Decision] = []
    while decision := limiter.try_acquire(envelope_from(ANN, str(len(decisions)), recipients)):
        decisions.append(decision)
    return decisions


def fill_settled(limiter: Limiter, recipients: int) -> list[Decision]:
    """Charge messages until one is refused, and settle each."""
    decisions = fill(limiter, recipients)
    for decision in decisions:
        limiter.settle(decision)
    return decisions


FILLS = (fill, fill_as_batch, fill_with_ids, fill_settled)


class Case:
    """A limiter, whose server loses everything."""

    def __init__(self, limits: list[Limit], backend: Any, clock: ManualClock, server: Server):
        self.limiter = Limiter(Policy(name="test", limits=limits), backend)
        self.clock = clock
        self.recipients = 5 if limits is LIMITS["spread"] else 1
        self._server = server

    def lose_everything(self) -> None:
        with self._server.client() as client:
            client.flushall()

    def state(self) -> list[tuple[int, float]]:
        return [(usage.used, usage.resets_in) for usage in self.limiter.usage(ANN)]


@pytest.fixture(params=LIMITS)
def case(
    request: pytest.FixtureRequest, backends: BackendFactory, server: Server, prefix: str
) -> Case:
    clock = ManualClock()
    backend = backends.from_url(server.url, prefix=prefix, clock=clock)
    return Case(LIMITS[request.param], backend, clock, server)


@pytest.mark.parametrize("fill_before", FILLS)
def test_a_refund_of_a_lost_charge_takes_out_no_charge_of_after_the_loss(
    case: Case, fill_before: Callable[[Limiter, int], list[Decision]]
) -> None:
    lost = fill_before(case.limiter, case.recipients)
    assert lost
    case.lose_everything()
    assert fill(case.limiter, case.recipients)
    before = case.state()
    for decision in lost:
        case.limiter.refund(decision)
        assert case.state() == before
    assert not case.limiter.try_acquire(envelope_from())


@pytest.mark.parametrize("fill_before", FILLS)
def test_settling_a_lost_charge_adds_it_and_moves_no_other(
    case: Case, fill_before: Callable[[Limiter, int], list[Decision]]
) -> None:
    lost = fill_before(case.limiter, case.recipients)
    case.lose_everything()
    others = fill(case.limiter, case.recipients)
    before = case.state()
    case.limiter.settle(lost[0])
    assert [used for used, _ in case.state()] >= [used for used, _ in before]
    assert case.state() != before
    case.limiter.refund(lost[0])
    assert case.state() == before
    for decision in others:
        case.limiter.refund(decision)
    assert {used for used, _ in case.state()} == {0}


def test_a_refund_of_a_charge_in_an_empty_log_leaves_it_empty(case: Case) -> None:
    lost = fill(case.limiter, case.recipients)
    case.lose_everything()
    case.limiter.refund(lost[0])
    assert {used for used, _ in case.state()} == {0}
    assert fill(case.limiter, case.recipients)


@pytest.mark.parametrize("envelope_id", [None, "1"])
def test_a_booking_that_was_lost_is_cancelled_without_another(
    case: Case, envelope_id: str | None
) -> None:
    envelope = envelope_from(ANN, envelope_id, case.recipients)
    fill(case.limiter, case.recipients)
    lost = case.limiter.reserve(envelope)
    assert lost.delay > 0
    case.lose_everything()
    fill(case.limiter, case.recipients)
    again = case.limiter.reserve(envelope)
    assert again.delay == lost.delay
    next_delay = case.limiter.check(envelope_from(recipients=case.recipients)).retry_after
    before = case.state()
    lost.cancel()
    assert case.state() == before
    decision = case.limiter.check(envelope_from(recipients=case.recipients))
    assert decision.retry_after == next_delay
    case.clock.advance(again.delay)
    assert again.redeem()


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("envelope_id", [None, "1"])
def test_a_booking_that_was_lost_is_redeemed_beside_what_was_charged_since(
    case: Case, at_once: bool, envelope_id: str | None
) -> None:
    envelope = envelope_from(ANN, envelope_id, case.recipients)
    if not at_once:
        fill(case.limiter, case.recipients)
    lost = case.limiter.reserve(envelope)
    assert (lost.delay == 0) is at_once
    case.lose_everything()
    others = fill(case.limiter, case.recipients)
    before = case.state()
    case.clock.advance(lost.delay if at_once else 0)
    assert not lost.redeem()
    assert case.state()[0][0] == before[0][0]
    for decision in others:
        case.limiter.refund(decision)
    case.clock.advance(600)
    assert lost.redeem()
    assert case.state()[0][0] == min(case.recipients, 2)
    lost.cancel()
    assert case.state()[0][0] == 0


def test_a_charge_that_a_replica_has_not_received_is_not_taken_out(
    backends: BackendFactory, server: Server, prefix: str
) -> None:
    """The log is there after the fail-over, but without the last charges."""
    clock = ManualClock()
    backend = backends.from_url(server.url, prefix=prefix, clock=clock)
    limits = [MessageRateLimit("10/minute", resolution="1 second"), RecipientRateLimit("99/day")]
    limiter = Limiter(Policy(name="test", limits=limits), backend)
    assert limiter.try_acquire(envelope_from(recipients=1))
    with server.client() as client:
        keys = list(client.scan_iter(f"{prefix}*", count=10_000))
        replicated = [(key, client.dump(key), client.pttl(key)) for key in keys]
        clock.advance(0.2)
        lost = [limiter.try_acquire(envelope_from(recipients=recipients)) for recipients in (3, 2)]
        for key, value, ttl in replicated:
            assert value is not None
            client.restore(key, ttl, value, replace=True)
    for decision in lost:
        limiter.refund(decision)
    # In one slot of a resolution one charge of the same cost is like another.
    assert [usage.used for usage in limiter.usage(ANN)] in ([1, 1], [0, 1])


def test_a_receipt_of_a_used_booking_takes_out_no_booking_made_later(
    backends: BackendFactory, server: Server, prefix: str
) -> None:
    """A caller whose answer was lost still holds the number that the booking had."""
    clock = ManualClock(1_700_000_000_000)
    backend = backends.from_url(server.url, prefix=prefix, clock=clock)
    limiter = Limiter(Policy(name="test", limits=[MessageRateLimit("1/minute")]), backend)
    late = limiter.reserve(envelope_from())
    first, second = limiter.reserve(envelope_from()), limiter.reserve(envelope_from())
    (receipt,) = receipts(first.decision)
    clock.advance(60)
    assert first.redeem()
    assert late.redeem().retry_after == 60
    before = [(usage.used, usage.resets_in) for usage in limiter.usage(ANN)]
    backend.refund(receipt)
    assert [(usage.used, usage.resets_in) for usage in limiter.usage(ANN)] == before
    clock.advance(60)
    assert late.redeem()
    assert not second.redeem()


def receipts(decision: Decision) -> list[Receipt]:
    token: Any = decision.refund_token
    return [each for each in token if isinstance(each, Receipt)]
