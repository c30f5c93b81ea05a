"""A sender, recipient or client has one count, however spelled: each test names an evasion."""

from __future__ import annotations

import asyncio
import pickle
from itertools import product
from typing import Any

import attrs
import pytest
from rlm_testkit.builders import (
    accepted_in_a_row,
    costs_of,
    envelope_to,
    inbound_envelope,
    limiter_with_clock,
    used_counts,
)
from rlm_testkit.event_scene import EventScene

from ratelimit_mail import (
    Action,
    AsyncLimiter,
    Client,
    Envelope,
    Limiter,
    MessageRateLimit,
    Policy,
    RecipientLimit,
    RecipientRateLimit,
)
from ratelimit_mail.addresses import SEPARATORS
from ratelimit_mail.directory import Directory, MailingList
from ratelimit_mail.events import FirstDenial, NearLimit
from ratelimit_mail.limits import Limit
from ratelimit_mail.overrides import Exemption, Grant, Override

EIGHT = ["".join(letters) + "@uwo.ca" for letters in product("kK", "iI", "mM")]
"""Every spelling of Kim's address."""

KIM = "kim@uwo.ca"
PLUS = [KIM, "kim+@uwo.ca", "kim+shop@uwo.ca", "KIM+a+b@uwo.ca", '"kim+x y"@uwo.ca']


def policy_with(*limits: Limit, **options: Any) -> Policy:
    return Policy(**{"name": "p", "limits": limits, "internal_domains": ["uwo.ca"]} | options)


def limiter_with(*limits: Limit, **options: Any) -> Limiter:
    return Limiter(policy_with(*limits, **options))


def accepted(limiter: Limiter, *envelopes: Envelope) -> int:
    """Return how many of `envelopes` are accepted."""
    return sum(decision.allowed for decision in map(limiter.try_acquire, envelopes))


# Spellings


def test_eight_spellings_of_a_sender_have_one_limit() -> None:
    limiter = limiter_with(MessageRateLimit("50/day"))
    assert len(EIGHT) == 8
    assert accepted(limiter, *(envelope_to(sender=each) for each in EIGHT * 50)) == 50


def test_eight_spellings_have_one_limit_for_an_async_limiter() -> None:
    async def send() -> int:
        limiter = AsyncLimiter(policy_with(MessageRateLimit("5/day")))
        return sum([bool(await limiter.try_acquire(envelope_to(sender=each))) for each in EIGHT])

    assert asyncio.run(send()) == 5


def test_eight_spellings_have_one_limit_as_a_server_lets_them_pass() -> None:
    limiter = limiter_with(MessageRateLimit("1/day"))
    spellings = [*EIGHT, "<KIM@UWO.CA.>", '"Kim"@uwo.ca', "@relay.example:kIm@uwo.ca"]
    assert accepted(limiter, *(Envelope.from_smtp(each, ["b@x.org"]) for each in spellings)) == 1


def test_eight_spellings_of_a_recipient_have_one_limit() -> None:
    limiter = limiter_with(MessageRateLimit("2/day", scope="recipient"))
    assert accepted(limiter, *(envelope_to([each]) for each in EIGHT)) == 2


def test_eight_spellings_in_one_message_are_one_recipient() -> None:
    limiter = limiter_with(RecipientLimit(1), RecipientRateLimit("5/day"))
    message = envelope_to(EIGHT)
    assert limiter.try_acquire(message)
    assert limiter.usage("ann@uwo.ca")[0].used == 1
    assert message.recipients == tuple(EIGHT)


def test_the_number_of_recipients_is_right_beside_other_spellings() -> None:
    limiter = limiter_with(
        RecipientRateLimit("9/day"), RecipientRateLimit("9/day", count="external")
    )
    limiter.try_acquire(envelope_to(["kim@uwo.ca", "Kim@uwo.ca", "b@x.org", "B@x.org", "c@x.org"]))
    assert used_counts(limiter, "ann@uwo.ca") == [3, 2]


