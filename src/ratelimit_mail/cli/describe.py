"""Describe a policy in words: its limits, the conditions of its tiers, its exemptions."""

from __future__ import annotations

from collections.abc import Iterator

from ratelimit_mail._util.text import show
from ratelimit_mail.conditions import AllOf, AnyOf, Condition, HasTag, InNetwork, Not, Protocol
from ratelimit_mail.limits import Limit, RateLimit
from ratelimit_mail.overrides import Concession
from ratelimit_mail.policy import Policy
from ratelimit_mail.rates import window_text

__all__ = [
    "concession_in_words",
    "condition_in_words",
    "limit_in_words",
    "rules_of",
]


def rules_of(policy: Policy) -> Iterator[tuple[str, str]]:
    """Yield every rule of `policy`: what it applies to, and its text."""
    outbound = [limit for limit in policy.limits if not _is_inbound(limit)]
    inbound = [limit for limit in policy.limits if _is_inbound(limit)]
    yield from (("everybody", limit_in_words(limit)) for limit in outbound)
    for tier in policy.tiers:
        yield tier.name, f"{condition_in_words(tier.when)}:"
        yield from ((tier.name, limit_in_words(limit)) for limit in tier.limits)
    yield from (("each mailbox", limit_in_words(limit)) for limit in inbound)
    if policy.grants is not None:
        yield "senders", "need a grant; mail from other senders is rejected"
        yield from (("senders", f"granted: {concession_in_words(each)}") for each in policy.grants)
    yield from (("exempt", concession_in_words(each)) for each in policy.exemptions)
    for override in policy.overrides:
        numbers = ", ".join(f"{name}: {number}" for name, number in override.limits.items())
        yield "overrides", f"{concession_in_words(override)}: {numbers}"
    yield from (("addresses", words) for words in _comparison_in_words(policy))
    if policy.internal_domains:
        yield "internal", ", ".join(policy.internal_domains)
    if policy.proxy_address_limit is not None:
        yield (
            "aliases",
            f"at most {policy.proxy_address_limit} for one mailbox; they count as one recipient",
        )
    if policy.partial:
        yield "inbound mail", "is decided for each recipient separately"
    if policy.per_node:
        yield "mail servers", "each server counts separately"


def _comparison_in_words(policy: Policy) -> Iterator[str]:
    """Yield how addresses and clients are compared, unless as everywhere."""
    if policy.case_sensitive:
        yield "Kim@ and kim@ are two addresses"
    if policy.subaddress is not None:
        for separator in policy.subaddress:
            yield f"kim{separator}shop@ counts as kim@"
    scopes = {
        word for limit in policy.all_limits if isinstance(limit, RateLimit) for word in limit.scope
    }
    if scopes & {"client", "submitter"}:
        yield (
            f"a client is {_network_in_words('IPv4', policy.ipv4_prefix, 32)},"
            f" or {_network_in_words('IPv6', policy.ipv6_prefix, 128)}"
        )
    if "submitter" in scopes:
        yield (
            "a submitter is the login; without one the sender; for bounces without one the client"
        )


def _network_in_words(version: str, prefix: int, whole: int) -> str:
    return f"an {version} address" if prefix == whole else f"an {version} /{prefix}"


def limit_in_words(limit: Limit) -> str:
    """Return `limit` with all its options except its reply."""
    words = str(limit)
    if isinstance(limit, RateLimit):
        if limit.share is not None:
            words += f", {limit.share:.0%} of {limit.rate.amount}".replace("%", " %")
        if limit.is_unique:
            words += (
                "; a recipient counts once, until a window after the last message to it"
                if limit.calendar is None
                else f"; a recipient counts once in each {window_text(limit.rate)}"
            )
        if limit.on_excess == "reject":
            words += "; excess messages are rejected"
        if limit.on_excess == "block":
            words += "; a subject above it is blocked until it is unblocked"
        if limit.denied == "count":
            words += "; refused attempts count"
        if limit.on_oversize == "spread":
            words += (
                "; a larger message is accepted when nothing is counted, and holds the limit for"
                " longer"
            )
    return words


def condition_in_words(condition: Condition | None) -> str:
    """Return for which clients `condition` holds."""
    return "any other client" if condition is None else f"clients {_clients_in_words(condition)}"


def _clients_in_words(condition: Condition) -> str:
    match condition:
        case AnyOf(conditions):
            return " or ".join(map(_in_brackets, conditions))
        case AllOf(conditions):
            return " and ".join(map(_in_brackets, conditions))
        case InNetwork(networks):
            return f"with an address in {', '.join(map(str, networks))}"
        case Not(InNetwork() as inner):
            return _clients_in_words(inner).replace("with", "without", 1)
        case Not(inner):
            return f"not {_in_brackets(inner)}"
        case HasTag(tag):
            return f"tagged {tag}"
        case Protocol(name):
            return f"by {name}"
        case _:
            return f"for which {show(condition)} is true"


def _in_brackets(condition: Condition) -> str:
    words = _clients_in_words(condition)
    return f"({words})" if isinstance(condition, AnyOf | AllOf) else words


def concession_in_words(concession: Concession) -> str:
    """Return the senders and clients that `concession` applies to, and its reason."""
    words = ", ".join(concession.senders)
    if concession.when is not None:
        words += f"{', ' if words else ''}{condition_in_words(concession.when)}"
    return f"{words} ({concession.reason})" if concession.reason else words


def _is_inbound(limit: Limit) -> bool:
    return isinstance(limit, RateLimit) and limit.direction == "inbound"
