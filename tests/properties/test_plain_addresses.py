"""An envelope read in one look at all addresses equals one whose addresses are read one by one."""

from __future__ import annotations

from typing import Any, Final

import attrs
from hypothesis import example, given
from hypothesis import strategies as st

from ratelimit_mail import Envelope
from ratelimit_mail.addresses import (
    MOST_IN_ONE_MATCH,
    folded,
    normal_address,
    normal_sender,
)

DOMAINS: Final = ["uwo.ca", "example.com", "x-1_y.org", "localhost", "xn--bcher-kva.de"]
ODD_DOMAINS: Final = [
    "UWO.ca",
    "B\u00fccher.de",
    "xn--a.de",
    "uwo..ca",
    "uwo.ca.",
    "[10.0.0.1]",
    f"{'a' * 64}.ca",
    f"{'a.' * 127}ca",
    "",
]
LOCALS: Final = ["kim", "kim.b+c=d", "!#$%&'*+-/=?^_`{|}~", ".a..b.", "l" * 64]
ODD_LOCALS: Final = [
    "Kim",
    "l" * 65,
    "l" * 320,
    "\u00c9",
    '"a b"',
    '"kim"',
    "a b",
    "a@b",
    "",
    "\ud800",
]
plain = st.builds(
    "{}@{}".format,
    st.sampled_from(LOCALS) | st.from_regex("[a-z0-9]{1,3}", fullmatch=True),
    st.sampled_from(DOMAINS),
)
odd = st.one_of(
    st.builds("{}@{}".format, st.sampled_from(LOCALS + ODD_LOCALS), st.sampled_from(DOMAINS)),
    st.builds("{}@{}".format, st.sampled_from(LOCALS), st.sampled_from(ODD_DOMAINS)),
    st.builds("{}\n{}".format, plain, plain | st.just("")),
    st.text(max_size=5),
    st.sampled_from([None, 5, b"kim@uwo.ca"]),
)
few_plain = st.lists(plain, min_size=1, max_size=MOST_IN_ONE_MATCH + 3)
with_an_odd_one = st.builds(
    lambda addresses, address, i: [*addresses[:i], address, *addresses[i:]],
    few_plain,
    odd,
    st.integers(0, 20),
)


READ: Final = [
    "sender",
    "recipients",
    "sender_domain",
    "domains",
    "folded_sender",
    "folded_recipients",
    "folded_domains",
]


def read_one_by_one(sender: Any, recipients: list[Any]) -> dict[str, Any]:
    """Return the fields of an envelope; raises as `Envelope` does."""
    try:
        address, domain = normal_sender(sender)
    except (TypeError, ValueError) as error:
        raise type(error)(f"sender: {error}") from None
    try:
        domain_of = dict(map(normal_address, recipients))
    except (TypeError, ValueError) as error:
        raise type(error)(f"recipients: {error}") from None
    folded_domain_of = {folded(each): domain_of[each] for each in domain_of}
    values = (
        address,
        tuple(domain_of),
        domain,
        tuple(domain_of.values()),
        folded(address),
        tuple(folded_domain_of),
        tuple(folded_domain_of.values()),
    )
    return dict(zip(READ, values, strict=True))


def outcome(sender: Any, recipients: list[Any], read: Any) -> Any:
    try:
        return read(sender, recipients)
    except (TypeError, ValueError) as error:
        return type(error), str(error)


def fields(sender: Any, recipients: list[Any]) -> dict[str, Any]:
    envelope = Envelope(sender, recipients)
    assert attrs.evolve(envelope) == Envelope(envelope.sender, envelope.recipients)
    return {name: getattr(envelope, name) for name in READ}


@given(plain | odd, few_plain | with_an_odd_one)
@example("ann@uwo.ca", ["kim@uwo.ca\neve@uwo.ca"])
@example("ann@uwo.ca\nkim@uwo.ca", ["kim@uwo.ca"])
@example("ann@uwo.ca", [f"{'l' * 64}@{'a.' * 127}c"])
@example("ann@uwo.ca", [f"{'l' * 65}@{'a.' * 127}c"])
@example("ann@uwo.ca", ["kim@uwo.ca"] * (MOST_IN_ONE_MATCH + 1))
@example("ann@uwo.ca", ["kim@uwo.ca"] * 2)
def test_one_look_at_all_addresses_gives_what_a_look_at_each_gives(
    sender: Any, recipients: list[Any]
) -> None:
    assert outcome(sender, recipients, fields) == outcome(sender, recipients, read_one_by_one)
