"""The presets of Western: each number as the University's page states it."""

from __future__ import annotations

from typing import Any

import pytest
from rlm_testkit.builders import envelope_to, limit_name, limiter_with_clock

from ratelimit_mail import (
    Action,
    Client,
    Decision,
    Envelope,
    Limiter,
    MessageRateLimit,
    RecipientRateLimit,
    presets,
)
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.directory import Directory
from ratelimit_mail.limits import RateLimit
from ratelimit_mail.overrides import Exemption
from ratelimit_mail.testing import ManualClock

MINUTE = 60
HOUR = 60 * MINUTE
DAY = 24 * HOUR
REFUSAL = "550 5.7.1 Recipient rate limit exceeded. Try again later."
CAMPUS, ELSEWHERE = "129.100.6.7", "198.51.100.7"


# Office 365


def test_western_500_recipients_a_message_and_10000_a_day() -> None:
    limiter, _ = limiter_with_clock(presets.western_office365())
    assert limit_name(limiter.try_acquire(envelope_to(501))) == "recipients a message"
    assert all(limiter.try_acquire(envelope_to(500)) for _ in range(20))
    decision = limiter.try_acquire(envelope_to())
    assert (decision.action, decision.retry_after) == (Action.DEFER, DAY)
    assert limit_name(decision) == "recipients a day"


@pytest.mark.parametrize("protocol", ["webmail", "api", None])
def test_western_30_messages_a_minute_for_smtp_client_submission_only(
    protocol: str | None,
) -> None:
    limiter, _ = limiter_with_clock(presets.western_office365())
    assert all(limiter.try_acquire(envelope_to(client=Client(protocol="smtp"))) for _ in range(30))
    decision = limiter.try_acquire(envelope_to(client=Client(protocol="smtp")))
    assert (decision.action, decision.retry_after) == (Action.DEFER, MINUTE)
    assert limit_name(decision) == "messages a minute"
    assert limiter.try_acquire(envelope_to(client=Client(protocol=protocol)))


def test_western_3600_messages_an_hour_into_one_mailbox_and_other_mailboxes_still_receive() -> None:
    limiter, clock = limiter_with_clock(presets.western_office365())
    for i in range(3_600):
        inbound = Envelope(f"user{i}@example.com", ["ann@uwo.ca"], direction="inbound")
        assert limiter.try_acquire(inbound)
    both = Envelope("eve@example.com", ["ann@uwo.ca", "bob@uwo.ca"], direction="inbound")
    decision = limiter.try_acquire(both)
    assert decision.recipients is not None
    full, free = decision.recipients["ann@uwo.ca"], decision.recipients["bob@uwo.ca"]
    assert (full.action, full.retry_after) == (Action.DEFER, HOUR)
    assert limit_name(full) == "messages received an hour"
    assert free.action is Action.ACCEPT
    clock.advance(HOUR)
    assert limiter.try_acquire(both)


def test_western_counts_an_alias_as_its_owner_and_allows_up_to_200() -> None:
    aliases = {f"ann{i}@uwo.ca": "ann@uwo.ca" for i in range(200)}
    policy = presets.western_office365(recipient_rate="1/day", directory=Directory(aliases=aliases))
    limiter, _ = limiter_with_clock(policy)
    assert limiter.try_acquire(Envelope("bob@uwo.ca", ["ann1@uwo.ca", "ann2@uwo.ca"]))
    with pytest.raises(ValueError, match="200"):
        presets.western_office365(
            directory=Directory(aliases={**aliases, "ann200@uwo.ca": "ann@uwo.ca"})
        )


def test_western_office365_accepts_different_numbers() -> None:
    policy = presets.western_office365(
        recipient_limit=3, message_rate="4/hour", recipient_rate="5/hour", receiving_rate="6/hour"
    )
    assert [limit.limit for limit in policy.all_limits] == [3, 5, 6, 4]
    assert policy.internal_domains == ("uwo.ca", ".uwo.ca")


# Convergence


