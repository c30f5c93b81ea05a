"""Override: different numbers for the named limits of some senders or clients."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import attrs
import pytest
from rlm_testkit.builders import (
    NAMED_LIMITS,
    accepted_in_a_row,
    envelope_to,
    inbound_envelope,
    limit_numbers,
    limiter_with_clock,
    limiter_with_overrides,
    policy_with_overrides,
)

from ratelimit_mail import (
    Action,
    Client,
    MessageRateLimit,
    Policy,
    RateLimitExceeded,
    RecipientLimit,
    RecipientRateLimit,
    Tier,
)
from ratelimit_mail.conditions import has_tag
from ratelimit_mail.directory import Directory
from ratelimit_mail.overrides import Override
from ratelimit_mail.policy import selection

ANN = "ann@leeds.ac.uk"
BOB = "bob@leeds.ac.uk"
WIRELESS = Client(tags={"wireless"})
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOON_MS = int(NOON.timestamp()) * 1000


# Different numbers


def test_an_override_applies_to_its_sender_and_not_to_other_senders() -> None:
    limiter, _ = limiter_with_overrides(Override({"messages a minute": 7}, senders=[ANN]))
    assert accepted_in_a_row(limiter, envelope_to(sender=ANN)) == 7
    assert accepted_in_a_row(limiter, envelope_to(sender=BOB)) == 3
    assert accepted_in_a_row(limiter, envelope_to(sender="<>")) == 3


def test_a_recipient_limit_can_be_raised_for_one_sender() -> None:
    limiter, _ = limiter_with_overrides(Override({"recipients a message": 15}, senders=[ANN]))
    assert limiter.try_acquire(envelope_to(15, ANN))
    assert limiter.try_acquire(envelope_to(15, BOB)).action is Action.REJECT


def test_a_message_never_fits_by_the_numbers_of_the_override() -> None:
    limiter, _ = limiter_with_overrides(
        Override({"recipients a message": 15}, senders=[ANN]),
        Override({"recipients a day": 5}, senders=[BOB]),
    )
    decision = limiter.try_acquire(envelope_to(16, ANN))
    assert decision.retry_after is None
    assert decision.limit == RecipientLimit(15, name="recipients a message")
    assert decision.reply.text == "Too many recipients: at most 15 in one message."
    decision = limiter.check(envelope_to(6, BOB))
    assert decision.retry_after is None
    assert decision.limit == RecipientRateLimit("5/day", name="recipients a day")
    assert "At most 5 recipients per day" in decision.reply.text
    with pytest.raises(RateLimitExceeded) as caught:
        limiter.acquire(envelope_to(16, ANN))
    assert caught.value.decision.limit == RecipientLimit(15, name="recipients a message")


def test_an_override_can_lower_a_limit() -> None:
    limiter, _ = limiter_with_overrides(Override({"messages a minute": 1}, senders=[ANN]))
    assert accepted_in_a_row(limiter, envelope_to(sender=ANN)) == 1


def test_a_number_keeps_the_window_and_a_rate_replaces_it() -> None:
    limiter, clock = limiter_with_overrides(
        Override({"messages a minute": 5}, senders=[ANN]),
        Override({"messages a minute": "5/hour"}, senders=[BOB]),
    )
    assert accepted_in_a_row(limiter, envelope_to(sender=ANN)) == 5
    assert accepted_in_a_row(limiter, envelope_to(sender=BOB)) == 5
    clock.advance(60)
    assert accepted_in_a_row(limiter, envelope_to(sender=ANN)) == 5
    assert accepted_in_a_row(limiter, envelope_to(sender=BOB)) == 0
    clock.advance(3540)
    assert accepted_in_a_row(limiter, envelope_to(sender=BOB)) == 5


def test_an_override_changes_nothing_else_in_the_limit() -> None:
    limit = MessageRateLimit(
        "10 per 15 minutes",
        name="all",
        scope=("sender", "client"),
        count="external",
        denied="count",
        on_excess="reject",
        resolution="1 second",
        reply="Slow down.",
    )
    for number, rate in ((4, "4 per 15 minutes"), ("4/hour", "4/hour")):
        override = Override({"all": number}, senders=[ANN])
        assert override.applied_to(limit) == attrs.evolve(limit, rate=rate)
    limiter, _ = limiter_with_overrides(Override({"all": 4}, senders=[ANN]), limits=[limit])
    assert accepted_in_a_row(limiter, envelope_to(sender=ANN)) == 4
    decision = limiter.check(envelope_to(sender=ANN))
    assert decision.action is Action.REJECT
    assert isinstance(decision.limit, MessageRateLimit)
    assert decision.limit.limit == 4
    assert decision.reply.text == "Slow down."


def test_the_share_of_a_limit_is_taken_of_the_overriding_number() -> None:
    limit = MessageRateLimit("100/hour", name="one sender", share=0.33)
    override = Override({"one sender": 200}, senders=[ANN])
    limiter, _ = limiter_with_overrides(override, limits=[limit])
    assert accepted_in_a_row(limiter, envelope_to(sender=ANN)) == 66
    assert accepted_in_a_row(limiter, envelope_to(sender=BOB)) == 33


def test_an_override_applies_to_all_limits_of_one_name() -> None:
    limits = [
        MessageRateLimit("2/minute", name="small"),
        MessageRateLimit("3/minute", name="small", scope="global"),
        MessageRateLimit("5/minute"),
    ]
    limiter, _ = limiter_with_overrides(Override({"small": 4}, senders=[ANN]), limits=limits)
    assert accepted_in_a_row(limiter, envelope_to(sender=ANN)) == 4


def test_a_shared_count_stays_one_count_under_different_numbers() -> None:
    limit = MessageRateLimit("3/day", name="all", scope="global")
    limiter, _ = limiter_with_overrides(Override({"all": 5}, senders=[ANN]), limits=[limit])
    assert accepted_in_a_row(limiter, envelope_to(sender=BOB)) == 3
    assert accepted_in_a_row(limiter, envelope_to(sender=ANN)) == 2
    assert [usage.used for usage in limiter.usage(scope="global")] == [5]
    assert accepted_in_a_row(limiter, envelope_to(sender=BOB)) == 0


def test_a_limit_that_only_reports_can_be_overridden() -> None:
    limit = MessageRateLimit("1/day", name="new", enforce=False)
    limiter, _ = limiter_with_overrides(Override({"new": 2}, senders=[ANN]), limits=[limit])
    for sender, expected in ((ANN, [True, True, False]), (BOB, [True, False, False])):
        shadows = [limiter.try_acquire(envelope_to(sender=sender)).shadow for _ in range(3)]
        assert [shadow is not None and shadow.allowed for shadow in shadows] == expected


def test_limits_of_tiers_can_be_overridden() -> None:
    policy = Policy(
        name="campus",
        tiers=[
            Tier("high", when=has_tag("wireless"), limits=[MessageRateLimit("1/day", name="day")]),
            Tier("low", limits=[MessageRateLimit("2/day", name="day")]),
        ],
        overrides=[Override({"day": 4}, senders=[ANN])],
    )
    limiter, _ = limiter_with_clock(policy)
    assert accepted_in_a_row(limiter, envelope_to(sender=BOB, client=WIRELESS)) == 1
    assert accepted_in_a_row(limiter, envelope_to(sender=BOB)) == 1
    assert accepted_in_a_row(limiter, envelope_to(sender=ANN, client=WIRELESS)) == 4
    assert limiter.check(envelope_to(sender=ANN, client=WIRELESS)).tier == "high"
    assert limiter.check(envelope_to(sender=ANN)).tier == "low"


def test_refused_attempts_count_under_an_override_too() -> None:
    limit = MessageRateLimit("2/minute", name="strict", denied="count")
    override = Override({"strict": 4}, senders=[ANN], ends=NOON.replace(second=50))
    limiter, clock = limiter_with_overrides(override, limits=[limit], now=NOON_MS)
    assert accepted_in_a_row(limiter, envelope_to(sender=ANN)) == 4
    for _ in range(9):
        clock.advance(20)
        assert not limiter.try_acquire(envelope_to(sender=ANN))
    clock.advance(60)
    assert accepted_in_a_row(limiter, envelope_to(sender=ANN)) == 2


def test_an_inbound_limit_can_be_overridden_for_a_sender() -> None:
    policy = Policy(
        name="in",
        limits=[MessageRateLimit("2/hour", name="received", direction="inbound")],
        overrides=[Override({"received": 3}, senders=["alerts@example.com"])],
    )
    limiter, _ = limiter_with_clock(policy)

    alert = inbound_envelope(ANN, sender="alerts@example.com")
    assert accepted_in_a_row(limiter, inbound_envelope(ANN)) == 2
    assert accepted_in_a_row(limiter, alert) == 1


# The first override that holds


def test_the_first_override_that_holds_applies_to_each_limit() -> None:
    limiter, _ = limiter_with_overrides(
        Override({"messages a minute": 5}, senders=[ANN], when=has_tag("wireless")),
        Override({"messages a minute": 6, "recipients a message": 20}, senders=[ANN]),
        Override({"messages a minute": 9, "recipients a day": 500}, senders=["leeds.ac.uk"]),
        Override({"recipients a message": 400}, when=has_tag("wireless")),
    )
    assert limit_numbers(limiter, ANN, WIRELESS) == [5, 500]
    assert limit_numbers(limiter, ANN) == [6, 500]
    assert limit_numbers(limiter, BOB) == [9, 500]
    assert limit_numbers(limiter, "eve@example.com", WIRELESS) == [3, 20]
    assert limiter.check(envelope_to(20, ANN, WIRELESS))
    assert not limiter.check(envelope_to(21, ANN, WIRELESS))
    assert limiter.check(envelope_to(400, BOB, WIRELESS))
    assert not limiter.check(envelope_to(11, BOB))


def test_after_the_end_of_an_override_the_next_one_applies() -> None:
    limiter, clock = limiter_with_overrides(
        Override({"messages a minute": 5}, senders=[ANN], ends=NOON.replace(minute=10)),
        Override({"messages a minute": 4}, senders=[ANN]),
        now=NOON_MS,
    )
    assert limit_numbers(limiter, ANN) == [5, 20]
    clock.advance(600)
    assert limit_numbers(limiter, ANN) == [4, 20]


def test_senders_and_condition_must_both_hold() -> None:
    override = Override({"messages a minute": 5}, senders=[ANN], when=has_tag("wireless"))
    limiter, _ = limiter_with_overrides(override)
    assert limit_numbers(limiter, ANN, WIRELESS) == [5, 20]
    assert limit_numbers(limiter, ANN) == [3, 20]
    assert limit_numbers(limiter, BOB, WIRELESS) == [3, 20]


# Aliases


ALIASES = Directory(aliases={"dean@leeds.ac.uk": ANN, "head@leeds.ac.uk": ANN})


def test_an_override_of_an_owner_includes_its_aliases_and_one_of_an_alias_is_its_alone() -> None:
    whole = Override({"messages a minute": 5}, senders=[ANN])
    limiter, _ = limiter_with_overrides(whole, directory=ALIASES)
    assert accepted_in_a_row(limiter, envelope_to(sender="dean@leeds.ac.uk")) == 5
    assert limit_numbers(limiter, "head@leeds.ac.uk") == [5, 20]

    one = Override({"messages a minute": 5}, senders=["dean@leeds.ac.uk"])
    limiter, _ = limiter_with_overrides(one, directory=ALIASES)
    assert accepted_in_a_row(limiter, envelope_to(sender=ANN)) == 3
    assert accepted_in_a_row(limiter, envelope_to(sender="dean@leeds.ac.uk")) == 2
    assert accepted_in_a_row(limiter, envelope_to(sender="head@leeds.ac.uk")) == 0


def test_usage_of_an_alias_shows_the_override_of_the_alias() -> None:
    one = Override({"messages a minute": 5}, senders=["dean@leeds.ac.uk"])
    limiter, _ = limiter_with_overrides(one, directory=ALIASES)
    assert limit_numbers(limiter, "dean@leeds.ac.uk") == [5, 20]


@pytest.mark.parametrize(
    ("scope", "subject"),
    [(("sender", "client"), (ANN, "10.0.0.1")), (("client", "sender"), ("10.0.0.1", ANN))],
)
def test_usage_of_a_scope_with_the_sender_shows_the_override_of_the_sender(
    scope: tuple[str, ...], subject: tuple[str, ...]
) -> None:
    limit = MessageRateLimit("2/day", name="m", scope=scope)
    limiter, _ = limiter_with_overrides(Override({"m": 5}, senders=[ANN]), limits=[limit])
    assert [usage.limit.limit for usage in limiter.usage(subject, scope=scope)] == [5]


# Many overrides


def test_effective_limits_are_built_once_and_their_number_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(selection, "MOST_BUILT", 8)
    monkeypatch.setattr(selection, "MOST_SELECTED", 20)
    senders = [f"user{i}@leeds.ac.uk" for i in range(50)]
    policy = policy_with_overrides(
        *(Override({"messages a minute": i + 4}, senders=[each]) for i, each in enumerate(senders))
    )
    for _ in range(2):
        for i, sender in enumerate(senders):
            effective = policy.plan(envelope_to(sender=sender)).effective_limits
            assert [limit.limit for limit in effective.limits] == [10, i + 4, 20]
            assert policy.plan(envelope_to(sender=sender)).effective_limits is effective
            assert len(policy._selector._built) <= 8
            assert len(policy._selector._selected) <= 20


def test_senders_with_the_same_numbers_share_their_effective_limits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(selection, "MOST_SELECTED", 20)
    senders = [f"user{i}@leeds.ac.uk" for i in range(50)]
    policy = policy_with_overrides(
        *(Override({"recipients a message": 500}, senders=[each]) for each in senders)
    )
    assert (
        len({policy.plan(envelope_to(sender=sender)).effective_limits for sender in senders}) == 1
    )
    assert len(policy._selector._selected) <= 20


def test_only_the_senders_own_of_ten_thousand_overrides_is_evaluated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    overrides = [
        Override({"messages a minute": 5}, senders=[f"user{i}@leeds.ac.uk"]) for i in range(10_000)
    ]
    policy = policy_with_overrides(*overrides, limits=NAMED_LIMITS[1:2])
    evaluated = []
    holds_for = Override.holds_for

    def counting(self: Override, *args: Any) -> bool:
        evaluated.append(self)
        return holds_for(self, *args)

    monkeypatch.setattr(Override, "holds_for", counting)
    assert [
        limit.limit
        for limit in policy.plan(envelope_to(sender="user9999@leeds.ac.uk")).effective_limits.limits
    ] == [5]
    assert [
        limit.limit for limit in policy.plan(envelope_to(sender=ANN)).effective_limits.limits
    ] == [3]
    assert evaluated == [overrides[9999]]
