"""Share: a part of each limit, for one of several that count on their own for a while."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratelimit_mail import (
    AsyncLimiter,
    Envelope,
    Limiter,
    MessageRateLimit,
    Policy,
    RecipientRateLimit,
)
from ratelimit_mail.backends.outage.fallback_share import FallbackShare
from ratelimit_mail.counting.charge import Charge, Count, Ledger, retention_for
from ratelimit_mail.counting.window import Window

LETTER = Envelope("ann@uwo.ca", ["b@x.org", "c@y.org"])


def charges_of(*limits: Any) -> list[Charge]:
    return Policy(name="test", limits=limits).plan(LETTER).charges


def ledger_of(number: int, limit: int = 8) -> Ledger:
    windows = (Window(limit, 1000),)
    return Ledger(f"p:{number}", (Count(0, windows, retention_for([*windows])),), 1000)


def limits_of(charges: list[Charge]) -> list[int]:
    return [
        window.limit
        for ledger, _, _ in charges
        for count in ledger.counts
        for window in count.windows
    ]


@pytest.mark.parametrize(
    ("share", "limit", "part"),
    [
        (1, 30, 30),
        (1.0, 30, 30),
        (1 / 8, 30, 3),
        (1 / 8, 7, 0),
        (1 / 8, 8, 1),
        (1 / 3, 30, 10),
        (1 / 49, 49, 1),
        (0.1, 30, 3),
        (1e-9, 30, 0),
    ],
)
def test_a_share_of_a_limit_is_rounded_down(share: float, limit: int, part: int) -> None:
    shared = FallbackShare(share).of(charges_of(MessageRateLimit(f"{limit}/day")))
    assert limits_of(shared) == [part]


@given(st.integers(1, 1000), st.integers(1, 10**9))
def test_what_all_may_give_away_together_stays_within_the_limit(many: int, limit: int) -> None:
    (part,) = limits_of(FallbackShare(1 / many).of([(ledger_of(1, limit), "", (1, 1, 0, 0))]))
    assert part * many <= limit
    # And no more is lost than cannot be told apart.
    assert part >= limit // many


def test_a_share_of_one_is_the_largest_limit_and_not_one_more() -> None:
    assert limits_of(FallbackShare(1.0).of([(ledger_of(1, 10**12), "", (1, 1, 0, 0))])) == [10**12]


def test_every_window_of_every_count_is_shared_and_nothing_else_is_changed() -> None:
    charges = charges_of(
        MessageRateLimit("30/minute", denied="count"),
        RecipientRateLimit("10000/day", resolution="1 minute"),
        MessageRateLimit("80/hour", scope="sender_domain"),
    )
    shared = FallbackShare(0.1).of(charges)
    assert limits_of(shared) == [3, 1000, 8]
    for (part, *rest), (whole, *others) in zip(shared, charges, strict=True):
        assert rest == others
        assert (part.name, part.span) == (whole.name, whole.span)
        for one, other in zip(part.counts, whole.counts, strict=True):
            assert (one.unit, one.retention) == (other.unit, other.retention)
            assert one.counts_denied == other.counts_denied
            for window, full in zip(one.windows, other.windows, strict=True):
                assert window == Window(window.limit, full.length, full.resolution, full.denied)


def test_a_ledger_has_one_share() -> None:
    share = FallbackShare(0.5)
    charges = charges_of(MessageRateLimit("30/minute"))
    assert share.of(charges)[0][0] is share.of(charges)[0][0]


def test_what_is_refused_by_a_share_is_refused_by_its_whole() -> None:
    share = FallbackShare(0.5)
    charges = charges_of(MessageRateLimit("4/minute"), RecipientRateLimit("9/minute"))
    ((ledger, _, _),) = shared = share.of(charges)
    refusals = [(count, 0, 1234) for count in ledger.counts]
    whole = share.whole(refusals, shared, charges)
    assert [count for count, _, _ in whole] == [*charges[0][0].counts]
    assert [rest for _, *rest in whole] == [[0, 1234]] * 2
    assert limits_of(shared) == [2, 4]


@pytest.mark.parametrize(
    ("rates", "fits"),
    [
        (("4/minute", "4/minute"), True),
        (("1/minute", "4/minute"), False),
        (("4/minute", "3/minute"), False),
    ],
)
def test_what_has_less_room_than_a_message_needs_does_not_fit(
    rates: tuple[str, str], fits: bool
) -> None:
    messages, recipients = rates
    charges = charges_of(MessageRateLimit(messages), RecipientRateLimit(recipients))
    assert FallbackShare.fits(FallbackShare(0.5).of(charges)) is fits


def test_a_count_that_the_message_costs_nothing_of_fits_whatever_its_share() -> None:
    inside = Envelope("ann@uwo.ca", ["b@uwo.ca"])
    limits = [MessageRateLimit("4/day"), MessageRateLimit("1/day", count="external")]
    policy = Policy(name="test", limits=limits, internal_domains=["uwo.ca"])
    assert FallbackShare.fits(FallbackShare(0.5).of(policy.plan(inside).charges))


def test_more_ledgers_than_are_kept_have_their_wholes() -> None:
    share = FallbackShare(0.5)
    costs = (1, 1, 0, 0)
    share.of([(ledger_of(number), "", costs) for number in range(4095)])
    charges = [(ledger_of(number), "", costs) for number in range(3)]
    shared = share.of(charges)
    assert share.whole([(ledger.counts[0], 0, 5) for ledger, _, _ in shared], shared, charges)


@pytest.mark.parametrize("share", [0, 0.0, -1, -0.1, 2, 1.000_001, math.nan, math.inf])
@pytest.mark.parametrize("kind", [Limiter, AsyncLimiter])
def test_a_share_that_is_no_part_is_named(kind: Any, share: float) -> None:
    with pytest.raises(ValueError, match=r"fallback_share: .* is not above 0 and at most 1"):
        kind(Policy(name="test"), fallback_share=share)


@pytest.mark.parametrize("share", ["x", "0.5", True, None, [0.5]])
@pytest.mark.parametrize("kind", [Limiter, AsyncLimiter])
def test_a_share_that_is_no_number_is_named(kind: Any, share: Any) -> None:
    with pytest.raises(TypeError, match=r"fallback_share: a number such as 1/8 is needed, not"):
        kind(Policy(name="test"), fallback_share=share)
