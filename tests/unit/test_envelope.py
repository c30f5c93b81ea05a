"""Envelope: the sender, recipients and client of one message, as a value."""

from __future__ import annotations

import copy
import pickle
import sys
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratelimit_mail import Client, Envelope, Policy, RecipientRateLimit

ANYTHING = st.one_of(
    st.text(st.characters(exclude_categories=()), max_size=30),
    st.binary(max_size=5),
    st.none(),
    st.integers(),
    st.sampled_from(["a@x.org", "<>", "", "a@b\n", "Bob <b@x.org>"]),
)


def test_each_address_has_its_one_spelling() -> None:
    envelope = Envelope("Ann@UWO.ca", ["Bob@Bücher.de", '"c d"@X.org'], Client(user="ann"))
    assert envelope.sender == "Ann@uwo.ca"
    assert envelope.sender_domain == "uwo.ca"
    assert envelope.recipients == ("Bob@xn--bcher-kva.de", '"c d"@x.org')
    assert envelope.domains == ("xn--bcher-kva.de", "x.org")
    assert envelope.client.user == "ann"


def test_without_a_client_nothing_is_known_of_it() -> None:
    assert Envelope("a@x.org", ["b@x.org"]).client == Client()


@pytest.mark.parametrize(
    ("recipients", "distinct"),
    [
        (["b@x.org", "b@x.org"], ("b@x.org",)),
        (["b@x.org", "b@X.ORG"], ("b@x.org",)),
        (["b@bücher.de", "c@x.org", "b@XN--BCHER-KVA.DE"], ("b@xn--bcher-kva.de", "c@x.org")),
        (["b@x.org", "B@x.org"], ("b@x.org", "B@x.org")),
        (["b@x.org", '"b"@x.org'], ("b@x.org",)),
        (["b@straße.de", "b@strasse.de"], ("b@xn--strae-oqa.de", "b@strasse.de")),
    ],
)
def test_the_same_address_twice_is_one_recipient(
    recipients: list[str], distinct: tuple[str, ...]
) -> None:
    envelope = Envelope("a@x.org", recipients)
    assert envelope.recipients == distinct
    assert len(envelope.domains) == len(distinct)


@pytest.mark.parametrize("gather", [list, tuple, iter, dict.fromkeys])
def test_recipients_come_in_any_iterable(gather: Callable[[list[str]], Any]) -> None:
    recipients = gather(["b@x.org", "c@x.org"])
    assert Envelope("a@x.org", recipients).recipients == ("b@x.org", "c@x.org")


@pytest.mark.parametrize("sender", ["", "<>"])
def test_the_null_sender_is_legal_and_one(sender: str) -> None:
    envelope = Envelope(sender, ["b@x.org"])
    assert (envelope.sender, envelope.sender_domain) == ("<>", "<>")


@pytest.mark.parametrize("recipients", ["b@x.org", b"b@x.org", None, 5, ""])
def test_recipients_are_a_list(recipients: Any) -> None:
    with pytest.raises(TypeError, match="recipients: a list of addresses is needed") as caught:
        Envelope("a@x.org", recipients)
    assert repr(recipients) in str(caught.value)


def test_a_message_has_at_least_one_recipient() -> None:
    with pytest.raises(ValueError, match="recipients: a message needs at least one"):
        Envelope("a@x.org", [])


@pytest.mark.parametrize(
    ("bad", "error", "named"),
    [
        (None, TypeError, "None"),
        (b"b@x.org", TypeError, "b'b@x.org'"),
        (5, TypeError, "5"),
        (["b@x.org"], TypeError, "['b@x.org']"),
        ("", ValueError, "empty"),
        ("bob", ValueError, "'bob'"),
        ("b@x.org\r\nDATA", ValueError, r"'b@x.org\r\nDATA'"),
        ("b" * 10_000, ValueError, "(10002 characters)"),
        ("Bob <b@x.org>", ValueError, "'Bob <b@x.org>'"),
        ("<>", ValueError, "'<>'"),
    ],
)
def test_one_bad_recipient_among_good_ones_is_named(
    bad: Any, error: type[Exception], named: str
) -> None:
    recipients = ["b@x.org", bad, "c@x.org"]
    before = list(recipients)
    with pytest.raises(error) as caught:
        Envelope("a@x.org", recipients)
    text = str(caught.value)
    assert text.startswith("recipients: ")
    assert named in text
    assert text.isprintable()
    assert recipients == before


@pytest.mark.parametrize(
    ("sender", "error", "named"),
    [
        (None, TypeError, "None"),
        (b"", TypeError, "b''"),
        (" ", ValueError, "' '"),
        ("postmaster", ValueError, "'postmaster'"),
        ("Ann <a@x.org>", ValueError, "'Ann <a@x.org>'"),
        ("a@x.org\n", ValueError, r"'a@x.org\n'"),
    ],
)
def test_a_bad_sender_is_named(sender: Any, error: type[Exception], named: str) -> None:
    with pytest.raises(error) as caught:
        Envelope(sender, ["b@x.org"])
    assert str(caught.value).startswith("sender: ")
    assert named in str(caught.value)


@pytest.mark.parametrize("client", ["10.1.2.3", {"user": "ann"}, 5, False])
def test_the_client_is_a_client(client: Any) -> None:
    with pytest.raises(TypeError, match="client: a Client is needed") as caught:
        Envelope("a@x.org", ["b@x.org"], client)
    assert repr(client) in str(caught.value)


