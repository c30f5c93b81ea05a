"""Exemption: senders and clients that are free from all limits, or from named ones."""

from __future__ import annotations

import pickle
from datetime import UTC, date, datetime
from typing import Any

import pytest
from rlm_testkit.builders import accepted_in_a_row, envelope_to, limiter_with_clock

from ratelimit_mail import (
    Action,
    Client,
    Envelope,
    Limiter,
    MessageRateLimit,
    Policy,
    RecipientLimit,
    RecipientRateLimit,
    Tier,
)
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.conditions import has_tag, in_network
from ratelimit_mail.overrides import Exemption, Grant, Override
from ratelimit_mail.testing import ManualClock

LIST = "news@lists.uwo.ca"
ANN = "ann@uwo.ca"
SERVER = Client(address="129.100.0.25")
STRANGER = Client(address="203.0.113.7")
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOON_MS = int(NOON.timestamp()) * 1000

LIMITS = [
    RecipientLimit(10, name="recipients a message"),
    MessageRateLimit("3/minute", name="messages a minute"),
    RecipientRateLimit("20/day", name="recipients a day"),
    MessageRateLimit("1000/hour", name="all together", scope="global"),
]


def policy_with_exemptions(*exemptions: Exemption, limits: Any = LIMITS, **options: Any) -> Policy:
    return Policy(name="uwo", limits=limits, exemptions=exemptions, **options)


def used(limiter: Limiter, sender: str) -> list[int]:
    counts = [*limiter.usage(sender), *limiter.usage(scope="global")]
    return [usage.used for usage in counts]


# All limits


def test_exempt_senders_are_not_limited_and_not_counted() -> None:
    clock = ManualClock(NOON_MS)
    backend = MemoryBackend(clock)
    limiter = Limiter(policy_with_exemptions(Exemption(senders=[LIST])), backend)
    for _ in range(50):
        decision = limiter.try_acquire(envelope_to(500, LIST))
        assert decision.action is Action.ACCEPT
    assert backend.size() == 0
    assert limiter.policy.plan(envelope_to(500, LIST)).charges == []
    assert limiter.usage(LIST) == ()
    assert used(limiter, ANN) == [0, 0, 0]
    assert accepted_in_a_row(limiter, envelope_to(sender=ANN)) == 3


def test_exempt_senders_never_wait_and_a_refund_changes_nothing() -> None:
    limiter, clock = limiter_with_clock(policy_with_exemptions(Exemption(senders=[LIST])), NOON_MS)
    for _ in range(50):
        assert limiter.acquire(envelope_to(500, LIST), timeout=0)
        assert limiter.reserve(envelope_to(500, LIST), max_delay=0).delay == 0
    assert clock() == NOON_MS
    limiter.refund(limiter.try_acquire(envelope_to(500, LIST)))
    assert used(limiter, ANN) == [0, 0, 0]


def test_exemptions_apply_to_the_limits_of_tiers() -> None:
    policy = Policy(
        name="uwo",
        tiers=[Tier("all", limits=[MessageRateLimit("1/day", denied="count")])],
        exemptions=[Exemption(senders=[LIST])],
    )
    limiter, _ = limiter_with_clock(policy)
    assert accepted_in_a_row(limiter, envelope_to(sender=LIST), most=50) == 50
    assert limiter.check(envelope_to(sender=LIST)).tier == "all"
    assert accepted_in_a_row(limiter, envelope_to(sender=ANN)) == 1


def test_exemptions_apply_to_limits_that_only_report() -> None:
    limit = MessageRateLimit("1/day", name="new", enforce=False)
    limiter, _ = limiter_with_clock(
        policy_with_exemptions(Exemption(senders=[LIST]), limits=[limit])
    )
    _, second = (limiter.try_acquire(envelope_to(sender=ANN)).shadow for _ in range(2))
    assert second is not None
    assert second.action is Action.DEFER
    for _ in range(3):
        shadow = limiter.try_acquire(envelope_to(sender=LIST)).shadow
        assert shadow is None or shadow.allowed


