"""Watch: which events follow from decisions, each once per subject, limit and window."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from fractions import Fraction
from itertools import pairwise
from math import ceil
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratelimit_mail import (
    Action,
    AsyncLimiter,
    Client,
    Decision,
    Envelope,
    Limiter,
    MessageRateLimit,
    Policy,
    RecipientLimit,
    RecipientRateLimit,
    Tier,
)
from ratelimit_mail._util.steps import run, run_async
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.backends.adapters import InlineAdapter
from ratelimit_mail.backends.base import Reading
from ratelimit_mail.conditions import has_tag
from ratelimit_mail.counting.charge import Ledger
from ratelimit_mail.events import (
    BackToNormal,
    BurstAfterDenial,
    Dispatcher,
    Event,
    FirstDenial,
    NearLimit,
)
from ratelimit_mail.events.watch import Watch
from ratelimit_mail.exceptions import BackendUnavailable
from ratelimit_mail.limits import Limit, RateLimit
from ratelimit_mail.testing import ManualClock

DAY = 24 * 3600
MINUTE = MessageRateLimit("5/minute")
LAPTOP = Client(address="10.1.2.3", user="ann")


class CountingBackend(MemoryBackend):
    """Counts in memory; how often they are read is counted too."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.clock = clock
        self.reads = 0

    def usage(self, ledger: Ledger, subject: str) -> list[list[Reading]]:
        self.reads += 1
        return super().usage(ledger, subject)


class Scene:
    """A policy whose decisions are watched, and a clock to turn by hand."""

    def __init__(
        self, *limits: Limit, backend: CountingBackend | None = None, **options: Any
    ) -> None:
        names = {"tiers", "internal_domains", "grants"} & options.keys()
        changes = {name: options.pop(name) for name in names}
        self.policy = Policy(name="campus", limits=limits, **changes)
        self.backend = backend or CountingBackend(ManualClock(0))
        self.clock = self.backend.clock
        self.limiter = Limiter(self.policy, self.backend)
        self._told: list[Event] = []
        self.teller = Dispatcher(self._told.append, most_waiting=10**6)
        self.watch = Watch(self.policy, self.teller, **options)

    def send(
        self,
        sender: str = "ann@uwo.ca",
        recipients: int | Sequence[str] = 1,
        client: Client | None = None,
    ) -> Decision:
        if isinstance(recipients, int):
            recipients = [f"r{i}@example.com" for i in range(recipients)]
        envelope = Envelope(sender, recipients, client)
        decision = self.limiter.try_acquire(envelope)
        self.see(envelope, decision)
        return decision

    def see(self, envelope: Envelope, decision: Decision) -> None:
        plan = self.policy.plan(envelope)
        run(self.watch.seeing(self.backend, envelope, plan, decision, self.clock()))

    def told(self) -> list[Event]:
        """The events since the last call."""
        assert self.teller.flush(60)
        told, self._told[:] = self._told[:], []
        return told

    def kinds(self) -> list[str]:
        return [type(event).__name__ for event in self.told()]


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


# The first denial


def test_a_first_denial_says_who_was_refused_by_what() -> None:
    scene = Scene(MINUTE, near=1)
    for _ in range(5):
        assert scene.send(client=LAPTOP)
    scene.told()
    scene.clock.advance(1.5)
    decision = scene.send(client=LAPTOP)
    [event] = scene.told()
    assert event == FirstDenial(
        sender="ann@uwo.ca",
        subject="ann@uwo.ca",
        limit=MINUTE,
        policy="campus",
        tier=None,
        at=at(1.5),
        client=LAPTOP,
        decision=decision,
    )


def test_the_next_first_denial_is_a_window_after_the_last() -> None:
    scene = Scene(MessageRateLimit("1/minute"), burst=1000)
    scene.send()
    denials = []
    for _ in range(300):  # refused nearly all the time, for five minutes
        scene.clock.advance(1)
        scene.send()
        denials += [event for event in scene.told() if isinstance(event, FirstDenial)]
    seconds = [event.at.timestamp() for event in denials]
    assert seconds == [1, 61, 121, 181, 241]


