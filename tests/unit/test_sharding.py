"""Sharding: the word of a subject by which a cluster places a count."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratelimit_mail import Envelope, MessageRateLimit, Policy, RecipientLimit, Tier
from ratelimit_mail.conditions import has_tag
from ratelimit_mail.policy.ledger_keys import queue_of, retentions_of
from ratelimit_mail.scopes import SCOPES, Scope, common_shard, split_subject, subject_of, tag_getter

VALUES = {
    "sender": "Ann@uwo.ca",
    "client": "10.0.0.1",
    "user": "7:ann",
    "submitter": "user:7:ann",
    "sender_domain": "uwo.ca",
    "recipient": "bob@x.org",
    "recipient_domain": "x.org",
    "global": "",
}

WORDS = [word for word in SCOPES if word != "global"]
ALL_SCOPES: list[Scope] = [
    ("global",),
    *(scope for many in range(1, len(WORDS) + 1) for scope in combinations(WORDS, many)),
]


def expected_tag(scope: Scope, shard: str | None) -> str:
    """Return the tag of VALUES as a subject of `scope`, as the documentation defines it."""
    if shard == "global":
        return ""
    if shard in scope:
        return VALUES[shard]
    if shard == "sender_domain" and "sender" in scope:
        return "uwo.ca"
    if shard == "recipient_domain" and "recipient" in scope:
        return "x.org"
    return subject_of(scope, VALUES)


def tag_of(scope: Scope, shard: str | None, subject: str) -> str:
    getter = tag_getter(scope, shard)
    return subject if getter is None else getter(subject)


@pytest.mark.parametrize("shard", [None, *SCOPES])
def test_every_scope_has_the_tag_that_it_determines(shard: str | None) -> None:
    for scope in ALL_SCOPES:
        assert tag_of(scope, shard, subject_of(scope, VALUES)) == expected_tag(scope, shard)


texts = st.text(max_size=12) | st.sampled_from(["1:a", "12:", ":", "{x}", "0:0:", "\n"])


@given(st.sampled_from(ALL_SCOPES), st.data())
def test_split_subject_inverts_subject_of(scope: Scope, data: st.DataObject) -> None:
    values = {word: data.draw(texts) for word in scope}
    assert split_subject(scope, subject_of(scope, values)) == values


@given(
    st.sampled_from([scope for scope in ALL_SCOPES if len(scope) > 1]),
    st.data(),
)
def test_the_tag_of_a_value_is_that_value_with_any_characters(
    scope: Scope, data: st.DataObject
) -> None:
    values = {word: data.draw(texts) for word in scope}
    for shard in scope:
        assert tag_of(scope, shard, subject_of(scope, values)) == values[shard]


@pytest.mark.parametrize("scope", [("sender",), ("sender", "client"), ("sender", "recipient")])
def test_the_null_sender_has_the_tag_of_its_domain(scope: Scope) -> None:
    values = {**VALUES, "sender": "<>", "sender_domain": "<>"}
    assert tag_of(scope, "sender_domain", subject_of(scope, values)) == "<>"
    assert tag_of(("sender_domain",), "sender_domain", "<>") == "<>"


@pytest.mark.parametrize(
    ("sender", "domain"),
    [
        ('"a@b"@uwo.ca', "uwo.ca"),
        ("ann@[10.0.0.1]", "[10.0.0.1]"),
        ("ann@xn--9ca.de", "xn--9ca.de"),
    ],
)
def test_the_domain_of_a_sender_follows_its_last_at_sign(sender: str, domain: str) -> None:
    assert Envelope(sender, ["b@x.org"]).sender_domain == domain
    assert tag_of(("sender",), "sender_domain", sender) == domain


@pytest.mark.parametrize(
    ("scopes", "shard"),
    [
        ([], None),
        (["sender"], "sender"),
        (["sender", "sender"], "sender"),
        (["global"], None),
        (["sender", "global"], None),
        (["sender", "sender_domain"], "sender_domain"),
        (["sender", "client"], None),
        (["sender", ("sender", "client")], "sender"),
        (["client", ("sender", "client")], "client"),
        ([("sender", "client"), ("sender", "client", "user")], "sender"),
        (["recipient", "recipient_domain"], "recipient_domain"),
        (["recipient"], "recipient"),
        (["sender", "recipient"], None),
        (["sender", ("sender", "recipient_domain")], "sender"),
        ([("sender", "recipient"), ("sender_domain", "recipient")], "recipient"),
        ([("sender", "recipient"), "sender_domain"], "sender_domain"),
    ],
)
def test_the_shard_is_the_narrowest_word_that_all_scopes_determine(
    scopes: list[Any], shard: str | None
) -> None:
    limits = [MessageRateLimit("9/day", scope=scope) for scope in scopes]
    assert common_shard({limit.scope for limit in limits}) == shard
    assert Policy(name="test", limits=[*limits, RecipientLimit(5)]).shard == shard


@given(st.lists(st.sampled_from(ALL_SCOPES), min_size=1, max_size=4))
def test_a_message_whose_scopes_determine_its_shard_has_one_tag(scopes: list[Scope]) -> None:
    policy = Policy(name="test", limits=[MessageRateLimit("9/day", scope=each) for each in scopes])
    if policy.shard is None:
        return
    plan = policy.plan(Envelope(VALUES["sender"], [VALUES["recipient"]]))
    tags = {
        subject if ledger.tag_of is None else ledger.tag_of(subject)
        for ledger, subject, _ in plan.charges
    }
    assert len(tags) == 1


def test_the_shard_depends_on_the_limits_of_tiers_too() -> None:
    tier = Tier("t", when=has_tag("x"), limits=[MessageRateLimit("1/day", scope="sender_domain")])
    policy = Policy(name="test", limits=[MessageRateLimit("9/day")], tiers=[tier])
    assert policy.shard == "sender_domain"


def test_an_explicit_shard_takes_precedence() -> None:
    limits = [MessageRateLimit("9/day")]
    assert Policy(name="test", limits=limits, shard_by="global").shard == "global"
    assert Policy(name="test", limits=limits, shard_by="sender_domain").shard == "sender_domain"


@pytest.mark.parametrize(
    ("shard", "tag"),
    [
        (None, "Ann@uwo.ca"),
        ("sender", "Ann@uwo.ca"),
        ("sender_domain", "uwo.ca"),
        ("global", ""),
        ("client", "Ann@uwo.ca"),
        ("recipient_domain", "Ann@uwo.ca"),
    ],
)
def test_a_senders_queue_has_the_tag_of_its_counts(shard: str | None, tag: str) -> None:
    queue = queue_of("test", retentions_of([MessageRateLimit("9/day")]), shard)
    assert (queue.tag_of or str)("Ann@uwo.ca") == tag


@pytest.mark.parametrize("shard", ["", "Sender", "senders", "sender,client", 5, True, ["sender"]])
def test_an_invalid_shard_is_an_error(shard: Any) -> None:
    with pytest.raises(ValueError, match=r"shard_by: .* is not one of sender, client, user, "):
        Policy(name="test", shard_by=shard)


def test_a_shard_does_not_change_a_decision() -> None:
    limits = [MessageRateLimit("9/day"), MessageRateLimit("5/day", scope="recipient_domain")]
    envelope = Envelope("ann@uwo.ca", ["b@x.org", "c@y.org"])
    plans = [
        Policy(name="test", limits=limits, shard_by=shard).plan(envelope)
        for shard in (None, "global")
    ]
    decisions = [
        [(ledger.name, subject, costs) for ledger, subject, costs in plan.charges] for plan in plans
    ]
    assert decisions[0] == decisions[1]
