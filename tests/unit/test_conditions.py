"""Conditions on clients: networks, tags, protocols, and how they combine."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_network
from itertools import product
from typing import Any

import pytest

from ratelimit_mail import Client, Policy, Tier
from ratelimit_mail.conditions import (
    Condition,
    all_of,
    any_of,
    has_tag,
    in_network,
    not_,
    protocol,
)


@pytest.mark.parametrize(
    ("networks", "address", "held"),
    [
        (["129.100.0.0/16"], "129.100.0.0", True),
        (["129.100.0.0/16"], "129.100.255.255", True),
        (["129.100.0.0/16"], "129.101.0.0", False),
        (["129.100.0.0/16"], "129.99.255.255", False),
        (["129.100.0.0/16"], "::ffff:129.100.1.1", True),
        (["129.100.0.0/16"], "2001:db8::1", False),
        (["129.100.0.0/16"], None, False),
        (["0.0.0.0/0", "::/0"], None, False),
        (["10.0.0.0/8", "2001:db8::/32"], "2001:db8:1::1", True),
        (["10.0.0.0/8", "2001:db8::/32"], "10.1.1.1", True),
        (["10.0.0.0/8", "2001:db8::/32"], "11.1.1.1", False),
        (["192.0.2.7"], "192.0.2.7", True),
        (["192.0.2.7"], "192.0.2.8", False),
        (["::ffff:129.100.0.0/112"], "129.100.0.1", True),
        (["::ffff:129.100.0.0/112"], "::ffff:129.100.0.1", True),
        (["::ffff:129.100.0.0/112"], "129.101.0.1", False),
        (["::ffff:0:0/96"], "192.0.2.8", True),
        (["::ffff:0:0/96"], "2001:db8::1", False),
        (["::/0"], "192.0.2.8", False),
        ([ip_network("10.0.0.0/8")], "10.1.1.1", True),
        ([ip_network("::ffff:10.0.0.0/104")], "10.1.1.1", True),
    ],
)
def test_in_network_matches_addresses_in_any_of_its_networks(
    networks: list[Any], address: str | None, held: bool
) -> None:
    assert in_network(*networks)(Client(address=address)) is held


def test_has_tag_matches_clients_with_the_tag() -> None:
    assert has_tag("wireless")(Client(tags=frozenset({"wireless", "reznet"})))
    assert not has_tag("wireless")(Client(tags=frozenset({"Wireless"})))
    assert not has_tag("wireless")(Client())


def test_protocol_matches_clients_that_submit_by_it() -> None:
    assert protocol("smtp")(Client(protocol="SMTP"))
    assert protocol("SMTP")(Client(protocol="smtp"))
    assert protocol("WebMail") == protocol("webmail")
    assert not protocol("smtp")(Client(protocol="api"))
    assert not protocol("smtp")(Client())


A, B = has_tag("a"), has_tag("b")


@pytest.mark.parametrize(("a", "b"), [*product([False, True], repeat=2)])
def test_any_of_all_of_and_not_combine_conditions(a: bool, b: bool) -> None:
    client = Client(tags=frozenset("a" * a + "b" * b))
    assert any_of(A, B)(client) is (a or b)
    assert all_of(A, B)(client) is (a and b)
    assert not_(A)(client) is (not a)
    assert not_(any_of(A, not_(B)))(client) is not (a or not b)


def test_any_callable_can_be_a_condition() -> None:
    by_name: Condition = any_of(lambda client: client.user == "ann", A)
    assert by_name(Client(user="ann"))
    assert not by_name(Client(user="bob"))


def test_equal_conditions_are_equal_values() -> None:
    one = any_of(protocol("smtp"), not_(in_network("10.0.0.0/8")))
    assert one == any_of(protocol("smtp"), not_(in_network("10.0.0.0/8")))
    assert one != any_of(protocol("api"), not_(in_network("10.0.0.0/8")))
    assert any_of(A, B) != all_of(A, B)
    assert len({A, has_tag("a"), B}) == 2


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        ("nonsense", "'129.100.0.0/16'"),
        ("", "'129.100.0.0/16'"),
        ("129.100.0.0/33", "'129.100.0.0/16'"),
        ("129.100.0.1/16", "host bits"),
        ("2001:db8::1/32", "host bits"),
        ("uwo.ca", "'129.100.0.0/16'"),
        ("fe80::%eth0/64", "zone"),
        ("::ffff:129.100.0.1/112", "host bits"),
    ],
)
def test_an_invalid_network_is_an_error(network: str, expected: str) -> None:
    with pytest.raises(ValueError, match=r"in_network: .* is not a network") as caught:
        in_network("10.0.0.0/8", network)
    assert repr(network) in str(caught.value)
    assert expected in str(caught.value)


@pytest.mark.parametrize("network", [5, True, b"\x0a\x00\x00\x00", None, ["10.0.0.0/8"], (10, 8)])
def test_a_network_that_is_not_a_string_is_an_error(network: Any) -> None:
    with pytest.raises(TypeError, match=r"in_network: .* such as '129\.100\.0\.0/16'") as caught:
        in_network(network)
    assert repr(network) in str(caught.value)


@pytest.mark.parametrize("network", ["1" * 10_000, "10.0.0.0/" + "1" * 10_000, "1:" * 10_000])
def test_a_long_network_makes_a_short_error(network: str) -> None:
    with pytest.raises(ValueError, match="not a network") as caught:
        in_network(network)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("tag", ["", None, 5, b"wireless"])
def test_an_invalid_tag_is_an_error_with_an_example(tag: Any) -> None:
    with pytest.raises(ValueError, match=r"has_tag: .* is not a word such as 'wireless'") as caught:
        has_tag(tag)
    assert repr(tag) in str(caught.value)


@pytest.mark.parametrize("name", ["imap", "", None, 5, []])
def test_an_unknown_protocol_is_an_error_that_lists_the_known_ones(name: Any) -> None:
    with pytest.raises(ValueError, match="is not one of smtp, webmail, api") as caught:
        protocol(name)
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize("combine", [in_network, any_of, all_of])
def test_a_condition_without_arguments_is_an_error(combine: Any) -> None:
    with pytest.raises(ValueError, match=rf"{combine.__name__}: at least one .* is needed"):
        combine()


@pytest.mark.parametrize("combine", [any_of, all_of, not_])
@pytest.mark.parametrize("value", ["wireless", None, 5, Client()])
def test_an_invalid_condition_is_an_error_with_an_example(combine: Any, value: object) -> None:
    with pytest.raises(TypeError, match=rf"{combine.__name__}: .* such as has_tag") as caught:
        combine(value)
    assert repr(value)[:40] in str(caught.value)


@pytest.mark.parametrize(
    "combine", [not_, all_of, any_of, lambda each: any_of(protocol("smtp"), all_of(each))]
)
def test_conditions_that_are_nested_too_deep_are_an_error(
    combine: Callable[[Condition], Condition],
) -> None:
    conditions = [has_tag("wireless")]

    def nest() -> None:
        while len(conditions) < 100:
            conditions.append(combine(conditions[-1]))

    with pytest.raises(ValueError, match="more than 32 conditions within each other"):
        nest()
    tiers = [Tier("deep", limits=[], when=conditions[-1]), Tier("rest", limits=[])]
    policy = Policy(name="test", tiers=tiers)
    assert Policy.loads(policy.dump()) == policy