def test_receiving_limits_do_not_count_mail_of_exempt_senders() -> None:
    limit = MessageRateLimit("2/hour", name="received", direction="inbound")
    limiter, _ = limiter_with_clock(
        policy_with_exemptions(Exemption(senders=[LIST]), limits=[limit])
    )
    assert accepted_in_a_row(limiter, Envelope(LIST, [ANN], direction="inbound"), most=50) == 50
    assert accepted_in_a_row(limiter, Envelope(LIST, [ANN]), most=50) == 50
    assert accepted_in_a_row(limiter, Envelope("eve@example.com", [ANN], direction="inbound")) == 2


# Named limits


def test_a_sender_exempt_from_one_limit_is_subject_to_the_others() -> None:
    exemption = Exemption(["recipients a message", "messages a minute"], senders=[LIST])
    limiter, _ = limiter_with_clock(policy_with_exemptions(exemption))
    assert limiter.try_acquire(envelope_to(15, LIST))
    assert accepted_in_a_row(limiter, envelope_to(sender=LIST)) == 5
    decision = limiter.check(envelope_to(sender=LIST))
    assert decision.limit == LIMITS[2]
    assert [usage.limit for usage in limiter.usage(LIST)] == [LIMITS[2]]
    assert used(limiter, LIST) == [20, 6]


def test_messages_during_an_exemption_do_not_count_after_its_end() -> None:
    exemption = Exemption(["messages a minute"], senders=[LIST], ends=NOON)
    limiter, clock = limiter_with_clock(policy_with_exemptions(exemption), NOON_MS - 1)
    assert accepted_in_a_row(limiter, envelope_to(sender=LIST)) == 20
    clock.advance(0.001)
    assert used(limiter, LIST) == [0, 20, 20]


def test_a_count_includes_a_message_if_one_of_its_limits_applies() -> None:
    # The count serves the limit per hour, whether or not the limit per minute applies.
    limits = [MessageRateLimit("3/minute", name="burst"), MessageRateLimit("9/hour", name="hour")]
    exemption = Exemption(["burst"], senders=[LIST], ends=NOON)
    limiter, clock = limiter_with_clock(
        policy_with_exemptions(exemption, limits=limits), NOON_MS - 1
    )
    assert accepted_in_a_row(limiter, envelope_to(sender=LIST)) == 9
    clock.advance(0.001)
    assert [usage.used for usage in limiter.usage(LIST)] == [9, 9]


def test_exemptions_add_up() -> None:
    limiter, _ = limiter_with_clock(
        policy_with_exemptions(
            Exemption(["messages a minute"], senders=[LIST]),
            Exemption(["recipients a day", "all together"], senders=[".uwo.ca"]),
        ),
    )
    assert accepted_in_a_row(limiter, envelope_to(sender=LIST), most=50) == 50
    assert not limiter.check(envelope_to(11, LIST))


def test_a_limit_without_a_name_is_lifted_only_by_a_full_exemption() -> None:
    limits = [MessageRateLimit("1/day"), MessageRateLimit("5/day", name="named")]
    limiter, _ = limiter_with_clock(
        policy_with_exemptions(Exemption(["named"], senders=[LIST]), limits=limits)
    )
    assert accepted_in_a_row(limiter, envelope_to(sender=LIST)) == 1
    limiter, _ = limiter_with_clock(
        policy_with_exemptions(Exemption(senders=[LIST]), limits=limits)
    )
    assert accepted_in_a_row(limiter, envelope_to(sender=LIST), most=50) == 50


def test_an_exemption_takes_precedence_over_an_override() -> None:
    policy = policy_with_exemptions(
        Exemption(["messages a minute"], senders=[LIST], ends=NOON),
        overrides=[Override({"messages a minute": 5, "recipients a message": 30}, senders=[LIST])],
    )
    limiter, clock = limiter_with_clock(policy, NOON_MS - 1)
    assert [usage.limit for usage in limiter.usage(LIST)] == [LIMITS[2]]
    assert not limiter.check(envelope_to(31, LIST))
    clock.advance(0.001)
    assert [usage.limit.limit for usage in limiter.usage(LIST)] == [5, 20]


