"""Envelope.from_message: the sender and recipients in the headers of a message."""

from __future__ import annotations

import email
import email.policy
import smtplib
from email.header import Header
from email.headerregistry import Address, Group
from email.message import EmailMessage, Message
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratelimit_mail import Client, Envelope
from ratelimit_mail.addresses import normal_address

Mail = TypeVar("Mail", bound="Message[Any, Any]")


class Recorder(smtplib.SMTP):
    """An SMTP client that sends nothing and records the sender and recipients."""

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


def as_text(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return text.replace("bücher", "xn--bcher-kva")  # smtplib sends no Message to the first


@pytest.mark.parametrize("kind", [EmailMessage, Message])
@given(headers=HEADER_SETS, resent=st.booleans())
def test_the_envelope_of_a_message_is_the_one_that_smtplib_uses(
    kind: type[Message[Any, Any]], headers: dict[str, Any], resent: bool
) -> None:
    message = kind()
    for name, value in headers.items():
        message[name] = value if kind is EmailMessage else as_text(value)
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


def message_with(**headers: Any) -> EmailMessage:
    return with_headers(EmailMessage(), **headers)


def with_headers(message: Mail, **headers: Any) -> Mail:
    for name, value in headers.items():
        message[name.replace("_", "-")] = value
    return message


@pytest.mark.parametrize("kind", [EmailMessage, Message])
def test_bcc_recipients_count_too(kind: type[Message[Any, Any]]) -> None:
    message = with_headers(kind(), From="Ann <a@x.org>", To="b@x.org", Cc="c@x.org", Bcc="d@x.org")
    envelope = Envelope.from_message(message, client=Client(user="ann"))
    assert envelope.sender == "a@x.org"
    assert set(envelope.recipients) == {"b@x.org", "c@x.org", "d@x.org"}
    assert envelope.client.user == "ann"
    assert message["Bcc"] == "d@x.org"


def test_the_sender_header_comes_before_from() -> None:
    message = message_with(From="a@x.org, b@x.org", Sender="s@x.org", To="c@x.org")
    assert Envelope.from_message(message).sender == "s@x.org"


def test_of_a_resent_message_only_the_resent_fields_count() -> None:
    message = message_with(
        From="a@x.org",
        To="b@x.org",
        Bcc="c@x.org",
        Resent_Date="Mon, 01 Jan 2024 00:00:00 +0000",
        Resent_From="r@x.org",
        Resent_To="q@x.org",
    )
    assert Envelope.from_message(message) == Envelope("r@x.org", ["q@x.org"])


def test_two_resent_blocks_are_refused_as_smtplib_refuses_them() -> None:
    message = message_with(From="a@x.org", To="b@x.org", Resent_From="r@x.org", Resent_To="q@x.org")
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
        Envelope.from_message(message_with(**headers))


KINDS: list[Any] = [email.policy.default, email.policy.compat32]
kinds = pytest.mark.parametrize("kind", KINDS, ids=["EmailMessage", "Message"])


def parsed(kind: Any, **headers: str) -> Message[Any, Any]:
    lines = [f"{name}: {value}\n" for name, value in headers.items()]
    return email.message_from_string("".join(lines) + "\n", policy=kind)


@pytest.mark.parametrize("name", ["From", "Sender"])
def test_an_empty_sender_header_is_an_error_that_says_so(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Envelope.from_message(message_with(To="b@x.org", **{name: ""}))


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
def test_a_recipient_that_is_not_an_address_is_an_error(kind: Any, name: str, value: str) -> None:
    with pytest.raises(ValueError, match=rf"^{name}: "):
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
def test_empty_elements_and_groups_are_not_recipients(kind: Any, value: str) -> None:
    message = parsed(kind, From="a@x.org", To=value)
    assert Envelope.from_message(message).recipients == ("b@x.org", "c@x.org")


@kinds
@pytest.mark.parametrize("name", ["From", "To"])
@pytest.mark.parametrize("value", ["(" * 100_000, "a:" * 20_000, "g:;" * 5_000])
def test_a_hostile_header_is_a_short_error(kind: Any, name: str, value: str) -> None:
    message = parsed(kind, **{"From": "a@x.org", "To": "b@x.org", name: value})
    with pytest.raises(ValueError, match=rf"^{name}: |^recipients: a message needs") as caught:
        Envelope.from_message(message)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("message", ["From: a@x.org\n\n", b"", None, 5])
def test_only_a_message_object_is_a_message(message: Any) -> None:
    with pytest.raises(TypeError, match="EmailMessage"):
        Envelope.from_message(message)


def test_bcc_recipients_count_beside_an_empty_group() -> None:
    message = message_with(From="a@x.org", To="undisclosed-recipients:;", Bcc="b@x.org, c@x.org")
    assert Envelope.from_message(message).recipients == ("b@x.org", "c@x.org")


# One reader for every class of message and every version of Python


POLICIES = [email.policy.default, email.policy.compat32]
from_bytes = pytest.mark.parametrize("policy", POLICIES, ids=["EmailMessage", "Message"])


def message_of_bytes(policy: Any, to: str | bytes, sender: str = "a@x.org") -> Message[Any, Any]:
    header = to if isinstance(to, bytes) else to.encode()
    data = b"From: " + sender.encode() + b"\nTo: " + header + b"\n\nHello\n"
    return email.message_from_bytes(data, policy=policy)


@from_bytes
def test_raw_utf_8_never_merges_two_people(policy: Any) -> None:
    message = message_of_bytes(policy, "pål@y.org, pél@y.org", sender="jörg@x.org")
    envelope = Envelope.from_message(message)
    assert envelope.sender == "jörg@x.org"
    assert envelope.recipients == ("pål@y.org", "pél@y.org")
    other = message_of_bytes(policy, "b@y.org", sender="järg@x.org")
    assert Envelope.from_message(other).sender == "järg@x.org"


@from_bytes
def test_a_domain_in_raw_utf_8_is_read(policy: Any) -> None:
    message = message_of_bytes(policy, "Jörg <ann@bücher.example>")
    assert Envelope.from_message(message).recipients == ("ann@xn--bcher-kva.example",)


@from_bytes
def test_an_address_in_bytes_that_are_not_utf_8_is_an_error(policy: Any) -> None:
    for header in ("pål@y.org", "b@y.org, pål@y.org", "Pål <pål@y.org>"):
        with pytest.raises(ValueError, match=r"^To: ") as caught:
            Envelope.from_message(message_of_bytes(policy, header.encode("latin-1")))
        assert str(caught.value).isprintable()


@from_bytes
def test_a_name_in_bytes_that_are_not_utf_8_does_not_matter(policy: Any) -> None:
    message = message_of_bytes(policy, "Pål <pal@y.org>".encode("latin-1"))
    assert Envelope.from_message(message).recipients == ("pal@y.org",)


def test_a_header_object_made_of_raw_utf_8_is_read() -> None:
    parsed_message = message_of_bytes(email.policy.compat32, "pål@y.org, pél@y.org")
    message = with_headers(Message(), From="a@x.org", To=parsed_message["To"])
    assert isinstance(message["To"], Header)
    assert Envelope.from_message(message).recipients == ("pål@y.org", "pél@y.org")


def test_a_header_object_is_read_decoded() -> None:
    message = with_headers(Message(), From="a@x.org", To=Header("Jörg <b@x.org>", "utf-8"))
    assert Envelope.from_message(message).recipients == ("b@x.org",)


@pytest.mark.parametrize("kind", [EmailMessage, Message])
def test_an_address_with_replacement_characters_is_an_error(kind: Any) -> None:
    message = with_headers(kind(), From="a@x.org", To="p\ufffdl@y.org")
    with pytest.raises(ValueError, match=r"^To: "):
        Envelope.from_message(message)


@pytest.mark.parametrize("value", [["b@x.org"], 5, object()])
def test_a_header_that_is_not_text_is_an_error(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^To: "):
        Envelope.from_message(with_headers(Message(), From="a@x.org", To=value))


def test_a_header_without_a_value_is_not_there() -> None:
    message = with_headers(Message(), From="a@x.org", To=None, Cc="b@x.org")
    assert Envelope.from_message(message).recipients == ("b@x.org",)


def test_the_first_of_two_headers_of_one_name_counts_as_in_smtplib() -> None:
    message = with_headers(Message(), From="a@x.org")
    message["To"], message["to"] = "b@x.org", "c@x.org"
    smtp = Recorder()
    smtp.send_message(message)
    assert Envelope.from_message(message).recipients == smtp.recipients == ("b@x.org",)