def test_each_limit_and_each_sender_has_a_first_denial_of_its_own() -> None:
    day = RecipientRateLimit("8/day")
    scene = Scene(MessageRateLimit("2/minute"), day, near=1)
    denials = []
    for sender, recipients in [("ann", 1), ("ann", 1), ("ann", 1), ("bob", 8), ("bob", 1)]:
        scene.send(f"{sender}@uwo.ca", recipients)
    scene.clock.advance(60)
    scene.send(recipients=8)
    denials = [event for event in scene.told() if isinstance(event, FirstDenial)]
    assert [(event.sender, str(event.limit)) for event in denials] == [
        ("ann@uwo.ca", "2 messages per minute per sender"),
        ("bob@uwo.ca", "8 recipients per day per sender"),
        ("ann@uwo.ca", "8 recipients per day per sender"),
    ]


def test_the_tier_is_the_clients() -> None:
    tiers = [Tier("wireless", when=has_tag("wireless"), limits=[MessageRateLimit("1/day")])]
    scene = Scene(tiers=tiers)
    for _ in range(2):
        scene.send(client=Client(tags=["wireless"]))
    assert {event.tier for event in scene.told()} == {"wireless"}


def test_a_limit_on_one_message_has_a_first_denial_a_day_and_no_way_back() -> None:
    scene = Scene(RecipientLimit(3), burst=1000)
    times = []
    for hour in range(60):
        scene.send(recipients=4)
        times += [(hour, type(event).__name__) for event in scene.told()]
        scene.clock.advance(3600)
    assert times == [(0, "FirstDenial"), (24, "FirstDenial"), (48, "FirstDenial")]
    scene.clock.advance(10 * DAY)
    scene.send("bob@uwo.ca")
    assert scene.kinds() == []


def test_a_rule_has_a_first_denial_a_day() -> None:
    scene = Scene(grants=[])
    for _ in range(5):
        decision = scene.send()
    [event] = scene.told()
    assert isinstance(event, FirstDenial)
    assert event.limit is None
    assert event.decision == decision
    assert decision.rule is not None


def test_a_message_that_can_never_go_is_told_of_its_sender() -> None:
    limit = RecipientRateLimit("3/day", scope="client")
    scene = Scene(limit)
    scene.send(recipients=4, client=LAPTOP)
    [event] = scene.told()
    assert isinstance(event, FirstDenial)
    assert (event.limit, event.subject) == (limit, "ann@uwo.ca")


def test_what_an_outage_defers_is_no_denial() -> None:
    scene = Scene(MINUTE)
    envelope = Envelope("ann@uwo.ca", ["bob@example.com"])
    scene.see(envelope, Decision(Action.DEFER, 0.5, degraded=True))
    scene.see(envelope, Decision(Action.ACCEPT, degraded=True))
    assert scene.kinds() == []
    assert scene.backend.reads == 0


@pytest.mark.parametrize(
    ("scope", "client", "words"),
    [
        ("client", LAPTOP, "10.1.2.3"),
        ("client", None, "no client told"),
        ("user", LAPTOP, "ann"),
        ("sender_domain", None, "uwo.ca"),
        ("recipient", None, "r0@example.com"),
        ("global", None, "everybody"),
        (("sender", "recipient_domain"), None, "ann@uwo.ca and example.com"),
    ],
)
def test_the_subject_is_whom_the_limit_counts(
    scope: str | tuple[str, ...], client: Client | None, words: str
) -> None:
    scene = Scene(MessageRateLimit("1/day", scope=scope))
    scene.send(client=client)
    scene.send(client=client)
    near, denial = scene.told()
    assert isinstance(near, NearLimit)
    assert isinstance(denial, FirstDenial)
    assert near.subject == denial.subject == words


def test_where_one_of_several_recipients_was_full_the_sender_stands_for_it() -> None:
    scene = Scene(MessageRateLimit("1/day", scope="recipient"))
    scene.send(recipients=["a@x.org"])
    scene.told()
    scene.send(recipients=["a@x.org", "b@x.org"])
    [event] = scene.told()
    assert (type(event), event.subject) == (FirstDenial, "ann@uwo.ca")


def test_of_one_subject_that_several_senders_share_it_is_told_once() -> None:
    scene = Scene(MessageRateLimit("2/day", scope="global"), near=1)
    for i in range(9):
        scene.send(f"user{i}@uwo.ca")
    told = scene.told()
    assert [(type(event), event.sender) for event in told] == [
        (NearLimit, "user1@uwo.ca"),
        (FirstDenial, "user2@uwo.ca"),
    ]


# A burst


