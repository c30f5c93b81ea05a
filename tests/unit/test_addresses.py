"""Addresses as RFC 5321 allows them: the one spelling of each, and what is not an address."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ratelimit_mail._util.text import show
from ratelimit_mail.addresses import (
    LONGEST_ADDRESS,
    NULL_SENDER,
    normal_address,
    normal_sender,
)

ANYTHING = st.text(st.characters(exclude_categories=()), max_size=40)
ADDRESSLIKE = st.builds("{}@{}.{}".format, *(st.text(min_size=1, max_size=8) for _ in range(3)))
WORD = st.text(st.characters(categories=["Lu", "Ll", "Lo", "Mn", "Nd"]), min_size=1, max_size=8)
ADDRESS = st.builds("{}@{}{}{}".format, WORD, WORD, st.sampled_from(".\u3002\uff0e\uff61"), WORD)


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("bob@example.com", "bob@example.com"),
        ("bob@EXAMPLE.Com", "bob@example.com"),
        ("Bob@example.com", "Bob@example.com"),
        ("bob+tag@example.com", "bob+tag@example.com"),
        ("jörg@example.com", "jörg@example.com"),
        ("bob@bücher.de", "bob@xn--bcher-kva.de"),
        ("bob@BÜCHER.DE", "bob@xn--bcher-kva.de"),
        ("bob@XN--bcher-KVA.de", "bob@xn--bcher-kva.de"),
        ("bob@bu\u0308cher.de", "bob@xn--bcher-kva.de"),
        ("bob@straße.de", "bob@xn--strae-oqa.de"),
        ("bob@例え。jp", "bob@xn--r8jz45g.jp"),
        ("bob@example\uff0ecom", "bob@example.com"),
        ("bob@example\uff61com", "bob@example.com"),
        ("bob@\uff25xample.com", "bob@example.com"),
        ("bob@[192.0.2.1]", "bob@[192.0.2.1]"),
        ("bob@[IPv6:2001:DB8::1]", "bob@[ipv6:2001:db8::1]"),
        ('"bob smith"@Example.com', '"bob smith"@example.com'),
        ('"bob@home"@example.com', '"bob@home"@example.com'),
        ('"a\\"b"@example.com', '"a\\"b"@example.com'),
        ('"bob"@example.com', "bob@example.com"),
        ('"b.o..b"@Example.com', "b.o..b@example.com"),
        ('"b\\ob"@example.com', "bob@example.com"),
        ('"b\\ob smith"@example.com', '"bob smith"@example.com'),
        ('""@example.com', '""@example.com'),
        ("bob@localhost", "bob@localhost"),
        ("bob@under_score.example.com", "bob@under_score.example.com"),
        (f"bob@{'x' * 63}.org", f"bob@{'x' * 63}.org"),
    ],
)
def test_an_address_has_one_spelling(written: str, normal: str) -> None:
    assert normal_address(written) == (normal, normal.rpartition("@")[2])


@pytest.mark.parametrize(
    ("value", "named", "wanted"),
    [
        ("", "empty", "'bob@example.com'"),
        ("bob", "'bob'", "no '@'"),
        ("bob@", "''", "'example.com'"),
        ("@example.com", "'@example.com'", "nothing before its '@'"),
        ("bob@x.org\n", r"'bob@x.org\n'", "line break or another control"),
        ("bob\r\nRCPT TO:<eve@x.org>@x.org", r"'bob\r\nRCPT", "line break or another control"),
        ("bob@x.org\x00", r"'bob@x.org\x00'", "line break or another control"),
        ("b\x7fob@x.org", r"'b\x7fob@x.org'", "line break or another control"),
        ("b\tob@x.org", r"'b\tob@x.org'", "line break or another control"),
        ("b\x85ob@x.org", r"'b\x85ob@x.org'", "line break or another control"),
        ("b\u2028ob@x.org", r"'b\u2028ob@x.org'", "line break or another control"),
        ("b\ud800ob@x.org", r"'b\ud800ob@x.org'", "line break or another control"),
        ('"b\nob"@x.org', r'b\nob"@x.org', "line break or another control"),
        ("b" * 9992 + "@bbb.org", "(10002 characters)", "longer than 320"),
        ("Bob <b@x.org>", "'Bob <b@x.org>'", "one bare address such as 'bob@example.com'"),
        ("<b@x.org>", "'<b@x.org>'", "one bare address"),
        ("a@x.org, b@x.org", "'a@x.org, b@x.org'", "one bare address"),
        ("a@x.org;b@x.org", "'a@x.org;b@x.org'", "one bare address"),
        ("a@x.org b@x.org", "'a@x.org b@x.org'", "one bare address"),
        ("a@@x.org", "'a@@x.org'", "one bare address"),
        ("bob(comment)@x.org", "'bob(comment)@x.org'", "one bare address"),
        ('"bob@x.org', "bob@x.org", "one bare address"),
        (" bob@x.org", "' bob@x.org'", "one bare address"),
        ("bob\xa0@x.org", r"'bob\xa0@x.org'", "one bare address"),
        ("bob@x.org ", "'x.org '", "'example.com'"),
        ("bob@x org", "'x org'", "'example.com'"),
        ("bob@x.org.", "'x.org.'", "'example.com'"),
        ("bob@.x.org", "'.x.org'", "'example.com'"),
        ("bob@x..org", "'x..org'", "'example.com'"),
        ("bob@.", "'.'", "'example.com'"),
        ("bob@[]", "'[]'", "'example.com'"),
        ("bob@[192.0.2.1", "'[192.0.2.1'", "'example.com'"),
        (f"bob@{'x' * 64}.org", "xxx.org'", "label longer than 63"),
        (f"bob@{'ü' * 60}.org", "üüü.org'", "label longer than 63"),
        (f"bob@{'.'.join(['x' * 60] * 5)}", "(306 characters)", "longer than 255"),
        ("bob@x\ufffd.org", "'x\ufffd.org'", "a character that a domain cannot have"),
        ("bob@x\u3000y.org", r"'x\u3000y.org'", "'example.com'"),
        ("bob@x\uff0fy.org", "'x／y.org'", "'example.com'"),
        ("bob@xn--.org", "'xn--'", "IDNA does not allow"),
    ],
)
def test_the_error_names_the_address_and_what_is_wrong(value: str, named: str, wanted: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is checked below
        normal_address(value)
    text = str(caught.value)
    assert named in text
    assert wanted in text
    assert text.isprintable()
    assert len(text) < 300


@pytest.mark.parametrize("value", [None, b"bob@x.org", 5, ["bob@x.org"], True])
def test_an_address_is_a_string(value: object) -> None:
    with pytest.raises(TypeError) as caught:
        normal_address(value)
    text = str(caught.value)
    assert repr(value) in text
    assert "'bob@example.com'" in text


@pytest.mark.parametrize("value", ["", "<>"])
def test_the_null_sender_is_a_subject_of_its_own(value: str) -> None:
    assert normal_sender(value) == (NULL_SENDER, NULL_SENDER)


def test_only_a_sender_may_be_null() -> None:
    with pytest.raises(ValueError, match="'<>'"):
        normal_address("<>")


@given(ADDRESS)
def test_normalising_twice_changes_nothing_more(address: str) -> None:
    try:
        normal, domain = normal_address(address)
    except ValueError:
        assume(False)
    assert normal_address(normal) == (normal, domain)
    assert normal.endswith("@" + domain)
    assert domain.isascii()


def test_an_address_that_is_too_long_in_ascii_is_an_error() -> None:
    written = "x" * 120 + "@" + ".".join(["漢字語ü" * 10] * 4)
    assert len(written) < LONGEST_ADDRESS
    with pytest.raises(ValueError, match="longer than 320 characters once its domain is ASCII"):
        normal_address(written)


def test_an_error_on_a_domain_names_the_address_too() -> None:
    with pytest.raises(ValueError, match=r"the address 'bob@x org': 'x org' is not a domain"):
        normal_address("bob@x org")


@given(
    st.tuples(st.text("aA", min_size=1, max_size=2), st.text("aA", min_size=1, max_size=2)),
    st.tuples(st.text("aA", min_size=1, max_size=2), st.text("aA", min_size=1, max_size=2)),
)
def test_two_addresses_are_one_iff_local_parts_and_caseless_domains_are(
    one: tuple[str, str], other: tuple[str, str]
) -> None:
    same = one[0] == other[0] and one[1].lower() == other[1].lower()
    assert (normal_address("@".join(one)) == normal_address("@".join(other))) == same


@given(ANYTHING | ADDRESSLIKE)
def test_any_text_is_an_address_or_a_short_printable_error(text: str) -> None:
    try:
        normal, domain = normal_address(text)
    except ValueError as error:
        shown = str(error)
        assert shown.isprintable()
        assert 0 < len(shown) < 300
    else:
        assert len(normal) <= LONGEST_ADDRESS
        assert not set(normal) & set("\r\n\0")
        assert normal[-len(domain) - 1] == "@"


@pytest.mark.parametrize("value", ["x" * 10_000, list(range(10_000)), "\n" * 100, {}, None])
def test_a_value_in_an_error_is_one_short_line(value: object) -> None:
    assert show(value).isprintable()
    assert len(show(value)) <= 100


class Repr:
    """A value whose repr is the result of a call."""

    def __init__(self, call: Callable[[], str]) -> None:
        self._call = call

    def __repr__(self) -> str:
        return self._call()


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (Repr(lambda: "<first\nsecond>"), "<first\\nsecond>"),
        (Repr(lambda: "\x00\u2028\ud800"), "\\x00\\u2028\\ud800"),
        (Repr(lambda: "\n" * 10_000), "\\n" * 30 + "... (10000 characters)"),
        (Repr(lambda: "\U000e0001" * 80), ("\\U000e0001" * 6) + "... (80 characters)"),
        (Repr(lambda: str(1 / 0)), "<Repr whose repr raises ZeroDivisionError>"),
        (10**5000, "<int whose repr raises ValueError>"),
    ],
    ids=range(6),
)
def test_a_value_is_shown_in_one_line_whatever_its_repr(value: object, shown: str) -> None:
    assert show(value) == shown
