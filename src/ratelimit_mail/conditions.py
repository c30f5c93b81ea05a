"""Predicates on clients: which tier a client is in, and later who is exempt."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

import attrs

from ratelimit_mail.addresses import show
from ratelimit_mail.envelope import PROTOCOLS, Client

__all__ = ["Condition", "all_of", "any_of", "has_tag", "in_network", "not_", "protocol"]

Condition = Callable[[Client], bool]
"""Anything that says of a client whether it holds."""

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _network(value: object) -> _Network:
    try:
        return ipaddress.ip_network(value)  # type: ignore[arg-type]
    except ValueError as error:
        raise ValueError(
            f"in_network: {show(value)} is no network such as '129.100.0.0/16' ({error})"
        ) from None


@attrs.frozen
class _InNetwork:
    networks: tuple[_Network, ...]

    def __call__(self, client: Client) -> bool:
        ip = client.ip
        return ip is not None and any(ip in network for network in self.networks)


@attrs.frozen
class _HasTag:
    tag: str

    def __call__(self, client: Client) -> bool:
        return self.tag in client.tags


@attrs.frozen
class _Protocol:
    name: str

    def __call__(self, client: Client) -> bool:
        return client.protocol == self.name


@attrs.frozen
class _AnyOf:
    conditions: tuple[Condition, ...]

    def __call__(self, client: Client) -> bool:
        return any(holds(client) for holds in self.conditions)


@attrs.frozen
class _AllOf:
    conditions: tuple[Condition, ...]

    def __call__(self, client: Client) -> bool:
        return all(holds(client) for holds in self.conditions)


@attrs.frozen
class _Not:
    condition: Condition

    def __call__(self, client: Client) -> bool:
        return not self.condition(client)


def in_network(*networks: str) -> Condition:
    """Holds for a client whose address is in one of `networks`, such as `"129.100.0.0/16"`.

    A client without an address is in none.
    """
    if not networks:
        raise ValueError("in_network: at least one network is needed")
    return _InNetwork(tuple(map(_network, networks)))


def has_tag(tag: str) -> Condition:
    """Holds for a client with the tag `tag`."""
    if not isinstance(tag, str) or not tag:
        raise ValueError(f"has_tag: {show(tag)} is no word such as 'wireless'")
    return _HasTag(tag)


def protocol(name: str) -> Condition:
    """Holds for a client that submits by `smtp`, `webmail` or `api`."""
    if name not in PROTOCOLS:
        raise ValueError(f"protocol: {show(name)} is none of {', '.join(PROTOCOLS)}")
    return _Protocol(name)


def any_of(*conditions: Condition) -> Condition:
    """Holds where at least one of `conditions` does."""
    return _AnyOf(_checked("any_of", conditions))


def all_of(*conditions: Condition) -> Condition:
    """Holds where each of `conditions` does."""
    return _AllOf(_checked("all_of", conditions))


def not_(condition: Condition) -> Condition:
    """Holds where `condition` does not."""
    return _Not(_checked("not_", (condition,))[0])


def _checked(name: str, conditions: tuple[Condition, ...]) -> tuple[Condition, ...]:
    if not conditions:
        raise ValueError(f"{name}: at least one condition is needed")
    for condition in conditions:
        if not callable(condition):
            raise TypeError(
                f"{name}: {show(condition)} is no condition such as has_tag('wireless')"
            )
    return conditions