def test_a_burst_is_so_many_more_refusals_within_a_minute() -> None:
    scene = Scene(MessageRateLimit("1/day"), near=1, burst=3, burst_seconds=60)
    scene.send()
    scene.told()
    seconds = [0, 10, 40, 69, 69.999, 80]
    kinds = []
    for second in seconds:
        scene.clock.set(int(second * 1000))
        scene.send()
        kinds.append(scene.told())
    assert [[type(event) for event in told] for told in kinds] == [
        [FirstDenial],
        [],
        [],
        [BurstAfterDenial],
        [],
        [],
    ]
    [burst] = kinds[3]
    assert isinstance(burst, BurstAfterDenial)
    assert (burst.attempts, burst.seconds) == (3, 59.0)
    assert burst.at == at(69)


def test_the_minute_of_a_burst_may_begin_at_any_refusal() -> None:
    scene = Scene(MessageRateLimit("1/day"), near=1, burst=3, burst_seconds=60)
    scene.send()
    for second in [0, 10, 65, 71]:
        scene.clock.set(second * 1000)
        scene.send()
    assert scene.kinds() == ["NearLimit", "FirstDenial"]
    scene.clock.set(72_000)
    scene.send()
    [burst] = scene.told()
    assert isinstance(burst, BurstAfterDenial)
    assert burst.seconds == 7.0


def test_refusals_that_come_slowly_are_no_burst() -> None:
    scene = Scene(MessageRateLimit("1/day"), burst=3, burst_seconds=60)
    for _ in range(100):
        scene.clock.advance(30)  # three take sixty seconds, which is not within sixty
        scene.send()
    assert "BurstAfterDenial" not in scene.kinds()


def test_the_next_burst_is_told_a_window_later() -> None:
    scene = Scene(MessageRateLimit("1/hour"), burst=10)
    bursts = []
    for _ in range(3 * 3600):
        scene.send()
        scene.clock.advance(1)
        bursts += [event for event in scene.told() if isinstance(event, BurstAfterDenial)]
    gaps = [b.at - a.at for a, b in pairwise(bursts)]
    assert len(bursts) == 3
    assert all(gap.total_seconds() >= 3600 for gap in gaps)


def test_a_burst_that_goes_on_is_told_once_a_window_to_the_second() -> None:
    scene = Scene(MessageRateLimit("1/minute"), burst=1)
    bursts = []
    for _ in range(130):
        scene.send()
        bursts += [event for event in scene.told() if isinstance(event, BurstAfterDenial)]
        scene.clock.advance(1)
    assert [event.at.timestamp() for event in bursts] == [2, 62, 122]


# Back to normal


def test_a_sender_that_a_limit_refused_nothing_for_a_window_is_back_to_normal() -> None:
    scene = Scene(MessageRateLimit("1/minute"), near=1)
    for _ in range(4):
        scene.clock.advance(1)
        scene.send(client=LAPTOP)
    scene.told()
    scene.clock.advance(59.999)
    scene.send("bob@uwo.ca", client=Client(address="10.9.9.9"))
    assert scene.kinds() == ["NearLimit"]
    scene.clock.advance(0.001)
    scene.send("bob@uwo.ca")  # whoever calls
    back, denial = scene.told()
    assert back == BackToNormal(
        sender="ann@uwo.ca",
        subject="ann@uwo.ca",
        limit=MessageRateLimit("1/minute"),
        policy="campus",
        tier=None,
        at=at(64),
        client=LAPTOP,
        denials=3,
        since=at(2),
    )
    assert (type(denial), denial.sender) == (FirstDenial, "bob@uwo.ca")
    scene.clock.advance(1000)
    scene.send()
    assert [event.sender for event in scene.told() if isinstance(event, BackToNormal)] == [
        "bob@uwo.ca"
    ]


def test_one_who_is_refused_anew_after_a_window_was_back_to_normal_first() -> None:
    scene = Scene(MessageRateLimit("1/minute", denied="ignore"), near=1)
    scene.send()
    scene.send()
    scene.clock.advance(60)
    scene.send()
    scene.send()
    assert scene.kinds() == [
        "NearLimit",
        "FirstDenial",
        "BackToNormal",
        "NearLimit",
        "FirstDenial",
    ]


# Near a limit


