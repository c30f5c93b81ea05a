"""S8 to S13, Western's Convergence: tiers, internal recipients, servers, refusal, workarounds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from rlm_testkit.builders import envelope_to, limit_name, used_counts

from ratelimit_mail import Action, Client, Envelope, Limiter, presets
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.conditions import in_network
from ratelimit_mail.directory import Directory, MailingList
from ratelimit_mail.overrides import Exemption
from ratelimit_mail.planner import plan_mailing
from ratelimit_mail.testing import ManualClock

MINUTE = 60
HOUR = 60 * MINUTE
DAY = 24 * HOUR
ANN, BOB = "ann@uwo.ca", "bob@uwo.ca"
REFUSAL = "550 5.7.1 Recipient rate limit exceeded. Try again later."
WIRED = Client(address="129.100.6.7", protocol="smtp")
TIER_2 = {
    "a Convergence user": Client(address="129.100.6.7", protocol="webmail"),
    "a wireless client": Client(address="129.100.8.9", protocol="smtp", tags=["wireless"]),
    "a Reznet client": Client(address="129.100.9.9", protocol="smtp", tags=["reznet"]),
    "an off-campus client": Client(address="203.0.113.7", protocol="smtp"),
    "an unknown client": Client(),
}
TIER_1 = {
    "a wired workstation": WIRED,
    "a department's server": Client(address="129.100.77.1", protocol="smtp", tags=["server"]),
    "a program that calls an interface": Client(address="129.100.77.2", protocol="api"),
}
OFF_CAMPUS = TIER_2["an off-campus client"]
SEVEN = datetime(2026, 3, 2, 7, tzinfo=UTC)


def western(**options: Any) -> tuple[Limiter, ManualClock]:
    clock = ManualClock(int(SEVEN.timestamp() * 1000))
    policy = presets.western_convergence(**options)
    return Limiter(policy, MemoryBackend(clock), sleep=clock.advance), clock


def external_message(outsiders: int = 1, client: Client = WIRED, sender: str = ANN) -> Envelope:
    return envelope_to(outsiders, sender, client)


# S8 and S9: tiers


@pytest.mark.parametrize("client", TIER_2.values(), ids=TIER_2)
def test_tier_2_has_50_in_15_minutes(client: Client) -> None:
    limiter, clock = western()
    for _ in range(50):
        assert limiter.try_acquire(external_message(1, client)).tier == "tier 2"
    decision = limiter.check(external_message(1, client))
    assert (limit_name(decision), decision.retry_after) == (
        "recipients in 15 minutes",
        15 * MINUTE,
    )
    clock.advance(15 * MINUTE)
    assert limiter.try_acquire(external_message(1, client))


@pytest.mark.parametrize("client", TIER_2.values(), ids=TIER_2)
def test_tier_2_has_500_in_24_hours(client: Client) -> None:
    limiter, clock = western()
    for _ in range(10):
        assert limiter.try_acquire(external_message(50, client))
        clock.advance(15 * MINUTE)
    decision = limiter.check(external_message(1, client))
    assert (limit_name(decision), decision.retry_after) == ("recipients a day", DAY - 150 * MINUTE)


@pytest.mark.parametrize("client", TIER_1.values(), ids=TIER_1)
def test_tier_1_all_other_clients_on_campus_have_500_in_24_hours(client: Client) -> None:
    limiter, clock = western()
    assert limiter.try_acquire(external_message(500, client)).tier == "tier 1"
    decision = limiter.check(external_message(1, client))
    assert (limit_name(decision), decision.retry_after) == ("recipients a day", DAY)
    clock.advance(DAY)
    assert limiter.try_acquire(external_message(500, client))


def test_the_limit_of_tier_2_is_much_lower_because_its_clients_are_higher_risk() -> None:
    in_15_minutes = {}
    for client in (OFF_CAMPUS, WIRED):
        limiter, _ = western()
        passed = [bool(limiter.try_acquire(external_message(1, client))) for _ in range(600)]
        in_15_minutes[client] = sum(passed)
    assert in_15_minutes == {OFF_CAMPUS: 50, WIRED: 500}


def test_the_limits_can_count_messages_as_the_table_says() -> None:
    limiter, _ = western(unit="messages")
    assert all(limiter.try_acquire(external_message(60, OFF_CAMPUS)) for _ in range(50))
    assert not limiter.try_acquire(external_message(1, OFF_CAMPUS))


def test_a_stolen_account_has_one_limit_under_any_sender_address() -> None:
    limiter, _ = western()
    stolen = Client(address="203.0.113.7", user="ann", protocol="smtp")
    senders = [f"made-up-{i}@uwo.ca" for i in range(100)]
    passed = [bool(limiter.try_acquire(external_message(1, stolen, each))) for each in senders]
    assert passed == [True] * 50 + [False] * 50
    assert limiter.usage("user:ann", scope="submitter", client=stolen)[0].remaining == 0


def test_spellings_and_subaddresses_of_a_sender_have_one_limit() -> None:
    limiter, _ = western()
    spellings = ["ann@uwo.ca", "ANN@uwo.ca", "ann+a@uwo.ca", "Ann+b@uwo.ca"] * 25
    passed = [bool(limiter.try_acquire(external_message(1, OFF_CAMPUS, s))) for s in spellings]
    assert passed == [True] * 50 + [False] * 50


def test_an_infected_host_is_stopped_under_any_sender_if_clients_are_counted() -> None:
    limiter, _ = western(scope="client")
    infected = Client(address="129.100.8.9", tags=["wireless"])
    passed = [
        bool(limiter.try_acquire(external_message(1, infected, f"made-up-{i}@uwo.ca")))
        for i in range(1_000)
    ]
    assert passed == [True] * 50 + [False] * 950
    assert limiter.try_acquire(external_message(1, OFF_CAMPUS))


# S10: internal and external recipients


def test_emails_to_internal_recipients_are_not_limited_and_do_not_count() -> None:
    limiter, _ = western()
    assert all(limiter.try_acquire(Envelope(ANN, [BOB], OFF_CAMPUS)) for _ in range(2_000))
    assert used_counts(limiter, f"sender:{ANN}", "submitter") == [0, 0]
    assert limiter.try_acquire(external_message(50, OFF_CAMPUS))
    assert not limiter.check(external_message(1, OFF_CAMPUS))
    assert limiter.try_acquire(Envelope(ANN, [BOB], OFF_CAMPUS))


def test_other_domains_hosted_by_its_are_internal_too() -> None:
    limiter, _ = western(internal_domains=["uwo.ca", ".uwo.ca", "hosted.example"])
    inside = ["bob@uwo.ca", "bob@mail.uwo.ca", "bob@HOSTED.example"]
    assert all(limiter.try_acquire(Envelope(ANN, inside, OFF_CAMPUS)) for _ in range(100))
    assert limiter.try_acquire(Envelope(ANN, [*inside, "eve@example.com"], OFF_CAMPUS))
    assert used_counts(limiter, f"sender:{ANN}", "submitter") == [1, 1]


# S11: each server


def test_each_server_counts_on_its_own_so_splitting_exceeds_the_limit() -> None:
    backend = MemoryBackend(ManualClock())
    policy = presets.western_convergence(per_server=True)
    servers = [Limiter(policy, backend, node=name) for name in ("mail1", "mail2", "mail3")]
    assert all(server.try_acquire(external_message(500)) for server in servers)
    assert not any(server.check(external_message()) for server in servers)


def test_all_servers_count_together_so_splitting_does_not_help() -> None:
    backend = MemoryBackend(ManualClock())
    servers = [Limiter(presets.western_convergence(), backend) for _ in range(3)]
    passed = [bool(servers[i % 3].try_acquire(external_message())) for i in range(1_500)]
    assert passed == [True] * 500 + [False] * 1_000


# S12: refusal


def test_a_sender_over_the_limit_receives_this_message() -> None:
    limiter, _ = western()
    assert limiter.try_acquire(external_message(500))
    decision = limiter.try_acquire(external_message())
    assert decision.action is Action.REJECT
    assert str(decision.reply) == REFUSAL


def test_a_message_to_three_outsiders_at_499_of_500_reaches_none_of_them() -> None:
    limiter, _ = western()
    assert limiter.try_acquire(external_message(499))
    assert limiter.check(external_message(1))  # there is room for one of them
    decision = limiter.try_acquire(external_message(3))
    assert not decision.allowed
    assert decision.recipients is None  # one answer for all three
    assert str(decision.reply) == REFUSAL


def test_an_internal_recipient_of_a_refused_message_does_not_receive_it_either() -> None:
    limiter, _ = western()
    assert limiter.try_acquire(external_message(500))
    assert str(limiter.try_acquire(Envelope(ANN, [BOB, "eve@example.com"], WIRED)).reply) == REFUSAL


def keep_trying(limiter: Limiter, clock: ManualClock) -> None:
    """Send 499 at seven in the morning, then try each minute from nine in the evening to eight."""
    assert limiter.try_acquire(external_message(499))
    clock.advance(14 * HOUR)
    for _ in range(11 * 60):
        assert str(limiter.try_acquire(external_message(3)).reply) == REFUSAL
        clock.advance(MINUTE)


def test_a_sender_who_keeps_trying_all_night_is_still_blocked_in_the_morning() -> None:
    limiter, clock = western()
    keep_trying(limiter, clock)
    assert clock() / 1000 == SEVEN.timestamp() + DAY + HOUR  # the 499 have left the window
    assert str(limiter.try_acquire(external_message(3)).reply) == REFUSAL


def test_a_sender_who_stops_can_send_after_the_window() -> None:
    limiter, clock = western()
    assert limiter.try_acquire(external_message(499))
    clock.advance(14 * HOUR)
    refused = limiter.try_acquire(external_message(3))
    assert refused.retry_after == 10 * HOUR
    clock.advance(10 * HOUR - 0.001)
    assert not limiter.check(external_message(3))
    clock.advance(0.001)
    assert limiter.try_acquire(external_message(3))


def test_trying_again_pushes_the_client_further_over_the_limit() -> None:
    limiter, clock = western()
    assert limiter.try_acquire(external_message(500))
    waits = []
    for _ in range(300):
        clock.advance(MINUTE)
        decision = limiter.try_acquire(external_message(5))
        assert decision.retry_after is not None
        waits.append(clock() / 1000 + decision.retry_after)
    assert waits[0] == SEVEN.timestamp() + DAY
    assert waits[-1] > waits[0]
    assert waits == sorted(waits)


def test_a_sender_who_stops_in_the_morning_can_send_exactly_after_retry_after() -> None:
    limiter, clock = western()
    keep_trying(limiter, clock)
    last = limiter.try_acquire(external_message(3))
    assert last.retry_after is not None
    assert last.retry_after > 12 * HOUR
    clock.advance(last.retry_after - 0.001)
    assert not limiter.check(external_message(3))
    clock.advance(0.001)
    assert limiter.try_acquire(external_message(3))


# S13: workarounds and best practices


def test_from_the_wired_network_more_can_be_sent_than_from_a_tier_2_area() -> None:
    limiter, _ = western()
    assert limiter.try_acquire(external_message(50, OFF_CAMPUS))
    assert not limiter.check(external_message(1, OFF_CAMPUS))
    assert limiter.try_acquire(external_message(450, WIRED))  # messages from off campus still count
    assert not limiter.check(external_message(1, WIRED))


def test_a_list_guardian_list_is_unaffected_by_rate_limits() -> None:
    list_server = Client(address="129.100.5.5", protocol="smtp")
    guardian = Exemption(
        senders=["news@lists.uwo.ca"], when=in_network("129.100.5.5"), reason="List Guardian"
    )
    limiter, _ = western(exemptions=[guardian])
    members = external_message(20_000).recipients
    assert all(
        limiter.try_acquire(Envelope("news@lists.uwo.ca", members, list_server)) for _ in range(3)
    )
    forged = Envelope("news@lists.uwo.ca", members, OFF_CAMPUS)
    assert not limiter.try_acquire(forged)


def test_staff_may_write_to_a_list_guardian_list_without_limit() -> None:
    news = MailingList("news@lists.uwo.ca", members=external_message(5_000).recipients, exempt=True)
    limiter, _ = western(directory=Directory(lists=[news]))
    post = Envelope(ANN, ["news@lists.uwo.ca"], OFF_CAMPUS)
    assert all(limiter.try_acquire(post) for _ in range(1_000))


def test_an_outside_list_counts_as_one_external_address() -> None:
    limiter, _ = western()
    group = Envelope(ANN, ["class-of-2026@googlegroups.com", BOB], OFF_CAMPUS)
    assert all(limiter.try_acquire(group) for _ in range(50))
    assert used_counts(limiter, f"sender:{ANN}", "submitter") == [50, 50]
    assert not limiter.check(group)


def test_few_recipients_at_a_time_over_a_longer_period_stay_below_the_limits() -> None:
    limiter, clock = western()
    for _ in range(3 * 24 * 12):
        assert limiter.try_acquire(external_message(1, OFF_CAMPUS))
        clock.advance(5 * MINUTE)


def test_how_long_such_a_period_must_be_can_be_planned() -> None:
    policy = presets.western_convergence()
    days = {
        client: plan_mailing(policy, [1] * 2_000, sender=ANN, client=client, start=SEVEN)
        for client in (OFF_CAMPUS, WIRED)
    }
    assert (days[WIRED].last - SEVEN).total_seconds() == 3 * DAY
    assert (days[OFF_CAMPUS].last - SEVEN).total_seconds() == 3 * DAY + 9 * 15 * MINUTE


def test_official_communications_by_the_mass_mailing_application_are_not_limited() -> None:
    official = Exemption(
        senders=["president@uwo.ca"], reason="Official communication", granted_by="ITS Help Desk"
    )
    limiter, _ = western(exemptions=[official])
    everybody = external_message(40_000, sender="president@uwo.ca")
    assert limiter.try_acquire(everybody)
    assert limiter.try_acquire(everybody)
    assert not limiter.try_acquire(external_message(501))
