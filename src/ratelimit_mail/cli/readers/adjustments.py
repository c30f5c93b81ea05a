"""Adjustments: what the user knows of the messages that the files do not say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import attrs

from ratelimit_mail._util.cache import BoundedCache
from ratelimit_mail.addresses import DomainSet, normal_address, normal_pattern
from ratelimit_mail.cli.errors import RejectedRow
from ratelimit_mail.cli.readers.base import Item, Reading
from ratelimit_mail.cli.replay.mail_records import MailRecord
from ratelimit_mail.client_tags import ClientTags
from ratelimit_mail.envelope import PROTOCOLS, Client

__all__ = ["COLUMN", "Adjustments"]

COLUMN: Final = "column:"
"""What begins the name of a column in the options `--client`, `--protocol` and `--tag`."""

ELSEWHERE: Final = "messages of senders in other domains are not replayed"


@attrs.frozen(kw_only=True)
class Adjustments:
    """Changes to messages as they are read.

    address, protocol: those of each client of which the files do not say it.
    tags: of every client. networks: the tags of clients by their addresses and logins.
    sender_domains: if any, messages of senders in other domains are left out.
    """

    address: str | None = None
    protocol: str | None = None
    tags: frozenset[str] = frozenset()
    networks: ClientTags | None = None
    sender_domains: Sequence[str] = ()

    @classmethod
    def from_options(
        cls,
        client: str | None,
        protocol: str | None,
        tags: Sequence[str],
        networks: ClientTags | None,
        sender_domains: Sequence[str],
    ) -> tuple[Adjustments, dict[str, str]]:
        """Return the adjustments, and the columns that the options name instead of a value.

        Raises ValueError if a value is not an address, a protocol or a word.
        """
        columns: dict[str, str] = {}
        words = []
        for field, text in (("client", client), ("protocol", protocol)):
            if text is not None and text.startswith(COLUMN):
                columns[field] = text.removeprefix(COLUMN)
        for tag in tags:
            if not tag.startswith(COLUMN):
                words.append(tag)
            elif "tags" in columns:
                raise ValueError("--tag: only one column can have the tags")
            else:
                columns["tags"] = tag.removeprefix(COLUMN)
        address = None if "client" in columns else client
        name = None if "protocol" in columns else protocol
        if name is not None and name.lower() not in PROTOCOLS:
            raise ValueError(
                f"--protocol: {name!r} is not one of {', '.join(PROTOCOLS)},"
                f" or a column such as {COLUMN}Protocol"
            )
        if address is not None:
            try:
                Client(address=address)
            except ValueError:
                raise ValueError(
                    f"--client: {address!r} is not an IP address,"
                    f" or a column such as {COLUMN}FromIP"
                ) from None
        adjustments = cls(
            address=address,
            protocol=name,
            tags=frozenset(words),
            networks=networks,
            sender_domains=tuple(map(normal_pattern, sender_domains)),
        )
        return adjustments, columns

    def applied(self, items: Iterable[Item], reading: Reading) -> Iterable[Item]:
        """Return `items` with the changes."""
        if self.sender_domains:
            items = self._of_domains(items, reading)
        if self.address or self.protocol or self.tags or self.networks is not None:
            items = self._with_clients(items)
        return items

    def _of_domains(self, items: Iterable[Item], reading: Reading) -> Iterator[Item]:
        domains = DomainSet(self.sender_domains)
        is_own: BoundedCache[str, bool] = BoundedCache(lambda sender: _is_in(sender, domains))
        for item in items:
            if isinstance(item, RejectedRow) or is_own[item.sender]:
                yield item
            else:
                reading.notes[ELSEWHERE] += 1

    def _with_clients(self, items: Iterable[Item]) -> Iterator[Item]:
        changed = BoundedCache(self._changed)
        for item in items:
            if isinstance(item, MailRecord):
                yield item._replace(client=changed[item.client])
            else:
                yield item

    def _changed(self, client: Client) -> Client:
        client = attrs.evolve(
            client,
            address=client.address or self.address,
            protocol=client.protocol or self.protocol,
            tags=client.tags | self.tags,
        )
        return client if self.networks is None else self.networks.tagged(client)


def _is_in(sender: str, domains: DomainSet) -> bool:
    return "@" in sender and bool(domains[normal_address(sender)[1]])