def test_near_a_limit_says_how_much_is_used() -> None:
    limit = RecipientRateLimit("10/hour")
    scene = Scene(limit)
    scene.send(recipients=7)
    assert scene.kinds() == []
    scene.clock.advance(2)
    scene.send(recipients=2, client=LAPTOP)
    assert scene.told() == [
        NearLimit(
            sender="ann@uwo.ca",
            subject="ann@uwo.ca",
            limit=limit,
            policy="campus",
            tier=None,
            at=at(2),
            client=LAPTOP,
            used=9,
            share=0.9,
        )
    ]


@pytest.mark.parametrize(
    ("near", "limit", "mark"),
    [(0.8, 10, 8), (0.8, 11, 9), (0.7, 10, 7), (0.1, 30, 3), (1, 5, 5), (0.0000001, 5, 1)],
)
def test_the_mark_is_the_share_rounded_up(near: float, limit: int, mark: int) -> None:
    scene = Scene(MessageRateLimit(f"{limit}/hour"), near=near)
    for sent in range(1, limit + 1):
        scene.send()
        assert scene.kinds() == (["NearLimit"] if sent == mark else [])


def test_of_two_limits_on_one_count_the_nearer_mark_is_looked_for() -> None:
    scene = Scene(MessageRateLimit("10/minute"), MessageRateLimit("1000/day"))
    kinds: list[str] = []
    for _ in range(8):
        assert kinds == []
        scene.send()
        kinds += scene.kinds()
    assert kinds == ["NearLimit"]


def test_a_sender_in_more_tiers_than_are_remembered_is_told_of_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tiers = [
        Tier(tag, when=has_tag(tag), limits=[MessageRateLimit(f"{100 + ord(tag)}/day")])
        for tag in "abcdefghijkl"
    ]
    scene = Scene(MessageRateLimit("50/hour"), tiers=tiers)
    told: list[Event] = []
    for sent in range(50):
        scene.send(client=Client(tags=["abcdefghijkl"[sent % 12]]))
        told += scene.told()
        assert len(told) == (1 if sent >= 39 else 0)
    assert caplog.records == []


def test_far_from_its_limits_only_the_first_message_of_a_sender_reads_counts() -> None:
    scene = Scene(MessageRateLimit("10000/day"), RecipientRateLimit("5000/hour"))
    for _ in range(3000):
        scene.send()
    assert scene.backend.reads == 1
    assert scene.kinds() == []


def test_after_it_was_told_nothing_is_read_for_a_window() -> None:
    scene = Scene(MessageRateLimit("100/hour"))
    for _ in range(80):
        scene.send()
    reads = scene.backend.reads
    for _ in range(1000):
        scene.clock.advance(3.599)
        scene.send()
    assert scene.backend.reads == reads
    assert scene.kinds().count("NearLimit") == 1


def test_who_is_above_a_limit_is_not_told_to_be_near_it() -> None:
    scene = Scene(RecipientRateLimit("10/hour", denied="count"))
    scene.send(recipients=5)
    assert not scene.send(recipients=6)
    assert scene.kinds() == ["FirstDenial"]


def test_a_refused_attempt_that_is_not_counted_brings_nobody_nearer() -> None:
    scene = Scene(RecipientRateLimit("10/hour"))
    scene.send(recipients=5)
    assert not scene.send(recipients=6)
    assert scene.kinds() == ["FirstDenial"]


def test_what_another_process_charged_shows_after_a_twentieth_of_the_window() -> None:
    scene = Scene(MessageRateLimit("100/hour"))
    scene.send()
    for _ in range(90):  # not watched
        scene.limiter.try_acquire(Envelope("ann@uwo.ca", ["bob@example.com"]))
    scene.clock.advance(3600 / 20 - 1)
    scene.send()
    assert scene.kinds() == []
    scene.clock.advance(1)
    scene.send()
    assert scene.kinds() == ["NearLimit"]


def test_a_message_to_many_new_recipients_reads_the_counts_of_a_few_at_a_time() -> None:
    scene = Scene(MessageRateLimit("2/day", scope="recipient"), near=1)
    scene.send(recipients=500)
    assert scene.backend.reads <= 10
    for i in range(500):
        scene.send(recipients=[f"r{i}@example.com"])
    assert Counter(event.subject for event in scene.told()) == Counter(
        f"r{i}@example.com" for i in range(500)
    )


# Against brute force

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


def unit_of(limit: Limit) -> tuple[object, ...]:
    """What is counted once for all limits that count it."""
    assert isinstance(limit, RateLimit)
    return limit.scope, limit.unit, limit.count


