"""Values survive a pickle, and a policy still plans after one."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from ratelimit_mail import (
    Action,
    Client,
    Decision,
    Envelope,
    Limiter,
    MessageRateLimit,
    Policy,
    RateLimitExceeded,
    RecipientLimit,
    RecipientRateLimit,
    Tier,
    presets,
)
from ratelimit_mail.conditions import all_of, any_of, has_tag, in_network, not_, protocol
from ratelimit_mail.limits import RateLimit
from ratelimit_mail.policy.charges import ChargePlan
from ratelimit_mail.scopes import SCOPES

MAIL = Envelope(
    "ann@uwo.ca",
    ["bob@uwo.ca", "bob@Bücher.de", "eve@x.org"],
    Client(address="10.0.0.1", user="ann", protocol="smtp", tags=frozenset({"wireless"})),
)
PER_DAY = RecipientRateLimit("5/day", count="external", resolution="1 second", denied="count")

protocols = pytest.mark.parametrize("version", range(2, pickle.HIGHEST_PROTOCOL + 1))


def again(value: Any, version: int = pickle.HIGHEST_PROTOCOL) -> Any:
    return pickle.loads(pickle.dumps(value, version))


@protocols
@pytest.mark.parametrize(
    "value",
    [
        MAIL,
        MAIL.client,
        Envelope("", ["b@x.org"]),
        Envelope("ann@uwo.ca", ["b@x.org"], id="job-1"),
        RecipientLimit(5, count="external", reply="No."),
        MessageRateLimit("5/day", scope=["client", "sender"]),
        PER_DAY,
        any_of(all_of(has_tag("a"), protocol("smtp")), not_(in_network("10.0.0.0/8", "::/0"))),
        Tier("t", when=has_tag("a"), limits=[PER_DAY]),
        Action.DEFER,
        Decision(Action.DEFER, 1.5, PER_DAY, "t"),
        Decision(Action.DEFER, 1.5, PER_DAY, "t").reply,
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_is_the_same_after_a_pickle(value: Any, version: int) -> None:
    back = again(value, version)
    assert back == value
    assert hash(back) == hash(value)
    assert repr(back) == repr(value)


def test_what_a_value_works_out_beforehand_survives() -> None:
    assert again(MAIL).domains == MAIL.domains
    assert again(MAIL).sender_domain == MAIL.sender_domain
    assert again(MAIL.client).ip == MAIL.client.ip
    assert again(PER_DAY).slot == 1_000


def charges(plan: ChargePlan) -> list[tuple[Any, ...]]:
    return [
        (ledger.name, ledger.span, count.unit, count.windows, count.retention, subject, costs)
        for ledger, subject, costs in plan.charges
        for count in ledger.counts
    ]


def first_limits(plan: ChargePlan) -> list[RateLimit]:
    counts = [count for ledger, _, _ in plan.charges for count in ledger.counts]
    return [plan.effective_limits.limit_of(count, 0) for count in counts]


def per(scope: Any) -> Policy:
    return Policy(name="p", limits=[MessageRateLimit("5/day", scope=scope)])


SCATTERED = [
    MessageRateLimit("5/day", scope=scope)
    for scope in ("sender", "recipient", "sender_domain", ("sender", "client"), "global")
]

POLICIES = [
    Policy(name="empty"),
    *(Policy(name="p", limits=SCATTERED, shard_by=shard) for shard in SCOPES),
    presets.leeds_office365(),
    presets.western_office365(),
    presets.western_convergence(),
    *map(per, [*SCOPES, ("sender", "recipient"), ("sender", "client"), ("client", "user")]),
]


@pytest.mark.parametrize("policy", POLICIES)
def test_a_policy_plans_the_same_after_a_pickle(policy: Policy) -> None:
    back = again(policy)
    assert back == policy
    plan, replan = policy.plan(MAIL), back.plan(MAIL)
    assert charges(replan) == charges(plan)
    assert replan.effective_limits.tier == plan.effective_limits.tier
    assert first_limits(replan) == first_limits(plan)


def tags(plan: ChargePlan) -> list[str]:
    return [
        subject if ledger.tag_of is None else ledger.tag_of(subject)
        for ledger, subject, _ in plan.charges
    ]


@pytest.mark.parametrize("shard", [None, *SCOPES])
@pytest.mark.parametrize("copied", [again, copy.copy, copy.deepcopy])
def test_a_policy_is_spread_the_same_after_a_copy(shard: str | None, copied: Any) -> None:
    policy = Policy(name="p", limits=SCATTERED, shard_by=shard)
    back = copied(policy)
    assert (back.shard_by, back.shard) == (policy.shard_by, policy.shard)
    assert tags(back.plan(MAIL)) == tags(policy.plan(MAIL))


def test_an_envelope_is_known_by_its_id_after_a_copy() -> None:
    limiter = Limiter(presets.leeds_office365())
    envelope = Envelope("ann@uwo.ca", ["b@x.org"], id="job-1")
    for copied in (again, copy.copy, copy.deepcopy, again):
        assert copied(envelope).id == "job-1"
        assert limiter.try_acquire(copied(envelope))
    assert limiter.usage("ann@uwo.ca")[0].used == 1


@pytest.mark.parametrize("scope", ["sender", "client", "recipient", ("sender", "client")])
def test_a_policy_plans_the_same_after_a_deep_copy(scope: Any) -> None:
    assert charges(copy.deepcopy(per(scope)).plan(MAIL)) == charges(per(scope).plan(MAIL))


def test_a_plan_that_never_fits_is_the_same_after_a_pickle() -> None:
    policy = Policy(name="p", limits=[RecipientLimit(1)])
    assert again(policy).plan(MAIL).never == policy.plan(MAIL).never == RecipientLimit(1)


def test_an_unpickled_policy_decides() -> None:
    limiter = Limiter(again(Policy(name="p", limits=[MessageRateLimit("1/day")])))
    assert limiter.try_acquire(MAIL)
    refused = limiter.try_acquire(MAIL)
    assert refused.action is Action.DEFER
    assert again(refused) == refused


@protocols
def test_an_error_is_pickled_with_its_decision(version: int) -> None:
    error = RateLimitExceeded(Decision(Action.REJECT, None, RecipientLimit(1), "t"))
    back = again(error, version)
    assert type(back) is RateLimitExceeded
    assert back.decision == error.decision
    assert str(back) == str(error)


def test_a_looked_up_decision_is_pickled() -> None:
    decision = Limiter(presets.leeds_office365()).check(MAIL)
    assert again(decision) == decision


@pytest.mark.parametrize("copied", [again, copy.copy, copy.deepcopy])
def test_a_copy_of_an_accepted_decision_has_nothing_to_refund(copied: Any) -> None:
    limiter = Limiter(presets.leeds_office365())
    decision = limiter.try_acquire(MAIL)
    back = copied(decision)
    assert back == decision
    assert back.allowed
    with pytest.raises(ValueError, match="nothing to refund"):
        limiter.refund(back)
    limiter.refund(decision)
