"""Envelope: sender, recipients and client, given or taken from a message."""

from __future__ import annotations

import email
import email.policy
import pickle
import smtplib
import sys
from collections.abc import Callable, Iterator
from email.headerregistry import Address, Group
from email.message import EmailMessage, Message
from typing import Any, TypeVar

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ratelimit_mail import Client, Envelope, Policy, RecipientRateLimit
from ratelimit_mail.addresses import normal_address

ANYTHING = st.one_of(
    st.text(st.characters(exclude_categories=()), max_size=30),
    st.binary(max_size=5),
    st.none(),
    st.integers(),
    st.sampled_from(["a@x.org", "<>", "", "a@b\n", "Bob <b@x.org>"]),
)


def test_an_envelope_keeps_the_one_spelling_of_each_address() -> None:
    envelope = Envelope("Ann@UWO.ca", ["Bob@Bücher.de", '"c d"@X.org'], Client(user="ann"))
    assert envelope.sender == "Ann@uwo.ca"
    assert envelope.sender_domain == "uwo.ca"
    assert envelope.recipients == ("Bob@xn--bcher-kva.de", '"c d"@x.org')
    assert envelope.domains == ("xn--bcher-kva.de", "x.org")
    assert envelope.client.user == "ann"


def test_without_a_client_nothing_is_known_of_it() -> None:
    assert Envelope("a@x.org", ["b@x.org"]).client == Client()


@pytest.mark.parametrize(
    ("recipients", "kept"),
    [
        (["b@x.org", "b@x.org"], ("b@x.org",)),
        (["b@x.org", "b@X.ORG"], ("b@x.org",)),
        (["b@bücher.de", "c@x.org", "b@XN--BCHER-KVA.DE"], ("b@xn--bcher-kva.de", "c@x.org")),
        (["b@x.org", "B@x.org"], ("b@x.org", "B@x.org")),
        (["b@straße.de", "b@strasse.de"], ("b@xn--strae-oqa.de", "b@strasse.de")),
    ],
)
def test_the_same_address_twice_is_one_recipient(
    recipients: list[str], kept: tuple[str, ...]
) -> None:
    envelope = Envelope("a@x.org", recipients)
    assert envelope.recipients == kept
    assert len(envelope.domains) == len(kept)


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
    given = list(recipients)
    with pytest.raises(error) as caught:
        Envelope("a@x.org", recipients)
    text = str(caught.value)
    assert text.startswith("recipients: ")
    assert named in text
    assert text.isprintable()
    assert recipients == given


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


def calls_for(recipients: int) -> int:
    """How many functions are called to build an envelope of so many recipients."""
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


def test_a_hundred_thousand_recipients_are_read_once_and_kept_in_order() -> None:
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
@settings(max_examples=300, deadline=None)
def test_anything_makes_an_envelope_or_a_short_printable_error(
    sender: Any, recipients: Any
) -> None:
    try:
        envelope = Envelope(sender, recipients)
    except (TypeError, ValueError) as error:
        kind, said = type(error), str(error)
        assert kind in (TypeError, ValueError)
        assert said.startswith(("sender: ", "recipients: "))
        assert said.isprintable()
        assert len(said) < 300
    else:
        assert envelope == Envelope(envelope.sender, envelope.recipients)


# From messages, as smtplib reads them

Mail = TypeVar("Mail", bound="Message[Any, Any]")


class Recorder(smtplib.SMTP):
    """An SMTP client that sends to nobody, and remembers what it would have sent to whom."""

    sender = ""
    recipients: tuple[str, ...] = ()

    def __init__(self) -> None:
        super().__init__(local_hostname="localhost")

    def ehlo_or_helo_if_needed(self) -> None:
        pass

    def has_extn(self, opt: str) -> bool:
        return True

    def sendmail(self, from_addr: str, to_addrs: Any, *_: Any) -> dict[str, Any]:
        self.sender, self.recipients = from_addr, tuple(to_addrs)
        return {}


WORD = st.text("abcXYZ019", min_size=1, max_size=5)
NAME = st.text("abc ,.\"@<>;()'äß漢", max_size=8)
DOMAIN = st.sampled_from(["x.org", "X.org", "uwo.ca", "bücher.de"])
ONE = st.builds(Address, NAME, WORD | st.sampled_from(["c d", "e@f"]), DOMAIN)
MANY = st.lists(ONE, min_size=1, max_size=3).map(tuple)
GROUP = st.builds(Group, WORD, st.lists(ONE, max_size=2).map(tuple)).map(lambda group: (group,))
HEADERS: dict[str, st.SearchStrategy[Any]] = {
    "Sender": ONE,
    "To": MANY | GROUP,
    "Cc": MANY | GROUP,
    "Bcc": MANY,
}
RESENT = {f"Resent-{name}": values for name, values in HEADERS.items()}
HEADER_SETS = st.fixed_dictionaries(
    {"From": MANY, "Resent-From": MANY}, optional={**HEADERS, **RESENT}
)