@pytest.mark.parametrize(
    ("client", "tier"),
    [
        ({"address": CAMPUS}, "tier 1"),
        ({"address": CAMPUS, "protocol": "smtp"}, "tier 1"),
        ({"address": CAMPUS, "protocol": "api", "tags": {"library"}}, "tier 1"),
        ({"address": "::ffff:129.100.6.7"}, "tier 1"),
        ({"address": CAMPUS, "protocol": "webmail"}, "tier 2"),
        ({"address": CAMPUS, "tags": {"wireless"}}, "tier 2"),
        ({"address": CAMPUS, "tags": {"reznet"}}, "tier 2"),
        ({"address": ELSEWHERE}, "tier 2"),
        ({"address": "2001:db8::1"}, "tier 2"),
        ({"address": ELSEWHERE, "protocol": "smtp"}, "tier 2"),
        ({}, "tier 2"),
        ({"user": "ann", "protocol": "smtp"}, "tier 2"),
    ],
)
def test_convergence_tiers_depend_on_the_clients_location(
    client: dict[str, Any], tier: str
) -> None:
    limiter, _ = limiter_with_clock(presets.western_convergence())
    assert limiter.try_acquire(envelope_to(client=Client(**client))).tier == tier
    fits = limiter.try_acquire(envelope_to(50, client=Client(**client)))
    assert fits.allowed is (tier == "tier 1")


def test_convergence_tier_2_has_50_in_15_minutes_and_500_in_24_hours() -> None:
    limiter, clock = limiter_with_clock(presets.western_convergence())
    for _ in range(9):
        assert limiter.try_acquire(envelope_to(50))
        decision = limiter.check(envelope_to())
        assert limit_name(decision) == "recipients in 15 minutes"
        assert decision.retry_after == 15 * MINUTE
        clock.advance(15 * MINUTE)
    assert limiter.try_acquire(envelope_to(50))
    decision = limiter.check(envelope_to())
    assert (limit_name(decision), decision.retry_after) == ("recipients a day", DAY - 135 * MINUTE)


def test_convergence_tier_1_has_only_500_in_24_hours() -> None:
    limiter, _ = limiter_with_clock(presets.western_convergence())
    assert limiter.try_acquire(envelope_to(500, client=Client(address=CAMPUS)))
    decision = limiter.check(envelope_to(client=Client(address=CAMPUS)))
    assert (limit_name(decision), decision.retry_after) == ("recipients a day", DAY)
    assert presets.western_convergence().limits == ()


@pytest.mark.parametrize("recipient", ["bob@uwo.ca", "bob@UWO.CA", "bob@mail.uwo.ca"])
def test_convergence_does_not_count_internal_recipients(recipient: str) -> None:
    limiter, _ = limiter_with_clock(presets.western_convergence())
    assert limiter.try_acquire(envelope_to(50))
    assert limiter.try_acquire(Envelope("ann@uwo.ca", [recipient]))
    assert not limiter.try_acquire(Envelope("ann@uwo.ca", [recipient, "eve@example.com"]))


def test_convergence_counts_a_message_to_60_outsiders_as_60() -> None:
    limiter, _ = limiter_with_clock(presets.western_convergence())
    decision = limiter.check(envelope_to(60))
    assert (limit_name(decision), decision.retry_after) == ("recipients in 15 minutes", None)
    assert limiter.try_acquire(envelope_to(60, client=Client(address=CAMPUS)))
    assert limiter.usage("sender:ann@uwo.ca", scope="submitter")[0].used == 60


def test_convergence_can_count_messages() -> None:
    limiter, _ = limiter_with_clock(presets.western_convergence(unit="messages"))
    assert all(limiter.try_acquire(envelope_to(60)) for _ in range(50))
    assert limit_name(limiter.try_acquire(envelope_to())) == "messages in 15 minutes"
    assert limiter.try_acquire(Envelope("ann@uwo.ca", ["bob@uwo.ca"]))


@pytest.mark.parametrize("unit", ["recipients", "messages"])
@pytest.mark.parametrize("retry_after", [60.0, None])
def test_convergence_refuses_with_the_reply_of_the_source(unit: Any, retry_after: Any) -> None:
    limits = presets.western_convergence(unit=unit).all_limits
    assert len(limits) == 2
    for limit in limits:
        assert isinstance(limit, MessageRateLimit if unit == "messages" else RecipientRateLimit)
        assert limit.on_excess == "reject"
        assert str(Decision(Action.REJECT, retry_after, limit).reply) == REFUSAL


def test_convergence_counts_per_submitter_and_without_subaddresses() -> None:
    policy = presets.western_convergence()
    assert policy.subaddress == presets.leeds_smtp().subaddress == "+"
    assert {limit.scope for limit in policy.all_limits if isinstance(limit, RateLimit)} == {
        ("submitter",)
    }