class Oracle:
    """What should be told, from all that ever happened.

    Of a message is counted what a limit in force for it counts.
    """

    def __init__(self, near: float) -> None:
        self.near = Fraction(str(near))
        self.sent: list[tuple[int, str, Sequence[str], set[tuple[object, ...]]]] = []
        self.told_near: dict[tuple[str, RateLimit], int] = {}

    def near_limit(
        self, limits: Sequence[Limit], now: int, sender: str, recipients: Sequence[str]
    ) -> set[tuple[str, RateLimit, int]]:
        """What follows from a message that was just accepted."""
        self.sent.append((now, sender, recipients, set(map(unit_of, limits))))
        # Limits of one scope are looked at together.
        looked_at = {
            limit.scope
            for limit in limits
            if isinstance(limit, RateLimit) and cost_of(limit, recipients)
        }
        found = set()
        for limit in limits:
            assert isinstance(limit, RateLimit)
            subject = subject_of(limit, sender)
            used = sum(
                cost_of(limit, to)
                for moment, who, to, counted in self.sent
                if unit_of(limit) in counted
                and subject_of(limit, who) == subject
                and moment > now - limit.window
            )
            silent = now < self.told_near.get((subject, limit), -limit.window) + limit.window
            if limit.scope in looked_at and used >= ceil(limit.limit * self.near) and not silent:
                found.add((subject, limit, used))
                self.told_near[subject, limit] = now
        return found


@given(
    st.lists(LIMITS, min_size=1, max_size=4),
    st.lists(LIMITS, max_size=2),
    st.sampled_from([0.5, 0.8, 1]),
    STEPS,
)
def test_near_a_limit_is_told_with_the_very_message_that_reaches_the_mark(
    limits: list[RateLimit], of_tier: list[RateLimit], near: float, steps: list[Any]
) -> None:
    tiers = [Tier("wireless", when=has_tag("wireless"), limits=of_tier)]
    scene = Scene(*limits, tiers=tiers, internal_domains=["uwo.ca"], near=near)
    oracle = Oracle(near)
    for pause, sender, recipients, client, refunded in steps:
        scene.clock.advance(pause / 1000)
        decision = scene.send(sender, recipients, client)
        told = {
            (event.subject, event.limit, event.used)
            for event in scene.told()
            if isinstance(event, NearLimit)
        }
        in_force = limits + (of_tier if client.tags else [])
        if decision:
            now = scene.clock()
            assert told == oracle.near_limit(in_force, now, sender, recipients)
        else:
            assert told == set()
        if decision and refunded:
            scene.limiter.refund(decision)
            oracle.sent.pop()


@given(st.lists(LIMITS, min_size=1, max_size=3), STEPS)
def test_each_event_is_told_once_per_subject_limit_and_window_and_none_is_missing(
    limits: list[RateLimit], steps: list[Any]
) -> None:
    scene = Scene(*limits, internal_domains=["uwo.ca"], burst=3, burst_seconds=2)
    events: list[Event] = []
    refused: dict[tuple[str, Limit | None], list[int]] = {}
    for pause, sender, recipients, client, _ in steps:
        scene.clock.advance(pause / 1000)
        decision = scene.send(sender, recipients, client)
        told = scene.told()
        events += told
        now = scene.clock()
        keys = {(type(event), event.subject, event.limit): event for event in told}
        assert len(keys) == len(told)
        for (subject, limit), times in list(refused.items()):
            assert isinstance(limit, RateLimit)
            if now - times[-1] >= limit.window:
                back = keys.pop((BackToNormal, subject, limit))
                assert isinstance(back, BackToNormal)
                assert (back.denials, back.since) == (len(times), at(times[0] / 1000))
                del refused[subject, limit]
        assert not any(kind is BackToNormal for kind, _, _ in keys)
        limit = decision.limit
        if isinstance(limit, RateLimit):
            # A message that can never go charges nothing, so its sender stands for it.
            never = decision.retry_after is None
            subject = sender if never else subject_of(limit, sender)
            times = refused.setdefault((subject, limit), [])
            times.append(now)
            assert (FirstDenial, subject, limit) in keys or len(times) > 1
    moments: dict[tuple[type[Event], str, Limit | None], list[datetime]] = {}
    for event in events:
        moments.setdefault((type(event), event.subject, event.limit), []).append(event.at)
    for (_, _, limit), times_told in moments.items():
        assert isinstance(limit, RateLimit)
        for one, next_one in pairwise(times_told):
            assert (next_one - one).total_seconds() * 1000 >= limit.window


