"""Events of generated messages are those that a simple model of all messages predicts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from fractions import Fraction
from itertools import pairwise
from math import ceil
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from rlm_testkit.event_scene import EventScene, utc

from ratelimit_mail import Client, MessageRateLimit, RecipientRateLimit, Tier
from ratelimit_mail.conditions import has_tag
from ratelimit_mail.events import BackToNormal, Event, FirstDenial, NearLimit
from ratelimit_mail.limits import Limit, RateLimit

LIMITS = st.builds(
    lambda kind, amount, seconds, scope, count: kind(
        f"{amount}/{seconds} seconds", scope=scope, count=count
    ),
    st.sampled_from([MessageRateLimit, RecipientRateLimit]),
    st.integers(1, 12),
    st.integers(1, 40),
    st.sampled_from(["sender", "sender_domain", "global"]),
    st.sampled_from(["all", "external"]),
)
SENDERS = st.sampled_from(["ann@uwo.ca", "bob@uwo.ca", "cy@x.org"])
RECIPIENTS = st.lists(
    st.sampled_from(["d@uwo.ca", "e@x.org", "f@x.org", "g@y.org"]), min_size=1, unique=True
)
CLIENTS = st.sampled_from([Client(), Client(tags=["wireless"])])
PAUSES = st.sampled_from([0, 0, 0, 1, 400, 1000, 1001, 5000, 9999, 20_000, 70_000])
STEPS = st.lists(st.tuples(PAUSES, SENDERS, RECIPIENTS, CLIENTS, st.booleans()), max_size=40)


def subject_of(limit: RateLimit, sender: str) -> str:
    if limit.scope == ("global",):
        return "everybody"
    return sender if limit.scope == ("sender",) else sender.rpartition("@")[2]


def cost_of(limit: RateLimit, recipients: Sequence[str]) -> int:
    counted = [r for r in recipients if limit.count == "all" or not r.endswith("@uwo.ca")]
    return len(counted) if isinstance(limit, RecipientRateLimit) else min(1, len(counted))


class Oracle:
    """Predict NearLimit events from a list of all messages.

    Every limit counts every message, whatever tier it was sent in. So more than a limit may have
    gone under another tier: above the limit, denials are reported, and not that it is nearly used.
    """

    def __init__(self, near: float, all_limits: Sequence[RateLimit]) -> None:
        self.near = Fraction(str(near))
        self.all_limits = all_limits
        self.sent: list[tuple[int, str, Sequence[str]]] = []
        self.reported_at: dict[tuple[str, RateLimit], int] = {}

    def near_limit(
        self, limits: Sequence[Limit], now: int, sender: str, recipients: Sequence[str]
    ) -> set[tuple[str, RateLimit, int]]:
        """Return the events that follow from a message that was just accepted."""
        self.sent.append((now, sender, recipients))
        # Limits of one scope are checked together, once anything is counted there.
        checked_scopes = {limit.scope for limit in self.all_limits if cost_of(limit, recipients)}
        expected = set()
        for limit in limits:
            assert isinstance(limit, RateLimit)
            subject = subject_of(limit, sender)
            used = sum(
                cost_of(limit, to)
                for moment, other, to in self.sent
                if subject_of(limit, other) == subject and moment > now - limit.window
            )
            silent = now < self.reported_at.get((subject, limit), -limit.window) + limit.window
            if (
                limit.scope in checked_scopes
                and used >= ceil(limit.limit * self.near)
                and not silent
            ):
                if used <= limit.limit:
                    expected.add((subject, limit, used))
                self.reported_at[subject, limit] = now
        return expected


@example(
    [MessageRateLimit("2/second")],
    [RecipientRateLimit("1/second", count="external")],
    0.5,
    [
        (0, "ann@uwo.ca", ["d@uwo.ca", "e@x.org", "f@x.org"], Client(), False),
        (0, "ann@uwo.ca", ["d@uwo.ca"], Client(tags=["wireless"]), False),
    ],
)
@given(
    st.lists(LIMITS, min_size=1, max_size=4),
    st.lists(LIMITS, max_size=2),
    st.sampled_from([0.5, 0.8, 1]),
    STEPS,
)
def test_near_limit_is_reported_with_the_message_that_reaches_the_mark(
    limits: list[RateLimit], of_tier: list[RateLimit], near: float, steps: list[Any]
) -> None:
    tiers = [Tier("wireless", when=has_tag("wireless"), limits=of_tier)]
    scene = EventScene(*limits, tiers=tiers, internal_domains=["uwo.ca"], near=near)
    oracle = Oracle(near, limits + of_tier)
    for pause, sender, recipients, client, refunded in steps:
        scene.clock.advance(pause / 1000)
        decision = scene.send(sender, recipients, client)
        reported = {
            (event.subject, event.limit, event.used)
            for event in scene.new_events()
            if isinstance(event, NearLimit)
        }
        in_force = limits + (of_tier if client.tags else [])
        if decision:
            now = scene.clock()
            assert reported == oracle.near_limit(in_force, now, sender, recipients)
        else:
            assert reported == set()
        if decision and refunded:
            scene.limiter.refund(decision)
            oracle.sent.pop()


@given(st.lists(LIMITS, min_size=1, max_size=3), STEPS)
def test_each_event_is_reported_exactly_once_per_subject_limit_and_window(
    limits: list[RateLimit], steps: list[Any]
) -> None:
    scene = EventScene(*limits, internal_domains=["uwo.ca"], burst=3, burst_seconds=2)
    events: list[Event] = []
    denied: dict[tuple[str, Limit | None], list[int]] = {}
    last_denial: dict[str, int] = {}
    for pause, sender, recipients, client, _ in steps:
        scene.clock.advance(pause / 1000)
        decision = scene.send(sender, recipients, client)
        reported = scene.new_events()
        events += reported
        now = scene.clock()
        keys = {(type(event), event.subject, event.limit): event for event in reported}
        assert len(keys) == len(reported)
        for (subject, limit), times in list(denied.items()):
            assert isinstance(limit, RateLimit)
            # While another limit denies the subject, it is not back to normal for this one.
            if now - last_denial[subject] >= limit.window:
                back = keys.pop((BackToNormal, subject, limit))
                assert isinstance(back, BackToNormal)
                assert (back.denials, back.since) == (len(times), utc(times[0] / 1000))
                del denied[subject, limit]
        assert not any(kind is BackToNormal for kind, _, _ in keys)
        limit = decision.limit
        if isinstance(limit, RateLimit):
            # A message that can never go is charged to nothing; its subject is the sender.
            never = decision.retry_after is None
            subject = sender if never else subject_of(limit, sender)
            times = denied.setdefault((subject, limit), [])
            times.append(now)
            last_denial[subject] = now
            assert (FirstDenial, subject, limit) in keys or len(times) > 1
    moments: dict[tuple[type[Event], str, Limit | None], list[datetime]] = {}
    for event in events:
        moments.setdefault((type(event), event.subject, event.limit), []).append(event.at)
    for (_, _, limit), report_times in moments.items():
        assert isinstance(limit, RateLimit)
        for one, next_one in pairwise(report_times):
            assert (next_one - one).total_seconds() * 1000 >= limit.window
