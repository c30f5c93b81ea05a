"""What a client sent under one tier counts under every other tier, in every unit and scope."""

from __future__ import annotations

from typing import Any

import pytest
from rlm_testkit.builders import (
    accepted_in_a_row,
    envelope_to,
    inbound_envelope,
    limiter_with_clock,
    used_counts,
)

from ratelimit_mail import (
    Client,
    Limiter,
    MessageRateLimit,
    Policy,
    RateLimitExceeded,
    RecipientLimit,
    RecipientRateLimit,
    Tier,
)
from ratelimit_mail.conditions import has_tag
from ratelimit_mail.counting.charge import NO_LIMIT
from ratelimit_mail.limits import Limit
from ratelimit_mail.overrides import Exemption, Override

ANN = "ann@uwo.ca"
ADDRESS = "10.0.0.1"
AWAY = Client(address=ADDRESS, tags={"away"})
HOME = Client(address=ADDRESS)


def two_tiers(away: list[Limit], home: list[Limit], **options: Any) -> Policy:
    """Return a policy with the tier `away` for the tag `away`, and `home` for other clients."""
    return Policy(
        name="campus",
        internal_domains=["uwo.ca"],
        tiers=[Tier("away", when=has_tag("away"), limits=away), Tier("home", limits=home)],
        **options,
    )


MESSAGES = MessageRateLimit("5/day")
RECIPIENTS = RecipientRateLimit("20/day")


@pytest.mark.parametrize(
    ("away", "home", "subject", "scope", "used"),
    [
        (RECIPIENTS, MESSAGES, ANN, "sender", 2),
        (MESSAGES, RECIPIENTS, ANN, "sender", 8),
        (MESSAGES, RecipientRateLimit("20/day", count="external"), ANN, "sender", 6),
        (MESSAGES, MessageRateLimit("5/day", scope="client"), ADDRESS, "client", 2),
        (MESSAGES, MessageRateLimit("5/day", scope="global"), None, "global", 2),
        (MESSAGES, RecipientRateLimit("5/day", scope="recipient"), "c@x.org", "recipient", 2),
    ],
)
def test_a_sender_who_changes_to_a_tier_with_another_unit_or_scope_finds_both_counted(
    away: Limit, home: Limit, subject: Any, scope: str, used: int
) -> None:
    limiter = Limiter(two_tiers([away], [home]))
    for _ in range(2):
        assert limiter.try_acquire(
            envelope_to(["b@x.org", "c@x.org", "d@x.org", "e@uwo.ca"], client=AWAY)
        )
    [usage] = limiter.usage(subject, scope=scope, client=HOME)
    assert (usage.limit, usage.used) == (home, used)


def test_a_spent_sender_is_refused_at_once_in_the_other_tier() -> None:
    limiter = Limiter(two_tiers([RecipientRateLimit("500/day")], [MESSAGES]))
    assert accepted_in_a_row(limiter, envelope_to(client=AWAY), most=7) == 7
    assert accepted_in_a_row(limiter, envelope_to(client=HOME)) == 0


def test_what_was_sent_in_a_tier_without_limits_counts_in_the_others() -> None:
    limiter = Limiter(two_tiers([], [MESSAGES]))
    assert accepted_in_a_row(limiter, envelope_to(client=AWAY), most=5) == 5
    assert accepted_in_a_row(limiter, envelope_to(client=HOME)) == 0


def test_what_was_sent_outside_every_tier_counts_in_a_tier() -> None:
    policy = Policy(name="campus", tiers=[Tier("away", when=has_tag("away"), limits=[RECIPIENTS])])
    limiter = Limiter(policy)
    assert limiter.try_acquire(envelope_to(4, client=HOME))
    assert limiter.usage(ANN, client=AWAY)[0].used == 4


def test_usage_lists_the_limits_of_the_clients_own_tier_alone() -> None:
    limiter = Limiter(two_tiers([MESSAGES], [RECIPIENTS]))
    limiter.try_acquire(envelope_to(3, client=AWAY))
    assert [usage.limit for usage in limiter.usage(ANN, client=AWAY)] == [MESSAGES]
    assert limiter.usage(ADDRESS, scope="client", client=AWAY) == ()


