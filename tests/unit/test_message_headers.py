"""The reader of address headers: all forms, alike for each class of message, in linear time."""

from __future__ import annotations

import email
import email.policy
from contextlib import suppress
from email.message import EmailMessage, Message
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratelimit_mail import Envelope
from ratelimit_mail.addresses import written_local_part
from ratelimit_mail.message_headers import read_addresses


def as_parsed(kind: Any, **headers: str) -> Any:
    """Return a message that stores headers as a parser does: as text, whatever it is."""
    message = kind()
    message._headers = list(headers.items())
    return message


READABLE = [
    # A name with an `@`, a comma in a comment, a comma at the end.
    (
        "smith@y.org, Team@Acme <team@x.org>, tom@y.org",
        ["smith@y.org", "team@x.org", "tom@y.org"],
    ),
    ("jdoe@x.org (Doe, John)", ["jdoe@x.org"]),
    ("b@x.org, c@x.org,", ["b@x.org", "c@x.org"]),
    # RFC 5322, appendix A.1 to A.6
    ('"Joe Q. Public" <john.q.public@example.com>', ["john.q.public@example.com"]),
    (
        'Mary Smith <mary@x.test>, jdoe@example.org, Who? <one@y.test>, <boss@nil.test>, "Giant;'
        ' \\"Big\\" Box" <sysservices@example.net>',
        [
            "mary@x.test",
            "jdoe@example.org",
            "one@y.test",
            "boss@nil.test",
            "sysservices@example.net",
        ],
    ),
    (
        "A Group:Ed Jones <c@a.test>,joe@where.test,John <jdoe@one.test>;",
        ["c@a.test", "joe@where.test", "jdoe@one.test"],
    ),
    ("Undisclosed recipients:;", []),
    (
        "A Group(Some people)\n :Chris Jones <c@(Chris's host.)public.example>,"
        "\n joe@example.org,\n John <jdoe@one.test> (my dear friend); (the end of the group)",
        ["c@public.example", "joe@example.org", "jdoe@one.test"],
    ),
    ("(Empty list)(start)Hidden recipients  :(nobody(that I know))  ;", []),
    (
        "Mary Smith <@node.test:mary@example.net>, , jdoe@test   . example",
        ["mary@example.net", "jdoe@test.example"],
    ),
    ("Joe Q. Public <john.q.public@example.com>", ["john.q.public@example.com"]),
    # Local parts
    ('"b c"@x.org', ['"b c"@x.org']),
    ('"b"@x.org', ["b@x.org"]),
    ('"b\\"c"@x.org', ['"b\\"c"@x.org']),
    ('"b@home"@x.org', ['"b@home"@x.org']),
    ('"b"."c d"@x.org', ['"b.c d"@x.org']),
    ("b . c @ x . org", ["b.c@x.org"]),
    ("b..c@x.org, .d@x.org, e.@x.org", ["b..c@x.org", ".d@x.org", "e.@x.org"]),
    ("o'neil+tag=x%y@x.org", ["o'neil+tag=x%y@x.org"]),
    ('""@x.org', ['""@x.org']),
    # Domains
    ("b@[192.0.2.1], <c@[IPv6:2001:db8::1]>", ["b@[192.0.2.1]", "c@[IPv6:2001:db8::1]"]),
    # Source routes
    ("<@a,@b.c:b@x.org>", ["b@x.org"]),
    ("<@a , , @[192.0.2.1] :b@x.org>", ["b@x.org"]),
    # Mistakes that leave no doubt
    ("b@x.org; c@x.org;", ["b@x.org", "c@x.org"]),
    ("Team: b@x.org, c@x.org", ["b@x.org", "c@x.org"]),
    ("[URGENT] Bob <b@x.org>", ["b@x.org"]),
    ("Bob :-) <b@x.org>", ["b@x.org"]),
    ("smith@y.org <b@x.org>", ["b@x.org"]),
    ("=?utf-8?q?Bob=2C_jr?= <b@x.org>", ["b@x.org"]),
    ("<>", [""]),
    ("", []),
    (" \r\n\t", []),
]


@pytest.mark.parametrize(("header", "addresses"), READABLE)
def test_a_header_is_read_as_its_addresses(header: str, addresses: list[str]) -> None:
    assert list(read_addresses(header)) == addresses


