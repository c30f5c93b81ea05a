"""MailingList: who may post, who may join, and the errors for invalid lists."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import attrs
import pytest

from ratelimit_mail.directory import MailingList

STAFF = "staff@leeds.ac.uk"
ANN = "ann@leeds.ac.uk"
BOB = "bob@leeds.ac.uk"
EVE = "eve@example.com"


def test_a_list_is_closed_to_subscribers_open_to_posters_and_under_the_limits_by_default() -> None:
    staff = MailingList(STAFF)
    assert staff.members == staff.posters == staff.moderators == ()
    assert (staff.subscription, staff.posting, staff.exempt) == ("closed", "open", False)


def test_addresses_are_normalised_and_stored_once() -> None:
    staff = MailingList(
        "Staff@Leeds.AC.uk",
        members=["ann@LEEDS.ac.uk", ANN, "Ann@leeds.ac.uk", "x@bücher.de"],
        posters=["BÜCHER.de", ".Leeds.AC.uk", "bob@LEEDS.ac.uk", BOB],
        moderators=[ANN, "ann@Leeds.ac.UK"],
    )
    assert staff.address == "Staff@leeds.ac.uk"
    assert staff.members == (ANN, "Ann@leeds.ac.uk", "x@xn--bcher-kva.de")
    assert staff.posters == ("xn--bcher-kva.de", ".leeds.ac.uk", BOB)
    assert staff.moderators == (ANN,)


@pytest.mark.parametrize(
    ("posting", "expected"), [("open", "open"), ("moderated", "held"), ("named", "refused")]
)
@pytest.mark.parametrize("sender", [EVE, "<>", "ann@notleeds.ac.uk", "anne@leeds.ac.uk", STAFF])
def test_posting_by_a_sender_who_is_not_a_poster_depends_on_the_list(
    posting: Any, expected: str, sender: str
) -> None:
    staff = MailingList(
        STAFF, members=[EVE], posting=posting, posters=[ANN, "it.leeds.ac.uk"], moderators=[BOB]
    )
    assert staff.posting_by(sender) == expected


@pytest.mark.parametrize("posting", ["open", "moderated", "named"])
@pytest.mark.parametrize(
    "sender",
    [
        ANN,
        BOB,
        "Ann@leeds.ac.uk",
        "BOB@leeds.ac.uk",
        "x@example.com",
        "x@sub.example.org",
        "x@a.b.example.org",
    ],
)
def test_posters_their_domains_and_moderators_may_always_post(posting: Any, sender: str) -> None:
    staff = MailingList(
        STAFF, posting=posting, posters=[ANN, "example.com", ".example.org"], moderators=[BOB]
    )
    assert staff.posting_by(sender) == "open"


@pytest.mark.parametrize("sender", ["x@sub.example.com", "x@example.org"])
def test_a_domain_of_posters_does_not_include_its_subdomains_or_parent(sender: str) -> None:
    staff = MailingList(STAFF, posting="named", posters=["example.com", ".example.org"])
    assert staff.posting_by(sender) == "refused"


def test_one_address_of_the_sender_that_may_post_is_enough() -> None:
    staff = MailingList(STAFF, posting="named", posters=[ANN])
    assert staff.posting_by(EVE, BOB) == "refused"
    assert staff.posting_by(EVE, BOB, ANN) == "open"
    assert staff.posting_by(ANN, EVE) == "open"


def test_nobody_may_post_to_a_named_list_without_posters() -> None:
    assert MailingList(STAFF, posting="named").posting_by(ANN) == "refused"


def test_the_administrator_may_subscribe_any_address() -> None:
    staff = MailingList(STAFF, members=[ANN])
    bigger = staff.subscribed("bob@LEEDS.ac.uk")
    assert bigger == MailingList(STAFF, members=[ANN, BOB])
    assert staff.members == (ANN,)


def test_people_may_subscribe_themselves_to_an_open_list() -> None:
    staff = MailingList(STAFF, subscription="open")
    assert staff.subscribed(ANN, by="ann@Leeds.ac.uk").members == (ANN,)


def test_people_may_not_subscribe_other_people_to_an_open_list() -> None:
    staff = MailingList(STAFF, subscription="open", members=[ANN])
    with pytest.raises(ValueError, match=rf"'{ANN}' is not a moderator.*only itself, not '{BOB}'"):
        staff.subscribed(BOB, by=ANN)


@pytest.mark.parametrize("who", [ANN, BOB])
def test_people_may_not_subscribe_themselves_to_a_closed_list(who: str) -> None:
    staff = MailingList(STAFF, members=[ANN], posters=[ANN])
    with pytest.raises(ValueError, match=rf"'{STAFF}' is closed: '{who}' cannot subscribe"):
        staff.subscribed(who, by=who)


@pytest.mark.parametrize("subscription", ["open", "closed"])
def test_a_moderator_may_subscribe_and_unsubscribe_any_address(subscription: Any) -> None:
    staff = MailingList(STAFF, subscription=subscription, moderators=[ANN])
    joined = staff.subscribed(BOB, by=ANN)
    assert joined.members == (BOB,)
    assert joined.unsubscribed(BOB, by=ANN) == staff


def test_subscribing_a_member_changes_nothing() -> None:
    staff = MailingList(STAFF, members=[ANN, BOB])
    assert staff.subscribed("ann@LEEDS.ac.uk") == staff


@pytest.mark.parametrize("subscription", ["open", "closed"])
@pytest.mark.parametrize("by", [None, BOB])
def test_people_may_always_unsubscribe_themselves(subscription: Any, by: str | None) -> None:
    staff = MailingList(STAFF, members=[ANN, BOB, EVE], subscription=subscription, exempt=True)
    left = staff.unsubscribed("bob@LEEDS.ac.uk", by=by)
    assert left == attrs.evolve(staff, members=[ANN, EVE])


def test_people_may_not_unsubscribe_other_people() -> None:
    staff = MailingList(STAFF, members=[ANN, BOB], subscription="open")
    with pytest.raises(ValueError, match=rf"'{ANN}' is not a moderator.*only itself, not '{BOB}'"):
        staff.unsubscribed(BOB, by=ANN)


@pytest.mark.parametrize("by", [None, EVE])
def test_unsubscribing_an_address_that_is_not_a_member_is_an_error(by: str | None) -> None:
    with pytest.raises(ValueError, match=rf"'{EVE}' is not a member of '{STAFF}'"):
        MailingList(STAFF, members=[ANN]).unsubscribed(EVE, by=by)


def test_a_list_that_is_its_own_member_is_an_error() -> None:
    with pytest.raises(ValueError, match=rf"the list '{STAFF}' contains itself"):
        MailingList(STAFF, members=[ANN, "staff@LEEDS.AC.UK"])
    with pytest.raises(ValueError, match=rf"the list '{STAFF}' contains itself"):
        MailingList(STAFF).subscribed(STAFF)


def test_a_list_that_is_its_own_member_in_another_spelling_is_an_error() -> None:
    with pytest.raises(ValueError, match="contains itself"):
        MailingList("Staff@leeds.ac.uk", members=[STAFF])


def test_a_member_in_another_spelling_is_not_subscribed_twice() -> None:
    staff = MailingList(STAFF, members=["Ann@leeds.ac.uk"], subscription="open")
    assert staff.subscribed("ANN@leeds.ac.uk", by=ANN) is staff
    assert staff.subscribed(EVE, by="Eve@example.com").members[1:] == (EVE,)


def test_a_member_leaves_in_any_spelling_and_is_gone_in_each() -> None:
    staff = MailingList(STAFF, members=["Ann@leeds.ac.uk", BOB, ANN])
    assert staff.unsubscribed("ANN@leeds.ac.uk", by="anN@leeds.ac.uk").members == (BOB,)


def test_a_moderator_in_another_spelling_may_subscribe_other_people() -> None:
    staff = MailingList(STAFF, moderators=["Bob@leeds.ac.uk"])
    assert staff.subscribed(EVE, by="BOB@leeds.ac.uk").members == (EVE,)


@pytest.mark.parametrize(
    ("address", "fields", "error", "match"),
    [
        (
            None,
            {},
            TypeError,
            "address: an address is a string such as 'bob@example.com', not None",
        ),
        ("staff", {}, ValueError, "address: the address 'staff' has no '@'"),
        (STAFF, {"members": ANN}, TypeError, "members: a list of addresses is needed, not 'ann@"),
        (STAFF, {"members": 3}, TypeError, "members: a list of addresses is needed, not 3"),
        (STAFF, {"members": [ANN, "bob"]}, ValueError, "members: the address 'bob' has no '@'"),
        (STAFF, {"members": ["<>"]}, ValueError, "members: the address '<>'"),
        (STAFF, {"members": [None]}, TypeError, "members: an address is a string"),
        (STAFF, {"posters": "leeds.ac.uk"}, TypeError, "posters: a list of addresses is needed"),
        (STAFF, {"posters": ["ann@"]}, ValueError, "posters: the address 'ann@'"),
        (STAFF, {"posters": ["leeds ac"]}, ValueError, "posters: 'leeds ac' is not a domain"),
        (STAFF, {"posters": [""]}, ValueError, "posters: '' is not a domain"),
        (STAFF, {"posters": [7]}, TypeError, "posters: a domain is a string .* not 7"),
        (STAFF, {"moderators": ["leeds.ac.uk"]}, ValueError, "moderators: .* has no '@'"),
        (STAFF, {"subscription": "public"}, ValueError, "'public' is not one of closed, open"),
        (STAFF, {"posting": "held"}, ValueError, "'held' is not one of open, moderated, named"),
        (STAFF, {"exempt": "yes"}, TypeError, "exempt: True or False is needed, not 'yes'"),
    ],
)
def test_invalid_values_are_errors(
    address: Any, fields: dict[str, Any], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        MailingList(address, **fields)


@pytest.mark.parametrize("call", ["subscribed", "unsubscribed"])
@pytest.mark.parametrize(("who", "what"), [(("bob",), "address"), ((BOB, "bob"), "by")])
def test_subscribing_needs_valid_addresses(call: str, who: tuple[str, ...], what: str) -> None:
    with pytest.raises(ValueError, match=f"{what}: the address 'bob' has no '@'"):
        getattr(MailingList(STAFF, members=[BOB]), call)(*who)


def test_the_repr_of_a_long_list_is_short() -> None:
    text = repr(MailingList(STAFF, members=[f"m{i}@x.org" for i in range(5_000)]))
    assert "('m0@x.org', 'm1@x.org', 'm2@x.org', ... and 4,997 more)" in text
    assert len(text) < 400
    assert repr(MailingList(STAFF, members=[ANN])).count(ANN) == 1


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_list_is_the_same_after_a_pickle(protocol: int) -> None:
    staff = MailingList(STAFF, members=[ANN], posting="named", posters=[BOB, ".leeds.ac.uk"])
    for back in (pickle.loads(pickle.dumps(staff, protocol)), copy.deepcopy(staff)):
        assert back == staff
        assert hash(back) == hash(staff)
        assert back.posting_by("x@it.leeds.ac.uk") == "open"
        assert back.posting_by(EVE) == "refused"


def test_a_list_is_frozen() -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        MailingList(STAFF).members = (ANN,)  # type: ignore[misc]
