"""Addresses as a mail server lets them pass, and the names of subjects that callers write.

`smtp_address` takes everything. What is not a regular address or domain stands in square brackets
that begin with an underscore, such as `postmaster@[_local]`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from ratelimit_mail._util.text import has_control
from ratelimit_mail.address_digests import DIGEST_LOCAL, DIGEST_NAME, digest_local, digest_name
from ratelimit_mail.addresses import (
    LOCAL_DOMAIN,
    LONGEST_ADDRESS,
    LONGEST_DOMAIN,
    LONGEST_U_LABEL,
    NULL_SENDER,
    QUOTED,
    DomainsOf,
    folded_text,
    mapped,
    normal_address,
    normal_and_folded,
    normal_domain,
    unquoted,
    with_folded,
    written_local_part,
)

__all__ = [
    "smtp_address",
    "smtp_and_folded",
    "smtp_sender",
    "subject_address",
    "subject_domain",
    "subject_sender",
]

_WORDS = re.compile(
    r"""(?:[^\s,;:<>()\[\]@"\\.]++|"(?:[^"\\]|\\.)*+")
        (?:\.(?:[^\s,;:<>()\[\]@"\\.]++|"(?:[^"\\]|\\.)*+"))*+""",
    re.DOTALL | re.VERBOSE,
)
"""A local part of which some words are quoted: `"ann"` or `"ann".smith`."""
_DOTS: Final = ".\u3002\uff0e\uff61"
_SURROGATE = re.compile("[\ud800-\udfff]")
_BLANKS: Final = " \t\r\n"
_SOURCE_ROUTE = re.compile(
    r"@(?:[^\s,:@\[\]<>]++|\[[^\s@\[\]]*+\])(?:,@(?:[^\s,:@\[\]<>]++|\[[^\s@\[\]]*+\]))*+:(?=.)",
    re.DOTALL,
)
_READABLE = re.compile(r"[a-z0-9._:!#$%&'*+/=?^{|}-]{1,200}")
_ODD_DOMAIN = re.compile(rf"\[_{_READABLE.pattern}\]|{DIGEST_NAME.pattern}")


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
        return with_folded(dict(map(smtp_address, addresses)))


def smtp_sender(value: object) -> tuple[str, str]:
    """Return the same as `smtp_address`; `<>` and the empty string are the null sender."""
    if isinstance(value, str) and value.strip(_BLANKS) in ("", NULL_SENDER):
        return NULL_SENDER, NULL_SENDER
    return smtp_address(value)


def _odd_address(value: str) -> tuple[str, str]:
    value = _without_route(_without_brackets(_decoded(value)))
    if QUOTED.fullmatch(value):
        local, domain = value, ""
    elif "@" in value:
        local, _, domain = value.rpartition("@")
    else:
        local, domain = value, ""
    domain = _smtp_domain(domain)
    if DIGEST_LOCAL.fullmatch(local):
        return f"{local}@{domain}", domain
    if '"' in local and _WORDS.fullmatch(local):
        local = unquoted(local)
    address = f"{written_local_part(local)}@{domain}"
    if len(address) > LONGEST_ADDRESS or has_control(address):
        address = f"{digest_local(folded_text(local))}@{domain}"
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
    return f"[_{domain}]" if _READABLE.fullmatch(domain) else digest_name(domain)


def _encoded(domain: str) -> str:
    """Return a domain that IDNA does not allow in ASCII if that is possible: emoji are in use."""
    if domain.isascii() or len(domain) > LONGEST_DOMAIN:
        return domain
    try:
        labels = mapped(domain).split(".")
        if max(map(len, labels)) > LONGEST_U_LABEL:
            return domain
        return ".".join(
            label if label.isascii() else "xn--" + label.encode("punycode").decode("ascii")
            for label in labels
        )
    except ValueError:
        return domain


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
