"""Counting per node: each mail server on its own, if the policy says so."""

from __future__ import annotations

import pickle
import socket
from typing import Any

import pytest
from rlm_testkit.builders import accepted_in_a_row

from ratelimit_mail import (
    AsyncLimiter,
    Client,
    Envelope,
    Limiter,
    MessageRateLimit,
    Policy,
    Tier,
)
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.conditions import has_tag
from ratelimit_mail.overrides import Exemption, Grant, Override
from ratelimit_mail.testing import ManualClock

ANN = "ann@uwo.ca"
ENVELOPE = Envelope(ANN, ["bob@example.com"])


def campus_policy(limit: int = 3, **options: Any) -> Policy:
    limits = [
        MessageRateLimit(f"{limit}/day", name="day"),
        MessageRateLimit("9/day", scope="global"),
    ]
    return Policy(name="uwo", limits=limits, **{"per_node": True, **options})


def nodes(policy: Policy, *names: str | None) -> list[Limiter]:
    """Return a limiter for each node, all on one backend."""
    backend = MemoryBackend(ManualClock())
    return [Limiter(policy, backend, node=name) for name in names]


def used(limiter: Limiter) -> list[int]:
    return [usage.used for usage in (*limiter.usage(ANN), *limiter.usage(scope="global"))]


def test_each_node_counts_on_its_own() -> None:
    first, second = nodes(campus_policy(), "mail1", "mail2")
    assert accepted_in_a_row(first, ENVELOPE) == 3
    assert accepted_in_a_row(second, ENVELOPE) == 3
    assert used(first) == used(second) == [3, 3]


def test_limiters_of_one_node_count_together() -> None:
    first, second = nodes(campus_policy(), "mail1", "mail1")
    assert accepted_in_a_row(first, ENVELOPE) == 3
    assert accepted_in_a_row(second, ENVELOPE) == 0


def test_without_per_node_all_nodes_count_together() -> None:
    first, second = nodes(campus_policy(per_node=False), None, None)
    assert accepted_in_a_row(first, ENVELOPE) == 3
    assert accepted_in_a_row(second, ENVELOPE) == 0


def test_a_reset_or_refund_affects_one_node_only() -> None:
    first, second = nodes(campus_policy(), "mail1", "mail2")
    decision = first.try_acquire(ENVELOPE)
    accepted_in_a_row(second, ENVELOPE)
    first.refund(decision)
    assert (used(first), used(second)) == ([0, 0], [3, 3])
    accepted_in_a_row(first, ENVELOPE)
    second.reset(ANN)
    second.reset(scope="global")
    assert (used(first), used(second)) == ([3, 3], [0, 0])
    with pytest.raises(ValueError, match="is of another limiter"):
        second.refund(decision)


def test_each_node_has_its_own_queue_of_bookings() -> None:
    first, second = nodes(campus_policy(1), "mail1", "mail2")
    assert [first.reserve(ENVELOPE).delay for _ in range(3)] == [0, 86_400, 2 * 86_400]
    assert second.reserve(ENVELOPE).delay == 0
    first.reset(ANN)
    assert first.reserve(ENVELOPE).delay == 0
    assert second.reserve(ENVELOPE).delay == 86_400


def test_each_node_remembers_its_own_answers_to_an_id() -> None:
    first, second, third = nodes(campus_policy(), "mail1", "mail2", "mail1")
    envelope = Envelope(ANN, ["bob@example.com"], id="job-1")
    for limiter in (first, second, third, first):
        assert limiter.try_acquire(envelope)
    assert used(first) == used(second) == used(third) == [1, 1]


def test_limits_that_only_report_count_per_node_too() -> None:
    policy = Policy(
        name="uwo", per_node=True, limits=[MessageRateLimit("1/day", name="new", enforce=False)]
    )
    first, second = nodes(policy, "mail1", "mail2")
    shadows = [limiter.try_acquire(ENVELOPE).shadow for limiter in (first, second, first)]
    assert [shadow is not None and shadow.allowed for shadow in shadows] == [True, True, False]


def test_tiers_overrides_exemptions_and_grants_hold_on_each_node() -> None:
    policy = campus_policy(
        tiers=[Tier("wireless", when=has_tag("wireless"), limits=[MessageRateLimit("1/day")])],
        overrides=[Override({"day": 5}, senders=[ANN])],
        exemptions=[Exemption(senders=["news@uwo.ca"])],
        grants=[Grant(senders=["uwo.ca"])],
    )
    for limiter in nodes(policy, "mail1", "mail2"):
        assert (
            accepted_in_a_row(limiter, Envelope(ANN, ["b@x.org"], Client(tags={"wireless"}))) == 1
        )
        assert accepted_in_a_row(limiter, ENVELOPE) == 4
        assert accepted_in_a_row(limiter, Envelope("news@uwo.ca", ["b@x.org"]), most=50) == 50
        assert accepted_in_a_row(limiter, Envelope("bob@uwo.ca", ["b@x.org"])) == 3
        assert accepted_in_a_row(limiter, Envelope("eve@example.com", ["b@x.org"])) == 0


