"""Scopes and subjects: whose messages are counted together, and how a caller names them."""

from __future__ import annotations

from itertools import product
from operator import attrgetter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rlm_testkit.builders import costs_of, envelope_to

from ratelimit_mail import (
    Client,
    Limiter,
    MessageRateLimit,
    Policy,
    RecipientRateLimit,
)
from ratelimit_mail.limits import RateLimit
from ratelimit_mail.scopes import (
    named_subject,
    normal_scope,
    subject_getter,
    subject_of,
)


def policy_with_limit(limit: RateLimit) -> Policy:
    return Policy(name="p", limits=[limit], internal_domains=["uwo.ca", ".uwo.ca"])


FULL = envelope_to(["b@x.org", "c@x.org", "b@y.org"], client=Client(address="10.0.0.1", user="ann"))
SUBJECTS: list[tuple[Any, dict[str, int]]] = [
    ("sender", {"ann@uwo.ca": 3}),
    ("client", {"10.0.0.1": 3}),
    ("user", {"ann": 3}),
    ("sender_domain", {"uwo.ca": 3}),
    ("global", {"": 3}),
    ("recipient", {"b@x.org": 1, "c@x.org": 1, "b@y.org": 1}),
    ("recipient_domain", {"x.org": 2, "y.org": 1}),
    (("sender", "client"), {"10:ann@uwo.ca8:10.0.0.1": 3}),
    (("user", "recipient_domain"), {"3:ann5:x.org": 2, "3:ann5:y.org": 1}),
    (
        ("recipient", "recipient_domain"),
        {"7:b@x.org5:x.org": 1, "7:c@x.org5:x.org": 1, "7:b@y.org5:y.org": 1},
    ),
]


@pytest.mark.parametrize(("scope", "subjects"), SUBJECTS)
def test_recipients_are_charged_to_the_subjects_of_a_scope(
    scope: Any, subjects: dict[str, int]
) -> None:
    costs = costs_of(policy_with_limit(RecipientRateLimit("5/day", scope=scope)), FULL)
    assert {subject: cost for (_, subject), cost in costs.items()} == subjects


@pytest.mark.parametrize(("scope", "subjects"), SUBJECTS)
def test_a_message_is_one_message_for_each_subject_of_a_scope(
    scope: Any, subjects: dict[str, int]
) -> None:
    costs = costs_of(policy_with_limit(MessageRateLimit("5/day", scope=scope)), FULL)
    assert {subject: cost for (_, subject), cost in costs.items()} == dict.fromkeys(subjects, 1)


@pytest.mark.parametrize("kind", [MessageRateLimit, RecipientRateLimit])
def test_internal_recipients_are_not_subjects_of_an_external_limit(kind: Any) -> None:
    policy = policy_with_limit(kind("5/day", scope="recipient", count="external"))
    costs = costs_of(policy, envelope_to(["b@uwo.ca", "b@x.org", "c@mail.uwo.ca"]))
    assert [subject for _, subject in costs] == ["b@x.org"]


@pytest.mark.parametrize("scope", ["client", "user"])
def test_an_unknown_client_is_a_subject_of_its_own(scope: str) -> None:
    policy = policy_with_limit(MessageRateLimit("5/day", scope=scope))
    unknown = costs_of(policy, envelope_to(["b@x.org"]))
    known = costs_of(
        policy, envelope_to(["b@x.org"], client=Client(address="10.0.0.1", user="ann"))
    )
    assert len(unknown) == len(known) == 1
    assert unknown.keys().isdisjoint(known)


def test_the_null_sender_is_a_subject_of_its_own() -> None:
    policy = policy_with_limit(MessageRateLimit("5/day", scope=["sender", "sender_domain"]))
    null = costs_of(policy, envelope_to(["b@x.org"], ""))
    assert null == costs_of(policy, envelope_to(["b@x.org"], "<>"))
    assert null.keys().isdisjoint(costs_of(policy, envelope_to(["b@x.org"])))


TRIPLE = ("sender", "client", "recipient")


def test_different_combined_subjects_are_different_strings() -> None:
    tricky = ["".join(text) for size in range(3) for text in product(":1a", repeat=size)]
    subjects = {
        subject_of(TRIPLE, dict(zip(TRIPLE, values, strict=True)))
        for values in product(tricky, repeat=3)
    }
    assert len(subjects) == len(tricky) ** 3