@given(HEADER_SETS, st.booleans())
@settings(max_examples=250, deadline=None)
def test_an_envelope_of_a_message_is_what_smtplib_would_use(
    headers: dict[str, Any], resent: bool
) -> None:
    message = EmailMessage()
    for name, value in headers.items():
        message[name] = value
    if resent:
        message["Resent-Date"] = "Mon, 01 Jan 2024 00:00:00 +0000"
    smtp = Recorder()
    smtp.send_message(message)
    recipients = {normal_address(address)[0] for address in smtp.recipients if address}
    if recipients:
        envelope = Envelope.from_message(message)
        assert envelope.sender == normal_address(smtp.sender)[0]
        assert set(envelope.recipients) == recipients
    else:
        with pytest.raises(ValueError, match="at least one"):
            Envelope.from_message(message)


def message_of(**headers: str) -> EmailMessage:
    return filled(EmailMessage(), **headers)


def filled(message: Mail, **headers: str) -> Mail:
    for name, value in headers.items():
        message[name.replace("_", "-")] = value
    return message


@pytest.mark.parametrize("kind", [EmailMessage, Message])
def test_bcc_recipients_count_too(kind: type[Message[Any, Any]]) -> None:
    message = filled(kind(), From="Ann <a@x.org>", To="b@x.org", Cc="c@x.org", Bcc="d@x.org")
    envelope = Envelope.from_message(message, client=Client(user="ann"))
    assert envelope.sender == "a@x.org"
    assert set(envelope.recipients) == {"b@x.org", "c@x.org", "d@x.org"}
    assert envelope.client.user == "ann"
    assert message["Bcc"] == "d@x.org"


def test_the_sender_header_comes_before_from() -> None:
    message = message_of(From="a@x.org, b@x.org", Sender="s@x.org", To="c@x.org")
    assert Envelope.from_message(message).sender == "s@x.org"


def test_of_a_resent_message_only_the_resent_fields_count() -> None:
    message = message_of(
        From="a@x.org",
        To="b@x.org",
        Bcc="c@x.org",
        Resent_Date="Mon, 01 Jan 2024 00:00:00 +0000",
        Resent_From="r@x.org",
        Resent_To="q@x.org",
    )
    assert Envelope.from_message(message) == Envelope("r@x.org", ["q@x.org"])


def test_two_resent_blocks_are_refused_as_smtplib_refuses_them() -> None:
    message = message_of(From="a@x.org", To="b@x.org", Resent_From="r@x.org", Resent_To="q@x.org")
    for day in ("01", "02"):
        message["Resent-Date"] = f"Mon, {day} Jan 2024 00:00:00 +0000"
    with pytest.raises(ValueError, match="more than one"):
        Recorder().send_message(message)
    with pytest.raises(ValueError, match="more than one Resent- block"):
        Envelope.from_message(message)


@pytest.mark.parametrize(
    ("headers", "wanted"),
    [
        ({"To": "b@x.org"}, "neither Sender nor From"),
        (
            {"From": "a@x.org", "To": "b@x.org", "Resent_Date": "1 Jan 2024 00:00:00 +0000"},
            "neither Resent-Sender nor Resent-From",
        ),
        ({"From": "a@x.org"}, "at least one"),
        ({"From": "a@x.org", "To": ""}, "at least one"),
        ({"From": "a@x.org", "To": "undisclosed-recipients:;"}, "at least one"),
        ({"From": "a@x.org", "To": "bob"}, "'bob'"),
        ({"From": "ann", "To": "b@x.org"}, "'ann'"),
    ],
)
def test_a_message_without_a_usable_address_is_an_error(
    headers: dict[str, str], wanted: str
) -> None:
    with pytest.raises(ValueError, match=wanted):
        Envelope.from_message(message_of(**headers))


KINDS: list[Any] = [email.policy.default, email.policy.compat32]
kinds = pytest.mark.parametrize("kind", KINDS, ids=["EmailMessage", "Message"])


