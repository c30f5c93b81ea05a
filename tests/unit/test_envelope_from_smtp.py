"""Envelope.from_smtp: every address that a mail server lets pass is one countable subject."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import attrs
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from rlm_testkit.builders import limiter_with_clock

from ratelimit_mail import (
    Client,
    Envelope,
    MessageRateLimit,
    Policy,
    RecipientLimit,
    RecipientRateLimit,
)
from ratelimit_mail.addresses import LONGEST_ADDRESS, normal_address
from ratelimit_mail.directory import Directory
from ratelimit_mail.overrides import Override
from ratelimit_mail.smtp_addresses import smtp_address

DIGEST = re.compile(r"\[_[^\[\]]*~[0-9a-f]{32}\]")


def recipient(address: str) -> str:
    """Return the one recipient of an envelope that a server built."""
    (normal,) = Envelope.from_smtp("ann@uwo.ca", [address]).recipients
    return normal


@pytest.mark.parametrize(
    ("address", "normal"),
    [
        # What Envelope takes is the same here.
        ("bob@Example.com", "bob@example.com"),
        ("bob@bücher.de", "bob@xn--bcher-kva.de"),
        ("bob@[192.0.2.1]", "bob@[192.0.2.1]"),
        ("user%x.org@relay.org", "user%x.org@relay.org"),
        # Quoted, or as Postfix writes it: without quotes
        ("bob smith@x.org", '"bob smith"@x.org'),
        ('"bob smith"@x.org', '"bob smith"@x.org'),
        ('"bob"@x.org', "bob@x.org"),
        ('"bob".smith@x.org', "bob.smith@x.org"),
        ('"bob"."s m"@x.org', '"bob.s m"@x.org'),
        ("bob,eve@x.org", '"bob,eve"@x.org'),
        ("bob:eve@x.org", '"bob:eve"@x.org'),
        ("bob;eve@x.org", '"bob;eve"@x.org'),
        ("bob@home@x.org", '"bob@home"@x.org'),
        ('bob"home@x.org', '"bob\\"home"@x.org'),
        ("bob\\home@x.org", '"bob\\\\home"@x.org'),
        ("bob(home)@x.org", '"bob(home)"@x.org'),
        ("Bob <b@x.org>", '"Bob <b"@{digest}'),
        (" bob@x.org", '" bob"@x.org'),
        (".bob..@x.org", ".bob..@x.org"),
        ("@x.org", '""@x.org'),
        # Brackets, routes and dots
        ("<bob@x.org>", "bob@x.org"),
        (" <bob@x.org> ", "bob@x.org"),
        ("<postmaster>", "postmaster@[_local]"),
        ("@a.org,@b.org:bob@x.org", "bob@x.org"),
        ("<@a.org,@[192.0.2.1]:bob@x.org>", "bob@x.org"),
        ("@[IPv6:2001:db8::1]:bob@x.org", "bob@x.org"),
        ("bob@x.org.", "bob@x.org"),
        ("bob@X.org\u3002", "bob@x.org"),
        ("bob@bücher.de.", "bob@xn--bcher-kva.de"),
        ("bob@x.org ", "bob@x.org"),
        # Without a domain
        ("postmaster", "postmaster@[_local]"),
        ("postmaster@", "postmaster@[_local]"),
        ('"post master"', '"post master"@[_local]'),
        ('"bob@x.org"', '"bob@x.org"@[_local]'),
        ("", '""@[_local]'),
        ("<>", '""@[_local]'),
        ("@", '""@[_local]'),
        # Domains that are not
        ("bob@x..org", "bob@[_x..org]"),
        ("bob@X..org", "bob@[_x..org]"),
        ("bob@.", "bob@[_.]"),
        ("bob@-x-.org", "bob@-x-.org"),
        ("bob@xn--.org", "bob@[_xn--.org]"),
        ("bob@xn--i-7iq.ws", "bob@[_xn--i-7iq.ws]"),
        ("bob@i\u2764.ws", "bob@[_xn--i-7iq.ws]"),
        ("bob@[192.0.2.1", "bob@{digest}"),
        ("bob@x org", "bob@{digest}"),
        ("bob@x\ny.org", "bob@{digest}"),
        (f"bob@{'x' * 64}.org", f"bob@[_{'x' * 64}.org]"),
        (f"bob@{'.'.join(['x' * 60] * 5)}", "bob@{digest}"),
        # What no key may hold
        ("bob\n@x.org", "{digest}@x.org"),
        ("bob\x00@x.org", "{digest}@x.org"),
        ("bob\u2028@x.org", "{digest}@x.org"),
        ("bob\r\nRCPT TO:<eve@y.org>", None),
        ("b\udcf6b@x.org", "{digest}@x.org"),
        ("j\udcc3\udcb6rg@x.org", "jörg@x.org"),
        ("jörg@b\udcc3\udcbccher.de", "jörg@xn--bcher-kva.de"),
        ("b" * 400 + "@x.org", "{digest}@x.org"),
        ("b" * 10_000_000, "{digest}@[_local]"),
        ("b" * 300 + "@" + ".".join(["x" * 60] * 4), None),
    ],
)
def test_an_address_that_a_server_lets_pass_has_one_spelling(
    address: str, normal: str | None
) -> None:
    spelling = recipient(address)
    if normal is not None:
        assert DIGEST.sub("{digest}", spelling) == normal
    envelope = Envelope.from_smtp("<>", [address])
    assert envelope.domains == (envelope.recipients[0].rpartition("@")[2],)


@pytest.mark.parametrize("sender", ["", "<>", " ", " <> "])
def test_an_empty_sender_is_the_null_sender(sender: str) -> None:
    envelope = Envelope.from_smtp(sender, ["b@x.org"])
    assert (envelope.sender, envelope.sender_domain) == ("<>", "<>")


def test_a_sender_without_a_domain_is_a_subject_of_its_own() -> None:
    envelope = Envelope.from_smtp("postmaster", ["b@x.org"])
    assert (envelope.sender, envelope.sender_domain) == ("postmaster@[_local]", "[_local]")


def test_an_envelope_of_regular_addresses_equals_the_strict_one() -> None:
    client = Client(user="ann")
    lenient = Envelope.from_smtp(
        "a@X.org", ("b@y.org",), client=client, id="1", direction="inbound"
    )
    strict = Envelope("a@x.org", ["b@Y.org"], client, id="1", direction="inbound")
    assert lenient == strict
    assert hash(lenient) == hash(strict)
    assert Envelope.from_smtp("a@x.org", iter(["b@y.org"])) == Envelope("a@x.org", ["b@y.org"])


def test_envelope_itself_stays_strict() -> None:
    for address in ("postmaster", "postmaster@[_local]", "bob smith@x.org", "bob@[_x..org]"):
        with pytest.raises(ValueError, match="recipients: "):
            Envelope("a@x.org", [address])


@pytest.mark.parametrize("value", [None, 5, b"a@x.org", ["a@x.org"]])
def test_an_address_that_is_not_a_string_is_a_type_error(value: Any) -> None:
    with pytest.raises(TypeError, match=r"^sender: "):
        Envelope.from_smtp(value, ["b@x.org"])
    with pytest.raises(TypeError, match=r"^recipients: "):
        Envelope.from_smtp("a@x.org", ["postmaster", value])


@pytest.mark.parametrize("value", [None, 5, "b@x.org", b"b@x.org"])
def test_recipients_that_are_not_a_list_are_a_type_error(value: Any) -> None:
    with pytest.raises(TypeError, match="recipients: a list of addresses is needed"):
        Envelope.from_smtp("a@x.org", value)


def test_a_message_without_recipients_is_an_error() -> None:
    with pytest.raises(ValueError, match="recipients: a message needs at least one"):
        Envelope.from_smtp("a@x.org", [])


def test_the_id_and_the_direction_are_checked() -> None:
    with pytest.raises(ValueError, match="id: "):
        Envelope.from_smtp("a@x.org", ["b@x.org"], id="\n")
    with pytest.raises(ValueError, match="direction: "):
        Envelope.from_smtp("a@x.org", ["b@x.org"], direction="up")  # type: ignore[arg-type]


ODD = Envelope.from_smtp(
    "bob smith@x..org", ["postmaster", "a\nb@x.org", "c@x.org", "b" * 400], id="job-1"
)


@pytest.mark.parametrize(
    "copied",
    [
        copy.copy,
        copy.deepcopy,
        lambda one: pickle.loads(pickle.dumps(one)),
        attrs.evolve,
        lambda one: Envelope.from_smtp(one.sender, one.recipients, id=one.id),
    ],
)
def test_a_copy_of_an_odd_envelope_equals_it(copied: Callable[[Envelope], Envelope]) -> None:
    again = copied(ODD)
    assert again == ODD
    assert (again.sender_domain, again.domains) == (ODD.sender_domain, ODD.domains)


def test_evolve_of_an_odd_envelope_takes_odd_addresses() -> None:
    changed = attrs.evolve(ODD, id="job-2", recipients=["hostmaster", *ODD.recipients])
    assert changed.sender == ODD.sender
    assert changed.recipients == ("hostmaster@[_local]", *ODD.recipients)
    assert changed.id == "job-2"


# Subjects: one for each mailbox

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=30)
SMTP_TEXT = st.text('ab @,;:<>()[]"\\._~-\n\udcff\udcc3\udcb6ä', max_size=20)


@given(ANY_TEXT | SMTP_TEXT | st.builds("{}@{}".format, SMTP_TEXT, SMTP_TEXT))
def test_any_text_is_a_short_printable_subject_and_stays_the_same(text: str) -> None:
    normal, domain = smtp_address(text)
    assert len(normal) <= LONGEST_ADDRESS
    assert not any(ch in "\r\n\0\x85\u2028\u2029" for ch in normal)
    normal.encode()
    assert normal.rpartition("@")[2] == domain
    assert smtp_address(normal) == (normal, domain)
    with suppress(ValueError):
        assert normal_address(text) == (normal, domain)


LOCAL = st.text('abAB @,:<>[]"\\.~_\n\xff', max_size=6)
DOMAIN = st.sampled_from(
    [
        "x.org",
        "y.org",
        "mail.x.org",
        "[192.0.2.1]",
        "bücher.de",
        "local",
        "x..org",
        "xn--.org",
        "x y",
    ]
)


def quoted(local: str) -> str:
    escaped = local.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def all_escaped(local: str) -> str:
    return '"' + "".join(f"\\{ch}" for ch in local) + '"'


SPELLINGS: list[Callable[[str, str], str]] = [
    lambda local, domain: f"{quoted(local)}@{domain}",
    lambda local, domain: f"{all_escaped(local)}@{domain}",
    lambda local, domain: f"<{quoted(local)}@{domain}>",
    lambda local, domain: f"{quoted(local)}@{domain}.",
    lambda local, domain: f"{quoted(local)}@{domain.upper()}",
    lambda local, domain: f"@relay.org,@[192.0.2.9]:{quoted(local)}@{domain}",
    lambda local, domain: f" <@relay.org:{all_escaped(local)}@{domain.upper()}.> ",
]


@given(LOCAL, DOMAIN, st.sampled_from(SPELLINGS))
def test_all_spellings_of_a_mailbox_are_one_subject(
    local: str, domain: str, spelling: Callable[[str, str], str]
) -> None:
    assert smtp_address(spelling(local, domain)) == smtp_address(f"{quoted(local)}@{domain}")


@given(LOCAL, DOMAIN)
def test_a_local_part_without_quotes_is_the_same_subject(local: str, domain: str) -> None:
    # Unless it reads as something else: a route, brackets, or words in quotes.
    assume('"' not in local and local[:1] not in ("<", "@", " ", "\n"))
    assert smtp_address(f"{local}@{domain}") == smtp_address(f"{quoted(local)}@{domain}")


@given(st.tuples(LOCAL, DOMAIN), st.tuples(LOCAL, DOMAIN))
def test_two_mailboxes_are_never_one_subject(one: tuple[str, str], other: tuple[str, str]) -> None:
    assume(one != other)
    subjects = {smtp_address(f"{quoted(local)}@{domain}")[0] for local, domain in (one, other)}
    assert len(subjects) == 2


@pytest.mark.parametrize("size", [300, 400, 100_000])
def test_long_addresses_that_differ_anywhere_are_different_subjects(size: int) -> None:
    long = "x" * size
    addresses = [
        f"{long}a@x.org",
        f"{long}b@x.org",
        f"a{long}@x.org",
        f"{long}a@y.org",
        f"{long}a",
        f"a@{long}.org",
        f"b@{long}.org",
        f"a@y{long}.org",
        f"{long}a\n@x.org",
    ]
    assert len(Envelope.from_smtp("<>", addresses).recipients) == len(addresses)


def test_bytes_that_are_not_utf_8_are_different_subjects() -> None:
    addresses = [
        data.decode("utf-8", "surrogateescape")
        for data in (b"p\xe5l@x.org", b"p\xe9l@x.org", "pål@x.org".encode(), b"p\xc3l@x.org")
    ]
    assert len(Envelope.from_smtp("<>", addresses).recipients) == 4


@pytest.mark.parametrize(
    "piece",
    [
        "@",
        "<",
        ">",
        '"',
        '"a"',
        '"a".',
        "\\",
        "@a,",
        "@a:",
        "@[a]:",
        ".",
        "a.",
        "\n",
        " ",
        "\udcff",
        "é.",
    ],
)
def test_a_hostile_address_takes_linear_time(piece: str) -> None:
    # Quadratic time for a million pieces would exceed the time that a test may take.
    for text in (piece * 1_000_000, "<" + piece * 1_000_000 + ">", "b@" + piece * 1_000_000):
        assert len(smtp_address(text)[0]) <= LONGEST_ADDRESS


# What a policy makes of them


def policy_with(*limits: Any, **options: Any) -> Policy:
    return Policy(name="campus", internal_domains=["uwo.ca", ".uwo.ca"], limits=limits, **options)


def test_an_address_without_a_domain_is_internal() -> None:
    limits = [RecipientRateLimit("9/day", count="external")]
    for policy in (policy_with(*limits), Policy(name="none", limits=limits)):
        internal = Envelope.from_smtp("ann@uwo.ca", ["postmaster", "<kim>"])
        assert policy.plan(internal).charges == []
        mixed = Envelope.from_smtp("ann@uwo.ca", ["postmaster", "bob@x.org"])
        assert policy.plan(mixed).charges[0][2] == (1, 2, 1, 1, 0, 0, 2, 1)


@pytest.mark.parametrize(
    "address",
    ["b@x..uwo.ca", "b@uwo.ca.x..org", "b@[_local].x.org", "b@x y.uwo.ca", "b@local", "b@.uwo.ca"],
)
def test_what_is_not_a_domain_is_external(address: str) -> None:
    policy = policy_with(RecipientRateLimit("9/day", count="external"))
    assert policy.plan(Envelope.from_smtp("ann@uwo.ca", [address])).charges[0][2][:4] == (
        1,
        1,
        1,
        1,
    )


def test_mail_that_arrives_for_an_address_without_a_domain_is_counted() -> None:
    limit = MessageRateLimit("2/hour", scope="recipient", direction="inbound")
    limiter, _ = limiter_with_clock(policy_with(limit))
    arriving = Envelope.from_smtp("", ["postmaster"], direction="inbound")
    assert [bool(limiter.try_acquire(arriving)) for _ in range(3)] == [True, True, False]


@pytest.mark.parametrize("sender", [ODD.sender, "", "postmaster", "a\nb@x.org", "b" * 400])
def test_an_odd_sender_is_counted_found_and_reset(sender: str) -> None:
    limiter, _ = limiter_with_clock(
        policy_with(MessageRateLimit("2/hour"), RecipientRateLimit("5/hour", scope="sender_domain"))
    )
    envelope = Envelope.from_smtp(sender, ["postmaster", "b c@x.org"], id="job-1")
    assert limiter.try_acquire(envelope)
    assert limiter.try_acquire(envelope)  # the same job again
    assert limiter.usage(envelope.sender)[0].used == 1
    assert limiter.usage(envelope.sender_domain, scope="sender_domain")[0].used == 2
    assert limiter.try_acquire(attrs.evolve(envelope, id="job-2"))
    assert not limiter.try_acquire(attrs.evolve(envelope, id="job-3"))
    limiter.reset(envelope.sender)
    assert limiter.usage(envelope.sender)[0].used == 0


def test_an_odd_recipient_is_counted_and_found() -> None:
    limiter, _ = limiter_with_clock(
        policy_with(
            MessageRateLimit("9/day", scope="recipient"),
            MessageRateLimit("9/day", scope="recipient_domain"),
        )
    )
    assert limiter.try_acquire(ODD)
    for address, domain in zip(ODD.recipients, ODD.domains, strict=True):
        assert limiter.usage(address, scope="recipient")[0].used == 1
        assert limiter.usage(domain, scope="recipient_domain")[0].used >= 1


@pytest.mark.parametrize("value", ["postmaster", "bob smith@x.org", "bob@x..org", "a@[_b\n]"])
def test_usage_takes_only_the_spelling_that_is_shown(value: str) -> None:
    limiter, _ = limiter_with_clock(policy_with(MessageRateLimit("2/hour")))
    with pytest.raises(ValueError, match="address"):
        limiter.usage(value)


def test_an_override_may_name_an_odd_sender() -> None:
    override = Override(senders=[ODD.sender], limits={"few": 3}, reason="test")
    limiter, _ = limiter_with_clock(
        policy_with(RecipientLimit(1, name="few"), overrides=[override], partial=False)
    )
    assert limiter.check(attrs.evolve(ODD, recipients=["a", "b", "c"]))
    assert not limiter.check(attrs.evolve(ODD, sender="bob", recipients=["a", "b", "c"]))


def test_partial_answers_and_aliases_take_odd_addresses() -> None:
    directory = Directory.from_dict({"ann@uwo.ca": ["alias@uwo.ca"]})
    policy = policy_with(
        RecipientRateLimit("3/day", scope="recipient", direction="inbound"),
        partial=True,
        directory=directory,
    )
    limiter, _ = limiter_with_clock(policy)
    recipients = ["postmaster", "a\nb@uwo.ca", "c d@uwo.ca", "b" * 400, "alias@uwo.ca"]
    envelope = attrs.evolve(ODD, recipients=recipients, direction="inbound")
    decision = limiter.try_acquire(envelope)
    assert decision
    assert len(decision.recipients or ()) == 5
    assert limiter.usage("ann@uwo.ca", scope="recipient")[0].used == 1
