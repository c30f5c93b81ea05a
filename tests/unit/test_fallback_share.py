"""FallbackShare: charges under a share of each limit, for one of several processes."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rlm_testkit.builders import campus_policy, envelope_to

from ratelimit_mail import AsyncLimiter, Limiter, MessageRateLimit, Policy, RecipientRateLimit
from ratelimit_mail.backends.outage.fallback_share import MOST_LEDGERS, FallbackShare
from ratelimit_mail.counting.charge import Charge, Count, Ledger, retention_for
from ratelimit_mail.counting.window import Window

ONE_OF_EACH_UNIT = (1, 1, 0, 0, 0, 0, 0, 0)


def charges_under(*limits: Any) -> list[Charge]:
    """Return what a message to two recipients is charged under `limits`."""
    return Policy(name="test", limits=limits).plan(envelope_to(["b@x.org", "c@y.org"])).charges


def ledger(number: int, limit: int = 8) -> Ledger:
    windows = (Window(limit, 1000),)
    return Ledger(f"p:{number}", (Count(0, windows, retention_for([*windows])),), 1000)


def window_limits(charges: list[Charge]) -> list[int]:
    return [
        window.limit
        for ledger, _, _ in charges
        for count in ledger.counts
        for window in count.windows
    ]


@pytest.mark.parametrize(
    ("share", "limit", "shared_limit"),
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
def test_a_share_of_a_limit_is_rounded_down(share: float, limit: int, shared_limit: int) -> None:
    shared = FallbackShare(share).of(charges_under(MessageRateLimit(f"{limit}/day")))
    assert window_limits(shared) == [shared_limit]


@given(st.integers(1, 1000), st.integers(1, 10**9))
def test_equal_shares_together_stay_within_the_limit(processes: int, limit: int) -> None:
    charges = [(ledger(1, limit), "", ONE_OF_EACH_UNIT)]
    (shared_limit,) = window_limits(FallbackShare(1 / processes).of(charges))
    assert shared_limit * processes <= limit
    # Rounding down loses less than one message for each process.
    assert shared_limit >= limit // processes


def test_a_share_of_one_is_the_whole_limit_also_for_the_largest_limit() -> None:
    charges = [(ledger(1, 10**12), "", ONE_OF_EACH_UNIT)]
    assert window_limits(FallbackShare(1.0).of(charges)) == [10**12]


def test_each_window_of_each_count_is_shared_and_nothing_else_changes() -> None:
    charges = charges_under(
        MessageRateLimit("30/minute", denied="count"),
        RecipientRateLimit("10000/day", resolution="1 minute"),
        MessageRateLimit("80/hour", scope="sender_domain"),
    )
    shared = FallbackShare(0.1).of(charges)
    assert window_limits(shared) == [3, 1000, 8]
    for (shared_ledger, *shared_rest), (whole_ledger, *whole_rest) in zip(
        shared, charges, strict=True
    ):
        assert shared_rest == whole_rest
        assert (shared_ledger.name, shared_ledger.span) == (whole_ledger.name, whole_ledger.span)
        for count, whole_count in zip(shared_ledger.counts, whole_ledger.counts, strict=True):
            assert (count.unit, count.retention) == (whole_count.unit, whole_count.retention)
            assert count.counts_denied == whole_count.counts_denied
            for window, whole in zip(count.windows, whole_count.windows, strict=True):
                assert window == Window(window.limit, whole.length, whole.resolution, whole.denied)


def test_a_ledger_is_shared_once_and_reused() -> None:
    share = FallbackShare(0.5)
    charges = charges_under(MessageRateLimit("30/minute"))
    assert share.of(charges)[0][0] is share.of(charges)[0][0]


def test_refusals_of_shared_counts_are_translated_to_the_whole_counts() -> None:
    share = FallbackShare(0.5)
    charges = charges_under(MessageRateLimit("4/minute"), RecipientRateLimit("9/minute"))
    ((shared_ledger, _, _),) = shared = share.of(charges)
    refusals = [(count, 0, 1234) for count in shared_ledger.counts]
    whole = share.whole(refusals, shared, charges)
    assert [count for count, _, _ in whole] == [*charges[0][0].counts]
    assert [rest for _, *rest in whole] == [[0, 1234]] * 2
    assert window_limits(shared) == [2, 4]


@pytest.mark.parametrize(
    ("rates", "fits"),
    [
        (("4/minute", "4/minute"), True),
        (("1/minute", "4/minute"), False),
        (("4/minute", "3/minute"), False),
    ],
)
def test_a_message_fits_if_its_cost_is_within_every_shared_limit(
    rates: tuple[str, str], fits: bool
) -> None:
    messages, recipients = rates
    charges = charges_under(MessageRateLimit(messages), RecipientRateLimit(recipients))
    assert FallbackShare.fits(FallbackShare(0.5).of(charges)) is fits


def test_a_count_that_the_message_costs_nothing_of_fits_whatever_its_share() -> None:
    policy = campus_policy(MessageRateLimit("4/day"), MessageRateLimit("1/day", count="external"))
    charges = policy.plan(envelope_to(["b@uwo.ca"])).charges
    assert FallbackShare.fits(FallbackShare(0.5).of(charges))


def test_refusals_are_translated_also_when_the_cache_of_ledgers_is_full() -> None:
    share = FallbackShare(0.5)
    share.of([(ledger(number), "", ONE_OF_EACH_UNIT) for number in range(MOST_LEDGERS - 1)])
    charges = [(ledger(number), "", ONE_OF_EACH_UNIT) for number in range(3)]
    shared = share.of(charges)
    assert share.whole([(each.counts[0], 0, 5) for each, _, _ in shared], shared, charges)


@pytest.mark.parametrize("share", [0, 0.0, -1, -0.1, 2, 1.000_001, math.nan, math.inf])
@pytest.mark.parametrize("limiter_class", [Limiter, AsyncLimiter])
def test_a_fallback_share_out_of_range_raises(limiter_class: Any, share: float) -> None:
    with pytest.raises(ValueError, match=r"fallback_share: .* is not above 0 and at most 1"):
        limiter_class(Policy(name="test"), fallback_share=share)


@pytest.mark.parametrize("share", ["x", "0.5", True, None, [0.5]])
@pytest.mark.parametrize("limiter_class", [Limiter, AsyncLimiter])
def test_a_fallback_share_that_is_not_a_number_raises(limiter_class: Any, share: Any) -> None:
    with pytest.raises(TypeError, match=r"fallback_share: a number such as 1/8 is needed, not"):
        limiter_class(Policy(name="test"), fallback_share=share)