# Crowds


def test_a_theft_of_a_hundred_thousand_attempts_is_told_in_a_few_events() -> None:
    quarter = RecipientRateLimit("50/15 minutes", denied="count")
    scene = Scene(quarter, RecipientRateLimit("500/day", denied="count", on_excess="reject"))
    envelope = Envelope("stolen@uwo.ca", ["bob@example.com"])
    for _ in range(100_000):  # all of them in fourteen minutes
        decision = scene.limiter.try_acquire(envelope)
        scene.see(envelope, decision)
        scene.clock.advance(0.008)
    told = scene.told()
    assert Counter(type(event).__name__ for event in told if event.limit == quarter) == {
        "NearLimit": 1,
        "FirstDenial": 1,
        "BurstAfterDenial": 1,
    }
    assert len(told) == 6  # as many of the day's limit
    assert scene.teller.dropped == 0


def test_a_theft_that_goes_on_all_day_is_told_at_most_once_a_window() -> None:
    quarter = RecipientRateLimit("50/15 minutes")
    scene = Scene(quarter)
    envelope = Envelope("stolen@uwo.ca", ["bob@example.com"])
    for _ in range(20_000):
        scene.see(envelope, scene.limiter.try_acquire(envelope))
        scene.clock.advance(DAY / 20_000)
    told = Counter(scene.kinds())
    windows = 24 * 4
    assert windows // 2 < told["FirstDenial"] <= windows
    assert told["BurstAfterDenial"] <= windows
    assert told["NearLimit"] <= windows
    assert told["BackToNormal"] == 0


