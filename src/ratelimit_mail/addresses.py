"""Addresses and domains: read and normalise them, and say which are the same mailbox.

Every address becomes one string, the one that counts use. Two spellings of one mailbox give the
same string, and two mailboxes never do. `normal_address` takes what RFC 5321 allows and raises
`ValueError` for anything else. `ratelimit_mail.smtp_addresses` takes all that a mail server may let
pass: what is not a regular address or domain stands in square brackets that begin with an
underscore, such as `postmaster@[_local]`, which `normal_address` refuses and no regular address can
equal.

That spelling keeps the case of the local part. `folded` and `without_subaddress` return what a
policy compares: in most policies `Kim@uwo.ca` is `kim@uwo.ca`, and in some so is `kim+shop@uwo.ca`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, Final

from ratelimit_mail._util.cache import BoundedCache
from ratelimit_mail._util.text import has_control, show

__all__ = [
    "LOCAL_DOMAIN",
    "NULL_SENDER",
    "SEPARATORS",
    "DomainSet",
    "DomainsOf",
    "folded",
    "folded_plain_domains",
    "folded_text",
    "normal_address",
    "normal_addresses",
    "normal_and_folded",
    "normal_domain",
    "normal_pattern",
    "normal_sender",
    "without_subaddress",
    "written_local_part",
]

NULL_SENDER: Final = "<>"
"""The sender of bounces (RFC 5321, 4.5.5): a subject of its own."""

LOCAL_DOMAIN: Final = "[_local]"
"""The domain of an address without one, such as `postmaster`: the mail server's own."""

SEPARATORS: Final = "!#$%&'*+-/=?^_`{|}~"
"""What may separate a subaddress: all that an unquoted local part may have, but for the dot."""

LONGEST_ADDRESS: Final = 320
LONGEST_DOMAIN: Final = 255
LONGEST_LABEL: Final = 63
LONGEST_U_LABEL: Final = LONGEST_LABEL - len("xn--")
"""In characters: each costs at least one character of the A-label."""

# Every pattern runs in linear time: repetitions are possessive, or no two adjacent ones match the
# same character.
_plain = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+@([A-Za-z0-9._-]+)").fullmatch
_find_in_plain = re.compile(
    r"^[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@([a-z0-9._-]{1,255})$", re.MULTILINE
).findall
_FOLDED_LINE: Final = r"[a-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}+@([a-z0-9._-]{1,255}+)"
_find_in_folded = re.compile(rf"^{_FOLDED_LINE}$", re.MULTILINE).findall
QUOTED = re.compile(r'"((?:[^"\\]|\\.)*+)"', re.DOTALL)
_QUOTED_PAIR = re.compile(r"\\(.)", re.DOTALL)
_DOMAIN = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*+")
_LABEL = re.compile(r"[a-z0-9_-]+")
_LITERAL = re.compile(r"\[[A-Za-z0-9.:-]+\]")
_MISPLACED = re.compile(r'[\s,;:<>()\[\]@"\\]')
MOST_DOMAINS: Final = 4096
_normal_domains: set[str] = set()
"""Domains that are known to be normal."""
_are_normal = _normal_domains.issuperset


def normal_address(value: object) -> tuple[str, str]:
    """Return the one spelling of an address, and its domain.

    The domain is in lower case and as IDNA. The local part is as written, without the quotes that
    it does not need.
    """
    if not isinstance(value, str):
        raise TypeError(f"an address is a string such as 'bob@example.com', not {show(value)}")
    if len(value) > LONGEST_ADDRESS:
        raise ValueError(f"the address {show(value)} is longer than {LONGEST_ADDRESS} characters")
    plain = _plain(value)
    if plain:
        written = plain[1]
        if written in _normal_domains:
            return value, written
        local = value[: -len(written) - 1]
    else:
        local, written = _split(value)
    try:
        domain = normal_domain(written)
    except ValueError as error:
        raise ValueError(f"the address {show(value)}: {error}") from None
    if plain and domain == written:
        _remember_normal((domain,))
        return value, domain
    normal = f"{local}@{domain}"
    if len(normal) > LONGEST_ADDRESS:
        raise ValueError(
            f"the address {show(value)} is longer than {LONGEST_ADDRESS} characters"
            " once its domain is ASCII"
        )
    return normal, domain


def _check_normal(domains: Sequence[str]) -> bool:
    """Return whether all domains are normal, and remember them; the slow half of `_are_normal`."""
    try:
        if any(normal_domain(domain) != domain for domain in domains):
            return False
    except ValueError:
        return False
    _remember_normal(domains)
    return True


def _remember_normal(domains: Sequence[str]) -> None:
    if len(domains) <= MOST_DOMAINS:
        if len(_normal_domains) >= MOST_DOMAINS:
            _normal_domains.clear()
        _normal_domains.update(domains)


DomainsOf = dict[str, str]
"""The domain of each address, by the address."""


