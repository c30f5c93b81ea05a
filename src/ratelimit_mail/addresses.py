"""E-mail addresses and domains: what is one, and when two are the same."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from ratelimit_mail._util.cache import BoundedCache
from ratelimit_mail._util.text import show

__all__ = [
    "NULL_SENDER",
    "DomainSet",
    "normal_address",
    "normal_domain",
    "normal_pattern",
    "normal_sender",
]

NULL_SENDER = "<>"
"""The sender of bounces (RFC 5321, 4.5.5): a subject of its own."""

LONGEST_ADDRESS = 320
LONGEST_DOMAIN = 255
LONGEST_LABEL = 63

# No two parts of these can match the same character, so neither can be made slow.
_plain = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+@([A-Za-z0-9._-]+)").fullmatch
_domains_of_plain_lines = re.compile(
    r"^[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@([a-z0-9._-]{1,255})$", re.MULTILINE
).findall
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_LABEL = re.compile(r"[a-z0-9_-]+")
_LITERAL = re.compile(r"\[[A-Za-z0-9.:-]+\]")
_MISPLACED = re.compile(r'[\s,;:<>()\[\]@"\\]')
_DOTS = re.compile("[.\u3002\uff0e\uff61]")


def normal_address(value: object) -> tuple[str, str]:
    """`value` as the address that stands for all its spellings, and its domain.

    Domains compare without case and as IDNA, local parts as written.
    """
    if not isinstance(value, str):
        raise TypeError(f"an address is a string such as 'bob@example.com', not {show(value)}")
    if len(value) > LONGEST_ADDRESS:
        raise ValueError(f"the address {show(value)} is longer than {LONGEST_ADDRESS} characters")
    plain = _plain(value)
    written = plain[1] if plain else _domain_of(value)
    try:
        domain = normal_domain(written)
    except ValueError as error:
        raise ValueError(f"the address {show(value)}: {error}") from None
    if domain == written:
        return value, domain
    normal = value[: -len(written)] + domain
    if len(normal) > LONGEST_ADDRESS:
        raise ValueError(
            f"the address {show(value)} is longer than {LONGEST_ADDRESS} characters"
            " once its domain is ASCII"
        )
    return normal, domain


def _is_its_own_spelling(domain: str) -> bool:
    try:
        return normal_domain(domain) == domain
    except ValueError:
        return False


_is_normal = BoundedCache(_is_its_own_spelling).__getitem__


def normal_addresses(values: Iterable[object]) -> dict[str, str]:
    """Addresses as `normal_address` has them, each once, and the domain of each."""
    given: list[Any] = list(values)
    try:
        # Most are plain and normal: looked at together, in half the time, as lines of one text.
        text = "\n".join(given)
    except TypeError:
        return dict(map(normal_address, given))
    domains = _domains_of_plain_lines(text)
    if len(domains) == len(given) == text.count("\n") + 1 and all(map(_is_normal, domains)):
        return dict(zip(given, domains, strict=True))
    return dict(map(normal_address, given))


def normal_sender(value: object) -> tuple[str, str]:
    """Like `normal_address`, where `<>` and the empty string are the null sender."""
    if value in ("", NULL_SENDER):
        return NULL_SENDER, NULL_SENDER
    return normal_address(value)


@lru_cache(maxsize=4096)
def normal_domain(domain: str) -> str:
    """`domain` in lower case and, where it is not ASCII, as its A-labels."""
    if len(domain) > LONGEST_DOMAIN:
        raise ValueError(f"the domain {show(domain)} is longer than {LONGEST_DOMAIN} characters")
    if _LITERAL.fullmatch(domain):
        return domain.lower()
    normal = ".".join(_normal_label(label, domain) for label in _DOTS.split(domain))
    if len(normal) > LONGEST_DOMAIN:
        raise ValueError(
            f"the domain {show(domain)} is longer than {LONGEST_DOMAIN} characters in ASCII"
        )
    return normal


def _normal_label(label: str, domain: str) -> str:
    # One by one, because `lower` writes a sigma otherwise at the end of a word.
    label = "".join(map(str.lower, label))
    if not label.isascii():
        # As UTS 46 maps for IDNA 2008, so that straße.de and strasse.de stay two.
        label = "".join(map(str.lower, unicodedata.normalize("NFKC", label)))
        if not all(ch == "-" or ch.isalnum() or _is_mark(ch) for ch in label):
            raise ValueError(f"the domain {show(domain)} has a character that no domain has")
        if not label.isascii():
            label = "xn--" + label.encode("punycode").decode("ascii")
    if len(label) > LONGEST_LABEL:
        raise ValueError(
            f"the domain {show(domain)} has a part longer than {LONGEST_LABEL} characters"
        )
    if not _LABEL.fullmatch(label):
        raise ValueError(f"{show(domain)} is no domain; one such as 'example.com' is needed")
    return label


def _is_mark(character: str) -> bool:
    # Vowel signs and the two joiners, which some scripts cannot do without.
    return unicodedata.category(character) in ("Mn", "Mc") or character in "\u200c\u200d"


def _domain_of(address: str) -> str:
    """The domain of an address out of the ordinary, or a word on why it is none."""
    local, at, domain = address.rpartition("@")
    if not address:
        raise ValueError("an address is empty; one such as 'bob@example.com' is needed")
    if any(unicodedata.category(ch) in ("Cc", "Cs", "Zl", "Zp") for ch in address):
        raise ValueError(
            f"the address {show(address)} has a line break or another control character"
        )
    if not at:
        raise ValueError(f"the address {show(address)} has no '@' and so no domain")
    if not local:
        raise ValueError(f"the address {show(address)} has nothing before its '@'")
    if not _QUOTED.fullmatch(local) and _MISPLACED.search(local):
        raise ValueError(
            f"{show(address)} is not one bare address such as 'bob@example.com',"
            " without a name or brackets"
        )
    return domain


def normal_pattern(value: object) -> str:
    """A domain, or with a leading dot all its subdomains, in its one spelling."""
    if not isinstance(value, str):
        raise TypeError(f"a domain is a string such as 'uwo.ca' or '.uwo.ca', not {show(value)}")
    if not value.startswith("."):
        return normal_domain(value)
    try:
        return "." + normal_domain(value[1:])
    except ValueError as error:
        raise ValueError(f"{show(value)}: {error}") from None


class DomainSet(BoundedCache[str, bool]):
    """The domains that some patterns name: `"uwo.ca"` itself, `".uwo.ca"` what is below it.

    Asked for a domain by `[]`, it says whether it has it.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        super().__init__(self._has)
        self.patterns = tuple(patterns)
        self._exact = frozenset(p for p in self.patterns if not p.startswith("."))
        self._above = frozenset(p[1:] for p in self.patterns if p.startswith("."))

    def __reduce__(self) -> tuple[type[DomainSet], tuple[tuple[str, ...]]]:
        return DomainSet, (self.patterns,)

    def _has(self, domain: str) -> bool:
        if domain in self._exact:
            return True
        while self._above:
            _, dot, domain = domain.partition(".")
            if domain in self._above:
                return True
            if not dot:
                break
        return False