def test_eight_spellings_are_one_mailbox_for_arriving_mail() -> None:
    limiter = limiter_with(MessageRateLimit("1/day", direction="inbound"), partial=True)
    decision = limiter.try_acquire(inbound_envelope(*EIGHT))
    assert decision.recipients is not None
    assert dict.fromkeys(EIGHT, True) == {k: bool(v) for k, v in decision.recipients.items()}
    assert used_counts(limiter, KIM, "recipient") == [1]


def test_unusual_letters_fold_as_unicode_says() -> None:
    limiter = limiter_with(MessageRateLimit("1/day"))
    groups = [
        ["strauß@uwo.ca", "STRAUSS@uwo.ca", "strauss@uwo.ca", "STRAUẞ@uwo.ca"],
        ["é@uwo.ca", "É@uwo.ca", "e\u0301@uwo.ca", "E\u0301@uwo.ca"],
        ["σοφος@uwo.ca", "ΣΟΦΟΣ@uwo.ca", "σοφοσ@uwo.ca"],
        ["k@uwo.ca", "\u212a@uwo.ca"],  # the Kelvin sign
        ["i@uwo.ca", "I@uwo.ca"],
        ["\u0130@uwo.ca", "i\u0307@uwo.ca"],  # the dotted capital I of Turkish
        ["\u0131@uwo.ca"],  # the dotless i
    ]
    for group in groups:
        assert accepted(limiter, *(envelope_to(sender=each) for each in group)) == 1


def test_a_case_sensitive_policy_compares_as_written() -> None:
    limiter = limiter_with(
        MessageRateLimit("1/day"),
        RecipientRateLimit("1/day", scope="recipient"),
        RecipientLimit(2),
        case_sensitive=True,
    )
    assert accepted(limiter, *(envelope_to([each], each) for each in EIGHT)) == 8
    assert accepted(limiter, *(envelope_to([each], each) for each in EIGHT)) == 0
    assert limiter.check(envelope_to(EIGHT[:3], "b@x.org")).limit == RecipientLimit(2)
    assert limiter.usage("Kim@uwo.ca")[0].used == 1
    limiter.reset("Kim@uwo.ca")
    assert limiter.usage("Kim@uwo.ca")[0].used == 0
    assert limiter.usage(KIM)[0].used == 1


def test_domains_have_no_case_under_a_case_sensitive_policy() -> None:
    limiter = limiter_with(MessageRateLimit("1/day"), case_sensitive=True)
    assert accepted(limiter, envelope_to(sender=KIM), envelope_to(sender="kim@UWO.ca")) == 1


def test_logins_have_one_limit_in_any_case() -> None:
    limiter = limiter_with(MessageRateLimit("1/day", scope="user"))
    spellings = [envelope_to(client=Client(user=user)) for user in ("kim", "KIM", "Kim")]
    assert accepted(limiter, *spellings) == 1
    assert limiter.usage("kIM", scope="user")[0].used == 1
    as_written = limiter_with(MessageRateLimit("1/day", scope="user"), case_sensitive=True)
    assert accepted(as_written, *spellings) == 3


def test_envelopes_and_decisions_keep_the_spelling() -> None:
    limiter = limiter_with(
        MessageRateLimit("1/day", direction="inbound"), partial=True, subaddress="+"
    )
    envelope = inbound_envelope("Kim+Shop@uwo.ca", sender="Eve@Example.com")
    assert (envelope.sender, envelope.recipients) == ("Eve@example.com", ("Kim+Shop@uwo.ca",))
    decision = limiter.try_acquire(envelope)
    assert decision.recipients is not None
    assert list(decision.recipients) == ["Kim+Shop@uwo.ca"]


def test_spellings_count_in_copies_of_an_envelope_too() -> None:
    envelope = envelope_to(["B@x.org", "b@x.org"], "Kim@uwo.ca")
    evolved = attrs.evolve(envelope_to(), sender="Kim@uwo.ca", recipients=["B@x.org", "b@x.org"])
    for copy in (envelope, evolved, pickle.loads(pickle.dumps(envelope))):
        assert (copy.folded_sender, copy.folded_recipients) == (KIM, ("b@x.org",))
        assert (copy.folded_domains, copy.domains) == (("x.org",), ("x.org", "x.org"))


