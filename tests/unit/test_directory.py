"""Directory: owners of aliases, mailing lists, and the errors for what is inconsistent."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratelimit_mail.directory import Directory, DirectoryLike, MailingList

ANN = "ann@uwo.ca"
BOB = "bob@uwo.ca"
EVE = "eve@example.com"
ALIASES = {"a.smith@uwo.ca": ANN, "ann.smith@uwo.ca": ANN, "b.jones@uwo.ca": BOB}

MANY = 100_000


def listing(address: str, *members: str, **fields: Any) -> MailingList:
    return MailingList(address, members=members, **fields)


def test_an_alias_has_an_owner_and_any_other_address_owns_itself() -> None:
    directory = Directory(ALIASES)
    assert directory.owner("a.smith@uwo.ca") == directory.owner("ann.smith@uwo.ca") == ANN
    assert directory.owner(ANN) == ANN
    assert directory.owner(EVE) == EVE
    assert directory.owner("<>") == "<>"


def test_addresses_are_found_in_any_case_and_stored_as_written() -> None:
    directory = Directory({"A.Smith@UWO.ca": "Ann@UWO.CA"}, [listing("Staff@UWO.ca", ANN)])
    assert directory.aliases == {"A.Smith@uwo.ca": "Ann@uwo.ca"}
    for spelling in ("A.Smith@uwo.ca", "a.smith@uwo.ca", "A.SMITH@uwo.ca"):
        assert directory.owner(spelling) == "Ann@uwo.ca"
    assert directory.aliases_of("Ann@uwo.CA") == ("A.Smith@uwo.ca",)
    assert directory.aliases_of(ANN) == ("A.Smith@uwo.ca",)
    assert directory.mailing_list("Staff@uwo.ca") is directory.lists[0]
    assert directory.mailing_list("staff@uwo.ca") is directory.lists[0]
    assert directory.members_of("STAFF@Uwo.ca") == {ANN}


def test_of_two_spellings_the_very_one_is_found() -> None:
    directory = Directory({"Kim@uwo.ca": ANN, "kim@uwo.ca": BOB})
    assert directory.owner("Kim@uwo.ca") == ANN
    assert directory.owner("kim@uwo.ca") == BOB


def test_an_owner_in_two_spellings_is_one_owner() -> None:
    directory = Directory({"a@uwo.ca": "Ann@uwo.ca", "b@uwo.ca": ANN, "c@uwo.ca": BOB})
    assert directory.aliases_of("ANN@uwo.ca") == ("a@uwo.ca", "b@uwo.ca")
    assert directory.most_aliases() == ("Ann@uwo.ca", 2)


def test_nested_lists_and_people_are_found_in_any_case() -> None:
    directory = Directory(
        {"A.Smith@uwo.ca": ANN},
        [
            listing("all@uwo.ca", "STAFF@uwo.ca", "Eve@example.com"),
            listing("Staff@uwo.ca", "a.smith@uwo.ca", "ANN@uwo.ca", EVE),
        ],
    )
    people = directory.members_of("ALL@uwo.ca")
    assert {each.lower() for each in people} == {ANN, EVE}
    assert len(people) == 2


def test_a_list_that_contains_itself_in_another_spelling_is_an_error() -> None:
    with pytest.raises(ValueError, match="contains itself"):
        Directory(
            lists=[listing("Staff@uwo.ca", "it@uwo.ca"), listing("IT@uwo.ca", "staff@uwo.ca")]
        )


def test_with_list_replaces_a_list_in_another_spelling() -> None:
    before = Directory(lists=[listing("Staff@uwo.ca"), listing("it@uwo.ca")])
    after = before.with_list(listing("staff@uwo.ca", ANN))
    assert [each.address for each in after.lists] == ["staff@uwo.ca", "it@uwo.ca"]


def test_an_alias_in_two_spellings_is_one_alias() -> None:
    assert Directory({"a@UWO.ca": ANN, "a@uwo.ca": "ann@UWO.ca"}).aliases == {"a@uwo.ca": ANN}


def test_an_empty_directory_has_no_aliases_and_lists() -> None:
    directory = Directory()
    assert directory.owner(ANN) == ANN
    assert directory.mailing_list(ANN) is None
    assert directory.aliases_of(ANN) == ()
    assert directory.most_aliases() == ("", 0)
    assert directory == Directory({}, [])


def test_most_aliases_returns_the_owner_with_the_most() -> None:
    directory = Directory(ALIASES)
    assert directory.most_aliases() == (ANN, 2)
    assert directory.aliases_of(ANN) == ("a.smith@uwo.ca", "ann.smith@uwo.ca")
    assert directory.aliases_of("a.smith@uwo.ca") == ()


def test_aliases_by_owner_make_the_same_directory_as_owners_by_alias() -> None:
    by_owner = {ANN: ["a.smith@uwo.ca", "ann.smith@uwo.ca"], BOB: ("b.jones@uwo.ca",), EVE: []}
    lists = [listing("all@uwo.ca", ANN)]
    assert Directory.from_dict(by_owner, lists=lists) == Directory(ALIASES, lists)


def test_members_are_the_owners_on_all_nested_lists() -> None:
    directory = Directory(
        ALIASES,
        [
            listing("all@uwo.ca", "staff@uwo.ca", "it@uwo.ca", "a.smith@uwo.ca"),
            listing("staff@uwo.ca", "it@uwo.ca", "ann.smith@uwo.ca", EVE),
            listing("it@uwo.ca", "b.jones@uwo.ca", BOB),
            listing("empty@uwo.ca"),
        ],
    )
    assert directory.members_of("all@uwo.ca") == {ANN, BOB, EVE}
    assert directory.members_of("it@uwo.ca") == {BOB}
    assert directory.members_of("empty@uwo.ca") == frozenset()


@pytest.mark.parametrize("address", [ANN, "a.smith@uwo.ca", "nobody@uwo.ca"])
def test_members_of_an_address_that_is_not_a_list_is_an_error(address: str) -> None:
    with pytest.raises(ValueError, match=rf"'{address}' is not a mailing list"):
        Directory(ALIASES).members_of(address)


def test_with_list_adds_or_replaces_a_list() -> None:
    one, two = listing("one@uwo.ca", ANN), listing("two@uwo.ca", BOB)
    before = Directory(ALIASES, [one, two])
    after = before.with_list(one.subscribed(EVE)).with_list(listing("three@uwo.ca"))
    assert [a_list.address for a_list in after.lists] == [
        "one@uwo.ca",
        "two@uwo.ca",
        "three@uwo.ca",
    ]
    assert after.members_of("one@uwo.ca") == {ANN, EVE}
    assert after.aliases == before.aliases
    assert before.lists == (one, two)


def test_with_list_refuses_a_list_that_would_close_a_cycle() -> None:
    before = Directory(lists=[listing("a@x.org", "b@x.org"), listing("b@x.org")])
    with pytest.raises(ValueError, match=r"'a@x.org' > 'b@x.org' > 'a@x.org'$"):
        before.with_list(listing("b@x.org", "a@x.org"))


@pytest.mark.parametrize("poster", [ANN, "a.smith@uwo.ca"])
@pytest.mark.parametrize("sender", [ANN, "a.smith@uwo.ca", "ann.smith@uwo.ca"])
@pytest.mark.parametrize("field", ["posters", "moderators"])
def test_a_poster_under_one_alias_may_post_under_each(poster: str, sender: str, field: str) -> None:
    named = listing("news@uwo.ca", posting="named", **{field: [poster]})
    directory = Directory(ALIASES, [named])
    news = directory.mailing_list("news@uwo.ca")
    assert news is not None
    assert news.posting_by(sender, directory.owner(sender)) == "open"
    assert news.posting_by(BOB) == "refused"
    assert directory.lists == (named,)


def test_the_aliases_cannot_be_changed() -> None:
    written = dict(ALIASES)
    directory = Directory(written)
    written["c@uwo.ca"] = EVE
    assert directory.owner("c@uwo.ca") == "c@uwo.ca"
    with pytest.raises(TypeError):
        directory.aliases["c@uwo.ca"] = EVE  # type: ignore[index]


def test_directories_with_the_same_entries_are_equal_in_any_order() -> None:
    one, two = listing("one@uwo.ca", ANN), listing("two@uwo.ca", BOB)
    directory = Directory(ALIASES, [one, two])
    other = Directory(dict(reversed(ALIASES.items())), [two, one])
    assert directory == other
    assert hash(directory) == hash(other)
    assert directory != Directory(ALIASES, [one])
    assert directory != Directory({"a.smith@uwo.ca": ANN}, [one, two])


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_directory_is_the_same_after_a_pickle(protocol: int) -> None:
    directory = Directory(ALIASES, [listing("all@uwo.ca", "a.smith@uwo.ca")])
    for back in (
        pickle.loads(pickle.dumps(directory, protocol)),
        copy.copy(directory),
        copy.deepcopy(directory),
    ):
        assert back == directory
        assert hash(back) == hash(directory)
        assert back.owner("b.jones@uwo.ca") == BOB
        assert back.members_of("all@uwo.ca") == {ANN}
        assert back.most_aliases() == (ANN, 2)


def test_a_directory_has_the_two_methods_that_a_policy_needs() -> None:
    assert isinstance(Directory(), DirectoryLike)
    assert not isinstance({}, DirectoryLike)


@pytest.mark.parametrize(
    ("aliases", "error", "match"),
    [
        ({"a@x.org": "b@x.org", "a@X.org": "c@x.org"}, ValueError,
         "'a@x.org' has two owners, 'b@x.org' and 'c@x.org'"),
        ({"a@x.org": "b@x.org", "b@x.org": "c@x.org"}, ValueError,
         "'a@x.org' is an alias of 'b@x.org', which is itself an alias of 'c@x.org'; name"),
        ({"a@x.org": "b@x.org", "b@x.org": "a@x.org"}, ValueError, "itself an alias of 'a@x.org'"),
        ({"a@x.org": "a@X.org"}, ValueError, "'a@x.org' is named as an alias of itself"),
        ({"a": "b@x.org"}, ValueError, "alias: the address 'a' has no '@'"),
        ({"a@x.org": "b"}, ValueError, "owner: the address 'b' has no '@'"),
        ({"a@x.org": ["b@x.org"]}, TypeError, "owner: an address is a string"),
        ([("a@x.org", "b@x.org")], TypeError, "aliases: owners by alias such as .* are needed"),
        ({"list@x.org": "b@x.org"}, ValueError,
         "'list@x.org' is a mailing list and an alias of 'b@x.org' at once"),
        ({"a@x.org": "list@X.org"}, ValueError,
         "'a@x.org' is an alias of 'list@x.org', which is a mailing list"),
    ],
)  # fmt: skip
def test_invalid_aliases_are_errors(aliases: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        Directory(aliases, [listing("list@x.org")])


@pytest.mark.parametrize(
    ("by_owner", "error", "match"),
    [
        ({"b@x.org": ["a@x.org"], "c@x.org": ["a@X.org"]}, ValueError,
         "'a@x.org' has two owners, 'b@x.org' and 'c@x.org'"),
        ({"b@x.org": ["a@x.org"], "c@x.org": ["b@x.org"]}, ValueError, "itself an alias"),
        ({"b@x.org": "a@x.org"}, TypeError, "a list of the aliases of 'b@x.org' is needed"),
        ({"b@x.org": None}, TypeError, "a list of the aliases of 'b@x.org' is needed, not None"),
        ({"b@x.org": ["a"]}, ValueError, "alias: the address 'a' has no '@'"),
        ([], TypeError, "from_dict: aliases by owner such as"),
    ],
)  # fmt: skip
def test_invalid_aliases_by_owner_are_errors(
    by_owner: Any, error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        Directory.from_dict(by_owner)


@pytest.mark.parametrize(
    ("lists", "error", "match"),
    [
        ([listing("a@x.org"), listing("a@X.org")], ValueError, "two of the address 'a@x.org'"),
        ([listing("a@x.org"), "b@x.org"], TypeError, "'b@x.org' is not a MailingList"),
        (
            listing("a@x.org"),
            TypeError,
            "lists: a list of MailingList objects is needed, not MailingList",
        ),
        ("a@x.org", TypeError, "lists: a list of MailingList objects is needed, not 'a@x.org'"),
    ],
)
def test_invalid_lists_are_errors(lists: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        Directory(lists=lists)


def test_a_cycle_of_lists_is_an_error_that_shows_the_cycle() -> None:
    lists = [
        listing("all@x.org", ANN, "a@x.org"),
        listing("a@x.org", "dead-end@x.org", "b@x.org"),
        listing("dead-end@x.org", BOB),
        listing("b@x.org", EVE, "a@x.org"),
    ]
    way = "'a@x.org' contains itself: 'a@x.org' > 'b@x.org' > 'a@x.org'"
    with pytest.raises(ValueError, match=rf"{re.escape(way)}$"):
        Directory(lists=lists)


def test_a_list_within_two_other_lists_is_not_a_cycle() -> None:
    lists = [
        listing("a@x.org", "b@x.org", "c@x.org"),
        listing("b@x.org", "d@x.org"),
        listing("c@x.org", "d@x.org"),
        listing("d@x.org", ANN),
    ]
    assert Directory(lists=lists).members_of("a@x.org") == {ANN}


def nested(levels: int, last: str) -> list[MailingList]:
    return [
        listing(f"l{i}@x.org", last if i == levels - 1 else f"l{i + 1}@x.org")
        for i in range(levels)
    ]


def test_lists_nested_ten_thousand_deep_are_read_through() -> None:
    directory = Directory(lists=nested(10_000, ANN))
    assert directory.members_of("l0@x.org") == {ANN}
    assert pickle.loads(pickle.dumps(directory)) == directory


def test_a_cycle_of_ten_thousand_lists_makes_a_short_error() -> None:
    with pytest.raises(ValueError, match=r"'l0@x.org' > .* > 'l9999@x.org' > 'l0@x.org'$") as error:
        Directory(lists=nested(10_000, "l0@x.org"))
    assert "... (9,995 more)" in str(error.value)
    assert len(str(error.value)) < 300


def test_a_hundred_thousand_aliases_are_looked_up_correctly() -> None:
    aliases = {f"alias{i}@X.org": f"owner{i // 5}@x.org" for i in range(MANY)}
    members = [f"alias{i}@x.org" for i in range(0, MANY, 5)]
    directory = Directory(aliases, [listing("all@x.org", *members)])
    assert len(directory.aliases) == MANY
    assert all(directory.owner(f"alias{i}@x.org") == f"owner{i // 5}@x.org" for i in range(MANY))
    assert directory.most_aliases()[1] == 5
    assert directory.aliases_of("owner7@x.org") == tuple(f"alias{i}@x.org" for i in range(35, 40))
    assert directory.members_of("all@x.org") == {f"owner{i}@x.org" for i in range(MANY // 5)}
    assert repr(directory) == "<Directory: aliases=100,000 lists=1>"


PEOPLE = [f"p{i}@x.org" for i in range(6)]
NICKNAMES = [f"n{i}@x.org" for i in range(4)]
LISTS = [f"l{i}@x.org" for i in range(6)]

nicknames = st.dictionaries(st.sampled_from(NICKNAMES), st.sampled_from(PEOPLE))
tables = st.dictionaries(
    st.sampled_from(LISTS), st.lists(st.sampled_from([*LISTS, *PEOPLE, *NICKNAMES]), max_size=4)
)


def reached(table: Mapping[str, list[str]], start: str) -> set[str]:
    """Return all that `start` contains, by repeating until nothing new is added."""
    members = set(table.get(start, ()))
    while True:
        more = members.union(*(table.get(address, ()) for address in members))
        if more == members:
            return members
        members = more


@given(tables, nicknames)
def test_a_cycle_is_found_exactly_if_there_is_one(
    table: dict[str, list[str]], aliases: dict[str, str]
) -> None:
    if circles := {address for address in table if address in reached(table, address)}:
        with pytest.raises(ValueError, match="contains itself") as error:
            Directory(aliases, [listing(address, *members) for address, members in table.items()])
        way = re.findall(r"l\d@x\.org", str(error.value).rpartition(": ")[2])
        assert set(way) <= circles
        assert all(below in table[above] for above, below in pairwise(way))
        # A list that is its own member is an error of its own, without a cycle.
        its_own = any(address in members for address, members in table.items())
        assert len(way) == 1 if its_own else way[0] == way[-1] != way[1]
    else:
        Directory(aliases, [listing(address, *members) for address, members in table.items()])


@given(tables, nicknames)
def test_members_are_all_people_that_can_be_reached(
    table: dict[str, list[str]], aliases: dict[str, str]
) -> None:
    # Only lists of a higher number, so there is no cycle.
    table = {
        above: [below for below in members if below not in LISTS or below > above]
        for above, members in table.items()
    }
    directory = Directory(aliases, [listing(address, *below) for address, below in table.items()])
    for address in table:
        expected = {aliases.get(a, a) for a in reached(table, address) if a not in table}
        assert directory.members_of(address) == expected


@given(nicknames)
def test_owners_and_aliases_are_consistent(aliases: dict[str, str]) -> None:
    by_owner: dict[str, list[str]] = {}
    for alias, owner in aliases.items():
        by_owner.setdefault(owner, []).append(alias)
    directory = Directory.from_dict(by_owner)
    assert directory == Directory(aliases)
    assert {owner: list(directory.aliases_of(owner)) for owner in by_owner} == by_owner
    assert directory.most_aliases()[1] == max(map(len, by_owner.values()), default=0)