def test_a_window_that_only_another_tier_has_still_sees_old_messages() -> None:
    policy = two_tiers([MessageRateLimit("5/minute")], [RecipientRateLimit("5/7 days")])
    limiter, clock = limiter_with_clock(policy)
    assert limiter.try_acquire(envelope_to(3, client=AWAY))
    clock.advance(6 * 24 * 3600)
    assert limiter.usage(ANN, client=HOME)[0].used == 3
    clock.advance(24 * 3600)
    assert limiter.usage(ANN, client=HOME)[0].used == 0


def test_a_window_added_later_sees_what_other_tiers_sent() -> None:
    before = two_tiers([RECIPIENTS], [MESSAGES])
    limiter, clock = limiter_with_clock(before)
    backend = limiter._operations.backend
    assert limiter.try_acquire(envelope_to(3, client=AWAY))
    after = before.evolve(
        tiers=[before.tiers[0], Tier("home", limits=[MESSAGES, MessageRateLimit("3/hour")])]
    )
    later = Limiter(after, backend, sleep=clock.advance)
    assert [usage.used for usage in later.usage(ANN, client=HOME)] == [1, 1]


def test_an_override_of_another_tiers_limit_lengthens_what_is_recorded() -> None:
    policy = two_tiers(
        [MessageRateLimit("5/minute", name="a minute")],
        [RECIPIENTS],
        overrides=[Override({"a minute": "5/7 days"}, senders=[ANN])],
    )
    limiter, clock = limiter_with_clock(policy)
    assert limiter.try_acquire(envelope_to(3, client=HOME))
    clock.advance(6 * 24 * 3600)
    assert limiter.usage(ANN, client=AWAY)[0].used == 1


def test_an_attempt_refused_in_one_tier_is_not_charged_in_the_other() -> None:
    strict = MessageRateLimit("1/day", denied="count")
    limiter = Limiter(two_tiers([MESSAGES], [strict, RECIPIENTS]))
    assert accepted_in_a_row(limiter, envelope_to(client=HOME)) == 1
    assert limiter.usage(ANN, client=AWAY)[0].used == 1
    assert used_counts(limiter, ANN) == [2, 1]
    assert accepted_in_a_row(limiter, envelope_to(client=AWAY)) == 4
    assert not limiter.try_acquire(envelope_to(client=AWAY))
    assert used_counts(limiter, ANN) == [6, 5]


def test_a_recipient_limit_of_another_tier_does_not_apply() -> None:
    limiter = Limiter(two_tiers([RecipientLimit(2), MESSAGES], [RECIPIENTS]))
    assert limiter.try_acquire(envelope_to(15, client=HOME))


def test_a_message_larger_than_another_tiers_limit_goes_and_is_recorded() -> None:
    limiter = Limiter(two_tiers([RecipientRateLimit("5/day")], [MESSAGES]))
    assert limiter.try_acquire(envelope_to(50, client=HOME))
    assert limiter.usage(ANN, client=AWAY)[0].used == 50


def test_what_only_an_exempted_limit_counts_is_recorded_in_no_tier() -> None:
    named = RecipientRateLimit("20/day", name="recipients a day")
    policy = two_tiers(
        [named], [MESSAGES], exemptions=[Exemption(["recipients a day"], senders=[ANN])]
    )
    limiter = Limiter(policy)
    for sender in (ANN, "bob@uwo.ca"):
        assert limiter.try_acquire(envelope_to(3, sender, HOME))
    ledgers = policy.ledgers_of(("sender",))
    assert [limiter.usage(sender, client=HOME)[0].used for sender in (ANN, "bob@uwo.ca")] == [1, 1]
    whole = Limiter(policy.evolve(exemptions=()), limiter._operations.backend)
    assert whole.usage(ANN, client=AWAY)[0].used == 0
    assert whole.usage("bob@uwo.ca", client=AWAY)[0].used == 3
    assert len(ledgers) == 1


def test_a_sender_who_is_exempt_from_all_limits_is_not_recorded() -> None:
    policy = two_tiers([RECIPIENTS], [MESSAGES], exemptions=[Exemption(senders=[ANN])])
    assert policy.plan(envelope_to(client=HOME)).charges == []


def test_limits_that_only_report_record_across_tiers_among_themselves() -> None:
    policy = two_tiers(
        [MESSAGES, RecipientRateLimit("20/day", enforce=False)],
        [MESSAGES, MessageRateLimit("2/day", enforce=False)],
    )
    limiter = Limiter(policy)
    for _ in range(2):
        assert limiter.try_acquire(envelope_to(client=AWAY))
    answer = limiter.try_acquire(envelope_to(client=HOME)).shadow
    assert answer is not None
    assert not answer