def test_policies_compare_the_same_after_a_pickle() -> None:
    policy = policy_with(
        MessageRateLimit("9/day", scope=("submitter", "client")),
        case_sensitive=True,
        subaddress="+-",
        ipv6_prefix=56,
    )
    envelope = envelope_to(sender="Kim+a@uwo.ca", client=Client(address="2001:db8::1"))
    assert costs_of(policy, envelope) == costs_of(pickle.loads(pickle.dumps(policy)), envelope)


# Subaddresses


def test_plus_addresses_have_one_limit_where_the_policy_says_so() -> None:
    limiter = limiter_with(MessageRateLimit("2/day"), subaddress="+")
    assert accepted(limiter, *(envelope_to(sender=each) for each in PLUS)) == 2
    assert {limiter.usage(each)[0].used for each in PLUS} == {2}


def test_plus_addresses_are_addresses_of_their_own_by_default() -> None:
    limiter = limiter_with(MessageRateLimit("1/day"))
    assert accepted(limiter, *(envelope_to(sender=each) for each in PLUS)) == 5


def test_plus_addresses_in_one_message_are_one_recipient() -> None:
    limiter = limiter_with(RecipientLimit(1), RecipientRateLimit("9/day"), subaddress="+")
    assert limiter.try_acquire(envelope_to(PLUS))
    assert limiter.usage("ann@uwo.ca")[0].used == 1
    assert not limiter.check(envelope_to([*PLUS, "kimberly@uwo.ca"]))


def test_plus_addresses_of_a_recipient_have_one_limit() -> None:
    limiter = limiter_with(MessageRateLimit("2/day", scope="recipient"), subaddress="+")
    assert accepted(limiter, *(envelope_to([each]) for each in PLUS)) == 2


def test_a_plus_address_too_long_to_be_shown_is_the_same_person() -> None:
    limiter = limiter_with(MessageRateLimit("1/day"), subaddress="+")
    long = [f"KIM+{'x' * 400}{number}@uwo.ca" for number in range(3)]
    envelopes = [Envelope.from_smtp(each, ["b@x.org"]) for each in [*long, KIM]]
    assert accepted(limiter, *envelopes) == 1
    assert len({each.sender for each in envelopes}) == 4
    assert all(limiter.usage(each.sender)[0].used == 1 for each in envelopes)


def test_long_addresses_that_only_share_their_beginning_are_different_people() -> None:
    for subaddress in (None, "+", "+-_"):
        limiter = limiter_with(MessageRateLimit("1/day"), subaddress=subaddress)
        long = [f"{'kim' * 120}{number}@uwo.ca" for number in range(3)]
        long += [f"{'k-m' * 120}{number}@uwo.ca" for number in range(3) if subaddress != "+-_"]
        envelopes = [Envelope.from_smtp(each, ["b@x.org"]) for each in long]
        assert accepted(limiter, *envelopes) == len(long)


def test_a_long_address_has_one_limit_in_any_case() -> None:
    limiter = limiter_with(MessageRateLimit("1/day"))
    long = [letter * 400 + "@uwo.ca" for letter in "kK"]
    envelopes = [Envelope.from_smtp(each, ["b@x.org"]) for each in long]
    assert accepted(limiter, *envelopes) == 1
    assert Envelope.from_smtp(envelopes[1].sender, ["b@x.org"]).sender == envelopes[1].sender


def test_a_name_that_grows_when_folded_is_one_subject_on_both_sides_of_the_longest() -> None:
    limiter = limiter_with(MessageRateLimit("1/day"))
    spellings = ["ß" * 200 + "@uwo.ca", "ss" * 200 + "@uwo.ca"]
    assert accepted(limiter, *(Envelope.from_smtp(each, ["b@x.org"]) for each in spellings)) == 1


@pytest.mark.parametrize(
    ("subaddress", "address", "person"),
    [
        ("+", "+shop@uwo.ca", "+shop@uwo.ca"),  # nothing before the separator
        ("+", "kim+a+b@uwo.ca", KIM),
        ("-", "kim-shop@u-w-o.ca", "kim@u-w-o.ca"),
        ("+-", "kim-a+b@uwo.ca", KIM),
        ("=", "kim+shop@uwo.ca", "kim+shop@uwo.ca"),
        ("+", '"kim smith+shop"@uwo.ca', '"kim smith"@uwo.ca'),
        ("+", "<>", "<>"),
    ],
)
def test_a_subaddress_ends_at_the_first_separator(
    subaddress: str, address: str, person: str
) -> None:
    limiter = limiter_with(MessageRateLimit("9/day"), subaddress=subaddress)
    limiter.try_acquire(envelope_to(sender=address))
    assert [each for _, each in costs_of(limiter.policy, envelope_to(sender=address))] == [person]
    assert limiter.usage(person)[0].used == 1


