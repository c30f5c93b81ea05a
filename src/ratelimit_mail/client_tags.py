"""ClientTags: a table of networks and logins to the tags of clients, read from a text file.

Each line names a network or a login and its tags, with blanks, commas or semicolons between them:

    129.100.0.0/16       campus
    129.100.64.0/18      wireless, reznet
    2001:db8:5::/48      campus
    129.100.9.25         webmail           # a network of one address
    ann@uwo.ca           staff
    @students.uwo.ca     student           # all logins of a realm
    @                    local             # all logins without a realm

`#` begins a comment. A client has the tags of every line that applies to it, so the order of the
lines does not matter.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from ratelimit_mail._util.cache import BoundedCache
from ratelimit_mail._util.text import show
from ratelimit_mail.addresses import folded_text
from ratelimit_mail.conditions import Network, parse_network
from ratelimit_mail.envelope import Client

if TYPE_CHECKING:
    from ratelimit_mail.envelope import type_of_ip

__all__ = ["ClientTags"]

MOST_BYTES: Final = 16 * 1024 * 1024
"""The largest file that is read."""

LONGEST_LOGIN: Final = 320

NO_TAGS: Final[frozenset[str]] = frozenset()

_TAG: Final = re.compile(r"\w[\w.-]{0,99}")
_DIGITS: Final = re.compile(r"[0-9]+(?:\.[0-9]*)+")

_Masks = list[tuple[int, dict[int, frozenset[str]]]]
"""For each length of prefix, the bits after it, and the tags by what stands before them."""


class ClientTags:
    """The tags of the clients in some networks, and of those with some logins.

    lines: pairs of a target and its tags. A target is a network such as `"129.100.0.0/16"`, an
        address, a login such as `"ann@uwo.ca"`, `"@students.uwo.ca"` for all logins of a realm, or
        `"@"` for all logins without one. A target that is there twice has the tags of both. Logins
        are compared without case.

    Raises TypeError or ValueError that names what is not a target or a tag.
    """

    def __init__(self, lines: Iterable[tuple[str | Network, Iterable[str]]] = ()) -> None:
        tables: dict[int, dict[int, dict[int, frozenset[str]]]] = {4: {}, 6: {}}
        self._logins: dict[str, frozenset[str]] = {}
        for target, words in lines:
            tags = _checked_tags(target, words)
            network_or_login = _checked_target(target)
            if isinstance(network_or_login, str):
                table: dict[str, frozenset[str]] = self._logins
                table[network_or_login] = table.get(network_or_login, NO_TAGS) | tags
            else:
                network = network_or_login
                bits = network.max_prefixlen - network.prefixlen
                masked = tables[network.version].setdefault(bits, {})
                key = int(network.network_address) >> bits
                masked[key] = masked.get(key, NO_TAGS) | tags
        self._tables: dict[int, _Masks] = {
            version: sorted(masks.items()) for version, masks in tables.items()
        }
        self._cache = BoundedCache(self._tags_of_ip)

    def __len__(self) -> int:
        """The number of networks and logins."""
        networks = sum(len(masked) for masks in self._tables.values() for _, masked in masks)
        return networks + len(self._logins)

    def __repr__(self) -> str:
        return f"<ClientTags: {len(self)} networks and logins>"

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        more: Iterable[tuple[str | Network, Iterable[str]]] = (),
    ) -> ClientTags:
        """Return the table in a text file, with `more` lines: pairs as for the class.

        Raises OSError if the file cannot be read, and ValueError with the file and the line if it
        is larger than 16 MiB or a line is not a network or a login and its tags.
        """
        name = os.fspath(path)
        with Path(path).open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise ValueError(f"{name}: is larger than {MOST_BYTES:,} bytes")
        try:
            return cls([*_read_lines(data.decode("utf-8-sig")), *more])
        except UnicodeDecodeError:
            raise ValueError(f"{name}: is not UTF-8 text") from None
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None

    @classmethod
    def loads(cls, text: str) -> ClientTags:
        """Return the table in `text`; raise ValueError that names the line that is wrong."""
        return cls(_read_lines(text))

    def tags_of(self, ip: type_of_ip | None, user: str | None = None) -> frozenset[str]:
        """Return the tags of a client with an address and a login; None: it has none."""
        tags = NO_TAGS if ip is None else self._cache[ip]
        if user is not None and self._logins:
            login = folded_text(user)
            realm = login.rpartition("@")[2] if "@" in login else ""
            tags |= self._logins.get(login, NO_TAGS) | self._logins.get(f"@{realm}", NO_TAGS)
        return tags

    def tagged(self, client: Client) -> Client:
        """Return `client` with the tags of its network and its login beside its own."""
        tags = self.tags_of(client.ip, client.user)
        return client if tags <= client.tags else attrs.evolve(client, tags=client.tags | tags)

    def _tags_of_ip(self, ip: type_of_ip) -> frozenset[str]:
        number = int(ip)
        tags = NO_TAGS
        for bits, table in self._tables[ip.version]:
            tags |= table.get(number >> bits, NO_TAGS)
        return tags


def _read_lines(text: str) -> list[tuple[str | Network, list[str]]]:
    """Return the lines in the text of a file, checked, so that errors name their numbers."""
    lines: list[tuple[str | Network, list[str]]] = []
    for number, line in enumerate(text.splitlines(), 1):
        target, *words = line.partition("#")[0].replace(",", " ").replace(";", " ").split() or [""]
        if not target:
            continue
        try:
            _checked_tags(target, words)
            lines.append((_checked_target(target), words))
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
    return lines


def _checked_target(target: str | Network) -> str | Network:
    """Return the network that is meant, or the login without case."""
    if not isinstance(target, str):
        return parse_network(target, "target")
    if _is_network(target):
        return parse_network(target, "target")
    if not 0 < len(target) <= LONGEST_LOGIN or not target.isprintable():
        raise ValueError(f"target: {show(target)} is not a network, a login, or @ and a realm")
    return folded_text(target)


def _is_network(text: str) -> bool:
    """Return whether a network or an address is meant, be it wrong, and not a login."""
    if "@" in text or text.startswith("certificate:"):
        return False
    if "/" in text or _DIGITS.fullmatch(text):
        return True
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _checked_tags(target: object, words: Iterable[str]) -> frozenset[str]:
    tags = frozenset(words)
    if not tags:
        raise ValueError(f"{show(str(target))} has no tag such as 'wireless'")
    for tag in tags:
        if not isinstance(tag, str) or not _TAG.fullmatch(tag) or _is_network(tag):
            raise ValueError(f"{show(tag)} is not a tag such as 'wireless'")
    return tags