def test_convergence_counts_refused_attempts_too() -> None:
    for limit in presets.western_convergence().all_limits:
        assert isinstance(limit, RateLimit)
        assert limit.denied == "count"


def test_convergence_exempts_list_guardian_and_official_mass_mailings() -> None:
    dean = Exemption(senders=["dean@uwo.ca"], reason="Official communication")
    policy = presets.western_convergence(exemptions=["news@lists.uwo.ca", dean])
    limiter, _ = limiter_with_clock(policy)
    assert limiter.try_acquire(envelope_to(5_000, "news@lists.uwo.ca"))
    assert limiter.try_acquire(envelope_to(5_000, "dean@uwo.ca"))
    assert not limiter.try_acquire(envelope_to(5_000))


def test_convergence_counts_an_outside_list_as_one_external_address() -> None:
    limiter, _ = limiter_with_clock(presets.western_convergence())
    group = Envelope("ann@uwo.ca", ["class-of-2026@googlegroups.com"])
    assert all(limiter.try_acquire(group) for _ in range(50))
    assert not limiter.try_acquire(group)


@pytest.mark.parametrize(
    ("per_server", "nodes"), [(True, ("mail1", "mail2")), (False, (None, None))]
)
def test_convergence_counts_per_server_or_all_together(
    per_server: bool, nodes: tuple[str | None, str | None]
) -> None:
    policy = presets.western_convergence(per_server=per_server)
    backend = MemoryBackend(ManualClock())
    first, second = (Limiter(policy, backend, node=node) for node in nodes)
    assert first.try_acquire(envelope_to(50))
    assert not first.check(envelope_to())
    assert second.try_acquire(envelope_to(50)).allowed is per_server


def test_convergence_accepts_the_networks_of_another_campus() -> None:
    policy = presets.western_convergence(campus_networks=["10.0.0.0/8", "2001:db8::/32"])
    limiter, _ = limiter_with_clock(policy)
    tiers = {
        address: limiter.check(envelope_to(client=Client(address=address))).tier
        for address in ("10.1.1.1", "2001:db8::1", CAMPUS)
    }
    assert tiers == {"10.1.1.1": "tier 1", "2001:db8::1": "tier 1", CAMPUS: "tier 2"}


def test_convergence_accepts_different_numbers_and_domains() -> None:
    policy = presets.western_convergence(
        internal_domains=["leeds.ac.uk"], burst_rate="1/hour", daily_rate="2/day"
    )
    assert [limit.limit for limit in policy.all_limits] == [1, 2]
    limiter, _ = limiter_with_clock(policy)
    for insider in ("bob@leeds.ac.uk", "eve@leeds.ac.uk"):
        assert limiter.try_acquire(Envelope("ann@leeds.ac.uk", [insider]))
    assert limiter.try_acquire(Envelope("ann@leeds.ac.uk", ["bob@uwo.ca"]))
    assert not limiter.try_acquire(Envelope("ann@leeds.ac.uk", ["bob@mail.leeds.ac.uk"]))


@pytest.mark.parametrize("scope", ["client", "user", ["sender", "client"]])
def test_convergence_counts_per_any_scope(scope: Any) -> None:
    expected = (scope,) if isinstance(scope, str) else tuple(scope)
    for limit in presets.western_convergence(scope=scope).all_limits:
        assert isinstance(limit, RateLimit)
        assert limit.scope == expected


@pytest.mark.parametrize("unit", ["bytes", "", None, "recipient"])
def test_convergence_accepts_only_recipients_or_messages_as_unit(unit: Any) -> None:
    with pytest.raises(ValueError, match="is not one of recipients, messages") as caught:
        presets.western_convergence(unit=unit)
    assert repr(unit) in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"campus_networks": ["nonsense"]}, "'nonsense'"),
        ({"campus_networks": ["129.100.0.1/16"]}, "host bits"),
        ({"campus_networks": []}, "at least one network"),
        ({"internal_domains": ["no domain"]}, "'no domain'"),
        ({"internal_domains": "uwo.ca"}, "'uwo.ca'"),
        ({"scope": "planet"}, "'planet'"),
        ({"exemptions": "dean@uwo.ca"}, "a list of addresses, domains or Exemption objects"),
    ],
)
def test_convergence_refuses_invalid_arguments(arguments: dict[str, Any], named: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        presets.western_convergence(**arguments)
    assert named in str(caught.value)