def test_many_threads_bring_each_event_up_once() -> None:
    scene = Scene(MessageRateLimit("500/day"), burst=10)
    start = threading.Barrier(8)

    def hammer() -> None:
        start.wait()
        for _ in range(100):
            scene.send()

    threads = [threading.Thread(target=hammer) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(scene.kinds()) == ["BurstAfterDenial", "FirstDenial", "NearLimit"]


def test_two_hundred_thousand_senders_do_not_fill_the_memory() -> None:
    scene = Scene(MessageRateLimit("10/day"))
    for i in range(200_000):
        scene.send(f"user{i}@uwo.ca")
    assert scene.watch.size() == 100_000


def test_of_too_many_the_oldest_are_forgotten() -> None:
    scene = Scene(RecipientLimit(1), MessageRateLimit("1/day"), most_subjects=100, near=1)
    for i in range(1000):
        scene.clock.advance(0.001)
        scene.send(f"user{i}@uwo.ca", recipients=2)
        scene.send(f"user{i}@uwo.ca")
        scene.send(f"user{i}@uwo.ca")
        assert scene.watch.size() <= 200
    scene.told()
    for i in range(951, 1000):
        scene.send(f"user{i}@uwo.ca")
    assert scene.kinds() == []  # still known
    scene.send("user0@uwo.ca")
    assert scene.kinds() == ["FirstDenial"]  # told again


def test_the_oldest_is_forgotten_whatever_its_window() -> None:
    minute = MessageRateLimit("1/minute")
    scene = Scene(RecipientLimit(1), minute, most_subjects=2)
    scene.send("ann@uwo.ca", recipients=2)
    for sender in ("bob@uwo.ca", "cy@uwo.ca"):
        scene.clock.advance(1)
        scene.send(sender)
        scene.send(sender)
    scene.told()
    scene.clock.advance(30)
    scene.send("bob@uwo.ca")
    assert scene.kinds() == []
    scene.send("ann@uwo.ca", recipients=2)
    assert scene.kinds() == ["FirstDenial"]


def test_what_is_out_of_its_window_is_forgotten() -> None:
    scene = Scene(MessageRateLimit("1/hour"), RecipientLimit(1))
    for i in range(500):
        for recipients in (1, 1, 2):
            scene.send(f"user{i}@uwo.ca", recipients)
    assert scene.watch.size() == 1500
    scene.clock.advance(3600)
    scene.send("bob@uwo.ca")
    assert scene.watch.size() == 500 + 1
    scene.clock.advance(DAY)
    scene.send("bob@uwo.ca")
    assert scene.watch.size() == 1


def test_a_clock_that_goes_back_raises_nothing_and_tells_nothing_twice() -> None:
    scene = Scene(MessageRateLimit("1/hour"), burst=1000)
    scene.clock.set(10**9)
    scene.send()
    scene.send()
    scene.clock.set(10**9 - 3_600_000 * 5)
    scene.send()
    scene.send()
    assert scene.kinds() == ["NearLimit", "FirstDenial"]


# Trouble


class BrokenBackend(CountingBackend):
    """One whose counts cannot be read."""

    error: Exception = BackendUnavailable("no connection")

    def usage(self, ledger: Ledger, subject: str) -> list[list[Reading]]:
        self.reads += 1
        raise self.error


def test_a_backend_that_cannot_be_read_harms_nobody_and_is_not_asked_each_time() -> None:
    clock = ManualClock(0)
    scene = Scene(MessageRateLimit("50/day"), backend=BrokenBackend(clock))
    for _ in range(49):
        scene.send()
    assert scene.backend.reads == 1
    clock.advance(10)
    scene.send()
    assert scene.backend.reads == 2
    for _ in range(50):
        scene.send()
    assert scene.kinds() == ["FirstDenial", "BurstAfterDenial"]


def test_what_should_not_be_is_logged_once_and_not_raised(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = ManualClock(0)
    backend = BrokenBackend(clock)
    backend.error = ZeroDivisionError("\n\x1b")
    scene = Scene(MessageRateLimit("2/day"), backend=backend)
    for _ in range(3):
        scene.send()
    [line] = [record.getMessage() for record in caplog.records]
    assert line.isprintable()
    assert line.startswith("events are lost: ZeroDivisionError: ")


def test_a_time_that_no_calendar_has_raises_nothing(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene(RecipientLimit(1))
    scene.clock.set(10**18)
    scene.send(recipients=2)
    with caplog.at_level(logging.WARNING):
        assert scene.kinds() == []
    assert "events are lost: OverflowError" in caplog.text


async def test_what_must_be_awaited_is_awaited() -> None:
    scene = Scene(MessageRateLimit("5/day"))
    envelope = Envelope("ann@uwo.ca", ["bob@example.com"])
    plan = scene.policy.plan(envelope)
    for _ in range(6):
        decision = scene.limiter.try_acquire(envelope)
        await run_async(
            scene.watch.seeing(InlineAdapter(scene.backend), envelope, plan, decision, 0)
        )
    assert scene.kinds() == ["NearLimit", "FirstDenial"]


class UnreadableBackend(InlineAdapter):
    """One whose counts take for ever to be read."""

    def __init__(self, backend: MemoryBackend) -> None:
        super().__init__(backend)
        self.reading = asyncio.Event()

    async def usage(self, ledger: Ledger, subject: str) -> list[list[Reading]]:
        self.reading.set()
        await asyncio.Event().wait()
        raise AssertionError


async def test_a_wait_that_is_cancelled_while_counts_are_read_gives_its_place_back() -> None:
    memory = MemoryBackend(ManualClock())
    backend = UnreadableBackend(memory)
    policy = Policy(name="campus", limits=[MessageRateLimit("10/day")])
    limiter = AsyncLimiter(policy, backend, on_event=lambda _: None)
    waiting = asyncio.create_task(limiter.acquire(Envelope("ann@uwo.ca", ["bob@example.com"])))
    await backend.reading.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert Limiter(policy, memory).usage("ann@uwo.ca")[0].used == 0


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"near": 0}, "near: 0 is not above 0 and at most 1"),
        ({"near": 1.01}, "near: 1.01 is not above 0 and at most 1"),
        ({"near": float("nan")}, "near: nan is not above 0"),
        ({"near": "80%"}, "near: a number is needed, not '80%'"),
        ({"burst": 0}, "burst: 0 is not above 0"),
        ({"burst": 1.5}, "burst: a whole number is needed, not 1.5"),
        ({"burst": 10**9}, "burst: 1000000000 is not above 0 and at most 1000"),
        ({"burst_seconds": 0}, "burst_seconds: 0 is not above 0"),
        ({"burst_seconds": float("inf")}, "burst_seconds: inf is not above 0 and at most 86400"),
        ({"most_subjects": True}, "most_subjects: a whole number is needed, not True"),
    ],
)
def test_nonsense_is_refused(options: dict[str, Any], error: str) -> None:
    with pytest.raises((TypeError, ValueError)) as raised:
        Scene(MINUTE, **options)
    assert str(raised.value).startswith(error)