@pytest.mark.parametrize("separator", SEPARATORS)
def test_every_separator_separates(separator: str) -> None:
    limiter = limiter_with(MessageRateLimit("1/day"), subaddress=separator)
    addresses = (KIM, f"kim{separator}shop@uwo.ca")
    assert accepted(limiter, *(envelope_to(sender=each) for each in addresses)) == 1


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ("", ValueError),
        (".", ValueError),
        ("a", ValueError),
        ("@", ValueError),
        ("++", ValueError),
        ("+-=_#", ValueError),
        ("é", ValueError),
        (["+"], TypeError),
        (True, TypeError),
    ],
)
def test_a_separator_is_a_special_character(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"^subaddress: "):
        policy_with(subaddress=value)


# Who is named


def test_usage_and_reset_find_a_person_however_spelled() -> None:
    limiter = limiter_with(
        MessageRateLimit("9/day"), MessageRateLimit("9/day", scope=("sender", "recipient"))
    )
    limiter.try_acquire(envelope_to(["Bob@x.org"], "Kim@uwo.ca"))
    for each in EIGHT:
        assert used_counts(limiter, each) == [1]
        assert used_counts(limiter, [each, "BOB@x.org"], ("sender", "recipient")) == [1]
    limiter.reset("kIM@uwo.ca")
    assert used_counts(limiter, KIM) == [0]


def test_reset_finds_the_bookings_of_a_person_however_spelled() -> None:
    limiter, _ = limiter_with_clock(policy_with(MessageRateLimit("1/minute")))
    for each in EIGHT[:4]:
        limiter.reserve(envelope_to(sender=each))
    limiter.reset("KIM@uwo.ca")
    assert limiter.reserve(envelope_to(sender=KIM)).delay == 0


def test_bookings_of_one_person_stand_in_one_queue() -> None:
    limiter, _ = limiter_with_clock(policy_with(MessageRateLimit("1/minute"), subaddress="+"))
    delays = [limiter.reserve(envelope_to(sender=each)).delay for each in PLUS]
    assert delays == [0, 60, 120, 180, 240]


@pytest.mark.parametrize("named", ["Kim@uwo.ca", KIM, "KIM+x@uwo.ca"])
def test_overrides_exemptions_and_grants_find_a_person_however_spelled(named: str) -> None:
    limit = MessageRateLimit("1/day", name="a day")
    numbers = {
        "overrides": [Override({"a day": 2}, senders=[named])],
        "exemptions": [Exemption(senders=[named])],
        "grants": [Grant(senders=[named])],
    }
    for field, expected in (("overrides", 2), ("exemptions", 8), ("grants", 1)):
        limiter = limiter_with(limit, subaddress="+", **{field: numbers[field]})
        assert accepted(limiter, *(envelope_to(sender=each) for each in EIGHT)) == expected


def test_concessions_of_a_case_sensitive_policy_are_for_the_spelling_as_written() -> None:
    limit = MessageRateLimit("1/day", name="a day")
    limiter = limiter_with(limit, case_sensitive=True, grants=[Grant(senders=["Kim@uwo.ca"])])
    assert accepted(limiter, *(envelope_to(sender=each) for each in EIGHT)) == 1


def test_a_repeated_request_in_another_spelling_is_the_same_request() -> None:
    limiter = limiter_with(MessageRateLimit("1/day"), subaddress="+")
    for each in [*EIGHT, *PLUS]:
        assert limiter.try_acquire(envelope_to([each], each, id="job-1"))
    assert limiter.usage(KIM)[0].used == 1
    as_written = limiter_with(MessageRateLimit("1/day"), case_sensitive=True)
    assert accepted(as_written, *(envelope_to(sender=each, id="1") for each in EIGHT)) == 8
    assert as_written.usage("Kim@uwo.ca")[0].used == 1


