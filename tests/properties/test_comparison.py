"""Spellings, subaddresses, networks and submitters compared with a list of admitted messages."""

from __future__ import annotations

import ipaddress
import unicodedata
from typing import Any, Final

from hypothesis import given
from hypothesis import strategies as st

from ratelimit_mail import (
    Client,
    Envelope,
    Limiter,
    MessageRateLimit,
    Policy,
    RecipientLimit,
    RecipientRateLimit,
)
from ratelimit_mail.addresses import folded, without_subaddress
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.limits import RateLimit
from ratelimit_mail.scopes import Comparison, subject_getter
from ratelimit_mail.smtp_addresses import smtp_address
from ratelimit_mail.testing import ManualClock

LOCALS: Final = ["kim", "Kim", "KIM", "kim+a", "Kim+B", "kim-a", "+kim", "k", "\u00e9", "E\u0301"]
addresses = st.builds("{}@{}".format, st.sampled_from(LOCALS), st.sampled_from(["uwo.ca", "X.org"]))
hosts = st.sampled_from(
    [None, "10.0.0.1", "::ffff:10.0.0.1", "10.0.0.2", "2001:db8::1", "2001:db8::2", "2001:db8:1::"]
)
clients = st.builds(
    lambda address, user: Client(address=address, user=user),
    hosts,
    st.sampled_from([None, None, "kim", "KIM", "kim@uwo.ca"]),
)
envelopes = st.builds(
    Envelope,
    addresses | st.just("<>"),
    st.lists(addresses, min_size=1, max_size=4),
    clients,
)
comparisons = st.fixed_dictionaries(
    {
        "case_sensitive": st.booleans(),
        "subaddress": st.sampled_from([None, "+", "+-"]),
        "ipv4_prefix": st.sampled_from([32, 24]),
        "ipv6_prefix": st.sampled_from([64, 128, 32]),
    }
)
SCOPES: Final = ("sender", "client", "user", "submitter", "recipient", ("submitter", "client"))


def text_key(text: str, options: dict[str, Any]) -> str:
    if options["case_sensitive"]:
        return text
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", text).casefold())


def person(address: str, options: dict[str, Any]) -> str:
    """Return who an address belongs to."""
    local, _, domain = address.rpartition("@")
    for separator in options["subaddress"] or "":
        local = local[0] + local[1:].split(separator)[0] if local else local
    return f"{text_key(local, options)}@{domain.lower()}" if local else address


def host(client: Client, options: dict[str, Any]) -> str | None:
    if client.address is None:
        return None
    prefix = options["ipv6_prefix" if ":" in client.address else "ipv4_prefix"]
    return str(ipaddress.ip_network(f"{client.address}/{prefix}", strict=False))


def responsible(envelope: Envelope, options: dict[str, Any]) -> tuple[str, str]:
    client = envelope.client
    if client.user is not None:
        return "login", text_key(client.user, options)
    if envelope.sender != "<>":
        return "sender", person(envelope.sender, options)
    if client.address is not None:
        return "host", str(host(client, options))
    return "recipient", min(person(each, options) for each in envelope.recipients)


def costs_of(
    limit: RateLimit, envelope: Envelope, options: dict[str, Any]
) -> dict[tuple[object, ...], int]:
    """Return what `envelope` costs each subject of `limit`."""
    people = {person(each, options) for each in envelope.recipients}
    if limit.scope == ("recipient",):
        return {(each,): 1 for each in people}
    value_of: dict[str, object] = {
        "sender": person(envelope.sender, options),
        "client": host(envelope.client, options),
        "user": None if envelope.client.user is None else text_key(envelope.client.user, options),
        "submitter": responsible(envelope, options),
    }
    cost = len(people) if isinstance(limit, RecipientRateLimit) else 1
    return {tuple(value_of[word] for word in limit.scope): cost}


limits = st.builds(
    lambda kind, amount, scope: kind(f"{amount}/4 seconds", scope=scope),
    st.sampled_from([MessageRateLimit, RecipientRateLimit]),
    st.integers(1, 5),
    st.sampled_from(SCOPES),
)