@pytest.mark.parametrize(
    "policy", [email.policy.default, email.policy.compat32], ids=["EmailMessage", "Message"]
)
@pytest.mark.parametrize(("header", "addresses"), READABLE)
def test_every_class_of_message_is_read_alike(
    policy: Any, header: str, addresses: list[str]
) -> None:
    message = email.message_from_string(f"From: a@x.org\nTo: {header}\n\n", policy=policy)
    if any(addresses):
        assert Envelope.from_message(message) == Envelope("a@x.org", list(filter(None, addresses)))
    else:
        with pytest.raises(ValueError, match="at least one"):
            Envelope.from_message(message)


UNREADABLE = [
    "bob",
    "b@x.org c@x.org",
    "Bob, jr <b@x.org>",
    "Bob <b@x.org> jr",
    "<b@x.org> <c@x.org>",
    "b@x.org <>",
    "b@c@x.org",
    "@x.org",
    "b@",
    "b@x.org.",
    "b@x..org",
    "<b@x.org",
    "b@x.org>",
    "<b@x.org, c@x.org>",
    "<<b@x.org>>",
    "<@a,@b>",
    "<@a:>",
    "<mailto:b@x.org>",
    "b@x.org: c@x.org;",
    "a: b: c@x.org;;",
    ": b@x.org;",
    '"b@x.org',
    'b"c@x.org',
    'b"c"@x.org',
    "b@x.org (carl",
    "b@x.org (carl\\)",
    "b\\@c@x.org",
    "b@[x@y]",
    "b@x.org\nBcc: c@x.org",
    "b@x.org, c@x.org d@x.org, e@x.org",
    "=?utf-8?q?eve=40y=2Eorg?=@x.org",
    "=?utf-8?q?b=40x=2Eorg?=",
    "<=?utf-8?q?b?=@x.org>",
    "p\ufffdl@x.org",
    "b\x00@x.org",
    "b\u2028@x.org",
    "b@xn--.org",
    f"{'b' * 330}@x.org",
]


@pytest.mark.parametrize("kind", [EmailMessage, Message])
@pytest.mark.parametrize("name", ["From", "Sender", "To", "Cc", "Bcc"])
@pytest.mark.parametrize("header", UNREADABLE)
def test_a_header_that_cannot_be_read_whole_is_an_error_that_names_it(
    kind: Any, name: str, header: str
) -> None:
    message = as_parsed(kind, **{"From": "a@x.org", "To": "a@x.org", name: header})
    if name in ("From", "Sender") and header.startswith("b@x.org"):
        assert_begins_with_a_sender(message, header)
        return
    with pytest.raises(ValueError, match=f"^{name}: ") as caught:
        Envelope.from_message(message)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


def assert_begins_with_a_sender(message: Message[Any, Any], header: str) -> None:
    """Of several senders smtplib uses the first, and so what comes after it is not read."""
    if header.startswith("b@x.org,"):
        assert Envelope.from_message(message).sender == "b@x.org"
    else:
        with pytest.raises(ValueError, match=r"^(From|Sender): "):
            Envelope.from_message(message)


@pytest.mark.parametrize(
    "header",
    ["b@x.org c@x.org", "b@x.org (carl, c@x.org", "<b@x.org, c@x.org", "Team@Acme <b@x.org>"],
)
def test_what_email_drops_from_a_header_that_a_program_sets_is_an_error(header: str) -> None:
    message = EmailMessage()
    message["From"], message["To"] = "a@x.org", header
    with pytest.raises(ValueError, match=r"^To: "):
        Envelope.from_message(message)


LOCAL = st.text("abcXYZ019.+_'=", min_size=1, max_size=6)
QUOTED = st.text('ab @,;:<>()[].\\"', max_size=5)
BLANK = st.sampled_from(["", " ", "\n ", "\t", " (a, <b@c.org>; (nested) \\) c) "])
NAMES = st.lists(
    st.sampled_from(
        ["Bob", "J.", "Team@Acme", '"Doe, J <x@y.org>"', "ä", "=?utf-8?q?=2C?=", "[x]"]
    ),
    max_size=3,
).map(" ".join)