# Directories


ANN = "Ann@uwo.ca"
DIRECTORY = Directory(
    {"A.Smith@uwo.ca": ANN},
    [
        MailingList("News@uwo.ca", posting="named", posters=["Ed@uwo.ca"], exempt=True),
        MailingList("walks@uwo.ca", posting="moderated", moderators=["a.SMITH@uwo.ca"]),
    ],
)


class Ldap:
    """A directory of somebody's own, which finds an address in lower case alone."""

    def owner(self, address: str) -> str:
        return {"a.smith@uwo.ca": ANN}.get(address, address)

    def mailing_list(self, address: str) -> MailingList | None:
        lists = {each.address.lower(): each for each in DIRECTORY.lists}
        return lists.get(address)


@pytest.mark.parametrize("directory", [DIRECTORY, Ldap()], ids=["Directory", "Ldap"])
def test_an_alias_is_its_owner_however_both_are_spelled(directory: Any) -> None:
    limiter = limiter_with(MessageRateLimit("1/day"), directory=directory, subaddress="+")
    spellings = ["a.smith@uwo.ca", "A.SMITH@uwo.ca", "A.Smith+x@uwo.ca", "ANN@uwo.ca", ANN]
    assert accepted(limiter, *(envelope_to(sender=each) for each in spellings)) == 1
    assert {limiter.usage(each)[0].used for each in spellings} == {1}
    message = envelope_to(spellings, "bob@uwo.ca")
    assert costs_of(
        policy_with(RecipientRateLimit("9/day"), directory=directory, subaddress="+"), message
    ) == {("p:sender:recipients", "bob@uwo.ca"): 1}


@pytest.mark.parametrize("directory", [DIRECTORY, Ldap()], ids=["Directory", "Ldap"])
def test_lists_and_their_posters_are_found_however_spelled(directory: Any) -> None:
    limiter = limiter_with(RecipientRateLimit("9/day"), directory=directory, subaddress="+")
    for sender in ("ed@uwo.ca", "ED@uwo.ca", "Ed+x@uwo.ca"):
        assert limiter.try_acquire(envelope_to(["NEWS@uwo.ca"], sender))
        assert limiter.usage(sender)[0].used == 0  # the list is exempt
    refused = limiter.try_acquire(envelope_to(["nEWS@uwo.ca"], KIM))
    assert refused.action is Action.REJECT
    assert limiter.try_acquire(envelope_to(["Walks@uwo.ca"], KIM)).action is Action.HOLD


def test_a_moderator_under_an_alias_is_found_however_spelled() -> None:
    limiter = limiter_with(RecipientRateLimit("9/day"), directory=DIRECTORY)
    for sender in ("a.smith@uwo.ca", "ANN@uwo.ca", ANN):
        assert limiter.try_acquire(envelope_to(["Walks@uwo.ca"], sender))


def test_an_alias_with_a_plus_is_looked_up_before_its_subaddress_is_left_out() -> None:
    directory = Directory({"kim+sales@uwo.ca": "bob@uwo.ca"})
    limiter = limiter_with(MessageRateLimit("1/day"), directory=directory, subaddress="+")
    senders = ["Kim+Sales@uwo.ca", "kim+other@uwo.ca"]
    assert accepted(limiter, *(envelope_to(sender=each) for each in senders)) == 2
    assert limiter.usage("BOB@uwo.ca")[0].used == limiter.usage(KIM)[0].used == 1


def test_a_poster_with_a_plus_is_the_person() -> None:
    news = MailingList("news@uwo.ca", posting="named", posters=["kim+lists@uwo.ca"])
    for subaddress, passes in (("+", True), (None, False)):
        limiter = limiter_with(
            MessageRateLimit("9/day"), directory=Directory(lists=[news]), subaddress=subaddress
        )
        assert bool(limiter.try_acquire(envelope_to(["news@uwo.ca"], "Kim@uwo.ca"))) is passes


