"""Receiving limits and partial decisions, compared with a plain list of received messages."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from ratelimit_mail import Decision, Envelope, Limiter, MessageRateLimit, Policy, RecipientRateLimit
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.directory import Directory
from ratelimit_mail.limits import RateLimit
from ratelimit_mail.testing import ManualClock

OWNER = {"a.smith@uwo.ca": "ann@uwo.ca", "guest@x.org": "bob@uwo.ca", "cy@uwo.ca": "cy@y.org"}
ADDRESSES = ["ann@uwo.ca", "bob@uwo.ca", "dee@uwo.ca", "cy@y.org", "eve@x.org", *OWNER]
SCOPES = ["recipient", ("sender", "recipient"), "global", "sender"]

limits = st.builds(
    lambda kind, amount, seconds, scope, direction: kind(
        f"{amount}/{seconds} seconds", scope=scope, direction=direction
    ),
    st.sampled_from([MessageRateLimit, RecipientRateLimit]),
    st.integers(1, 5),
    st.integers(1, 4),
    st.sampled_from(SCOPES),
    st.sampled_from(["inbound", "inbound", "outbound"]),
)
envelopes = st.builds(
    lambda sender, recipients, direction: Envelope(sender, recipients, direction=direction),
    st.sampled_from(ADDRESSES),
    st.lists(st.sampled_from(ADDRESSES), min_size=1, max_size=4, unique=True),
    st.sampled_from(["inbound", "inbound", "outbound"]),
)
steps = st.tuples(st.sampled_from([0, 0, 1, 400, 999, 1000, 1001, 2500]), envelopes, st.booleans())


class Event(NamedTuple):
    """One message received by one mailbox, or sent to one recipient."""

    moment: int
    message: int
    direction: str
    sender: str
    recipient: str


class Oracle:
    """All accepted messages, and the definition "at most N in any window"."""

    def __init__(self, limits: list[RateLimit]) -> None:
        self.limits = limits
        self.all: list[Event] = []
        self.messages = 0

    def events(self, now: int, envelope: Envelope, owners: list[str]) -> list[Event]:
        """Return what `envelope` adds: for each internal owner, and if outbound for each owner."""
        self.messages += 1
        sender = OWNER.get(envelope.sender, envelope.sender)
        inside = [owner for owner in owners if owner.endswith("@uwo.ca")]
        events = [Event(now, self.messages, "inbound", sender, owner) for owner in inside]
        if envelope.direction == "outbound":
            events += [Event(now, self.messages, "outbound", sender, owner) for owner in owners]
        return events

    def fits(self, now: int, events: list[Event]) -> bool:
        then = [event._replace(moment=now) for event in events]
        old = [event for event in self.all if event.moment <= now]
        for limit in self.limits:
            for mine in then:
                same = [
                    event
                    for event in old + then
                    if event.moment > now - limit.window
                    and event.direction == limit.direction == mine.direction
                    and all(
                        getattr(event, word) == getattr(mine, word)
                        for word in limit.scope
                        if word != "global"
                    )
                ]
                messages = {event.message for event in same}
                used = len(messages) if isinstance(limit, MessageRateLimit) else len(same)
                if used > limit.limit:
                    return False
        return True

    def first(self, now: int, events: list[Event]) -> float | None:
        """Return in how many seconds these fit, if nothing else is sent."""
        moments = {now} | {e.moment + limit.window for e in self.all for limit in self.limits}
        for moment in sorted(moments):
            if moment >= now and self.fits(moment, events):
                return (moment - now) / 1000
        return None


@given(st.lists(limits, min_size=1, max_size=3), st.lists(steps, max_size=15))
def test_each_recipient_has_the_answer_that_the_definition_gives(
    limits: list[RateLimit], script: list[tuple[int, Envelope, bool]]
) -> None:
    clock = ManualClock(0)
    policy = Policy(
        name="test",
        limits=limits,
        internal_domains=["uwo.ca"],
        directory=Directory(OWNER),
        partial=True,
    )
    limiter, oracle = Limiter(policy, MemoryBackend(clock)), Oracle(limits)
    for pause, envelope, refunded in script:
        now = clock()
        before = list(oracle.all)
        decision = limiter.try_acquire(envelope)
        for recipients, each in groups(envelope, decision):
            owners = list(dict.fromkeys(OWNER.get(address, address) for address in recipients))
            events = oracle.events(now, envelope, owners)
            assert each.retry_after == oracle.first(now, events)
            assert each.allowed is (each.retry_after == 0.0)
            if each:
                oracle.all += events
        if decision and refunded:
            limiter.refund(decision)
            oracle.all = before
        for address in ADDRESSES:
            for usage in limiter.usage(address, scope="recipient"):
                assert usage.used == used(oracle, clock(), usage.limit, address)
        clock.advance(pause / 1000)


def groups(envelope: Envelope, decision: Decision) -> list[tuple[list[str], Decision]]:
    """Return the recipients that share a decision, with the decision."""
    if envelope.direction == "outbound":
        assert decision.recipients is None
        return [(list(envelope.recipients), decision)]
    assert decision.recipients is not None
    assert tuple(decision.recipients) == envelope.recipients
    assert bool(decision) is any(decision.recipients.values())
    together: dict[str, tuple[list[str], Decision]] = {}
    for address, each in decision.recipients.items():
        addresses, same = together.setdefault(OWNER.get(address, address), ([], each))
        addresses.append(address)
        assert same is each
    return list(together.values())


def used(oracle: Oracle, now: int, limit: RateLimit, address: str) -> int:
    """Return how much of a limit per recipient the mailbox of `address` has used."""
    same = [
        event
        for event in oracle.all
        if event.moment > now - limit.window
        and event.direction == limit.direction
        and event.recipient == OWNER.get(address, address)
    ]
    messages = {event.message for event in same}
    return len(messages) if isinstance(limit, MessageRateLimit) else len(same)
