"""Pickled and copied values are equal, and a pickled policy plans the same charges."""

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

ENVELOPE = Envelope(
    "ann@uwo.ca",
    ["bob@uwo.ca", "bob@Bücher.de", "eve@x.org"],
    Client(address="10.0.0.1", user="ann", protocol="smtp", tags=frozenset({"wireless"})),
)
PER_DAY = RecipientRateLimit("5/day", count="external", resolution="1 second", denied="count")

protocols = pytest.mark.parametrize("version", range(2, pickle.HIGHEST_PROTOCOL + 1))


def pickled_copy(value: Any, version: int = pickle.HIGHEST_PROTOCOL) -> Any:
    return pickle.loads(pickle.dumps(value, version))


@protocols
@pytest.mark.parametrize(
    "value",
    [
        ENVELOPE,
        ENVELOPE.client,
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
def test_a_pickled_value_is_equal(value: Any, version: int) -> None:
    copied = pickled_copy(value, version)
    assert copied == value
    assert hash(copied) == hash(value)
    assert repr(copied) == repr(value)


def test_precomputed_attributes_survive_a_pickle() -> None:
    assert pickled_copy(ENVELOPE).domains == ENVELOPE.domains
    assert pickled_copy(ENVELOPE).sender_domain == ENVELOPE.sender_domain
    assert pickled_copy(ENVELOPE.client).ip == ENVELOPE.client.ip
    assert pickled_copy(PER_DAY).slot == 1_000


def charge_values(plan: ChargePlan) -> list[tuple[Any, ...]]:
    return [
        (ledger.name, ledger.span, count.unit, count.windows, count.retention, subject, costs)
        for ledger, subject, costs in plan.charges
        for count in ledger.counts
    ]


def first_limits(plan: ChargePlan) -> list[RateLimit]:
    counts = [count for ledger, _, _ in plan.charges for count in ledger.counts]
    return [plan.effective_limits.limit_of(count, 0) for count in counts]


def policy_per(scope: Any) -> Policy:
    return Policy(name="p", limits=[MessageRateLimit("5/day", scope=scope)])


LIMITS_OF_SEVERAL_SCOPES = [
    MessageRateLimit("5/day", scope=scope)
    for scope in ("sender", "recipient", "sender_domain", ("sender", "client"), "global")
]

POLICIES = [
    Policy(name="empty"),
    *(Policy(name="p", limits=LIMITS_OF_SEVERAL_SCOPES, shard_by=shard) for shard in SCOPES),
    presets.leeds_office365(),
    presets.western_office365(),
    presets.western_convergence(),
    *map(policy_per, [*SCOPES, ("sender", "recipient"), ("sender", "client"), ("client", "user")]),
]


@pytest.mark.parametrize("policy", POLICIES)
def test_a_pickled_policy_plans_the_same_charges(policy: Policy) -> None:
    copied = pickled_copy(policy)
    assert copied == policy
    plan, plan_of_copy = policy.plan(ENVELOPE), copied.plan(ENVELOPE)
    assert charge_values(plan_of_copy) == charge_values(plan)
    assert plan_of_copy.effective_limits.tier == plan.effective_limits.tier
    assert first_limits(plan_of_copy) == first_limits(plan)


def shard_tags(plan: ChargePlan) -> list[str]:
    return [
        subject if ledger.tag_of is None else ledger.tag_of(subject)
        for ledger, subject, _ in plan.charges
    ]


@pytest.mark.parametrize("shard", [None, *SCOPES])
@pytest.mark.parametrize("make_copy", [pickled_copy, copy.copy, copy.deepcopy])
def test_a_copied_policy_shards_the_same(shard: str | None, make_copy: Any) -> None:
    policy = Policy(name="p", limits=LIMITS_OF_SEVERAL_SCOPES, shard_by=shard)
    copied = make_copy(policy)
    assert (copied.shard_by, copied.shard) == (policy.shard_by, policy.shard)
    assert shard_tags(copied.plan(ENVELOPE)) == shard_tags(policy.plan(ENVELOPE))


def test_a_copied_envelope_is_recognised_by_its_id() -> None:
    limiter = Limiter(presets.leeds_office365())
    envelope = Envelope("ann@uwo.ca", ["b@x.org"], id="job-1")
    for make_copy in (pickled_copy, copy.copy, copy.deepcopy, pickled_copy):
        assert make_copy(envelope).id == "job-1"
        assert limiter.try_acquire(make_copy(envelope))
    assert limiter.usage("ann@uwo.ca")[0].used == 1


@pytest.mark.parametrize("scope", ["sender", "client", "recipient", ("sender", "client")])
def test_a_deep_copied_policy_plans_the_same_charges(scope: Any) -> None:
    policy = policy_per(scope)
    assert charge_values(copy.deepcopy(policy).plan(ENVELOPE)) == charge_values(
        policy.plan(ENVELOPE)
    )


def test_a_pickled_policy_finds_that_a_message_never_fits() -> None:
    policy = Policy(name="p", limits=[RecipientLimit(1)])
    assert (
        pickled_copy(policy).plan(ENVELOPE).never
        == policy.plan(ENVELOPE).never
        == RecipientLimit(1)
    )


def test_a_limiter_may_use_a_pickled_policy() -> None:
    limiter = Limiter(pickled_copy(Policy(name="p", limits=[MessageRateLimit("1/day")])))
    assert limiter.try_acquire(ENVELOPE)
    refused = limiter.try_acquire(ENVELOPE)
    assert refused.action is Action.DEFER
    assert pickled_copy(refused) == refused


@protocols
def test_an_error_is_pickled_with_its_decision(version: int) -> None:
    error = RateLimitExceeded(Decision(Action.REJECT, None, RecipientLimit(1), "t"))
    copied = pickled_copy(error, version)
    assert type(copied) is RateLimitExceeded
    assert copied.decision == error.decision
    assert str(copied) == str(error)


def test_a_pickled_decision_of_check_is_equal() -> None:
    decision = Limiter(presets.leeds_office365()).check(ENVELOPE)
    assert pickled_copy(decision) == decision


@pytest.mark.parametrize("make_copy", [pickled_copy, copy.copy, copy.deepcopy])
def test_a_copy_of_an_accepted_decision_has_nothing_to_refund(make_copy: Any) -> None:
    limiter = Limiter(presets.leeds_office365())
    decision = limiter.try_acquire(ENVELOPE)
    copied = make_copy(decision)
    assert copied == decision
    assert copied.allowed
    with pytest.raises(ValueError, match="nothing to refund"):
        limiter.refund(copied)
    limiter.refund(decision)