def test_a_case_sensitive_policy_looks_up_as_written() -> None:
    directory = Directory(
        {"Kim@uwo.ca": "ann@uwo.ca", "kim@uwo.ca": "bob@uwo.ca"},
        [
            MailingList("News@uwo.ca", posting="named", posters=["Ed@uwo.ca"]),
            MailingList("news@uwo.ca"),
        ],
    )
    limiter = limiter_with(MessageRateLimit("9/day"), directory=directory, case_sensitive=True)
    for sender in ("Kim@uwo.ca", KIM, "KIM@uwo.ca"):
        assert limiter.try_acquire(envelope_to(sender=sender))
    for owner in ("ann@uwo.ca", "bob@uwo.ca", "KIM@uwo.ca"):
        assert limiter.usage(owner)[0].used == 1
    assert limiter.try_acquire(envelope_to(["News@uwo.ca"], "Ed@uwo.ca"))
    assert not limiter.try_acquire(envelope_to(["News@uwo.ca"], "ed@uwo.ca"))
    assert limiter.try_acquire(envelope_to(["news@uwo.ca"], "ed@uwo.ca"))


@pytest.mark.parametrize(
    ("directory", "match"),
    [
        (
            Directory({"Kim@uwo.ca": "ann@uwo.ca", "kim@uwo.ca": "bob@uwo.ca"}),
            "directory: 'kim@uwo.ca' has two owners, 'ann@uwo.ca' and 'bob@uwo.ca', .* case alone",
        ),
        (
            Directory(lists=[MailingList("News@uwo.ca"), MailingList("news@uwo.ca")]),
            "directory: 'news@uwo.ca' is the address of two lists .* case alone",
        ),
        (
            Directory({"Kim@uwo.ca": "ann@uwo.ca"}, [MailingList("kim@uwo.ca")]),
            "directory: 'kim@uwo.ca' is a mailing list and an alias",
        ),
        (
            Directory({"Kim@uwo.ca": "Ann@uwo.ca", "ann@uwo.ca": "bob@uwo.ca"}),
            "directory: 'kim@uwo.ca' is an alias of 'ann@uwo.ca', which is itself an alias",
        ),
    ],
)
def test_entries_that_contradict_in_another_spelling_are_an_error(
    directory: Directory, match: str
) -> None:
    with pytest.raises(ValueError, match=match):
        policy_with(directory=directory)
    assert policy_with(directory=directory, case_sensitive=True)


def test_an_alias_that_is_its_owner_in_another_spelling_is_the_owner() -> None:
    directory = Directory({"Kim@uwo.ca": KIM, "KIM@uwo.ca": KIM})
    limiter = limiter_with(MessageRateLimit("1/day"), directory=directory)
    assert accepted(limiter, *(envelope_to(sender=each) for each in EIGHT)) == 1


# Networks


def test_a_host_with_a_whole_64_has_one_limit() -> None:
    limiter = limiter_with(MessageRateLimit("2/minute", scope="client"))
    clients = [Client(address=f"2001:db8:1:1::{number:x}") for number in range(1, 101)]
    assert accepted(limiter, *(envelope_to(client=each) for each in clients)) == 2
    assert limiter.usage("2001:db8:1:1:ffff::1", scope="client")[0].used == 2
    assert limiter.usage("2001:DB8:1:1::/64", scope="client")[0].used == 2
    assert limiter.usage("2001:db8:1:2::1", scope="client")[0].used == 0
    limiter.reset("2001:db8:1:1::", scope="client")
    assert limiter.usage("2001:db8:1:1::5", scope="client")[0].used == 0


