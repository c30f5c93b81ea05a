"""Aliases in a policy: messages, concessions and usage of an alias are those of its owner."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from rlm_testkit.builders import used_counts

from ratelimit_mail import (
    AsyncLimiter,
    Client,
    Envelope,
    Limiter,
    MessageRateLimit,
    Policy,
    RateLimitExceeded,
    RecipientLimit,
    RecipientRateLimit,
)
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.directory import Directory, MailingList
from ratelimit_mail.overrides import Exemption, Grant, Override
from ratelimit_mail.testing import ManualClock

ANN, SMITH, STUDIO = "ann@uwo.ca", "a.smith@uwo.ca", "ann@studio.example"
BOB, BOBBY = "bob@uwo.ca", "bobby@uwo.ca"
OUT = "eve@example.com"

DIRECTORY = Directory.from_dict({ANN: [SMITH, STUDIO], BOB: [BOBBY]})


def limiter_with_directory(*limits: Any, directory: Any = DIRECTORY, **options: Any) -> Limiter:
    policy = Policy(
        name="test", limits=limits, internal_domains=["uwo.ca"], directory=directory, **options
    )
    clock = ManualClock()
    return Limiter(policy, MemoryBackend(clock), sleep=clock.advance)


# Counts


def test_aliases_of_one_owner_are_one_recipient() -> None:
    limiter = limiter_with_directory(RecipientLimit(2), RecipientRateLimit("9/day"))
    assert limiter.try_acquire(Envelope(OUT, [ANN, SMITH, STUDIO, BOBBY]))
    assert used_counts(limiter, OUT) == [2]
    assert not limiter.check(Envelope(OUT, [SMITH, BOBBY, "c@uwo.ca"]))


def test_a_message_sent_under_an_alias_is_counted_for_its_owner() -> None:
    limiter = limiter_with_directory(MessageRateLimit("3/day"))
    for sender in (ANN, SMITH, STUDIO):
        assert limiter.try_acquire(Envelope(sender, [OUT]))
    for sender in (ANN, SMITH, STUDIO):
        assert not limiter.try_acquire(Envelope(sender, [OUT]))
    assert limiter.try_acquire(Envelope(BOBBY, [OUT]))


def test_the_owner_is_the_sender_in_a_scope_of_several_words() -> None:
    limiter = limiter_with_directory(MessageRateLimit("1/day", scope=("sender", "recipient")))
    assert limiter.try_acquire(Envelope(SMITH, [BOBBY]))
    assert not limiter.try_acquire(Envelope(STUDIO, [BOB]))
    assert limiter.try_acquire(Envelope(BOBBY, [SMITH]))
    assert used_counts(limiter, [STUDIO, BOBBY], ("sender", "recipient")) == [1]
    assert used_counts(limiter, [BOBBY, STUDIO], ("recipient", "sender")) == [1]


def test_the_domain_of_the_owner_is_counted() -> None:
    limiter = limiter_with_directory(
        MessageRateLimit("9/day", scope="sender_domain"),
        MessageRateLimit("9/day", scope="recipient_domain"),
    )
    assert limiter.try_acquire(Envelope(STUDIO, [BOB]))
    assert limiter.try_acquire(Envelope(OUT, [STUDIO]))
    assert used_counts(limiter, "uwo.ca", "sender_domain") == [1]
    assert used_counts(limiter, "studio.example", "sender_domain") == [0]
    assert used_counts(limiter, "uwo.ca", "recipient_domain") == [2]


def test_an_alias_is_external_if_its_owner_is() -> None:
    directory = Directory.from_dict({ANN: [STUDIO], OUT: ["guest@uwo.ca"]})
    limiter = limiter_with_directory(
        RecipientRateLimit("9/day", count="external"), directory=directory
    )
    assert limiter.try_acquire(Envelope(BOB, [STUDIO]))
    assert used_counts(limiter, BOB) == [0]
    assert limiter.try_acquire(Envelope(BOB, ["guest@uwo.ca"]))
    assert used_counts(limiter, BOB) == [1]


def test_aliases_share_the_receiving_limit_of_their_owner() -> None:
    limiter = limiter_with_directory(MessageRateLimit("3/hour", direction="inbound"))
    for recipients in ([SMITH], [STUDIO, ANN], [ANN]):
        assert limiter.try_acquire(Envelope(OUT, recipients, direction="inbound"))
    assert not limiter.try_acquire(Envelope(OUT, [SMITH], direction="inbound"))
    assert used_counts(limiter, STUDIO, "recipient") == [3]


def test_the_null_sender_is_not_looked_up_in_the_directory() -> None:
    class Asked:
        def owner(self, address: str) -> str:
            assert address != "<>"
            return ANN

        def mailing_list(self, address: str) -> None:
            return None

    limiter = limiter_with_directory(MessageRateLimit("1/day"), directory=Asked())
    assert limiter.acquire(Envelope("", [BOB]))
    assert used_counts(limiter, "<>") == used_counts(limiter, "") == [1]
    assert used_counts(limiter, ANN) == [0]
    limiter.reset("<>")
    assert limiter.try_acquire(Envelope("<>", [BOB]))


def test_usage_and_reset_of_an_alias_apply_to_its_owner() -> None:
    limiter = limiter_with_directory(
        MessageRateLimit("1/day"),
        MessageRateLimit("1/day", direction="inbound"),
    )
    assert limiter.try_acquire(Envelope(ANN, [BOB]))
    assert used_counts(limiter, SMITH) == used_counts(limiter, "a.smith@UWO.CA") == [1]
    assert used_counts(limiter, BOBBY, "recipient") == [1]
    limiter.reset(STUDIO)
    limiter.reset(BOBBY, scope="recipient")
    assert limiter.try_acquire(Envelope(SMITH, [BOBBY]))


def test_bookings_under_all_aliases_of_an_owner_are_in_one_queue() -> None:
    limiter = limiter_with_directory(RecipientRateLimit("10/minute"))
    six, eight = ([f"r{i}@example.com" for i in range(number)] for number in (6, 8))
    assert limiter.reserve(Envelope(ANN, six)).delay == 0
    assert limiter.reserve(Envelope(SMITH, eight)).delay == 60
    assert limiter.reserve(Envelope(STUDIO, [OUT])).delay == 60


async def test_an_async_limiter_counts_an_alias_as_its_owner() -> None:
    policy = Policy(name="test", limits=[MessageRateLimit("2/minute")], directory=DIRECTORY)
    clock = ManualClock()
    limiter = AsyncLimiter(policy, MemoryBackend(clock), sleep=clock.sleep)
    start = clock()
    for sender in (ANN, SMITH, STUDIO):
        assert await limiter.acquire(Envelope(sender, [OUT]))
    assert clock() - start == 60_000
    assert (await limiter.usage(SMITH))[0].used == 1
    await limiter.reset(SMITH)
    assert (await limiter.usage(ANN))[0].used == 0


# Concessions


@pytest.mark.parametrize("named", [ANN, SMITH, "uwo.ca", "studio.example"])
def test_an_override_of_an_alias_or_of_its_owner_holds_for_the_alias(named: str) -> None:
    limiter = limiter_with_directory(
        RecipientLimit(1, name="recipients a message"),
        overrides=[Override({"recipients a message": 2}, senders=[named])],
    )
    sender = STUDIO if named == "studio.example" else SMITH
    assert limiter.try_acquire(Envelope(sender, [OUT, "c@x.org"]))
    assert not limiter.try_acquire(Envelope(BOBBY if "@" in named else OUT, [OUT, "c@x.org"]))


@pytest.mark.parametrize("named", [ANN, SMITH])
def test_an_exemption_or_grant_of_an_alias_or_of_its_owner_holds_for_the_alias(named: str) -> None:
    exempt = limiter_with_directory(
        MessageRateLimit("1/day"), exemptions=[Exemption(senders=[named], reason="a test")]
    )
    assert all(exempt.try_acquire(Envelope(SMITH, [OUT])) for _ in range(3))
    granted = limiter_with_directory(grants=[Grant(senders=[named])])
    assert granted.try_acquire(Envelope(SMITH, [OUT]))
    assert not granted.try_acquire(Envelope(BOBBY, [OUT]))


def test_a_concession_to_one_alias_does_not_hold_for_another() -> None:
    limiter = limiter_with_directory(
        MessageRateLimit("1/day"), exemptions=[Exemption(senders=[SMITH], reason="a test")]
    )
    assert limiter.try_acquire(Envelope(ANN, [OUT]))
    assert not limiter.try_acquire(Envelope(STUDIO, [OUT]))
    assert limiter.try_acquire(Envelope(SMITH, [OUT]))


def test_usage_of_an_alias_shows_the_limits_that_apply_to_its_messages() -> None:
    daily = MessageRateLimit("1/day", name="messages a day")
    limiter = limiter_with_directory(
        daily,
        overrides=[
            Override({"messages a day": 5}, senders=[SMITH]),
            Override({"messages a day": 3}, senders=[BOB]),
        ],
    )
    for address, limit in ((SMITH, 5), (ANN, 1), (BOBBY, 3), (BOB, 3)):
        assert limiter.usage(address)[0].limit.limit == limit


# The proxy address limit


def test_a_policy_with_more_aliases_than_the_proxy_address_limit_is_an_error() -> None:
    with pytest.raises(
        ValueError,
        match=r"directory: 'ann@uwo.ca' has 2 aliases; the proxy address limit of 'test' is 1",
    ):
        limiter_with_directory(proxy_address_limit=1)
    assert limiter_with_directory(proxy_address_limit=2)


def test_western_allows_200_proxy_addresses_per_owner() -> None:
    aliases = [f"alias{number}@uwo.ca" for number in range(201)]
    assert limiter_with_directory(
        directory=Directory.from_dict({ANN: aliases[:200]}), proxy_address_limit=200
    )
    with pytest.raises(ValueError, match="has 201 aliases"):
        limiter_with_directory(
            directory=Directory.from_dict({ANN: aliases}), proxy_address_limit=200
        )


def test_a_policy_evolved_with_another_directory_is_checked_again() -> None:
    policy = Policy(name="test", directory=DIRECTORY, proxy_address_limit=2)
    with pytest.raises(ValueError, match="has 3 aliases"):
        policy.evolve(directory=Directory.from_dict({ANN: [SMITH, STUDIO, "third@uwo.ca"]}))


@pytest.mark.parametrize("wrong", [-1, 1.5, "200", True])
def test_an_invalid_proxy_address_limit_is_an_error(wrong: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="proxy_address_limit: "):
        Policy(name="test", proxy_address_limit=wrong)


# Custom directories


AWAY = ConnectionError("no LDAP")


class Live:
    """A custom directory: it returns, or raises, what it was built with."""

    def __init__(self, owners: Mapping[str, Any], lists: Mapping[str, Any] | None = None) -> None:
        self.owners = owners
        self.lists = lists or {}

    def owner(self, address: str) -> Any:
        owner = self.owners.get(address, address)
        if isinstance(owner, Exception):
            raise owner
        return owner

    def mailing_list(self, address: str) -> Any:
        mailing_list = self.lists.get(address)
        if isinstance(mailing_list, Exception):
            raise mailing_list
        return mailing_list


def test_any_object_with_the_two_methods_is_a_directory() -> None:
    limiter = limiter_with_directory(MessageRateLimit("1/day"), directory=Live({SMITH: ANN}))
    assert limiter.try_acquire(Envelope(SMITH, [OUT]))
    assert not limiter.try_acquire(Envelope(ANN, [OUT]))


@pytest.mark.parametrize("wrong", [{}, "ldap://", object(), Live])
def test_an_object_without_the_two_methods_is_not_a_directory(wrong: Any) -> None:
    if wrong is Live:
        wrong = type("Half", (), {"owner": lambda self, address: address})()
    with pytest.raises(TypeError, match=r"directory: .* is not a directory: it has no method"):
        Policy(name="test", directory=wrong)


def test_an_owner_in_another_spelling_is_the_same_owner() -> None:
    limiter = limiter_with_directory(
        MessageRateLimit("1/day"), directory=Live({SMITH: "ann@UWO.CA"})
    )
    assert limiter.try_acquire(Envelope(SMITH, [OUT]))
    assert used_counts(limiter, SMITH) == used_counts(limiter, ANN) == [1]
    limiter.reset(SMITH)
    assert used_counts(limiter, ANN) == [0]


@pytest.mark.parametrize(
    ("nonsense", "kind"),
    [
        (None, TypeError),
        (True, TypeError),
        (b"ann@uwo.ca", TypeError),
        (["ann@uwo.ca"], TypeError),
        ("", ValueError),
        ("<>", ValueError),
        ("ann", ValueError),
        ("Ann <ann@uwo.ca>", ValueError),
        ("ann@uwo.ca\nx@y.org", ValueError),
    ],
)
@pytest.mark.parametrize("as_sender", [True, False])
def test_an_owner_that_is_not_an_address_is_an_error(
    nonsense: Any, kind: Any, as_sender: bool
) -> None:
    limiter = limiter_with_directory(MessageRateLimit("1/day"), directory=Live({SMITH: nonsense}))
    envelope = Envelope(SMITH, [OUT]) if as_sender else Envelope(OUT, [SMITH])
    for method in (limiter.check, limiter.try_acquire, limiter.acquire, limiter.reserve):
        with pytest.raises(kind, match=r"directory: the owner of 'a.smith@uwo.ca': ") as caught:
            method(envelope)
        assert str(caught.value).isprintable()
    with pytest.raises(kind, match="directory: the owner of"):
        limiter.usage(SMITH)


@pytest.mark.parametrize("nonsense", [True, "staff@uwo.ca", {}, MailingList])
def test_a_directory_that_returns_an_invalid_list_is_an_error(nonsense: Any) -> None:
    limiter = limiter_with_directory(directory=Live({}, {"staff@uwo.ca": nonsense}))
    with pytest.raises(TypeError, match=r"directory: for 'staff@uwo.ca' a MailingList or None"):
        limiter.try_acquire(Envelope(ANN, ["staff@uwo.ca"]))


@pytest.mark.parametrize("method", ["check", "try_acquire", "acquire", "reserve"])
@pytest.mark.parametrize(
    ("owners", "lists"), [({OUT: AWAY}, {}), ({ANN: AWAY}, {}), ({}, {OUT: AWAY})]
)
def test_a_directory_that_fails_charges_nothing_and_says_so(
    owners: Any, lists: Any, method: str
) -> None:
    directory = Live(owners, lists)
    limiter = limiter_with_directory(
        MessageRateLimit("9/day"),
        MessageRateLimit("9/day", scope="global", enforce=False),
        directory=directory,
    )
    with pytest.raises(ConnectionError, match="no LDAP"):
        getattr(limiter, method)(Envelope(ANN, [BOB, OUT]))
    directory.owners, directory.lists = {}, {}
    assert used_counts(limiter, ANN) == [0]


def test_a_directory_that_fails_for_one_message_of_a_batch_charges_none() -> None:
    limiter = limiter_with_directory(MessageRateLimit("9/day"), directory=Live({OUT: AWAY}))
    with pytest.raises(ConnectionError, match="no LDAP"):
        limiter.try_acquire_many([Envelope(ANN, [BOB]), Envelope(ANN, [OUT])])
    assert used_counts(limiter, ANN) == [0]


class Flaky(Live):
    """A directory that answers so many times, and then fails."""

    def __init__(self, answers: int) -> None:
        super().__init__({})
        self.answers = answers

    def owner(self, address: str) -> Any:
        self.answers -= 1
        if self.answers < 0:
            raise ConnectionError("no LDAP")
        return address


@pytest.mark.parametrize("answers", range(6))
def test_a_directory_that_fails_during_a_wait_leaves_nothing_charged(
    answers: int,
) -> None:
    flaky = Flaky(answers)
    limiter = limiter_with_directory(MessageRateLimit("9/day"), directory=flaky)
    try:
        limiter.acquire(Envelope(ANN, [OUT]))
        charged = [1]
    except ConnectionError:
        charged = [0]
    flaky.answers = 9
    assert used_counts(limiter, ANN) == charged


def test_a_directory_that_fails_later_does_not_affect_the_shadow_decision() -> None:
    flaky = Flaky(2)
    limiter = limiter_with_directory(
        MessageRateLimit("9/day"), MessageRateLimit("9/day", enforce=False), directory=flaky
    )
    assert limiter.try_acquire(Envelope(ANN, [OUT]))


class Filled(dict[str, str]):
    """A directory that is also a dict, and empty at first."""

    def owner(self, address: str) -> str:
        return self.get(address, address)

    def mailing_list(self, address: str) -> None:
        return None


def test_a_directory_that_is_empty_at_first_is_still_looked_up() -> None:
    directory = Filled()
    limiter = limiter_with_directory(MessageRateLimit("1/day"), directory=directory)
    directory[SMITH] = ANN
    assert limiter.try_acquire(Envelope(SMITH, [OUT]))
    assert not limiter.try_acquire(Envelope(ANN, [OUT]))


def test_a_live_directory_is_looked_up_for_each_message() -> None:
    owners: dict[str, str] = {}
    limiter = limiter_with_directory(MessageRateLimit("1/day"), directory=Live(owners))
    envelope = Envelope(SMITH, [OUT])
    assert limiter.try_acquire(envelope)
    owners[SMITH] = ANN
    assert limiter.try_acquire(envelope)
    assert not limiter.try_acquire(Envelope(ANN, [OUT]))


def test_an_alias_of_a_list_in_a_live_directory_is_that_list() -> None:
    staff = MailingList("staff@uwo.ca", posting="named", posters=[BOB])
    limiter = limiter_with_directory(
        RecipientRateLimit("9/day"),
        directory=Live({"all@uwo.ca": "staff@uwo.ca"}, {"staff@uwo.ca": staff}),
    )
    assert not limiter.try_acquire(Envelope(ANN, ["all@uwo.ca"]))
    assert limiter.try_acquire(Envelope(BOB, ["all@uwo.ca", "staff@uwo.ca"]))
    assert used_counts(limiter, BOB) == [1]


def test_the_decision_after_a_timeout_names_the_owners_limit() -> None:
    limiter = limiter_with_directory(MessageRateLimit("1/minute"))
    assert limiter.try_acquire(Envelope(ANN, [OUT]))
    with pytest.raises(RateLimitExceeded) as caught:
        limiter.acquire(Envelope(SMITH, [OUT], Client(user="ann")), timeout=59)
    assert caught.value.decision.retry_after == 60
