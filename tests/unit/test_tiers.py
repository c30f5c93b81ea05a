"""Tier: which tier a client is in, and the errors for tiers that no client can reach."""

from __future__ import annotations

from typing import Any

import pytest
from rlm_testkit.builders import envelope_to, users_at

from ratelimit_mail import (
    Client,
    MessageRateLimit,
    Policy,
    RecipientLimit,
    RecipientRateLimit,
    Tier,
)
from ratelimit_mail.conditions import all_of, any_of, has_tag, not_, protocol
from ratelimit_mail.limits import Limit


def tiered() -> Policy:
    return Policy(
        name="p",
        limits=[RecipientLimit(5)],
        tiers=[
            Tier("web", when=protocol("webmail"), limits=[MessageRateLimit("1/day")]),
            Tier("air", when=has_tag("wireless"), limits=[RecipientRateLimit("9/day")]),
        ],
    )


@pytest.mark.parametrize(
    ("client", "tier", "limits"),
    [
        ({"protocol": "webmail"}, "web", [RecipientLimit(5), MessageRateLimit("1/day")]),
        (
            {"protocol": "webmail", "tags": {"wireless"}},
            "web",
            [RecipientLimit(5), MessageRateLimit("1/day")],
        ),
        (
            {"protocol": "smtp", "tags": {"wireless"}},
            "air",
            [RecipientLimit(5), RecipientRateLimit("9/day")],
        ),
        ({}, None, [RecipientLimit(5)]),
    ],
)
def test_a_client_is_in_the_first_tier_whose_condition_holds(
    client: dict[str, Any], tier: str | None, limits: list[Limit]
) -> None:
    plan = tiered().plan(envelope_to(["b@x.org"], client=Client(**client)))
    assert plan.effective_limits.tier == tier
    assert list(plan.effective_limits.limits) == limits


@pytest.mark.parametrize("client", [{"protocol": "webmail"}, {"tags": {"wireless"}}, {}])
def test_the_common_limits_apply_in_every_tier(client: dict[str, Any]) -> None:
    assert tiered().plan(
        envelope_to(users_at("x.org", 6), client=Client(**client))
    ).never == RecipientLimit(5)


def test_a_tier_without_a_condition_has_all_remaining_clients() -> None:
    policy = Policy(name="p", tiers=[Tier("web", when=protocol("webmail")), Tier("rest")])
    assert policy.plan(envelope_to(["b@x.org"])).effective_limits.tier == "rest"


A, B, C = has_tag("a"), has_tag("b"), has_tag("c")


@pytest.mark.parametrize(
    ("tiers", "expected"),
    [
        ([Tier("one"), Tier("two")], "'two' can never be reached, because 'one' before it"),
        ([Tier("one"), Tier("two", when=A)], "'two' can never be reached"),
        ([Tier("one", when=A), Tier("two", when=has_tag("a"))], "'two' can never be reached"),
        (
            [Tier("one", when=any_of(A, B)), Tier("x", when=C), Tier("two", when=any_of(A, B))],
            "'two' can never be reached, because 'one' before it",
        ),
        ([Tier("one", when=A), Tier("one", when=B)], "two of them are named 'one'"),
    ],
)
def test_a_tier_that_can_never_be_reached_is_an_error(tiers: list[Tier], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        Policy(name="p", tiers=tiers)


@pytest.mark.parametrize(
    "conditions",
    [
        [any_of(A, B), A],
        [A, all_of(A, B)],
        [any_of(A, B), any_of(B, A)],
        [A, not_(A), B],
        [all_of(A, not_(A))],
    ],
)
def test_a_tier_whose_clients_are_all_in_earlier_tiers_is_an_error(conditions: list[Any]) -> None:
    tiers = [Tier(f"tier {i}", when=when) for i, when in enumerate(conditions)]
    with pytest.raises(ValueError, match="can never be reached"):
        Policy(name="p", tiers=tiers)