@pytest.mark.parametrize(
    ("options", "addresses", "passed"),
    [
        ({}, ["10.0.0.1", "::ffff:10.0.0.1", "10.0.0.2"], 2),
        ({}, ["2001:db8:1:1::1", "2001:db8:1:2::1"], 2),
        ({"ipv6_prefix": 56}, ["2001:db8:1:1::1", "2001:db8:1:2::1", "2001:db8:1:100::1"], 2),
        ({"ipv6_prefix": 128}, ["2001:db8::1", "2001:db8::2"], 2),
        ({"ipv6_prefix": 1}, ["2001:db8::1", "fe80::1"], 2),
        ({"ipv4_prefix": 24}, ["10.0.0.1", "::ffff:10.0.0.255", "10.0.1.0"], 2),
        ({"ipv4_prefix": 1}, ["10.0.0.1", "127.255.255.255", "128.0.0.0"], 2),
        ({}, ["fe80::1%eth0", "fe80::2%eth0", "fe80::1%eth1"], 2),  # two networks
    ],
)
def test_a_client_is_its_network(
    options: dict[str, int], addresses: list[str], passed: int
) -> None:
    limiter = limiter_with(MessageRateLimit("1/day", scope="client"), **options)
    envelopes = [envelope_to(client=Client(address=each)) for each in addresses]
    assert accepted(limiter, *envelopes) == passed
    for address in addresses:
        assert limiter.usage(address, scope="client")[0].used == 1
    for _, network in costs_of(limiter.policy, envelopes[0]):
        assert limiter.usage(network, scope="client")[0].used == 1


@pytest.mark.parametrize("named", ["2001:db8::/56", "10.0.0.0/24", "2001:db8::/x", "10.0.0.1/"])
def test_a_network_that_is_not_one_client_cannot_be_named(named: str) -> None:
    with pytest.raises(ValueError, match="is not one client"):
        limiter_with(MessageRateLimit("1/day", scope="client")).usage(named, scope="client")


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("ipv4_prefix", 0, ValueError),
        ("ipv4_prefix", 33, ValueError),
        ("ipv6_prefix", 0, ValueError),
        ("ipv6_prefix", 129, ValueError),
        ("ipv6_prefix", "64", TypeError),
        ("ipv6_prefix", True, TypeError),
        ("case_sensitive", 1, TypeError),
    ],
)
def test_a_prefix_is_a_number_of_bits(field: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=rf"^{field}: "):
        policy_with(**{field: value})


# Submitters


PER_SUBMITTER = MessageRateLimit("1/day", scope="submitter")


def test_a_stolen_login_has_one_limit_under_any_sender_and_from_any_host() -> None:
    limiter = limiter_with(PER_SUBMITTER)
    envelopes = [
        envelope_to(sender=f"made-up-{i}@uwo.ca", client=Client(user="kim", address=f"10.0.0.{i}"))
        for i in range(1, 50)
    ]
    assert accepted(limiter, *envelopes) == 1
    assert limiter.usage("user:KIM", scope="submitter")[0].used == 1


def test_mail_without_a_login_never_shares_one_count() -> None:
    limiter = limiter_with(PER_SUBMITTER)
    envelopes = [
        envelope_to(sender="ann@uwo.ca"),
        envelope_to(sender="bob@uwo.ca"),
        envelope_to(sender="<>", client=Client(address="10.0.0.1")),
        envelope_to(sender="<>", client=Client(address="2001:db8::1")),
        envelope_to(["eve@x.org"], "<>"),
        envelope_to(["eve@y.org"], "<>"),
    ]
    assert accepted(limiter, *envelopes) == len(envelopes)
    assert accepted(limiter, *envelopes) == 0


def test_bounces_of_one_host_share_one_count_whatever_its_address() -> None:
    limiter = limiter_with(PER_SUBMITTER)
    hosts = [Client(address=f"2001:db8::{i}") for i in range(1, 9)]
    bounces = [envelope_to([f"user{i}@x.org"], "", host) for i, host in enumerate(hosts)]
    assert accepted(limiter, *bounces) == 1
    assert limiter.usage("client:2001:db8::", scope="submitter")[0].used == 1


def test_a_bounce_of_which_nothing_is_known_counts_for_its_recipient_in_any_order() -> None:
    limiter = limiter_with(PER_SUBMITTER)
    assert limiter.try_acquire(envelope_to(["Eve@x.org", "bob@y.org"], "<>"))
    assert not limiter.try_acquire(envelope_to(["BOB@y.org", "eve@x.org"], "<>"))
    assert limiter.usage("recipient:bob@Y.org", scope="submitter")[0].used == 1


def test_a_login_and_a_sender_with_one_spelling_are_two_submitters() -> None:
    limiter = limiter_with(PER_SUBMITTER)
    assert limiter.try_acquire(envelope_to(sender=KIM))  # somebody who claims to be Kim
    assert limiter.try_acquire(envelope_to(sender=KIM, client=Client(user=KIM)))
    for named in (f"sender:{KIM}", f"user:{KIM}"):
        assert limiter.usage(named, scope="submitter")[0].used == 1


