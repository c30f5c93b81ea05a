"""The keys of the Redis backend never collide, and those of a message share a slot in a cluster."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from redis.crc import key_slot

from ratelimit_mail import (
    Client,
    Envelope,
    MessageRateLimit,
    Policy,
    RecipientRateLimit,
)
from ratelimit_mail.backends.base import Idempotency, Intent
from ratelimit_mail.backends.redis.codec import Codec
from ratelimit_mail.counting.charge import Charge
from ratelimit_mail.limits import Limit
from ratelimit_mail.policy.ledger_keys import queue_of, retentions_of
from ratelimit_mail.scopes import SCOPES, normal_scope, subject_of

ANN = "ann@uwo.ca"
HOUR = 3_600_000


CHARACTERS = "{}%:+@<>. \u00e9\u00c9\u0131\u5b57\N{SNOWMAN}/-_0123456789aA"

subject = st.text(st.sampled_from(CHARACTERS), max_size=12)
scopes = st.lists(st.sampled_from(SCOPES), min_size=1, max_size=3, unique=True).filter(
    lambda words: "global" not in words or len(words) == 1
)
names = st.sampled_from(["a", "a a", "idempotency", "bookings", "sender", "0"])

prefixes = st.text(
    st.characters(exclude_categories=["C", "Z"], exclude_characters="{}"), min_size=1, max_size=9
)

CountOf = tuple[str, tuple[str, ...], tuple[str, ...], int]
"""A policy's name, a scope, the value of each of its words, and a unit."""


@st.composite
def counts(draw: st.DrawFn) -> CountOf:
    scope = normal_scope(draw(scopes))
    values = tuple("" if word == "global" else draw(subject) for word in scope)
    return draw(names), scope, values, draw(st.integers(0, 3))


UNITS: list[Callable[..., Limit]] = [
    lambda **options: MessageRateLimit("9/hour", **options),
    lambda **options: RecipientRateLimit("9/hour", **options),
    lambda **options: MessageRateLimit("9/hour", count="external", **options),
    lambda **options: RecipientRateLimit("9/hour", count="external", **options),
]

Mode = tuple[str | None, bool]


def key_of(count: CountOf, mode: Mode) -> bytes:
    """Return the key of a count."""
    name, scope, values, unit = count
    shard, sharded = mode
    policy = Policy(name=name, limits=[UNITS[unit](scope=scope)], shard_by=shard)
    charge: Charge = (
        policy.ledgers_of(scope)[0],
        subject_of(scope, dict(zip(scope, values, strict=True))),
        (1, 1, 1, 1, 0, 0, 0, 0),
    )
    (key,) = Codec("p:", None, sharded=sharded).pack([charge], Intent()).keys
    return key


modes = st.sampled_from([(None, False), *((shard, True) for shard in (None, *SCOPES))])
"""The scope by which a policy shards its keys, and whether it is on a cluster."""


@given(counts(), counts(), modes, modes)
@example(("a", ("user",), ("",), 0), ("a", ("user",), ("%",), 0), (None, True), (None, True))
@example(("a", ("user",), ("{",), 0), ("a", ("user",), ("%7B",), 0), (None, False), (None, False))
@example(
    ("a", ("user",), ("x}:a:user:0",), 0), ("a", ("user",), ("x",), 0), (None, False), (None, False)
)
@example(
    ("a", ("client",), ("",), 0), ("a", ("global",), ("",), 0), ("global", True), ("global", True)
)
@example(
    ("a", ("client", "user"), ("1", "2:3"), 0),
    ("a", ("client", "user"), ("1:2", "3"), 0),
    ("client", True),
    ("user", True),
)
def test_two_subjects_never_have_one_key(
    one: CountOf, other: CountOf, mode: Mode, other_mode: Mode
) -> None:
    if one != other:
        assert key_of(one, mode) != key_of(other, other_mode)
    assert key_of(one, mode) == key_of(one, mode)


@given(counts(), subject, modes, st.text("0123456789abcdef", min_size=32, max_size=32))
def test_the_keys_of_queues_and_answers_differ_from_those_of_counts(
    count: CountOf, sender: str, mode: Mode, name: str
) -> None:
    shard, sharded = mode
    queue = queue_of(count[0], retentions_of([MessageRateLimit("9/hour")]), shard)
    booking: Charge = (queue, sender, (1, 0, 0, 0, 0, 0, 0, 0))
    idempotency = Idempotency(name, HOUR)
    keys = Codec("p:", None, sharded=sharded).pack([booking], Intent(idempotency=idempotency)).keys
    assert len({key_of(count, mode), *keys}) == 3


