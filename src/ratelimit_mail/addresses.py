"""Addresses and domains: read and normalise them, and say which are the same mailbox.

Every address becomes one string, the one that counts use. Two spellings of one mailbox give the
same string, and two mailboxes never do. `normal_address` takes what RFC 5321 allows and raises
`ValueError` for anything else. `smtp_address` takes everything that a mail server may let pass.
What is not a regular address or domain stands in square brackets that begin with an underscore,
such as `postmaster@[_local]`, which `normal_address` refuses and no regular address can equal.

That spelling keeps the case of the local part. `folded` and `without_subaddress` return what a
policy compares: in most policies `Kim@uwo.ca` is `kim@uwo.ca`, and in some so is `kim+shop@uwo.ca`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, Final

from ratelimit_mail._util.cache import BoundedCache
from ratelimit_mail._util.text import show

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
    "smtp_address",
    "smtp_and_folded",
    "smtp_sender",
    "subject_address",
    "subject_domain",
    "subject_sender",
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
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*+)"', re.DOTALL)
_QUOTED_PAIR = re.compile(r"\\(.)", re.DOTALL)
_WORDS = re.compile(
    r"""(?:[^\s,;:<>()\[\]@"\\.]++|"(?:[^"\\]|\\.)*+")
        (?:\.(?:[^\s,;:<>()\[\]@"\\.]++|"(?:[^"\\]|\\.)*+"))*+""",
    re.DOTALL | re.VERBOSE,
)
"""A local part of which some words are quoted: `"ann"` or `"ann".smith`."""
_DOMAIN = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*+")
_LABEL = re.compile(r"[a-z0-9_-]+")
_LITERAL = re.compile(r"\[[A-Za-z0-9.:-]+\]")
_MISPLACED = re.compile(r'[\s,;:<>()\[\]@"\\]')
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_DOTS: Final = ".\u3002\uff0e\uff61"
_SURROGATE = re.compile("[\ud800-\udfff]")

# What `smtp_address` reads, and how it writes what is not a regular address or domain.
_BLANKS: Final = " \t\r\n"
_SOURCE_ROUTE = re.compile(
    r"@(?:[^\s,:@\[\]<>]++|\[[^\s@\[\]]*+\])(?:,@(?:[^\s,:@\[\]<>]++|\[[^\s@\[\]]*+\]))*+:(?=.)",
    re.DOTALL,
)
_READABLE = re.compile(r"[a-z0-9._:!#$%&'*+/=?^{|}-]{1,200}")
_NOT_IN_DIGEST_NAME = re.compile(r"[^A-Za-z0-9.+-]")
_DIGEST_NAME = re.compile(r"\[_[A-Za-z0-9._+-]{0,24}~[0-9a-f]{32}\]")
_BASE = re.compile(r"\+?[^\s,;:<>()\[\]@\"\\+]{0,64}")
"""What stands before a subaddress that is replaced by its digest."""
_DIGEST_LOCAL = re.compile(rf"(?:{_BASE.pattern}\+)?({_DIGEST_NAME.pattern})")
_ODD_DOMAIN = re.compile(rf"\[_{_READABLE.pattern}\]|{_DIGEST_NAME.pattern}")


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
        return _with_folded(dict(map(normal_address, addresses)))
    count = len(addresses)
    if (domains := _domains_of_lines(_find_in_plain, text, count)) is not None:
        lines = text.lower().split("\n")
        domain_of = dict(zip(addresses, domains, strict=True))
        return domain_of, dict(zip(lines, domains, strict=True))
    return _with_folded(dict(map(normal_address, addresses)))


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


_match_folded = BoundedCache(_matcher_of_folded, most=MOST_IN_ONE_MATCH)


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


def _with_folded(domain_of: DomainsOf) -> tuple[DomainsOf, DomainsOf]:
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
    if _CONTROL.search(address):
        raise ValueError(
            f"the address {show(address)} has a line break or another control character"
        )
    if not at:
        raise ValueError(f"the address {show(address)} has no '@' and so no domain")
    if not local:
        raise ValueError(f"the address {show(address)} has nothing before its '@'")
    if _QUOTED.fullmatch(local):
        return written_local_part(_unquoted(local)), domain
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


def _unquoted(words: str) -> str:
    return _QUOTED.sub(lambda word: _QUOTED_PAIR.sub(r"\1", word[1]), words)


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
    return key if len(key) <= LONGEST_ADDRESS else f"{_digest_local(local)}@{domain}"


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
    local, _, domain = address.rpartition("@")
    digest = _DIGEST_LOCAL.fullmatch(local)
    bare = _bare(local)
    end = len(bare) if digest is None else digest.start(1)
    cuts = [bare.find(separator, 1, end) for separator in separators]
    cut = min((cut for cut in cuts if cut > 0), default=0)
    return f"{written_local_part(bare[:cut])}@{domain}" if cut else address


def _bare(local: str) -> str:
    """Return a local part without quotes."""
    return _unquoted(local) if local[:1] == '"' else local


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
        normal = _mapped(domain)
    normal = ".".join([_normal_label(label, domain) for label in normal.split(".")])
    if len(normal) > LONGEST_DOMAIN:
        raise ValueError(
            f"the domain {show(domain)} is longer than {LONGEST_DOMAIN} characters in ASCII"
        )
    return normal


def _mapped(domain: str) -> str:
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


# Whatever a mail server lets pass


def smtp_address(value: object) -> tuple[str, str]:
    """Return the one spelling of any address that a mail server let pass, and its domain.

    Never raises ValueError. Takes the address quoted or unquoted, in angle brackets or not. Drops a
    source route and one dot at the end of the domain. The result has no control characters and at
    most 320 characters, and `smtp_address` returns it unchanged.
    """
    try:
        return normal_address(value)
    except ValueError:
        return _odd_address(str(value))


def smtp_and_folded(values: Iterable[object]) -> tuple[DomainsOf, DomainsOf]:
    """Return the same as `normal_and_folded`, for addresses as `smtp_address` writes them."""
    addresses = list(values)
    try:
        return normal_and_folded(addresses)
    except ValueError:
        return _with_folded(dict(map(smtp_address, addresses)))


def smtp_sender(value: object) -> tuple[str, str]:
    """Return the same as `smtp_address`; `<>` and the empty string are the null sender."""
    if isinstance(value, str) and value.strip(_BLANKS) in ("", NULL_SENDER):
        return NULL_SENDER, NULL_SENDER
    return smtp_address(value)


def _odd_address(value: str) -> tuple[str, str]:
    value = _without_route(_without_brackets(_decoded(value)))
    if _QUOTED.fullmatch(value):
        local, domain = value, ""
    elif "@" in value:
        local, _, domain = value.rpartition("@")
    else:
        local, domain = value, ""
    domain = _smtp_domain(domain)
    if _DIGEST_LOCAL.fullmatch(local):
        return f"{local}@{domain}", domain
    if '"' in local and _WORDS.fullmatch(local):
        local = _unquoted(local)
    address = f"{written_local_part(local)}@{domain}"
    if len(address) > LONGEST_ADDRESS or _CONTROL.search(address):
        address = f"{_digest_local(folded_text(local))}@{domain}"
    return address, domain


def _decoded(value: str) -> str:
    """Return text whose UTF-8 bytes were read with `surrogateescape` as the characters they are."""
    if not _SURROGATE.search(value):
        return value
    try:
        return value.encode("utf-8", "surrogateescape").decode("utf-8")
    except UnicodeError:
        return value


def _without_brackets(value: str) -> str:
    stripped = value.strip(_BLANKS)
    if len(stripped) >= 2 and stripped[0] == "<" and stripped[-1] == ">":
        return stripped[1:-1]
    return value


def _without_route(value: str) -> str:
    """Return `value` without the source route that RFC 5321 (appendix C) says to ignore."""
    start = 0
    while route := _SOURCE_ROUTE.match(value, start):
        start = route.end()
    return value[start:]


def _smtp_domain(domain: str) -> str:
    """Return the one spelling of any domain; what is not a regular domain stands in `[_...]`."""
    domain = domain.strip(_BLANKS)
    if not domain:
        return LOCAL_DOMAIN
    if _ODD_DOMAIN.fullmatch(domain):
        return domain
    if len(domain) > 1 and domain[-1] in _DOTS and domain[-2] not in _DOTS:
        domain = domain[:-1]
    if len(domain) <= LONGEST_DOMAIN:
        try:
            return normal_domain(domain)
        except ValueError:
            pass
    domain = _encoded(domain).lower()
    return f"[_{domain}]" if _READABLE.fullmatch(domain) else _digest_name(domain)


def _encoded(domain: str) -> str:
    """Return a domain that IDNA does not allow in ASCII if that is possible: emoji are in use."""
    if domain.isascii() or len(domain) > LONGEST_DOMAIN:
        return domain
    try:
        labels = _mapped(domain).split(".")
        if max(map(len, labels)) > LONGEST_U_LABEL:
            return domain
        return ".".join(
            label if label.isascii() else "xn--" + label.encode("punycode").decode("ascii")
            for label in labels
        )
    except ValueError:
        return domain


def _digest_local(local: str) -> str:
    """Return a short printable name of a folded local part; what is before a `+` stays readable.

    Otherwise, each subaddress would be a mailbox of its own.
    """
    cut = local.find("+", 1)
    base, subaddress = local[: max(cut, 0)], local[cut + 1 :]
    if base and subaddress and _BASE.fullmatch(base) and not _CONTROL.search(base):
        return f"{base}+{_digest_name(subaddress)}"
    return _digest_name(local)


def _digest_name(text: str) -> str:
    """Return a short printable name of `text`, different for every text."""
    # Imported here, because few programs need it.
    import hashlib

    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    return f"[_{_NOT_IN_DIGEST_NAME.sub('_', text[:24])}~{digest}]"


# Names of subjects, as a caller writes them: an address that is shown can be passed back.


def subject_address(value: object) -> str:
    """Return the address that a caller names, which may be one that `smtp_address` wrote."""
    try:
        return normal_address(value)[0]
    except ValueError:
        if smtp_address(value)[0] == value:
            return str(value)
        raise


def subject_sender(value: object) -> str:
    """Return the same as `subject_address`; `<>` and the empty string are the null sender."""
    return NULL_SENDER if value in ("", NULL_SENDER) else subject_address(value)


def subject_domain(value: str) -> str:
    """Return the domain that a caller names, which may be one that `smtp_address` wrote."""
    return value if _ODD_DOMAIN.fullmatch(value) else normal_domain(value)


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
