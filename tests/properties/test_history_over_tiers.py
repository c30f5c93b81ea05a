"""Tiers compared with a list of all admitted messages, whatever the tier they were sent in."""

from __future__ import annotations

from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from ratelimit_mail import (
    Client,
    Envelope,
    Limiter,
    MessageRateLimit,
    Policy,
    RecipientRateLimit,
    Tier,
)
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.conditions import has_tag
from ratelimit_mail.limits import RateLimit
from ratelimit_mail.testing import BruteForceBackend, ManualClock

TIERS: Final = ("a", "b", "c")

limits = st.builds(
    lambda kind, amount, seconds, scope, count: kind(
        f"{amount}/{seconds} seconds", scope=scope, count=count
    ),
    st.sampled_from([MessageRateLimit, RecipientRateLimit]),
    st.integers(1, 6),
    st.integers(1, 4),
    st.sampled_from(["sender", "client", "sender_domain", "global"]),
    st.sampled_from(["all", "external"]),
)
envelopes = st.builds(
    lambda sender, recipients, address, tier: Envelope(
        sender, recipients, Client(address=address, tags={tier})
    ),
    st.sampled_from(["ann@uwo.ca", "bob@x.org"]),
    st.lists(
        st.sampled_from(["d@uwo.ca", "e@x.org", "f@x.org"]), min_size=1, max_size=3, unique=True
    ),
    st.sampled_from([None, "10.0.0.1", "10.0.0.2"]),
    st.sampled_from(TIERS),
)
pauses = st.sampled_from([0, 0, 1, 400, 999, 1000, 1001, 2500, 9000])
scripts = st.lists(st.tuples(pauses, envelopes), max_size=25)


def subject_in(limit: RateLimit, envelope: Envelope) -> str | None:
    """Return what `limit` counts `envelope` for."""
    return {
        "sender": envelope.sender,
        "client": envelope.client.address,
        "sender_domain": envelope.sender.rpartition("@")[2],
        "global": "",
    }[limit.scope[0]]


def cost_of(limit: RateLimit, envelope: Envelope) -> int:
    counted = [r for r in envelope.recipients if limit.count == "all" or not r.endswith("@uwo.ca")]
    return len(counted) if isinstance(limit, RecipientRateLimit) else min(1, len(counted))


def fits(
    admitted: list[tuple[int, Envelope]], now: int, limit: RateLimit, envelope: Envelope
) -> bool:
    """Return whether `limit` admits `envelope`, by all that was admitted in any tier."""
    used = sum(
        cost_of(limit, other)
        for moment, other in admitted
        if moment > now - limit.window and subject_in(limit, other) == subject_in(limit, envelope)
    )
    cost = cost_of(limit, envelope)
    return not cost or used + cost <= limit.limit


@given(
    st.lists(st.lists(limits, max_size=2), min_size=3, max_size=3),
    st.sampled_from([MemoryBackend, BruteForceBackend]),
    scripts,
)
def test_each_tier_counts_what_was_admitted_in_every_tier(
    limits_of: list[list[RateLimit]], backend: type, script: list[tuple[int, Envelope]]
) -> None:
    clock = ManualClock(0)
    limits_by_tier = dict(zip(TIERS, limits_of, strict=True))
    policy = Policy(
        name="tiers",
        internal_domains=["uwo.ca"],
        tiers=[
            Tier(tier, when=has_tag(tier), limits=limits) for tier, limits in limits_by_tier.items()
        ],
    )
    limiter = Limiter(policy, backend(clock))
    admitted: list[tuple[int, Envelope]] = []
    for pause, envelope in script:
        clock.advance(pause / 1000)
        [tier] = envelope.client.tags
        expected = all(fits(admitted, clock(), each, envelope) for each in limits_by_tier[tier])
        assert limiter.try_acquire(envelope).allowed == expected
        if expected:
            admitted.append((clock(), envelope))
