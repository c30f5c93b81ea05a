"""Every figure of every preset holds at its edge: N are accepted, and one more is refused."""

from __future__ import annotations

import pytest
from rlm_testkit.builders import limiter_with_clock

from ratelimit_mail import Action, Client, Envelope, Policy, presets
from ratelimit_mail.limits import Limit, RateLimit, RecipientLimit
from ratelimit_mail.presets import PRESETS

DAY = 24 * 60 * 60
NINE_HOURS = 9 * 60 * 60
WITH_OPTIONS = {
    "exchange-online with options": presets.exchange_online(
        licences=1,
        internal_domains=["contoso.onmicrosoft.com"],
        outbound_spam_policy="standard",
    ),
    "exchange-online, trial and strict": presets.exchange_online(
        trial=True, outbound_spam_policy="strict"
    ),
    "proton-mail with rates": presets.proton_mail(hourly_rate="50/hour", daily_rate="150/day"),
}


LIMITS = {
    f"{name}: {limit.name}, {limit.limit}": (policy, limit)
    for name, policy in {**{key: PRESETS[key]() for key in PRESETS}, **WITH_OPTIONS}.items()
    for limit in policy.all_limits
}


def envelope(policy: Policy, limit: Limit, recipients: int = 1) -> Envelope:
    """Return a message that `limit` counts; one to a single recipient is to a different one."""
    direction = limit.direction if isinstance(limit, RateLimit) else "outbound"
    domain = "example.com"
    if direction == "inbound" and policy.internal_domains:
        domain = policy.internal_domains[0].removeprefix(".")
    sender = "ann@contoso.onmicrosoft.com"
    client = Client(address="203.0.113.7", user="ann", protocol="smtp")
    to = [f"r{number}@{domain}" for number in range(recipients)]
    return Envelope(
        sender, to if recipients > 1 else [f"bob@{domain}"], client, direction=direction
    )


@pytest.mark.parametrize(("policy", "limit"), LIMITS.values(), ids=LIMITS)
def test_a_figure_holds_at_its_edge(policy: Policy, limit: Limit) -> None:
    policy = policy.evolve(limits=[limit], tiers=[], grants=None, exemptions=[])
    limiter, clock = limiter_with_clock(policy)
    one = envelope(policy, limit)
    if isinstance(limit, RecipientLimit):
        assert limiter.try_acquire(envelope(policy, limit, limit.limit))
        refused = limiter.try_acquire(envelope(policy, limit, limit.limit + 1))
        assert (refused.action, refused.retry_after) == (Action.REJECT, None)
        assert refused.reply.code == 550
        return
    assert isinstance(limit, RateLimit)
    if limit.unit == "recipients":
        assert limit.limit == 1 or limiter.try_acquire(envelope(policy, limit, limit.limit - 1))
        assert limiter.try_acquire(one)
    else:
        assert all(limiter.try_acquire(one) for _ in range(limit.limit))
    seconds = limit.window / 1000
    if limit.calendar is not None:
        assert str(limit.calendar) == "calendar day (UTC)"
        clock.advance(NINE_HOURS)
        seconds = DAY - clock() / 1000 % DAY
    # For a unique limit, a recipient of an earlier message costs nothing.
    more = Envelope(one.sender, [f"new{one.recipients[0]}"], one.client, direction=one.direction)
    if limit.direction == "inbound":
        more = one
    refused = limiter.check(more)
    assert refused.limit == limit
    assert refused.retry_after == seconds
    assert refused.action is (Action.REJECT if limit.on_excess == "reject" else Action.DEFER)
    assert str(refused.reply)[0] == ("5" if limit.on_excess == "reject" else "4")
    clock.advance(seconds - 0.001)
    assert not limiter.check(more)
    clock.advance(0.001)
    assert limiter.try_acquire(more)
