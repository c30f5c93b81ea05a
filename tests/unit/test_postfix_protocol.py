"""The protocol core: bytes in, requests and replies out, whatever comes and however it is split."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ratelimit_mail.server.postfix import (
    LONGEST_LINE,
    LONGEST_REQUEST,
    MOST_ATTRIBUTES,
    QUEUE_ID,
    Malformed,
    PolicyConnection,
    Request,
    Stage,
    reply,
)

REQUEST = (
    b"request=smtpd_access_policy\nprotocol_state=END-OF-MESSAGE\nprotocol_name=ESMTP\n"
    b"client_address=10.1.2.3\nsender=ann@uwo.ca\nrecipient=\nrecipient_count=3\n"
    b"queue_id=516A42DA03C\ninstance=5a92.6b09b13b.515a2.3\nsasl_username=ann\n\n"
)


def events(data: bytes, *cuts: int) -> list[Request | Malformed]:
    """Return the events of `data`, received in pieces."""
    connection = PolicyConnection()
    result = []
    edges = [0, *sorted(cuts), len(data)]
    for start, end in pairwise(edges):
        connection.receive_data(data[start:end])
        while (event := connection.next_event()) is not None:
            result.append(event)
    return result


def reasons(data: bytes) -> list[str]:
    return [each.reason for each in events(data) if isinstance(each, Malformed)]


def request_of(**changes: str) -> bytes:
    values = {
        "request": "smtpd_access_policy",
        "protocol_state": "RCPT",
        "instance": "1.2.3",
        "recipient": "a@x.com",
        **changes,
    }
    return "".join(f"{name}={value}\n" for name, value in values.items()).encode() + b"\n"


def test_a_request_of_postfix_is_read() -> None:
    [request] = events(REQUEST)
    assert isinstance(request, Request)
    assert request.stage is Stage.END_OF_MESSAGE
    assert request.instance == "5a92.6b09b13b.515a2.3"
    assert (request.sender, request.recipient, request.recipient_count) == ("ann@uwo.ca", "", 3)
    assert request.queue_id == "516A42DA03C"
    assert request.attributes["sasl_username"] == "ann"


@pytest.mark.parametrize(
    ("state", "text", "size"),
    [
        ("END-OF-MESSAGE", "731", 731),
        ("END-OF-MESSAGE", "0", 0),
        ("DATA", "731", 731),
        ("DATA", "0", None),
    ],
)
def test_the_size_of_a_message_is_known_at_its_end(state: str, text: str, size: int | None) -> None:
    data = request_of(protocol_state=state, recipient_count="1", size=text)
    [request] = events(data)
    assert isinstance(request, Request)
    assert request.size == size
    [without] = events(data.replace(f"size={text}\n".encode(), b""))
    assert isinstance(without, Request)
    assert without.size is None
    assert reasons(data.replace(b"size=", b"size=-")) == [f"size='-{text}' is not a number"]


def test_a_request_is_the_same_wherever_it_is_split() -> None:
    two = REQUEST + request_of()
    whole = events(two)
    assert len(whole) == 2
    for cut in range(len(two)):
        assert events(two, cut) == whole
    assert events(two, *range(len(two))) == whole


def test_bytes_that_are_not_utf_8_stay_what_they_are() -> None:
    [request] = events(request_of().replace(b"a@x.com", b"\xff@x.com"))
    assert isinstance(request, Request)
    assert request.recipient.encode("utf-8", "surrogateescape") == b"\xff@x.com"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"hello\n", "is not name=value"),
        (b"=x\n", "is not name=value"),
        (b"a=b\r\n\r\n", "is not name=value"),
        (b"a=\0\n", "NUL"),
        (b"a=1\na=2\n", "twice"),
        (b"a=" + b"x" * LONGEST_LINE, f"more than {LONGEST_LINE} bytes"),
        (b"a=" + b"x" * LONGEST_LINE + b"\n", f"more than {LONGEST_LINE} bytes"),
        (
            b"".join(b"a%d=%b\n" % (i, b"x" * 8000) for i in range(5)),
            f"more than {LONGEST_REQUEST} bytes",
        ),
        (
            b"".join(b"a%d=\n" % i for i in range(MOST_ATTRIBUTES + 1)),
            f"more than {MOST_ATTRIBUTES} attributes",
        ),
    ],
)
def test_what_is_out_of_step_ends_the_connection(data: bytes, reason: str) -> None:
    for cuts in ((), range(len(data)) if len(data) < 100 else (7, 50)):
        [event] = events(data + b"\n" + REQUEST, *cuts)
        assert isinstance(event, Malformed)
        assert event.must_close
        assert reason in event.reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"request": "junk"}, "smtpd_access_policy"),
        ({"protocol_state": "JUNK"}, "protocol_state"),
        ({"instance": ""}, "instance"),
        ({"instance": "x" * 129}, "instance"),
        ({"instance": "a b"}, "instance"),
        ({"recipient_count": "-1"}, "recipient_count"),
        ({"recipient_count": "1" * 10}, "recipient_count"),
        ({"recipient_count": "\u0663"}, "recipient_count"),
        ({"recipient": ""}, "no recipient"),
        ({"protocol_state": "DATA", "recipient_count": "0"}, "recipient_count is 0"),
    ],
)
def test_a_request_that_says_nonsense_is_malformed_and_the_next_one_is_read(
    changes: dict[str, str], reason: str
) -> None:
    first, second = events(request_of(**changes) + request_of())
    assert isinstance(first, Malformed)
    assert not first.must_close
    assert reason in first.reason
    assert isinstance(second, Request)


@settings(max_examples=150)
@given(
    st.binary(max_size=300)
    | st.lists(
        st.sampled_from(
            [
                b"\n",
                b"=",
                b"request=smtpd_access_policy\n",
                b"protocol_state=RCPT\n",
                b"instance=1.2.3\n",
                b"recipient=a@x.com\n",
                b"\0",
                b"\xff",
                b"a=b\n",
                REQUEST,
            ]
        )
    ).map(b"".join),
    st.lists(st.integers(0, 300)),
)
def test_any_bytes_give_the_same_events_however_they_are_split(
    data: bytes, cuts: list[int]
) -> None:
    whole = events(data)
    assert events(data, *(cut for cut in cuts if cut < len(data))) == whole
    assert all(
        each.must_close == (each is whole[-1]) or not each.must_close
        for each in whole
        if isinstance(each, Malformed)
    )


def test_nothing_is_remembered_of_a_connection_that_is_out_of_step() -> None:
    connection = PolicyConnection()
    for _ in range(1000):
        connection.receive_data(b"x" * 5000)
        connection.next_event()
    assert connection.is_closed
    assert not connection.is_within_request


def test_a_reply_is_one_line_of_ascii() -> None:
    assert reply("DUNNO") == b"action=DUNNO\n\n"
    assert reply("550 5.7.1 a\nb\u00e9\r\0") == b"action=550 5.7.1 a?b???\n\n"


DIGITS = "0123456789BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz"
"""The digits of Postfix's long queue ids."""


