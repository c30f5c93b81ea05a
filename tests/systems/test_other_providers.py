"""S14, the providers that Western compared itself with, and their limits a day."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from rlm_testkit.builders import envelope_to, limit_name, limiter_with_clock

from ratelimit_mail import Policy, presets
from ratelimit_mail.limits import RateLimit

DAY = 24 * 60 * 60
ISPS = [presets.comcast, presets.earthlink, presets.roadrunner]
WEBMAILS = [presets.gmail_webmail, presets.hotmail, presets.yahoo]


@pytest.mark.parametrize("provider", ISPS)
def test_comcast_earthlink_and_roadrunner_accept_1000_messages_a_day(
    provider: Callable[[], Policy],
) -> None:
    limiter, clock = limiter_with_clock(provider())
    assert all(limiter.try_acquire(envelope_to(100)) for _ in range(1_000))
    decision = limiter.try_acquire(envelope_to())
    assert (limit_name(decision), decision.retry_after) == ("messages a day", DAY)
    clock.advance(DAY)
    assert limiter.try_acquire(envelope_to())


@pytest.mark.parametrize("provider", WEBMAILS)
@pytest.mark.parametrize("most", [100, 500])
def test_gmail_hotmail_and_yahoo_accept_100_to_500_recipients_a_day(
    provider: Callable[..., Policy], most: int
) -> None:
    limiter, clock = limiter_with_clock(provider(recipient_rate=f"{most}/day"))
    assert all(limiter.try_acquire(envelope_to(10)) for _ in range(most // 10))
    decision = limiter.try_acquire(envelope_to())
    assert (limit_name(decision), decision.retry_after) == ("recipients a day", DAY)
    clock.advance(DAY)
    assert limiter.try_acquire(envelope_to(10))


@pytest.mark.parametrize("provider", WEBMAILS)
def test_the_webmail_presets_have_the_upper_end_by_default(
    provider: Callable[[], Policy],
) -> None:
    assert str(provider().limits[0]) == "500 recipients per day per sender"


def test_the_limit_of_tier_1_lies_between_those_of_the_webmails_and_of_the_isps() -> None:
    def a_day(policy: Policy) -> int:
        [limit] = {limit for limit in policy.all_limits if limit.name and "a day" in limit.name}
        assert isinstance(limit, RateLimit)
        return limit.limit

    lowest = a_day(presets.yahoo(recipient_rate="100/day"))
    assert lowest <= a_day(presets.western_convergence()) <= a_day(presets.comcast())