def normal_addresses(values: Iterable[object]) -> DomainsOf:
    """Return the domain of each address, by the address as `normal_address` writes it."""
    return normal_and_folded(values)[0]


def normal_and_folded(values: Iterable[object]) -> tuple[DomainsOf, DomainsOf]:
    """Return the same as `normal_addresses`, and again by the address as `folded` writes it.

    It is one object twice if no address is changed by that.
    """
    addresses: list[Any] = list(values)
    if (domains := folded_plain_domains(addresses)) is not None:
        same = dict(zip(addresses, domains, strict=True))
        return same, same
    try:
        # Most addresses are plain and normal. Matching them as lines of one text takes half the
        # time of matching each.
        text = "\n".join(addresses)
    except TypeError:
        return with_folded(dict(map(normal_address, addresses)))
    count = len(addresses)
    if (domains := _domains_of_lines(_find_in_plain, text, count)) is not None:
        lines = text.lower().split("\n")
        domain_of = dict(zip(addresses, domains, strict=True))
        return domain_of, dict(zip(lines, domains, strict=True))
    return with_folded(dict(map(normal_address, addresses)))


def folded_plain_domains(addresses: list[Any]) -> tuple[str, ...] | None:
    """Return the domain of each address, if all are plain.

    That is, if every address is already as `normal_address` and `folded` write it, as most are: a
    third of the time of a look at each. None if any is not, or is not an address.
    """
    try:
        text = "\n".join(addresses)
    except TypeError:
        return None
    count = len(addresses)
    if count > MOST_IN_ONE_MATCH:
        return _domains_of_lines(_find_in_folded, text, count)
    # More lines do not match either: an address had a line break.
    match = _match_folded[count](text)
    if match is None:
        return None
    domains = match.groups()
    return domains if _are_normal(domains) or _check_normal(domains) else None


MOST_IN_ONE_MATCH: Final = 12


def _matcher_of_folded(count: int) -> Callable[[str], re.Match[str] | None]:
    """Return the function that matches `count` folded addresses, one a line.

    Each domain is a group, which takes two thirds of the time of a search for each line.
    """
    return re.compile("\n".join([_FOLDED_LINE] * count)).fullmatch


_match_folded = BoundedCache(_matcher_of_folded, most=MOST_IN_ONE_MATCH + 1)  # 0 to that many


def _domains_of_lines(
    find: Callable[[str], list[str]], text: str, count: int
) -> tuple[str, ...] | None:
    """Return the domains that `find` finds, if it finds a normal one in each of `count` lines.

    None if it does not, or if there are more lines: an address had a line break.
    """
    domains = find(text)
    if len(domains) != count or text.count("\n") >= count:
        return None
    return tuple(domains) if _are_normal(domains) or _check_normal(domains) else None


def with_folded(domain_of: DomainsOf) -> tuple[DomainsOf, DomainsOf]:
    """Return the domains by address, and again by the address as `folded` writes it."""
    return domain_of, {folded(address): domain for address, domain in domain_of.items()}


def normal_sender(value: object) -> tuple[str, str]:
    """Return the same as `normal_address`; `<>` and the empty string are the null sender."""
    if value in ("", NULL_SENDER):
        return NULL_SENDER, NULL_SENDER
    return normal_address(value)


def _split(address: str) -> tuple[str, str]:
    """Return the local part of a strict address in its one spelling, and the domain as written."""
    local, at, domain = address.rpartition("@")
    if not address:
        raise ValueError("an address is empty; one such as 'bob@example.com' is needed")
    if has_control(address):
        raise ValueError(
            f"the address {show(address)} has a line break or another control character"
        )
    if not at:
        raise ValueError(f"the address {show(address)} has no '@' and so no domain")
    if not local:
        raise ValueError(f"the address {show(address)} has nothing before its '@'")
    if QUOTED.fullmatch(local):
        return written_local_part(unquoted(local)), domain
    if _MISPLACED.search(local):
        raise ValueError(
            f"{show(address)} is not one bare address such as 'bob@example.com',"
            " without a name or brackets"
        )
    return local, domain


def written_local_part(local: str) -> str:
    """Return a local part as it is written before the `@`: in quotes where it needs them."""
    if local and not _MISPLACED.search(local):
        return local
    escaped = local.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def unquoted(words: str) -> str:
    """Return a local part without the quotes of its quoted words."""
    return QUOTED.sub(lambda word: _QUOTED_PAIR.sub(r"\1", word[1]), words)


# How a policy compares addresses.


def folded(address: str) -> str:
    """Return the spelling of a normal address that is the same for every case of its letters.

    What is not ASCII folds as Unicode says: canonical caseless matching, which takes composed and
    decomposed letters as one, and `ß` as `ss`. It knows no language: the dotted capital I and the
    dotless i of Turkish are not `i`.
    """
    if address.isascii():
        return address.lower()
    local, _, domain = address.rpartition("@")
    local = folded_text(_bare(local))
    key = f"{written_local_part(local)}@{domain}"
    if len(key) <= LONGEST_ADDRESS:
        return key
    from ratelimit_mail.address_digests import digest_local  # few addresses need it

    return f"{digest_local(local)}@{domain}"


