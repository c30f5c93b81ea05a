"""Reachability: tiers that no client can reach because earlier tiers match first."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, combinations, product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
from ratelimit_mail.policy.reachability import MOST_ATOMS, first_unreachable

A, B, C = has_tag("a"), has_tag("b"), has_tag("c")
SMTP, API = protocol("smtp"), protocol("api")
MANY = [has_tag(f"tag {i}") for i in range(MOST_ATOMS + 1)]


def is_bot(client: Client) -> bool:
    return client.user == "bot"


class Unhashable:
    """A condition that is equal to others of its class, and cannot be hashed."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Unhashable)

    def __call__(self, client: Client) -> bool:
        return client.user == "ann"


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ([], None),
        ([None], None),
        ([A, B, None], None),
        ([all_of(A, B), A, any_of(A, B), None], None),
        ([A, all_of(not_(A), B)], None),
        ([in_network("10.1.0.0/16"), in_network("10.0.0.0/8")], None),
        ([SMTP, API, not_(any_of(SMTP, API))], None),
        ([None, None], (1, [0])),
        ([A, A], (1, [0])),
        ([A, is_bot, any_of(is_bot, A)], (2, [0, 1])),
        ([any_of(A, B), C, any_of(B, A)], (2, [0])),
        ([B, all_of(A, not_(A))], (1, [])),
        ([B, all_of(SMTP, API)], (1, [])),
        ([not_(SMTP), not_(API), A], (2, [0, 1])),
        ([A, not_(A), None], (2, [0, 1])),
        ([not_(not_(A)), A], (1, [0])),
        ([any_of(is_bot), is_bot], (1, [0])),
        ([Unhashable(), any_of(Unhashable())], (1, [0])),
        ([*MANY, None], None),
        ([*MANY, MANY[3], None], (len(MANY), [3])),
        ([None, *MANY], (1, [0])),
        ([any_of(*MANY), all_of(*MANY)], None),
        ([any_of(*MANY), any_of(*MANY)], (1, [0])),
    ],
)
def test_the_first_unreachable_condition_is_found(
    conditions: list[Condition | None], expected: tuple[int, list[int]] | None
) -> None:
    assert first_unreachable(conditions) == expected


CONDITIONS: st.SearchStrategy[Condition] = st.recursive(
    st.sampled_from([A, B, C, SMTP, API]),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda some: any_of(*some)),
        st.lists(inner, min_size=1, max_size=3).map(lambda some: all_of(*some)),
        inner.map(not_),
    ),
    max_leaves=8,
)
TAGS = chain.from_iterable(combinations("abc", size) for size in range(4))
CLIENTS = [
    Client(tags=frozenset(tags), protocol=name)
    for tags, name in product(TAGS, [None, "smtp", "api"])
]


def is_reached(conditions: Sequence[Condition]) -> bool:
    """Return whether some client meets the last of `conditions` and none before it."""
    *earlier, last = conditions
    return any(last(client) and not any(x(client) for x in earlier) for client in CLIENTS)


@given(st.lists(CONDITIONS, max_size=5))
def test_the_result_agrees_with_trying_every_client(conditions: list[Condition]) -> None:
    reached = [is_reached(conditions[: i + 1]) for i in range(len(conditions))]
    unreachable = first_unreachable(conditions)
    assert (unreachable is None) == all(reached)
    if unreachable is not None:
        first, earlier_matches = unreachable
        assert first == reached.index(False)
        assert not is_reached([*(conditions[i] for i in earlier_matches), conditions[first]])


def test_very_many_atoms_are_handled_quickly() -> None:
    assert first_unreachable([any_of(*(has_tag(str(i)) for i in range(20_000))), A]) is None


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ([any_of(A, B), A], "'1' can never be reached, because '0' before it takes every such"),
        (
            [A, B, any_of(A, B)],
            "'2' can never be reached, because '0' and '1' before it take every",
        ),
        ([all_of(A, not_(A))], "'0' can never be reached, because no client meets its condition"),
    ],
)
def test_a_policy_names_the_tiers_that_match_first(conditions: list[Any], expected: str) -> None:
    tiers = [Tier(str(i), when=when) for i, when in enumerate(conditions)]
    with pytest.raises(ValueError, match=f"^tiers: {expected}"):
        Policy(name="p", tiers=tiers)


def test_a_network_within_an_earlier_one_is_never_reached() -> None:
    wide, narrow = in_network("10.0.0.0/8", "2001:db8::/32"), in_network("10.1.0.0/16")
    assert first_unreachable([wide, narrow]) == (1, [0])
    assert first_unreachable([narrow, wide]) is None
    assert first_unreachable([narrow, all_of(wide, narrow)]) == (1, [0])


def test_disjoint_networks_have_no_common_client() -> None:
    one, other = in_network("10.1.0.0/16"), in_network("10.2.0.0/16", "2001:db8::/32")
    assert first_unreachable([all_of(one, other)]) == (0, [])
    assert first_unreachable([one, other, not_(any_of(one, other))]) is None
