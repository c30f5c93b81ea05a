"""S16, compromised accounts: a blast of millions is cut to the limit, and an alert is raised.

The blasts here are smaller, at an even rate; `examples/theft.py` does one of a million.
"""

from __future__ import annotations

import logging
from collections import Counter

import attrs
import pytest

from ratelimit_mail import Client, Envelope, Limiter, Policy, presets
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.events import (
    BackToNormal,
    BurstAfterDenial,
    Dispatcher,
    Event,
    FirstDenial,
    NearLimit,
    log_events,
)
from ratelimit_mail.limits import RateLimit
from ratelimit_mail.testing import ManualClock

MINUTE = 60 * 1000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
STOLEN = Client(address="203.0.113.7", user="kim", protocol="webmail")
SPAM = Envelope("kim@uwo.ca", ["victim@example.com"], STOLEN)


class Scene:
    """A limiter, its clock, and its alerts."""

    def __init__(self, policy: Policy) -> None:
        self.clock = ManualClock(0)
        self.alerts: list[Event] = []
        self.dispatcher = Dispatcher(self.alerts.append)
        self.limiter = Limiter(policy, MemoryBackend(self.clock), on_event=self.dispatcher)

    def blast(self, every: int, until: int, spam: Envelope = SPAM) -> list[int]:
        """Send one message every so many milliseconds, and return when messages were accepted."""
        passed = []
        for at in range(self.clock(), until, every):
            self.clock.set(at)
            if self.limiter.try_acquire(spam):
                passed.append(at)
        self.clock.set(until)
        return passed

    def events(self) -> list[tuple[str, str | None]]:
        """Return the kind and the limit of each alert."""
        self.dispatcher.flush()
        return [
            (type(each).__name__, None if each.limit is None else each.limit.name)
            for each in self.alerts
        ]


def most(window: int, times: list[int]) -> int:
    """Return the most in any window, by counting each window."""
    return max(sum(at - window < other <= at for other in times) for at in times)


def western(*, ignoring: bool = False) -> Policy:
    """Return the preset, unchanged or with refused attempts ignored."""
    policy = presets.western_convergence()
    if not ignoring:
        return policy
    tiers = []
    for tier in policy.tiers:
        limits = [attrs.evolve(x, denied="ignore") for x in tier.limits if isinstance(x, RateLimit)]
        tiers.append(attrs.evolve(tier, limits=limits))
    return policy.evolve(tiers=tiers)


# The volume


def test_the_first_50_messages_of_a_blast_pass_and_then_none() -> None:
    scene = Scene(western())
    assert scene.blast(10_000, DAY) == [10_000 * i for i in range(50)]


def test_with_refused_attempts_ignored_it_is_50_in_15_minutes_and_500_in_24_hours() -> None:
    scene = Scene(western(ignoring=True))
    passed = scene.blast(10_000, DAY)
    assert most(15 * MINUTE, passed) == 50
    assert len(passed) == 500


def test_the_spam_of_an_incident_is_lowered_to_a_few_thousand() -> None:
    scene = Scene(western(ignoring=True))
    passed = scene.blast(15_000, 7 * DAY)  # a week before an administrator notices
    assert len(passed) == 3_500
    assert most(DAY, passed) == 500


def test_limits_on_recipients_hold_spam_that_is_sent_to_many_recipients_at_once() -> None:
    scene = Scene(presets.leeds_office365())
    people = [f"stranger{i}@example.com" for i in range(100)]
    passed = scene.blast(1_000, 4 * HOUR, Envelope("kim@leeds.ac.uk", people))
    assert len(passed) * len(people) == 10_000
    assert most(MINUTE, passed) == 30


def test_other_accounts_can_still_send() -> None:
    scene = Scene(western())
    scene.blast(1_000, HOUR)
    ann = attrs.evolve(STOLEN, user="ann")
    assert scene.limiter.try_acquire(Envelope("ann@uwo.ca", ["bob@example.com"], ann))
    assert not scene.limiter.try_acquire(Envelope("ann@uwo.ca", ["bob@example.com"], STOLEN))