def test_an_exemption_is_not_a_grant() -> None:
    policy = policy_with_exemptions(Exemption(senders=[LIST]), grants=[Grant(senders=[ANN])])
    limiter, _ = limiter_with_clock(policy)
    assert limiter.check(envelope_to(sender=LIST)).action is Action.REJECT


# Clients and dates


def test_a_condition_on_the_client_protects_an_address_that_can_be_forged() -> None:
    exemption = Exemption(senders=[LIST], when=in_network("129.100.0.0/16"))
    limiter, _ = limiter_with_clock(policy_with_exemptions(exemption))
    assert accepted_in_a_row(limiter, envelope_to(sender=LIST, client=SERVER), most=50) == 50
    assert accepted_in_a_row(limiter, envelope_to(sender=LIST, client=STRANGER)) == 3
    assert accepted_in_a_row(limiter, envelope_to(sender=ANN, client=SERVER)) == 3
    assert limiter.try_acquire(envelope_to(500, LIST, SERVER))
    assert not limiter.check(envelope_to(500, LIST, None))


def test_a_client_can_be_exempt_under_any_sender() -> None:
    limiter, _ = limiter_with_clock(policy_with_exemptions(Exemption(when=has_tag("list-server"))))
    server = Client(tags={"list-server"})
    for sender in (LIST, ANN, "<>"):
        assert accepted_in_a_row(limiter, envelope_to(sender=sender, client=server), most=50) == 50
    assert accepted_in_a_row(limiter, envelope_to(sender=ANN)) == 3
    assert limiter.usage(ANN, client=server) == ()


def test_an_exemption_starts_and_ends_at_its_dates() -> None:
    exemption = Exemption(senders=[LIST], starts=NOON, ends=date(2026, 3, 1))
    limiter, clock = limiter_with_clock(policy_with_exemptions(exemption), NOON_MS - 1)
    envelope = envelope_to(500, LIST)
    assert not limiter.try_acquire(envelope)
    clock.advance(0.001)
    assert limiter.try_acquire(envelope)
    clock.advance(12 * 3600 - 0.001)
    assert limiter.try_acquire(envelope)
    clock.advance(0.001)
    assert not limiter.try_acquire(envelope)


# Errors


@pytest.mark.parametrize(
    ("limits", "error", "words"),
    [
        ([], ValueError, "an empty list exempts from nothing"),
        ((), ValueError, "an empty list exempts from nothing"),
        ("messages a minute", TypeError, "not 'messages a minute'"),
        (5, TypeError, "not 5"),
        ([5], TypeError, "not 5"),
        ([None], TypeError, "not None"),
        (b"x", TypeError, "not 120"),
        ({"messages a minute": 5}, TypeError, "not {'messages a minute': 5}"),
    ],
)
def test_invalid_values_are_errors(limits: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=f"limits: .*{words}"):
        Exemption(limits, senders=[LIST])


@pytest.mark.parametrize("exemptions", [Exemption(senders=[LIST]), LIST, None, [LIST], [{}]])
def test_a_policy_accepts_only_a_list_of_exemptions(exemptions: Any) -> None:
    with pytest.raises(TypeError, match=r"exemptions: .*(a list is needed|is not an Exemption)"):
        Policy(name="p", limits=LIMITS, exemptions=exemptions)


def test_a_policy_with_exemptions_is_a_value() -> None:
    policy = policy_with_exemptions(Exemption(["messages a minute"], senders=[LIST], ends=NOON))
    twin = pickle.loads(pickle.dumps(policy))
    assert twin == policy
    assert hash(twin) == hash(policy)
    assert policy.evolve(exemptions=()) == policy_with_exemptions()
    assert (
        accepted_in_a_row(limiter_with_clock(twin, NOON_MS - 1)[0], envelope_to(sender=LIST)) == 20
    )
    assert accepted_in_a_row(limiter_with_clock(twin, NOON_MS)[0], envelope_to(sender=LIST)) == 3