async def test_an_async_limiter_counts_per_node_too() -> None:
    backend = MemoryBackend(ManualClock())
    first, second = (AsyncLimiter(campus_policy(1), backend, node=n) for n in ("mail1", "mail2"))
    answers = [await limiter.try_acquire(ENVELOPE) for limiter in (first, second, first)]
    assert [each.allowed for each in answers] == [True, True, False]


# The name of a node


def test_a_node_has_the_name_of_its_host_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "mail1.uwo.ca")
    unnamed, named, other = nodes(campus_policy(), None, "mail1.uwo.ca", "mail1")
    assert unnamed.policy.node == "mail1.uwo.ca"
    assert unnamed.policy.counted_as == "uwo/mail1.uwo.ca"
    assert accepted_in_a_row(unnamed, ENVELOPE) == 3
    assert accepted_in_a_row(named, ENVELOPE) == 0
    assert accepted_in_a_row(other, ENVELOPE) == 3


def test_a_long_host_name_is_cut_to_64_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "m" * 200)
    [limiter] = nodes(campus_policy(), None)
    assert limiter.policy.node == "m" * 64


@pytest.mark.parametrize("name", ["m\u00e4il", "a/b", "a:b"])
def test_an_invalid_host_name_is_an_error(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: name)
    with pytest.raises(ValueError, match="node: ") as caught:
        nodes(campus_policy(), None)
    assert repr(name) in str(caught.value)


def test_the_host_name_is_read_only_if_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[None] = []
    monkeypatch.setattr(socket, "gethostname", lambda: calls.append(None))
    nodes(campus_policy(per_node=False), None)
    nodes(campus_policy(), "mail1")
    nodes(campus_policy(node="mail1"), None)
    assert calls == []


def test_a_limiter_can_replace_the_node_of_the_policy() -> None:
    policy = campus_policy(node="mail1")
    first, again, other = nodes(policy, None, "mail1", "mail2")
    assert [each.policy.node for each in (first, again, other)] == ["mail1", "mail1", "mail2"]
    assert accepted_in_a_row(first, ENVELOPE) == 3
    assert accepted_in_a_row(again, ENVELOPE) == 0
    assert accepted_in_a_row(other, ENVELOPE) == 3


@pytest.mark.parametrize(
    ("node", "error"),
    [
        ("a/b", ValueError),
        ("a:b", ValueError),
        ("a{b}", ValueError),
        ("a\n", ValueError),
        ("m" * 65, ValueError),
        ("m\u00e4il", ValueError),
        (5, TypeError),
        (b"mail1", TypeError),
    ],
)
def test_an_invalid_node_name_is_an_error(node: Any, error: type[Exception]) -> None:
    for make in (lambda: Limiter(campus_policy(), node=node), lambda: campus_policy(node=node)):
        with pytest.raises(error, match="node: "):
            make()


def test_an_empty_name_of_a_node_does_not_make_all_nodes_count_together() -> None:
    with pytest.raises(ValueError, match="node: ''"):
        Limiter(campus_policy(), node="")


def test_an_empty_host_name_does_not_make_all_nodes_count_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "")
    with pytest.raises(ValueError, match="node: ''"):
        Limiter(campus_policy())


@pytest.mark.parametrize("name", ["uwo/mail1", "uwo/", "/"])
def test_no_policy_name_equals_the_counting_name_of_a_node(name: str) -> None:
    with pytest.raises(ValueError, match="name: "):
        Policy(name=name)


def test_a_node_without_per_node_is_an_error() -> None:
    for make in (Limiter, AsyncLimiter):
        with pytest.raises(ValueError, match=r"node: 'mail1': .* 'uwo' .* per_node=True"):
            make(campus_policy(per_node=False), node="mail1")


def test_a_policy_without_per_node_cannot_have_a_node() -> None:
    with pytest.raises(ValueError, match=r"node: 'mail1'.*per_node"):
        campus_policy(per_node=False, node="mail1")


@pytest.mark.parametrize("value", [1, None, "yes", 0])
def test_per_node_is_a_yes_or_a_no(value: Any) -> None:
    with pytest.raises(TypeError, match="per_node: True or False is needed"):
        campus_policy(per_node=value)


def test_no_two_nodes_share_a_count() -> None:
    names = set()
    policies = [campus_policy(node=node) for node in ("a", "b", "a b", "a.b", "A", "shadow", "uwo")]
    policies += [campus_policy(per_node=False), campus_policy(node="a").evolve(name="uwo a")]
    ledgers = 0
    for policy in policies:
        counted = [ledger for ledger, _, _ in policy.plan(ENVELOPE).charges]
        counted += [policy.queue(), policy.queue(shadow=True)]
        names |= {ledger.name for ledger in counted}
        ledgers += len(counted)
    assert len(names) == ledgers == 4 * len(policies)


def test_the_policy_at_a_node_is_a_value() -> None:
    policy = campus_policy().at_node("mail1")
    assert policy == campus_policy(node="mail1")
    assert policy != campus_policy()
    assert policy.at_node(None) == policy
    assert pickle.loads(pickle.dumps(policy)) == policy
    assert campus_policy(per_node=False).at_node(None) == campus_policy(per_node=False)
    assert "node='mail1'" in repr(policy)
