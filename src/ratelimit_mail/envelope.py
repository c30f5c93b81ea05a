"""Envelope and Client: who sends one message to whom, and who submits it."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, Literal

import attrs

from ratelimit_mail._util.text import show
from ratelimit_mail.addresses import normal_addresses, normal_sender

if TYPE_CHECKING:
    from email.message import Message

__all__ = ["PROTOCOLS", "Client", "Envelope"]

PROTOCOLS: Final = ("smtp", "webmail", "api")

_ZONE: Final = re.compile(r"[A-Za-z0-9._-]{1,32}")

LONGEST_ID: Final = 512

type_of_ip = ipaddress.IPv4Address | ipaddress.IPv6Address


def _ip(value: object) -> str | None:
    if value is None:
        return None
    try:
        ip = ipaddress.ip_address(str(value))
    except ValueError:
        raise ValueError(
            f"client address: {show(value)} is no IP address such as '10.1.2.3' or '2001:db8::1'"
        ) from None
    if isinstance(ip, ipaddress.IPv6Address):
        # The zone is a name of the host's own; ipaddress takes anything for one.
        if ip.scope_id is not None and not _ZONE.fullmatch(ip.scope_id):
            raise ValueError(f"client address: {show(value)} has a zone that is no name")
        ip = ip.ipv4_mapped or ip
    return str(ip)


def _login(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError(f"client user: a login is a string, not {show(value)}")
    if not 0 < len(value) <= 320 or not value.isprintable():
        raise ValueError(f"client user: {show(value)} is no login of 1 to 320 printable characters")
    return value


def _check_id(value: object) -> None:
    if not isinstance(value, str):
        raise TypeError(f"id: a string is needed, not {show(value)}")
    if not 0 < len(value) <= LONGEST_ID or not value.isprintable():
        raise ValueError(f"id: {show(value)} is none of 1 to {LONGEST_ID} printable characters")


def _protocol(value: object) -> str | None:
    if value is None or value in PROTOCOLS:
        return value
    if isinstance(value, str) and value.lower() in PROTOCOLS:
        return value.lower()
    raise ValueError(
        f"client protocol: {show(value)} is none of {', '.join(PROTOCOLS)};"
        " say anything else with tags="
    )


def _tags(value: object) -> frozenset[str]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise TypeError(f"client tags: a set of words such as {{'wireless'}}, not {show(value)}")
    tags = list(value)
    for tag in tags:
        if not isinstance(tag, str) or not tag:
            raise ValueError(f"client tags: {show(tag)} is no word such as 'wireless'")
    return frozenset(tags)


@attrs.frozen(kw_only=True)
class Client:
    """Who submits a message; each part may be unknown.

    address: the IP address it comes from, IPv4-mapped IPv6 read as IPv4.
    user: the login it is submitted under.
    protocol: `smtp`, `webmail` or `api`.
    tags: words of the site's own, such as `wireless`.
    """

    address: str | None = attrs.field(default=None, converter=_ip)
    user: str | None = attrs.field(default=None, converter=_login)
    protocol: str | None = attrs.field(default=None, converter=_protocol)
    tags: frozenset[str] = attrs.field(default=frozenset(), converter=_tags)
    ip: type_of_ip | None = attrs.field(init=False, repr=False, eq=False)

    @ip.default
    def _parsed(self) -> type_of_ip | None:
        return None if self.address is None else ipaddress.ip_address(self.address)


NOBODY: Final = Client()
"""The client of whom nothing is known."""


@attrs.frozen(init=False)
class Envelope:
    """The SMTP sender and recipients of one message, and who submits it.

    sender: an address; `<>` or the empty string is the null sender of bounces.
    recipients: addresses; the same one twice is one recipient.
    client: who submits, a `Client`; left out: nothing is known.
    id: what the program knows this message by, such as the number of a job. Asked again with the
        same id, sender, recipients and client, a limiter gives its first answer and charges nothing
        more: `try_acquire` its own, and `acquire` and `reserve` theirs.
        Never take it from the message itself: who sends all mail with one Message-ID
        would be charged once.
    direction: `"outbound"`: submitted by one's own people; `"inbound"`: mail that arrives for
        one's own mailboxes, which inbound limits alone count.

    Raises TypeError or ValueError that names the address which is none.
    """

    sender: str
    recipients: tuple[str, ...]
    client: Client
    id: str | None
    direction: Literal["outbound", "inbound"]
    sender_domain: str = attrs.field(repr=False, eq=False)
    domains: tuple[str, ...] = attrs.field(repr=False, eq=False)
    """The domain of each recipient, in the order of `recipients`."""

    def __init__(
        self,
        sender: str,
        recipients: Iterable[str],
        client: Client | None = None,
        *,
        id: str | None = None,  # noqa: A002 - what everybody calls it
        direction: Literal["outbound", "inbound"] = "outbound",
    ) -> None:
        if type(recipients) is not list and (
            isinstance(recipients, str | bytes) or not isinstance(recipients, Iterable)
        ):
            raise TypeError(f"recipients: a list of addresses is needed, not {show(recipients)}")
        if client is None:
            client = NOBODY
        elif not isinstance(client, Client):
            raise TypeError(f"client: a Client is needed, not {show(client)}")
        try:
            address, domain = normal_sender(sender)
        except (TypeError, ValueError) as error:
            raise type(error)(f"sender: {error}") from None
        try:
            domain_of = normal_addresses(recipients)
        except (TypeError, ValueError) as error:
            raise type(error)(f"recipients: {error}") from None
        if not domain_of:
            raise ValueError("recipients: a message needs at least one")
        if id is not None:
            _check_id(id)
        if direction != "outbound" and direction != "inbound":
            raise ValueError(f"direction: {show(direction)} is none of outbound, inbound")
        self.__attrs_init__(
            address, tuple(domain_of), client, id, direction, domain, tuple(domain_of.values())
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return _copy, (self.sender, self.recipients, self.client, self.id, self.direction)

    @classmethod
    def from_message(
        cls,
        message: Message[Any, Any],
        *,
        client: Client | None = None,
        id: str | None = None,  # noqa: A002
        direction: Literal["outbound", "inbound"] = "outbound",
    ) -> Envelope:
        """The envelope that `smtplib.SMTP.send_message` would use for `message`.

        The sender is Sender, else From; the recipients are To, Bcc and Cc; where the
        message has a Resent-Date, each is read from its Resent- twin instead. `<>` alone
        is the null sender; an empty group of recipients is nobody.

        Raises TypeError for what is no message, and ValueError that names the header where
        one cannot be read or has a recipient that is no address, where there are several
        Resent- blocks, or nobody to send to.
        """
        # Here, because `email` is slow to import, and only messages need it.
        from ratelimit_mail.message_headers import sender_and_recipients

        sender, recipients = sender_and_recipients(message)
        return cls(sender, recipients, client, id=id, direction=direction)


def _copy(
    sender: str,
    recipients: tuple[str, ...],
    client: Client,
    id: str | None,  # noqa: A002
    direction: Literal["outbound", "inbound"],
) -> Envelope:
    return Envelope(sender, recipients, client, id=id, direction=direction)
