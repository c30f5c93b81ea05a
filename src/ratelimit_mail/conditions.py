"""Conditions on clients, by which tiers are chosen: networks, tags, protocols and their logic."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from typing import Final

import attrs

from ratelimit_mail._util.text import show
from ratelimit_mail.envelope import PROTOCOLS, Client

__all__ = ["Condition", "all_of", "any_of", "has_tag", "in_network", "not_", "protocol"]

Condition = Callable[[Client], bool]
"""Any callable that returns whether it holds for a client."""

DEEPEST: Final = 32
"""The deepest nesting of conditions: a policy asks, compares and writes them recursively."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def parse_network(value: str | Network, what: str) -> Network:
    """Return the network that `value` names; an IPv4-mapped one as IPv4.

    what: begins the text of the TypeError or ValueError for what is not a network.
    """
    if not isinstance(value, str | ipaddress.IPv4Network | ipaddress.IPv6Network):
        raise TypeError(
            f"{what}: a network is a string such as '129.100.0.0/16', not {show(value)}"
        )
    text = str(value)
    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        why = " (has host bits set)" if str(error).endswith("has host bits set") else ""
        raise ValueError(
            f"{what}: {show(text)} is not a network such as '129.100.0.0/16'{why}"
        ) from None
    if "%" in text:
        raise ValueError(f"{what}: {show(text)} is not a network: it has a zone")
    mapped = network.network_address.ipv4_mapped if network.version == 6 else None
    if mapped is None or network.prefixlen < 96:
        return network
    # A client's IPv4-mapped address is read as IPv4, so an IPv4-mapped network is too.
    return ipaddress.IPv4Network((mapped, network.prefixlen - 96))


def _depth_over(conditions: Sequence[Condition]) -> int:
    """Return how deep a condition over `conditions` is; raise ValueError if it is too deep."""
    depths = [each.depth if isinstance(each, AnyOf | AllOf | Not) else 1 for each in conditions]
    depth = 1 + max(depths, default=0)
    if depth > DEEPEST:
        raise ValueError(f"more than {DEEPEST} conditions within each other")
    return depth


@attrs.frozen
class InNetwork:
    """Holds for an address in one of `networks`."""

    networks: tuple[Network, ...]

    def __call__(self, client: Client) -> bool:
        ip = client.ip
        return ip is not None and any(ip in network for network in self.networks)


@attrs.frozen
class HasTag:
    """Holds for a client with the tag `tag`."""

    tag: str

    def __call__(self, client: Client) -> bool:
        return self.tag in client.tags


@attrs.frozen
class Protocol:
    """Holds for a client that submits by `name`."""

    name: str

    def __call__(self, client: Client) -> bool:
        return client.protocol == self.name


@attrs.frozen
class AnyOf:
    """Holds if at least one of `conditions` does."""

    conditions: tuple[Condition, ...]
    depth: int = attrs.field(init=False, repr=False, eq=False)

    @depth.default
    def _depth(self) -> int:
        return _depth_over(self.conditions)

    def __call__(self, client: Client) -> bool:
        return any(holds(client) for holds in self.conditions)


@attrs.frozen
class AllOf:
    """Holds if each of `conditions` does."""

    conditions: tuple[Condition, ...]
    depth: int = attrs.field(init=False, repr=False, eq=False)

    @depth.default
    def _depth(self) -> int:
        return _depth_over(self.conditions)

    def __call__(self, client: Client) -> bool:
        return all(holds(client) for holds in self.conditions)


@attrs.frozen
class Not:
    """Holds if `condition` does not."""

    condition: Condition
    depth: int = attrs.field(init=False, repr=False, eq=False)

    @depth.default
    def _depth(self) -> int:
        return _depth_over((self.condition,))

    def __call__(self, client: Client) -> bool:
        return not self.condition(client)


def in_network(*networks: str | Network) -> Condition:
    """Return a condition on a client's address: one of `networks`, such as `"129.100.0.0/16"`.

    It does not hold for a client without an address.
    """
    if not networks:
        raise ValueError("in_network: at least one network is needed")
    return InNetwork(tuple(parse_network(each, "in_network") for each in networks))


def has_tag(tag: str) -> Condition:
    """Return a condition that holds for a client with the tag `tag`."""
    if not isinstance(tag, str) or not tag:
        raise ValueError(f"has_tag: {show(tag)} is not a word such as 'wireless'")
    return HasTag(tag)


def protocol(name: str) -> Condition:
    """Return a condition that holds for a client that submits by `smtp`, `webmail` or `api`.

    name: one of these three.
    """
    normal = name.lower() if isinstance(name, str) else name
    if normal not in PROTOCOLS:
        raise ValueError(f"protocol: {show(name)} is not one of {', '.join(PROTOCOLS)}")
    return Protocol(normal)


def any_of(*conditions: Condition) -> Condition:
    """Return a condition that holds if at least one of `conditions` does."""
    return AnyOf(_checked("any_of", conditions))


def all_of(*conditions: Condition) -> Condition:
    """Return a condition that holds if each of `conditions` does."""
    return AllOf(_checked("all_of", conditions))


def not_(condition: Condition) -> Condition:
    """Return a condition that holds if `condition` does not."""
    return Not(_checked("not_", (condition,))[0])


def _checked(name: str, conditions: tuple[Condition, ...]) -> tuple[Condition, ...]:
    if not conditions:
        raise ValueError(f"{name}: at least one condition is needed")
    for condition in conditions:
        if not callable(condition):
            raise TypeError(
                f"{name}: {show(condition)} is not a condition such as has_tag('wireless')"
            )
    return conditions