@given(st.lists(counts(), min_size=1, max_size=3), prefixes, prefixes)
@example([("a", ("user",), ("",), 0)], "a:", "a:a:")
def test_two_prefixes_never_have_a_key_in_common(some: list[CountOf], one: str, other: str) -> None:
    ends = {key_of(count, (None, False)).removeprefix(b"p:") for count in some}
    keys = [{prefix.encode() + end for end in ends} for prefix in (one, other)]
    assert bool(keys[0] & keys[1]) == (one == other)


# In a cluster all keys of a message are in one slot.

SENDERS = [
    ANN,
    "",
    "{}@uwo.ca",
    "{ann}@uwo.ca",
    "a%7Bb@uwo.ca",
    "}{@uwo.ca",
    "%@uwo.ca",
    "\u00e9@uwo.ca",
    '"a@b"@uwo.ca',
    "ann@xn--mnchen-3ya.de",
]

PER_SENDER: list[Limit] = [
    MessageRateLimit("9/hour"),
    MessageRateLimit("9/hour", scope=("sender", "recipient_domain")),
    RecipientRateLimit("9/hour", scope=("sender", "recipient"), count="external"),
]
POLICIES = {
    "by sender, the default": Policy(name="test", limits=PER_SENDER),
    "by sender": Policy(name="test", limits=PER_SENDER, shard_by="sender"),
    "by domain": Policy(
        name="test",
        limits=[*PER_SENDER, MessageRateLimit("9/hour", scope="sender_domain")],
        shard_by="sender_domain",
    ),
    "all": Policy(
        name="test",
        limits=[
            *PER_SENDER,
            MessageRateLimit("9/hour", scope="client"),
            MessageRateLimit("9/hour", scope="recipient_domain"),
            MessageRateLimit("9/hour", scope="global"),
        ],
        shard_by="global",
    ),
}


def slots_of(policy: Policy, envelope: Envelope) -> set[int]:
    """Return the slots of the keys of a message that is booked and has an id."""
    queue = queue_of(policy.name, retentions_of(policy.all_limits), policy.shard)
    intent = Intent(
        queue=(queue, policy.sender_subject(envelope), (1, 0, 0, 0, 0, 0, 0, 0)),
        idempotency=Idempotency("0" * 32, HOUR),
    )
    charges = policy.plan(envelope).charges
    packed = Codec("p:", None, sharded=True).pack(charges, intent)
    assert len(packed.keys) >= 4
    return {key_slot(key) for key in packed.keys}


@pytest.mark.parametrize("sender", SENDERS)
@pytest.mark.parametrize("which", POLICIES)
def test_all_keys_of_a_message_are_in_one_slot(which: str, sender: str) -> None:
    recipients = ["eve@a.org", "bob@b.org", "{x}@c.org", "bob@x.org"]
    client = Client(address="10.0.0.1", user="{\u00e9}")
    assert len(slots_of(POLICIES[which], Envelope(sender, recipients, client))) == 1


@pytest.mark.parametrize("which", ["by sender, the default", "by sender", "by domain"])
def test_the_messages_of_many_senders_are_spread_over_the_slots(which: str) -> None:
    slots = [
        slots_of(POLICIES[which], Envelope(f"ann@d{i}.uwo.ca", ["bob@b.org"])) for i in range(50)
    ]
    assert len(set.union(*slots)) > 40


@given(
    st.sampled_from(["client", "user"]),
    st.text(CHARACTERS.replace(" ", ""), min_size=1, max_size=9),
)
def test_counts_per_client_or_user_are_in_one_slot_whatever_the_login(
    scope: str, user: str
) -> None:
    policy = Policy(
        name="test",
        limits=[
            MessageRateLimit("9/hour", scope=scope),
            MessageRateLimit("9/hour", scope=(scope, "recipient")),
        ],
    )
    for client in (Client(user=user), Client(address="10.0.0.1"), None):
        envelope = Envelope(ANN, ["eve@a.org", "bob@b.org"], client)
        packed = Codec("p:", None, sharded=True).pack(policy.plan(envelope).charges, Intent())
        assert len(packed.keys) == 3
        assert len({key_slot(key) for key in packed.keys}) == 1