@given(
    comparisons,
    st.lists(limits, min_size=1, max_size=3),
    st.lists(st.tuples(st.sampled_from([0, 1, 1000, 3999, 4000]), envelopes), max_size=20),
)
def test_the_limiter_counts_people_and_hosts_not_spellings(
    options: dict[str, Any],
    rate_limits: list[RateLimit],
    script: list[tuple[int, Envelope]],
) -> None:
    clock = ManualClock(0)
    policy = Policy(name="people", limits=[*rate_limits, RecipientLimit(3)], **options)
    limiter = Limiter(policy, MemoryBackend(clock))
    admitted: list[tuple[int, Envelope]] = []
    for pause, envelope in script:
        clock.advance(pause / 1000)
        people = {person(each, options) for each in envelope.recipients}
        fits = len(people) <= 3
        for limit in rate_limits:
            for subject, cost in costs_of(limit, envelope, options).items():
                used = sum(
                    costs_of(limit, other, options).get(subject, 0)
                    for moment, other in admitted
                    if moment > clock() - 4000
                )
                fits = fits and used + cost <= limit.limit
        assert limiter.try_acquire(envelope).allowed == fits
        if fits:
            admitted.append((clock(), envelope))
    for _, envelope in admitted:
        named = {
            "sender": envelope.sender,
            "client": envelope.client.address or "",
            "user": envelope.client.user or "",
            "recipient": envelope.recipients[-1],
            "submitter": subject_getter(("submitter",), policy.comparison)(envelope),
        }
        for limit in rate_limits:
            subjects = costs_of(limit, envelope, options)
            counted: tuple[object, ...] = (person(named["recipient"], options),)
            if limit.scope != ("recipient",):
                [counted] = subjects
            used = sum(
                costs_of(limit, other, options).get(counted, 0)
                for moment, other in admitted
                if moment > clock() - 4000
            )
            usages = limiter.usage([named[word] for word in limit.scope], scope=limit.scope)
            assert [each.used for each in usages if each.limit == limit][:1] == [used]


texts = st.text(max_size=40) | st.text(
    st.sampled_from('kK+-_~[]" \\@.\u00df\u1e9eS\u0130\u0131i\u0301\u00c9E\u0345\u03b1;\u037e\x00'),
    max_size=12,
)
odd_addresses = st.builds(
    lambda local, filler, domain: f"{local}{filler}@{domain}",
    texts,
    st.sampled_from(["", "", "", "x" * 400, "+" + "x" * 400]),
    st.sampled_from(["uwo.ca", "X.org", "x..org", "b\u00fccher.de"]),
)


@given(odd_addresses, st.sampled_from(["+", "-", "+-", "_", "~"]))
def test_a_key_is_its_own_key_and_every_address_has_one(address: str, separators: str) -> None:
    normal, domain = smtp_address(address)
    key = folded(normal)
    assert folded(key) == key
    assert len(key) <= 320
    assert key.endswith(f"@{domain.lower()}")
    person_of = without_subaddress(key, separators)
    assert without_subaddress(person_of, separators) == person_of
    assert folded(person_of) == person_of
    assert person_of.endswith(f"@{domain.lower()}")


@given(texts.filter(lambda text: "@" not in text))
def test_changing_the_case_or_the_composition_of_letters_does_not_change_the_key(
    text: str,
) -> None:
    key = folded(smtp_address(f"{text}@uwo.ca")[0])
    for form in ("NFC", "NFD"):
        again = unicodedata.normalize(form, text)
        if again.count("\u037e") == text.count("\u037e"):  # becomes a semicolon, which is quoted
            assert folded(smtp_address(f"{again}@uwo.ca")[0]) == key
    # Case changes the canonical order of some accents, so it is changed in decomposed text.
    lower = unicodedata.normalize("NFD", text).casefold()
    assert folded(smtp_address(f"{lower}@uwo.ca")[0]) == key


plain_addresses = st.builds(
    lambda local, filler: f"{local}{filler}@uwo.ca",
    st.text(st.sampled_from("kKx+-_~"), min_size=1, max_size=6),
    st.sampled_from(["", "", "x" * 400, "y" * 400, "+" + "X" * 400]),
)


@given(plain_addresses, plain_addresses, st.sampled_from([None, "+", "+-", "_", "~"]))
def test_two_addresses_have_one_key_exactly_if_they_are_one_person(
    one: str, other: str, subaddress: str | None
) -> None:
    options = {"case_sensitive": False, "subaddress": subaddress}
    comparison = Comparison(subaddress=subaddress)
    keys = {comparison.address(smtp_address(each)[0]) for each in (one, other)}
    people = {person(each, options) for each in (one, other)}
    # What does not fit the longest address keeps its subaddress, unless a plus separates it.
    is_exact = subaddress in (None, "+") or max(map(len, (one, other))) < 320
    assert len(keys) == len(people) if is_exact else len(keys) >= len(people)
