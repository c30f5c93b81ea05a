"""NetworkTags: a table of networks and the tags of the clients in them, read from a text file.

Each line names a network and its tags, with blanks, commas or semicolons between them:

    # the campus
    129.100.0.0/16    campus
    129.100.64.0/18   wireless
    2001:db8:5::/48   campus, reznet

An address alone is a network of one address. `#` begins a comment. A client has the tags of every
network that contains its address, so the order of the lines does not matter.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import attrs

from ratelimit_mail._util.cache import BoundedCache
from ratelimit_mail._util.text import show
from ratelimit_mail.conditions import Network, parse_network
from ratelimit_mail.envelope import NOBODY, Client, type_of_ip

__all__ = ["NetworkTags"]

MOST_BYTES: Final = 16 * 1024 * 1024
"""The largest file that is read."""

LONGEST_TAG: Final = 100

_Masks = list[tuple[int, dict[int, frozenset[str]]]]
"""For each length of prefix, the bits after it, and the tags by what stands before them."""


class NetworkTags:
    """The tags of the clients in some networks.

    networks: pairs of a network such as `"129.100.0.0/16"` and its tags. A network that is there
        twice has the tags of both.

    Raises TypeError or ValueError that names what is not a network or a tag.
    """

    def __init__(self, networks: Iterable[tuple[str | Network, Iterable[str]]] = ()) -> None:
        tables: dict[int, dict[int, dict[int, frozenset[str]]]] = {4: {}, 6: {}}
        self._count = 0
        for each, words in networks:
            network = parse_network(each, "networks")
            tags = frozenset(map(_tag, words))
            if not tags:
                raise ValueError(f"networks: {network} has no tag such as 'wireless'")
            bits = network.max_prefixlen - network.prefixlen
            table = tables[network.version].setdefault(bits, {})
            key = int(network.network_address) >> bits
            self._count += key not in table
            table[key] = table.get(key, frozenset()) | tags
        self._tables: dict[int, _Masks] = {
            version: sorted(masks.items()) for version, masks in tables.items()
        }
        self._cache = BoundedCache(self._tags_of)

    def __len__(self) -> int:
        """The number of networks."""
        return self._count

    def __repr__(self) -> str:
        return f"<NetworkTags: {self._count} networks>"

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> NetworkTags:
        """Return the table in a text file.

        Raises OSError if the file cannot be read, and ValueError with the file and the line if it
        is larger than 16 MiB or a line is not a network and its tags.
        """
        with Path(path).open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise ValueError(f"{os.fspath(path)}: is larger than {MOST_BYTES:,} bytes")
        try:
            return cls.loads(data.decode("utf-8-sig"))
        except UnicodeDecodeError:
            raise ValueError(f"{os.fspath(path)}: is not UTF-8 text") from None
        except ValueError as error:
            raise ValueError(f"{os.fspath(path)}: {error}") from None

    @classmethod
    def loads(cls, text: str) -> NetworkTags:
        """Return the table in `text`; raise ValueError that names the line that is wrong."""
        networks: list[tuple[Network, list[str]]] = []
        for number, line in enumerate(text.splitlines(), 1):
            words = line.partition("#")[0].replace(",", " ").replace(";", " ").split()
            if not words:
                continue
            try:
                network = parse_network(words[0], "networks")
                if len(words) == 1:
                    raise ValueError(f"networks: {network} has no tag such as 'wireless'")
                networks.append((network, [_tag(word) for word in words[1:]]))
            except ValueError as error:
                reason = str(error).removeprefix("networks: ")
                raise ValueError(f"line {number}: {reason}") from None
        return cls(networks)

    def tags_of(self, ip: type_of_ip | None) -> frozenset[str]:
        """Return the tags of a client's address; none for None."""
        return frozenset() if ip is None else self._cache[ip]

    def tagged(self, client: Client) -> Client:
        """Return `client` with the tags of its networks beside its own."""
        tags = self.tags_of(client.ip)
        if client is NOBODY or tags <= client.tags:
            return client
        return attrs.evolve(client, tags=client.tags | tags)

    def _tags_of(self, ip: type_of_ip) -> frozenset[str]:
        number = int(ip)
        tags: frozenset[str] = frozenset()
        for bits, table in self._tables[ip.version]:
            tags |= table.get(number >> bits, tags)
        return tags


def _tag(word: object) -> str:
    if not isinstance(word, str) or not 0 < len(word) <= LONGEST_TAG or not word.isprintable():
        raise ValueError(f"networks: {show(word)} is not a tag such as 'wireless'")
    return word