def parsed(kind: Any, **headers: str) -> Message[Any, Any]:
    lines = [f"{name}: {value}\n" for name, value in headers.items()]
    return email.message_from_string("".join(lines) + "\n", policy=kind)


@pytest.mark.parametrize("name", ["From", "Sender"])
def test_an_empty_sender_header_is_an_error_that_says_so(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Envelope.from_message(message_of(To="b@x.org", **{name: ""}))


@kinds
@pytest.mark.parametrize("name", ["From", "Sender"])
@pytest.mark.parametrize("value", ["", " ", "Ann <>", "team:;", "<>, <>"])
def test_a_sender_header_without_an_address_is_named(kind: Any, name: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}: "):
        Envelope.from_message(parsed(kind, **{name: value}, To="b@x.org"))


@kinds
@pytest.mark.parametrize("name", ["From", "Sender"])
def test_empty_angles_are_the_null_sender(kind: Any, name: str) -> None:
    message = parsed(kind, **{name: " <> "}, To="b@x.org")
    assert Envelope.from_message(message) == Envelope("<>", ["b@x.org"])


@kinds
@pytest.mark.parametrize("name", ["To", "Cc", "Bcc"])
@pytest.mark.parametrize(
    "value",
    [
        "b@x.org, Bob <>",
        "b@x.org, @",
        "b@x.org, c@",
        "b@x.org c@x.org",
        "b@x.org, bob",
        "Bob, jr <b@x.org>",
    ],
)
def test_a_recipient_that_is_no_address_is_not_dropped(kind: Any, name: str, value: str) -> None:
    with pytest.raises(ValueError, match=rf"^{name}: |^recipients: "):
        Envelope.from_message(parsed(kind, From="a@x.org", **{name: value}))


@kinds
@pytest.mark.parametrize(
    "value",
    [
        "b@x.org, c@x.org",
        "b@x.org, , c@x.org",
        ",b@x.org,c@x.org",
        "nobody:;, b@x.org, some: c@x.org;",
        '"bob@home" <b@x.org>, c@x.org (carl@home)',
        '"Bob, jr" <b@x.org>, Carl <c@x.org>',
        "=?utf-8?q?J=C3=B6rg=2C_jr?= <b@x.org>,\n c@x.org",
        "b@x.org, <>, c@x.org",
    ],
)
def test_what_is_nobody_is_no_recipient(kind: Any, value: str) -> None:
    message = parsed(kind, From="a@x.org", To=value)
    assert Envelope.from_message(message).recipients == ("b@x.org", "c@x.org")


@kinds
@pytest.mark.parametrize("name", ["From", "To"])
@pytest.mark.parametrize("value", ["(" * 100_000, "a:" * 20_000, "g:;" * 5_000])
def test_a_hostile_header_is_a_short_error(kind: Any, name: str, value: str) -> None:
    message = parsed(kind, **{"From": "a@x.org", "To": "b@x.org", name: value})
    with pytest.raises(ValueError, match=rf"^{name}: |^sender: |^recipients: ") as caught:
        Envelope.from_message(message)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("message", ["From: a@x.org\n\n", b"", None, 5])
def test_a_message_is_a_message(message: Any) -> None:
    with pytest.raises(TypeError, match="EmailMessage"):
        Envelope.from_message(message)


def test_undisclosed_recipients_leave_the_hidden_ones() -> None:
    message = message_of(From="a@x.org", To="undisclosed-recipients:;", Bcc="b@x.org, c@x.org")
    assert Envelope.from_message(message).recipients == ("b@x.org", "c@x.org")


def test_one_envelope_is_planned_by_each_policy_for_itself() -> None:
    letter = Envelope("ann@x.org", ["bob@y.org", "eve@x.org"])
    policies = [
        Policy(name="all", limits=[RecipientRateLimit("9/day")]),
        Policy(
            name="external",
            internal_domains=["x.org"],
            limits=[RecipientRateLimit("9/day", count="external")],
        ),
    ]
    for _ in range(3):
        costs = [policy.plan(letter).charges[0][2] for policy in policies]
        assert costs == [(1, 2, 1, 2), (1, 2, 1, 1)]


def test_what_a_policy_made_of_an_envelope_is_not_pickled_or_compared() -> None:
    letter = Envelope("<>", ["bob@y.org"], Client(address="10.0.0.1"))
    size = len(pickle.dumps(letter))
    Policy(name="all", limits=[RecipientRateLimit("9/day")]).plan(letter)
    assert len(pickle.dumps(letter)) == size
    assert pickle.loads(pickle.dumps(letter)) == letter