# Alerts


def test_an_alert_names_the_account_and_the_client() -> None:
    scene = Scene(western())
    scene.blast(1_000, 51_000)
    scene.dispatcher.flush()
    [denial] = [event for event in scene.alerts if isinstance(event, FirstDenial)]
    assert (denial.sender, denial.client, denial.tier) == ("kim@uwo.ca", STOLEN, "tier 2")
    assert denial.at.timestamp() == 50.0
    assert str(denial.decision.reply) == (
        "550 5.7.1 Recipient rate limit exceeded. Try again later."
    )


def test_alerts_come_before_the_limit_at_the_limit_and_while_attempts_continue() -> None:
    scene = Scene(western())
    scene.blast(1_000, 5 * MINUTE)
    burst, daily = "recipients in 15 minutes", "recipients a day"
    assert scene.events() == [
        ("NearLimit", burst),
        ("FirstDenial", burst),
        ("BurstAfterDenial", burst),
    ]
    near, _, again = scene.alerts
    assert isinstance(near, NearLimit)
    assert isinstance(again, BurstAfterDenial)
    assert (near.used, near.at.timestamp()) == (40, 39.0)
    assert (again.attempts, again.at.timestamp()) == (10, 60.0)
    scene.blast(1_000, 10 * MINUTE)
    assert [each for each in scene.events() if each[1] == daily] == [
        ("NearLimit", daily),
        ("FirstDenial", daily),
        ("BurstAfterDenial", daily),
    ]


def test_alerts_do_not_flood_the_administrator() -> None:
    scene = Scene(western())
    attempts = len(range(0, 2 * HOUR, 500))
    scene.blast(500, 2 * HOUR)
    windows = {"recipients in 15 minutes": 8, "recipients a day": 1}
    events = scene.events()
    assert len(events) < attempts / 100
    for (_, limit), times in Counter(events).items():
        assert limit is not None
        assert times <= windows[limit]


def test_the_log_has_the_address_or_a_pseudonym(caplog: pytest.LogCaptureFixture) -> None:
    for key in (None, b"sixteen secret bytes"):
        dispatcher = Dispatcher(log_events(key=key))
        limiter = Limiter(western(), MemoryBackend(ManualClock()), on_event=dispatcher)
        with caplog.at_level(logging.WARNING):
            assert sum(bool(limiter.try_acquire(SPAM)) for _ in range(51)) == 50
            dispatcher.flush()
        [line] = [text for text in caplog.messages if "first denial" in text]
        assert "recipients per 15 minutes" in line
        assert ("kim@uwo.ca" in line) is (key is None)
        caplog.clear()


def test_after_the_blast_the_owner_may_send_again_and_an_alert_says_so() -> None:
    scene = Scene(western())
    scene.blast(10_000, DAY)
    scene.clock.set(2 * DAY)
    assert scene.limiter.try_acquire(SPAM)
    scene.dispatcher.flush()
    last = scene.alerts[-1]
    assert isinstance(last, BackToNormal)
    assert last.limit is not None
    assert (last.sender, last.limit.name) == ("kim@uwo.ca", "recipients a day")


def test_after_a_password_change_the_help_desk_resets_the_account() -> None:
    scene = Scene(western())
    scene.blast(1_000, HOUR)
    assert not scene.limiter.check(SPAM)
    scene.limiter.reset("user:kim", scope="submitter")
    assert scene.limiter.try_acquire(SPAM)


def test_no_alert_of_recovery_comes_during_the_blast() -> None:
    scene = Scene(western())
    passed = scene.blast(1_000, HOUR)
    assert passed[-1] == 49_000
    assert "BackToNormal" not in {kind for kind, _ in scene.events()}