@given(st.text(st.sampled_from(":+0123é\n"), max_size=12), st.data())
def test_different_splits_of_one_string_are_different_subjects(
    text: str, data: st.DataObject
) -> None:
    cut = st.integers(0, len(text))

    def split() -> tuple[str, str]:
        at = data.draw(cut)
        return text[:at], text[at:]

    one, other = split(), split()
    first, second = (
        subject_of(TRIPLE[:2], dict(zip(TRIPLE, x, strict=False))) for x in (one, other)
    )
    assert (first == second) == (one == other)


@given(st.tuples(st.text(), st.text()), st.tuples(st.text(), st.text()))
def test_combined_subjects_are_equal_iff_their_values_are(
    one: tuple[str, str], other: tuple[str, str]
) -> None:
    first, second = (
        subject_of(TRIPLE[:2], dict(zip(TRIPLE, x, strict=False))) for x in (one, other)
    )
    assert (first == second) == (one == other)


@pytest.mark.parametrize(
    ("scope", "value"),
    [
        ("sender", "ann@UWO.ca"),
        ("client", "::ffff:10.0.0.1"),
        ("user", "ann"),
        ("sender_domain", "UWO.ca"),
        ("global", None),
        ("recipient", "b@X.org"),
        ("recipient_domain", "X.org"),
        (("client", "sender"), ("10.0.0.1", "ann@uwo.ca")),
        (("recipient_domain", "user"), ("y.ORG", "ann")),
    ],
)
def test_a_named_subject_is_the_one_that_is_charged(scope: Any, value: Any) -> None:
    costs = costs_of(
        policy_with_limit(RecipientRateLimit("5/day", scope=normal_scope(scope))), FULL
    )
    assert named_subject(scope, value) in [subject for _, subject in costs]


@pytest.mark.parametrize(
    ("scope", "value", "named"),
    [
        ("sender", None, "None"),
        ("sender", ["a@x.org", "b@x.org"], "['a@x.org', 'b@x.org']"),
        ("sender", "nonsense", "'nonsense'"),
        ("client", "nonsense", "'nonsense'"),
        ("user", "a\nb", r"'a\nb'"),
        ("recipient_domain", "b@x.org", "'b@x.org'"),
        (("sender", "client"), "a@x.org", "'a@x.org'"),
        (("sender", "client"), (), "()"),
        ("global", "a@x.org", "'a@x.org'"),
        ("planet", "a@x.org", "'planet'"),
    ],
)
def test_an_invalid_subject_is_an_error(scope: Any, value: Any, named: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is checked below
        named_subject(scope, value)
    assert named in str(caught.value)
    assert str(caught.value).isprintable()


def test_the_domain_of_the_null_sender_can_be_named() -> None:
    policy = policy_with_limit(MessageRateLimit("5/day", scope="sender_domain"))
    ((_, subject),) = costs_of(policy, envelope_to(["b@x.org"], "<>"))
    assert named_subject("sender_domain", subject) == subject


@pytest.mark.parametrize(
    ("scope", "value"),
    [("client", ""), ("user", ""), (["sender", "client"], ["ann@uwo.ca", ""])],
)
def test_the_empty_string_names_the_subject_of_messages_without_a_value(
    scope: Any, value: Any
) -> None:
    policy = policy_with_limit(MessageRateLimit("5/day", scope=scope))
    ((_, subject),) = costs_of(policy, envelope_to(["b@x.org"]))
    assert named_subject(scope, value) == subject
    limiter = Limiter(policy)
    limiter.try_acquire(envelope_to(["b@x.org"]))
    assert limiter.usage(value, scope=scope)[0].used == 1


@pytest.mark.parametrize("scope", ["recipient", "recipient_domain"])
def test_the_empty_string_is_not_a_subject_of_recipients(scope: str) -> None:
    with pytest.raises(ValueError, match=r"empty|'' is not a domain"):
        named_subject(scope, "")


def test_a_subject_of_one_word_is_read_by_attrgetter() -> None:
    assert isinstance(subject_getter(("sender",)), attrgetter)
    assert isinstance(subject_getter(("sender_domain",)), attrgetter)


@pytest.mark.parametrize(
    ("scope", "value"),
    [
        ("sender", 5),
        ("sender_domain", [5]),
        ("client", 5),
        (["sender", "user"], ["a@x.org", 5]),
    ],
)
def test_a_subject_that_is_not_a_string_is_an_error(scope: Any, value: Any) -> None:
    with pytest.raises(TypeError, match=r"not 5|5 does not"):
        named_subject(scope, value)