@pytest.mark.parametrize("login", ["sender:kim@uwo.ca", "client:10.0.0.1", "recipient:b@x.org"])
def test_a_login_cannot_be_made_to_look_like_another_kind_of_submitter(login: str) -> None:
    limiter = limiter_with(PER_SUBMITTER)
    assert limiter.try_acquire(envelope_to(client=Client(user=login)))
    assert limiter.usage(f"user:{login}", scope="submitter")[0].used == 1
    assert limiter.usage(login, scope="submitter")[0].used == 0


def test_a_submitter_without_a_login_is_the_owner_of_the_alias_it_sends_under() -> None:
    limiter = limiter_with(PER_SUBMITTER, directory=DIRECTORY, subaddress="+")
    senders = ["a.smith@uwo.ca", "ANN+x@uwo.ca"]
    assert accepted(limiter, *(envelope_to(sender=each) for each in senders)) == 1
    for each in senders:
        assert limiter.usage(f"sender:{each}", scope="submitter")[0].used == 1
    limiter.reset("sender:A.Smith@uwo.ca", scope="submitter")
    assert limiter.usage("sender:ann@uwo.ca", scope="submitter")[0].used == 0


@pytest.mark.parametrize("named", [KIM, "kim", "", "user:", "sender:kim", "global:", "client:x"])
def test_a_submitter_is_named_with_its_kind(named: str) -> None:
    with pytest.raises(ValueError, match=r"submitter|domain|IP address"):
        limiter_with(PER_SUBMITTER).usage(named, scope="submitter")


def test_overrides_of_a_sender_are_shown_for_the_submitter_too() -> None:
    limit = MessageRateLimit("1/day", scope="submitter", name="a day")
    limiter = limiter_with(limit, overrides=[Override({"a day": 3}, senders=["Kim@uwo.ca"])])
    assert accepted_in_a_row(limiter, envelope_to(sender=KIM)) == 3
    assert limiter.usage("sender:KIM@uwo.ca", scope="submitter")[0].limit.limit == 3


def test_a_scope_may_combine_the_submitter_with_others() -> None:
    limiter = limiter_with(MessageRateLimit("1/day", scope=["recipient_domain", "submitter"]))
    assert limiter.try_acquire(envelope_to(["a@x.org", "b@y.org"], client=Client(user="kim")))
    scope = ("submitter", "recipient_domain")
    assert limiter.usage(["user:kim", "x.org"], scope=scope)[0].used == 1
    assert limiter.usage(["x.org", "user:Kim"], scope=scope[::-1])[0].used == 1


# Events


@pytest.mark.parametrize(
    ("scope", "client", "shown"),
    [
        ("sender", Client(), "KIM@uwo.ca"),
        ("recipient", Client(), "Bob@x.org"),
        ("user", Client(user="Kim"), "Kim"),
        ("client", Client(address="2001:db8::1"), "2001:db8::/64"),
        ("client", Client(address="10.0.0.1"), "10.0.0.1"),
        ("submitter", Client(user="Kim"), "user:kim"),
        ("submitter", Client(), "sender:kim@uwo.ca"),
        (("sender", "client"), Client(), "KIM@uwo.ca and no client"),
    ],
)
def test_events_show_addresses_as_written_and_clients_as_networks(
    scope: Any, client: Client, shown: str
) -> None:
    scene = EventScene(MessageRateLimit("1/day", scope=scope))
    for _ in range(2):
        scene.send("KIM@uwo.ca", ["Bob@x.org"], client)
    events = scene.new_events()
    assert [type(event) for event in events] == [NearLimit, FirstDenial]
    for event in events:
        assert (event.sender, event.subject, event.client) == ("KIM@uwo.ca", shown, client)


def test_one_person_has_one_first_denial_however_spelled() -> None:
    scene = EventScene(MessageRateLimit("1/day"))
    for each in EIGHT:
        scene.send(each)
    assert [type(event) for event in scene.new_events()] == [NearLimit, FirstDenial]