def long_queue_id(seconds: int, microseconds: int, inode: int) -> str:
    """Return a queue id as Postfix makes it: the time to base 52, a z, the inode to base 51."""

    def encode(number: int, base: int, width: int) -> str:
        text = ""
        while number or len(text) < width:
            number, digit = divmod(number, base)
            text = DIGITS[digit] + text
        return text

    return f"{encode(seconds, 52, 6)}{encode(microseconds, 52, 4)}z{encode(inode, 51, 1)}"


@pytest.mark.parametrize("text", ["516A42DA03C", "0B5C3", "3Pt2mN2VXxznjll", "F" * 21])
def test_queue_ids_of_postfix_are_known(text: str) -> None:
    assert QUEUE_ID.fullmatch(text)


@given(st.integers(0, 1 << 34), st.integers(0, 999_999), st.integers(1, (1 << 64) - 1))
def test_long_queue_ids_of_postfix_are_known(seconds: int, microseconds: int, inode: int) -> None:
    for moment in range(seconds, seconds + 52):  # in one of these it has a z in the time
        assert QUEUE_ID.fullmatch(long_queue_id(moment, microseconds, inode))


@pytest.mark.parametrize(
    "text",
    [
        "ALL",
        "-",
        "",
        "-d",
        "516A42DA03C ",
        "516a42da03c\n",
        "516A;x",
        "../516A",
        "A" * 50,
        "4BCdf3xyz1Bc",
        "3Pt2mN2VXxz",
    ],
)
def test_nothing_else_is_a_queue_id(text: str) -> None:
    assert not QUEUE_ID.fullmatch(text)
