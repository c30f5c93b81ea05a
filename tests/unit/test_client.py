"""Client: address, user, protocol and tags of the client that submits a message."""

from __future__ import annotations

import ipaddress
from typing import Any

import attrs
import pytest

from ratelimit_mail import Client, Envelope, Limiter, MessageRateLimit, Policy
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.testing import ManualClock


def test_every_field_of_a_client_is_optional() -> None:
    client = Client()
    assert (client.address, client.user, client.protocol, client.ip) == (None, None, None, None)
    assert client.tags == frozenset()


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("10.1.2.3", "10.1.2.3"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("::ffff:10.1.2.3", "10.1.2.3"),
        ("::FFFF:0a01:0203", "10.1.2.3"),
        ("::1", "::1"),
        (ipaddress.ip_address("10.1.2.3"), "10.1.2.3"),
    ],
)
def test_a_client_address_has_one_normal_form(written: Any, normal: str) -> None:
    client = Client(address=written)
    assert client.address == normal
    assert client.ip == ipaddress.ip_address(normal)
    assert client == Client(address=normal)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "nonsense",
        "10.1.2.3/24",
        "10.1.2",
        "010.1.2.3",
        "10.1.2.3\n",
        "1" * 10_000,
        5,
        True,
        b"x",
    ],
)
def test_an_invalid_ip_address_is_an_error_with_an_example(address: Any) -> None:
    with pytest.raises(ValueError, match=r"client address: .* is not an IP address") as caught:
        Client(address=address)
    text = str(caught.value)
    assert repr(address)[:40] in text
    assert "'10.1.2.3'" in text
    assert text.isprintable()
    assert len(text) < 300


@pytest.mark.parametrize("zone", ["eth0", "1", "wlan-0.5_x", "x" * 32])
def test_a_client_address_may_have_a_zone(zone: str) -> None:
    assert Client(address=f"FE80::1%{zone}").address == f"fe80::1%{zone}"


@pytest.mark.parametrize("zone", ["\r\n", "x" * 10_000, "x" * 33, "\x00", "", "eth 0", "ü", "a%b"])
def test_an_invalid_zone_of_a_client_address_is_an_error(zone: str) -> None:
    with pytest.raises(ValueError, match="client address"):
        Client(address=f"fe80::1%{zone}")


@pytest.mark.parametrize("written", ["smtp", "webmail", "api", "SMTP", "WebMail"])
def test_a_protocol_is_normalised_to_lower_case(written: str) -> None:
    assert Client(protocol=written).protocol == written.lower()


@pytest.mark.parametrize("protocol", ["", "imap", "smtp ", 5, [], b"smtp", True])
def test_an_unknown_protocol_is_an_error_that_lists_the_known_ones(protocol: Any) -> None:
    with pytest.raises(ValueError, match="is not one of smtp, webmail, api") as caught:
        Client(protocol=protocol)
    assert repr(protocol) in str(caught.value)


@pytest.mark.parametrize("tags", ["wireless", "", None, 5])
def test_a_single_word_is_not_a_set_of_tags(tags: Any) -> None:
    with pytest.raises(TypeError, match="a set of words such as") as caught:
        Client(tags=tags)
    assert repr(tags) in str(caught.value)


@pytest.mark.parametrize("tag", ["", 5, None, b"wireless"])
def test_an_invalid_tag_is_an_error(tag: Any) -> None:
    with pytest.raises(ValueError, match="not a word such as 'wireless'") as caught:
        Client(tags={tag})
    assert f"client tags: {tag!r}" in str(caught.value)


def test_a_tag_that_is_a_list_is_an_error() -> None:
    tags: Any = [["wireless"]]
    with pytest.raises((TypeError, ValueError), match="client tags"):
        Client(tags=tags)


def test_tags_are_a_set_from_any_iterable() -> None:
    tags: Any = ["wireless", "reznet", "wireless"]
    assert Client(tags=tags) == Client(tags=frozenset({"reznet", "wireless"}))
    assert tags == ["wireless", "reznet", "wireless"]


@pytest.mark.parametrize("user", ["ann", "UWO\\ann", "ann@uwo.ca", "jörg", "x" * 320])
def test_a_login_is_not_changed(user: str) -> None:
    assert Client(user=user).user == user


@pytest.mark.parametrize("user", ["", "a\nb", "a\x00", "x" * 321])
def test_an_invalid_login_is_an_error_that_describes_a_valid_one(user: str) -> None:
    with pytest.raises(ValueError, match="not a login of 1 to 320 printable") as caught:
        Client(user=user)
    assert repr(user)[:40] in str(caught.value)


@pytest.mark.parametrize("user", [5, b"ann", ["ann"]])
def test_a_login_that_is_not_a_string_is_an_error(user: Any) -> None:
    with pytest.raises(TypeError, match="a login is a string") as caught:
        Client(user=user)
    assert repr(user) in str(caught.value)


def test_a_client_is_a_value() -> None:
    one = Client(address="::ffff:10.0.0.1", user="ann", protocol="smtp", tags=frozenset({"a"}))
    other = Client(address="10.0.0.1", user="ann", protocol="SMTP", tags=frozenset({"a"}))
    assert one == other
    assert hash(one) == hash(other)
    assert one != attrs.evolve(one, user="bob")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        one.user = "eve"  # type: ignore[misc]
    assert one.user == "ann"


def test_blanks_around_a_login_do_not_make_it_another_login() -> None:
    assert Client(user=" kim ") == Client(user="kim")
    with pytest.raises(ValueError, match=r"client user: '   ' is not a login of 1 to 320"):
        Client(user="   ")
    policy = Policy(name="test", limits=[MessageRateLimit("1/day", scope="user")])
    limiter = Limiter(policy, MemoryBackend(ManualClock()))
    envelopes = [
        Envelope("a@b.c", ["d@e.f"], Client(user=user)) for user in ("kim", "kim ", " KIM")
    ]
    assert [bool(limiter.try_acquire(each)) for each in envelopes] == [True, False, False]
    assert limiter.usage("kim ", scope="user") == limiter.usage("kim", scope="user")