def folded_text(text: str) -> str:
    """Return the form of `text` in which it compares without case."""
    if text.isascii():
        return text.lower()
    if len(text) > LONGEST_ADDRESS:  # composing takes more than linear time
        return text.casefold()
    import unicodedata  # few addresses need it

    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", text).casefold())


def without_subaddress(address: str, separators: str) -> str:
    """Return `kim@uwo.ca` for `kim+shop@uwo.ca`: without all from the first separator on.

    An address with nothing before its separator is returned unchanged.

    separators: the characters that may stand before a subaddress.
    """
    if not any(separator in address for separator in separators):
        return address
    from ratelimit_mail.address_digests import DIGEST_LOCAL  # few addresses need it

    local, _, domain = address.rpartition("@")
    digest = DIGEST_LOCAL.fullmatch(local)
    bare = _bare(local)
    end = len(bare) if digest is None else digest.start(1)
    cuts = [bare.find(separator, 1, end) for separator in separators]
    cut = min((cut for cut in cuts if cut > 0), default=0)
    return f"{written_local_part(bare[:cut])}@{domain}" if cut else address


def _bare(local: str) -> str:
    """Return a local part without quotes."""
    return unquoted(local) if local[:1] == '"' else local


# Domains


@lru_cache(maxsize=4096)
def normal_domain(domain: str) -> str:
    """Return `domain` in lower case, with each label that is not ASCII as its A-label."""
    if len(domain) > LONGEST_DOMAIN:
        raise ValueError(f"the domain {show(domain)} is longer than {LONGEST_DOMAIN} characters")
    if domain.isascii():
        normal = domain.lower()
        if _LITERAL.fullmatch(normal) or (_DOMAIN.fullmatch(normal) and "xn--" not in normal):
            return normal
    else:
        normal = mapped(domain)
    normal = ".".join([_normal_label(label, domain) for label in normal.split(".")])
    if len(normal) > LONGEST_DOMAIN:
        raise ValueError(
            f"the domain {show(domain)} is longer than {LONGEST_DOMAIN} characters in ASCII"
        )
    return normal


def mapped(domain: str) -> str:
    """Return `domain` with its characters mapped as UTS 46 says, case included."""
    # `idna` is imported where it is needed, because most programs never need it.
    import idna

    try:
        # Without the STD3 rules, so that an underscore may stand beside a label in Unicode.
        # `_normal_label` refuses the other characters.
        return idna.uts46_remap(domain, std3_rules=False)
    except idna.IDNAError:
        raise ValueError(
            f"the domain {show(domain)} has a character that a domain cannot have"
        ) from None


def _normal_label(label: str, domain: str) -> str:
    # Before the label is encoded, because encoding is slow for long labels.
    if len(label) > (LONGEST_LABEL if label.isascii() else LONGEST_U_LABEL):
        raise ValueError(
            f"the domain {show(domain)} has a label longer than {LONGEST_LABEL} characters"
        )
    if label.isascii() and not _LABEL.fullmatch(label):
        raise ValueError(f"{show(domain)} is not a domain; one such as 'example.com' is needed")
    if label.isascii() and not label.startswith("xn--"):
        return label
    import idna

    try:
        return idna.alabel(label).decode("ascii")
    except (idna.IDNAError, UnicodeError):
        raise ValueError(
            f"the domain {show(domain)} has the label {show(label)}, which IDNA does not allow"
        ) from None


def normal_pattern(value: object) -> str:
    """Return the one spelling of a domain, or of all its subdomains with a leading dot."""
    if not isinstance(value, str):
        raise TypeError(f"a domain is a string such as 'uwo.ca' or '.uwo.ca', not {show(value)}")
    if not value.startswith("."):
        return normal_domain(value)
    try:
        return "." + normal_domain(value[1:])
    except ValueError as error:
        raise ValueError(f"{show(value)}: {error}") from None


class DomainSet(BoundedCache[str, bool]):
    """A set of domains: `"uwo.ca"` is that domain, `".uwo.ca"` all its subdomains.

    `domains[domain]` is True if the set has the domain.

    with_local: True adds the domain of addresses without one.
    """

    def __init__(self, patterns: Iterable[str], *, with_local: bool = False) -> None:
        super().__init__(self._has)
        self.patterns = tuple(patterns)
        self.with_local = with_local
        self._exact = {p for p in self.patterns if not p.startswith(".")}
        if with_local:
            self._exact.add(LOCAL_DOMAIN)
        self._above = frozenset(p[1:] for p in self.patterns if p.startswith("."))

    def __reduce__(self) -> tuple[Any, ...]:
        return _domain_set, (self.patterns, self.with_local)

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


def _domain_set(patterns: tuple[str, ...], with_local: bool) -> DomainSet:
    return DomainSet(patterns, with_local=with_local)