@st.composite
def elements(draw: st.DrawFn) -> tuple[str, str]:
    """Draw one address as a header may write it, and the address."""
    domain = draw(st.sampled_from(["x.org", "mail.y.org", "[192.0.2.1]", "bücher.example"]))
    if draw(st.booleans()):
        local = draw(LOCAL)
        address = f"{local}@{domain}"
        written = address
    else:
        local = draw(QUOTED)
        escaped = local.replace("\\", "\\\\").replace('"', '\\"')
        written = f'"{escaped}"@{domain}'
        address = written_local_part(local) + f"@{domain}"
    if draw(st.booleans()):
        return draw(BLANK) + written + draw(BLANK), address
    route = draw(st.sampled_from(["", "", "@relay.org:", "@a,@b.c:"]))
    before, after = draw(BLANK), draw(BLANK)
    return f"{before}{draw(NAMES)}{before}<{route}{written}{after}>{after}", address


@given(
    st.lists(
        st.tuples(st.sampled_from(["", "Group:", ",", " , ,"]), st.lists(elements(), max_size=4)),
        max_size=4,
    )
)
def test_every_address_of_a_header_is_read_once_and_in_order(
    groups: list[tuple[str, list[tuple[str, str]]]],
) -> None:
    header = ",".join(
        prefix + ",".join(written for written, _ in members) + ";" * (prefix == "Group:")
        for prefix, members in groups
    )
    assert list(read_addresses(header)) == [
        address for _, members in groups for _, address in members
    ]


@given(st.text('ab@.,;:<>()[]"\\ \n=?ä\udcff', max_size=40))
def test_any_header_is_read_alike_by_every_class_or_is_an_error(header: str) -> None:
    answers: list[object] = []
    for kind in (EmailMessage, Message):
        message = as_parsed(kind, From="a@x.org", To=header)
        try:
            answers.append(Envelope.from_message(message).recipients)
        except ValueError as error:
            text = str(error)
            assert text.isprintable()
            assert len(text) < 300
            answers.append(text)
    assert answers[0] == answers[1]


MANY_TIMES = [
    ",",
    ";",
    "(",
    ")",
    "(a)",
    '"',
    '"a" ',
    '"a,"',
    "\\",
    "g:;",
    "g:",
    "<",
    "<>",
    "<>,",
    "@",
    "[",
    "[a ",
    "=?utf-8?q?a?= ",
    "=?a?q?",
    ".",
    "a.",
    "a ",
    "a@b ",
    "\udcff",
    "\udcc3\udcb6",
    "()a,",
    "a@x.org,",
    "a<b@x.org,",
    "x=?@a?=,",
    '"\\"',
    "(\\(",
    "a@x.org b",
    "@a,",
    "<@a,",
    "\r\n ",
    "\ufffd",
]
ENDS = ["", "a@x.org", "<a@x.org>", ")", '"', ">", ":a@x.org>"]


def read_hostile_header(name: str, piece: str, end: str) -> None:
    # Quadratic time for 50,000 pieces would exceed the time that a test may take.
    other = "To" if name == "From" else "From"
    with suppress(ValueError):
        Envelope.from_message(as_parsed(Message, **{other: "a@x.org", name: piece * 50_000 + end}))


@pytest.mark.parametrize("piece", MANY_TIMES)
@pytest.mark.parametrize("name", ["From", "To"])
def test_a_hostile_header_takes_linear_time(name: str, piece: str) -> None:
    # One end for each piece, another one in each header; a drill tries all.
    number = MANY_TIMES.index(piece) + 3 * (name == "To")
    read_hostile_header(name, piece, ENDS[number % len(ENDS)])


@pytest.mark.drill
@pytest.mark.parametrize("piece", MANY_TIMES)
@pytest.mark.parametrize("name", ["From", "To"])
def test_a_hostile_header_with_any_end_takes_linear_time(name: str, piece: str) -> None:
    for end in ENDS:
        read_hostile_header(name, piece, end)


def test_deeply_nested_comments_are_read() -> None:
    header = "(" * 100_000 + ")" * 100_000 + "b@x.org"
    assert list(read_addresses(header)) == ["b@x.org"]


def test_a_hundred_thousand_recipients_are_all_read() -> None:
    header = ",".join(f"User {i} <user{i}@x.org>" for i in range(100_000))
    message = as_parsed(Message, From="a@x.org", To=header)
    assert len(Envelope.from_message(message).recipients) == 100_000