def test_a_tier_without_limits_that_only_report_has_no_shadow_answer() -> None:
    policy = two_tiers([MESSAGES, RecipientRateLimit("20/day", enforce=False)], [MESSAGES])
    limiter = Limiter(policy)
    for decide in (limiter.check, limiter.try_acquire):
        assert decide(envelope_to(client=HOME)).shadow is None
    reservation = limiter.reserve(envelope_to(client=HOME))
    assert reservation.decision.shadow is None


def test_mail_that_arrives_is_recorded_across_tiers() -> None:
    policy = two_tiers(
        [MessageRateLimit("5/day", direction="inbound")],
        [MessageRateLimit("2/day", direction="inbound", scope="sender_domain")],
    )
    limiter = Limiter(policy)
    for _ in range(2):
        assert limiter.try_acquire(inbound_envelope(ANN, client=AWAY))
    assert not limiter.try_acquire(inbound_envelope(ANN, client=HOME))
    assert limiter.usage("example.com", scope="sender_domain", client=HOME)[0].used == 2


def test_outbound_mail_of_another_tier_does_not_count_as_arriving() -> None:
    policy = two_tiers([MESSAGES], [MessageRateLimit("2/day", direction="inbound")])
    limiter = Limiter(policy)
    assert limiter.try_acquire(envelope_to(client=AWAY))
    assert limiter.usage(ANN, scope="recipient", client=HOME)[0].used == 0


def test_in_a_tier_without_limits_nothing_waits_behind_the_senders_bookings() -> None:
    limiter, clock = limiter_with_clock(two_tiers([], [MessageRateLimit("1/hour")]))
    for _ in range(3):
        limiter.reserve(envelope_to(client=HOME))
    assert limiter.reserve(envelope_to(client=AWAY), max_delay=0).delay == 0
    before = clock()
    assert limiter.acquire(envelope_to(client=AWAY), timeout=0)
    assert clock() == before


def test_a_shadow_tier_without_limits_is_recorded_beside_a_booking() -> None:
    policy = two_tiers(
        [MessageRateLimit("1/hour"), RecipientRateLimit("20/day", enforce=False)],
        [MessageRateLimit("1/hour")],
    )
    limiter, _ = limiter_with_clock(policy)
    for _ in range(3):
        limiter.reserve(envelope_to(2, client=HOME))
    with pytest.raises(RateLimitExceeded):
        limiter.reserve(envelope_to(2, client=HOME), max_delay=1)
    limiter.reserve(envelope_to(2, client=AWAY))


def test_a_booking_of_one_tier_takes_room_in_the_other_at_its_own_time() -> None:
    limiter, clock = limiter_with_clock(
        two_tiers([MessageRateLimit("1/hour")], [RecipientRateLimit("3/hour")])
    )
    limiter.try_acquire(envelope_to(client=AWAY))
    limiter.reserve(envelope_to(2, client=AWAY))
    assert limiter.usage(ANN, client=HOME)[0].used == 1
    clock.advance(3600)
    assert limiter.usage(ANN, client=HOME)[0].used == 2


def test_a_refund_takes_out_what_was_recorded_for_other_tiers() -> None:
    limiter = Limiter(two_tiers([RECIPIENTS], [MESSAGES]))
    decision = limiter.try_acquire(envelope_to(3, client=HOME))
    assert limiter.usage(ANN, client=AWAY)[0].used == 3
    limiter.refund(decision)
    assert limiter.usage(ANN, client=AWAY)[0].used == 0


def test_a_policy_without_tiers_records_nothing_more_than_its_limits_count() -> None:
    plan = Policy(name="plain", limits=[MESSAGES]).plan(envelope_to(3))
    [(ledger, _, _)] = plan.charges
    assert [(count.unit, len(count.windows)) for count in ledger.counts] == [(0, 1)]


def test_a_count_without_windows_has_no_smallest_limit() -> None:
    plan = two_tiers([RECIPIENTS], [MESSAGES]).plan(envelope_to(3, client=HOME))
    [(ledger, _, _)] = plan.charges
    assert ledger.bounds == ((0, 5), (1, NO_LIMIT))
    assert NO_LIMIT.to_bytes(6, "little")
    assert plan.is_limited