def test_an_envelope_is_a_value() -> None:
    one, other = Envelope("a@x.org", ["b@X.org"]), Envelope("a@X.org", ["b@x.org"] * 2)
    assert one == other
    assert hash(one) == hash(other)
    assert one != Envelope("a@x.org", ["b@x.org"], Client(user="ann"))
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        one.sender = "eve@x.org"  # type: ignore[misc]
    assert one.sender == "a@x.org"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sender", "eve@x.org"),
        ("sender", "<>"),
        ("recipients", ("c@x.org", "d@x.org")),
        ("client", Client(user="ann")),
        ("id", "job-1"),
        ("id", None),
        ("direction", "inbound"),
    ],
)
def test_evolve_changes_one_field(field: str, value: Any) -> None:
    envelope = Envelope("a@x.org", ["b@x.org"], Client(user="bob"), id="job-0")
    changed = attrs.evolve(envelope, **{field: value})
    assert getattr(changed, field) == value
    assert attrs.evolve(changed, **{field: getattr(envelope, field)}) == envelope
    for other in {"sender", "recipients", "client", "id", "direction"} - {field}:
        assert getattr(changed, other) == getattr(envelope, other)


def test_evolve_normalises_and_checks_what_it_changes() -> None:
    envelope = Envelope("a@x.org", ["b@x.org"])
    changed = attrs.evolve(envelope, sender="eve@UWO.ca", recipients=["c@Y.org"])
    assert (changed.sender, changed.sender_domain) == ("eve@uwo.ca", "uwo.ca")
    assert (changed.recipients, changed.domains) == (("c@y.org",), ("y.org",))
    with pytest.raises(ValueError, match="sender: the address 'eve'"):
        attrs.evolve(envelope, sender="eve")
    with pytest.raises(ValueError, match="id: "):
        attrs.evolve(envelope, id="")


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))]
)
def test_a_copy_of_an_envelope_equals_it(copied: Callable[[Envelope], Envelope]) -> None:
    envelope = Envelope("a@x.org", ["b@X.org", "c@y.org"], Client(user="ann"), id="job-1")
    again = copied(envelope)
    assert again == envelope
    assert hash(again) == hash(envelope)
    assert (again.sender_domain, again.domains) == ("x.org", ("x.org", "y.org"))


class NamedEnvelope(Envelope):
    """An envelope of a program of its own, with a field more."""

    name: str

    def __init__(self, sender: str, recipients: list[str], name: str) -> None:
        super().__init__(sender, recipients)
        object.__setattr__(self, "name", name)


def test_no_field_of_an_envelope_or_of_its_subclass_can_be_set_or_deleted() -> None:
    for envelope in Envelope("a@x.org", ["b@x.org"]), NamedEnvelope("a@x.org", ["b@x.org"], "n"):
        for field in attrs.fields(Envelope):
            with pytest.raises(attrs.exceptions.FrozenInstanceError):
                setattr(envelope, field.name, "c@x.org")
            with pytest.raises(attrs.exceptions.FrozenInstanceError):
                delattr(envelope, field.name)


def test_an_envelope_of_a_subclass_has_its_class_and_its_own_fields() -> None:
    envelope: Any = NamedEnvelope("a@x.org", ["b@Y.org"], "news")
    assert type(envelope) is NamedEnvelope
    assert (envelope.name, envelope.domains) == ("news", ("y.org",))


def calls_for(recipients: int) -> int:
    """Return how many functions are called to build an envelope of so many recipients."""
    addresses = [f"user{i}@example.com" for i in range(recipients)]
    calls = 0

    def profile(*_: object) -> None:
        nonlocal calls
        calls += 1

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        Envelope("a@x.org", addresses)
    finally:
        sys.setprofile(before)
    return calls


def test_the_work_for_an_envelope_grows_as_its_recipients() -> None:
    few, many = calls_for(1_000), calls_for(10_000)
    assert many < 11 * few


def test_a_hundred_thousand_recipients_are_read_once_in_their_order() -> None:
    drawn = 0

    def recipients() -> Iterator[str]:
        nonlocal drawn
        for i in range(100_000):
            drawn += 1
            yield f"user{i}@Example.com"

    envelope = Envelope("a@x.org", recipients())
    assert drawn == len(envelope.recipients) == len(envelope.domains) == 100_000
    assert envelope.recipients[-1] == "user99999@example.com"


@given(ANYTHING, ANYTHING | st.lists(ANYTHING, max_size=3))
def test_anything_makes_an_envelope_or_a_short_printable_error(
    sender: Any, recipients: Any
) -> None:
    try:
        envelope = Envelope(sender, recipients)
    except (TypeError, ValueError) as error:
        kind, text = type(error), str(error)
        assert kind in (TypeError, ValueError)
        assert text.startswith(("sender: ", "recipients: "))
        assert text.isprintable()
        assert len(text) < 300
    else:
        assert envelope == Envelope(envelope.sender, envelope.recipients)


def test_one_envelope_is_planned_by_each_policy_for_itself() -> None:
    envelope = Envelope("ann@x.org", ["bob@y.org", "eve@x.org"])
    policies = [
        Policy(name="all", limits=[RecipientRateLimit("9/day")]),
        Policy(
            name="external",
            internal_domains=["x.org"],
            limits=[RecipientRateLimit("9/day", count="external")],
        ),
    ]
    for _ in range(3):
        costs = [policy.plan(envelope).charges[0][2] for policy in policies]
        assert costs == [(1, 2, 1, 2, 0, 0, 2, 2), (1, 2, 1, 1, 0, 0, 2, 1)]


def test_planning_an_envelope_does_not_change_its_pickle_or_equality() -> None:
    envelope = Envelope("<>", ["bob@y.org"], Client(address="10.0.0.1"))
    size = len(pickle.dumps(envelope))
    Policy(name="all", limits=[RecipientRateLimit("9/day")]).plan(envelope)
    assert len(pickle.dumps(envelope)) == size
    assert pickle.loads(pickle.dumps(envelope)) == envelope
