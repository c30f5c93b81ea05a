"""Envelope and Client: the sender and recipients of one message, and who submits it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Literal

import attrs

from ratelimit_mail._util.cache import BoundedCache
from ratelimit_mail._util.text import show
from ratelimit_mail.addresses import (
    DomainsOf,
    folded,
    folded_plain_domains,
    folded_text,
    normal_and_folded,
    normal_sender,
)
from ratelimit_mail.rates import MOST

if TYPE_CHECKING:
    import ipaddress
    from email.message import Message

    type_of_ip = ipaddress.IPv4Address | ipaddress.IPv6Address

__all__ = [
    "IPV4_PREFIX",
    "IPV6_PREFIX",
    "PROTOCOLS",
    "Client",
    "Envelope",
    "message_size",
    "network_of",
]

PROTOCOLS: Final = ("smtp", "webmail", "api")

_ZONE: Final = re.compile(r"[A-Za-z0-9._-]{1,32}")

LONGEST_ID: Final = 512

IPV4_PREFIX: Final = 32
IPV6_PREFIX: Final = 64
"""A host has all addresses of its /64 at hand."""


def _ip(value: str | type_of_ip | None) -> str | None:
    if value is None:
        return None
    import ipaddress  # here and below: slow to import, and a client without an address needs none

    try:
        ip = ipaddress.ip_address(str(value))
    except ValueError:
        raise ValueError(
            f"client address: {show(value)} is not an IP address"
            " such as '10.1.2.3' or '2001:db8::1'"
        ) from None
    if isinstance(ip, ipaddress.IPv6Address):
        # A zone is the name of a network interface; `ipaddress` takes any text.
        if ip.scope_id is not None and not _ZONE.fullmatch(ip.scope_id):
            raise ValueError(f"client address: {show(value)} has a zone that is not a name")
        ip = ip.ipv4_mapped or ip
    return str(ip)


def network_of(
    ip: type_of_ip, ipv4_prefix: int = IPV4_PREFIX, ipv6_prefix: int = IPV6_PREFIX
) -> str:
    """Return the network of `ip` such as `2001:db8::/64`; an address if it is the whole network."""
    prefix = ipv4_prefix if ip.version == 4 else ipv6_prefix
    bits = ip.max_prefixlen - prefix
    if not bits:
        return str(ip)
    address = _address_text(ip.version, int(ip) >> bits << bits)
    scope_id = getattr(ip, "scope_id", None)
    zone = f"%{scope_id}" if scope_id else ""
    return f"{address}{zone}/{prefix}"


@lru_cache(maxsize=4096)
def _address_text(version: int, number: int) -> str:
    import ipaddress

    kind = ipaddress.IPv4Address if version == 4 else ipaddress.IPv6Address
    return str(kind(number))


def _login(value: str | None) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError(f"client user: a login is a string, not {show(value)}")
    login = value.strip(" ")
    if not 0 < len(login) <= 320 or not login.isprintable():
        raise ValueError(
            f"client user: {show(value)} is not a login of 1 to 320 printable characters"
        )
    return login


def _check_id(value: str) -> None:
    if not isinstance(value, str):
        raise TypeError(f"id: a string is needed, not {show(value)}")
    if not 0 < len(value) <= LONGEST_ID or not value.isprintable():
        raise ValueError(f"id: {show(value)} is not 1 to {LONGEST_ID} printable characters")


def _check_size(value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"size: a number of bytes is needed, not {show(value)}")
    if not 0 <= value <= MOST:
        raise ValueError(f"size: {show(value)} is not a number of bytes from 0 to {MOST}")


def _protocol(value: str | None) -> str | None:
    if value is None or value in PROTOCOLS:
        return value
    if isinstance(value, str) and value.lower() in PROTOCOLS:
        return value.lower()
    raise ValueError(
        f"client protocol: {show(value)} is not one of {', '.join(PROTOCOLS)};"
        " use tags= for anything else"
    )


def _tags(value: Iterable[str]) -> frozenset[str]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise TypeError(f"client tags: a set of words such as {{'wireless'}}, not {show(value)}")
    tags = list(value)
    for tag in tags:
        if not isinstance(tag, str) or not tag:
            raise ValueError(f"client tags: {show(tag)} is not a word such as 'wireless'")
    return frozenset(tags)


@attrs.frozen(kw_only=True)
class Client:
    """The client that submits a message; each field may be left out.

    address: its IP address; an IPv4-mapped IPv6 address is read as IPv4.
    user: its login; blanks before and after it are removed.
    protocol: `smtp`, `webmail` or `api`.
    tags: words that the site defines, such as `wireless`.
    """

    address: str | None = attrs.field(default=None, converter=_ip)
    user: str | None = attrs.field(default=None, converter=_login)
    protocol: str | None = attrs.field(default=None, converter=_protocol)
    tags: frozenset[str] = attrs.field(default=frozenset(), converter=_tags)
    ip: type_of_ip | None = attrs.field(init=False, repr=False, eq=False)
    network: str = attrs.field(init=False, repr=False, eq=False)
    """The network by which most policies count it; empty without an address."""
    folded_user: str = attrs.field(init=False, repr=False, eq=False)
    """The login as most policies compare it; empty without a login."""

    @ip.default
    def _parsed(self) -> type_of_ip | None:
        if self.address is None:
            return None
        import ipaddress

        return ipaddress.ip_address(self.address)

    @network.default
    def _network(self) -> str:
        if self.ip is None or self.address is None:
            return ""
        return self.address if self.ip.version == 4 else network_of(self.ip)

    @folded_user.default
    def _folded_login(self) -> str:
        return "" if self.user is None else folded_text(self.user)


NOBODY: Final = Client()
"""The client of which nothing is known."""


@attrs.frozen(init=False)
class Envelope:
    """The SMTP sender and recipients of one message, and the client that submits it.

    sender: an address; `<>` or the empty string is the null sender of bounces.
    recipients: addresses; the same address twice is one recipient. The policy decides which
        spellings are one recipient.
    client: the `Client` that submits the message; by default nothing is known about it.
    id: the name that the program has for this message, such as a job number. If the limiter is
        asked again with the same id, sender, recipients and client, it returns its first answer and
        charges nothing more. `try_acquire` and `try_acquire_many` share their answers, and so do
        `acquire` and `reserve`. Do not take the id from the message itself: a sender who uses one
        Message-ID for all messages would be charged only once.
    size: the size of the message in bytes; None if it is not known. Limits on bytes need it.
    direction: `"outbound"`: mail that your own users submit; `"inbound"`: mail that arrives for
        your own mailboxes, which only inbound limits count.

    Addresses must be valid under RFC 5321; `Envelope.from_smtp` takes every address that a mail
    server accepted. `attrs.evolve` returns a copy with some of these fields changed.

    Raises TypeError or ValueError that names the invalid value.
    """

    sender: str
    recipients: tuple[str, ...]
    client: Client
    id: str | None
    direction: Literal["outbound", "inbound"]
    size: int | None
    _lenient: bool = attrs.field(repr=False, eq=False, alias="_lenient")
    sender_domain: str = attrs.field(init=False, repr=False, eq=False)
    domains: tuple[str, ...] = attrs.field(init=False, repr=False, eq=False)
    """The domain of each recipient, in the order of `recipients`."""
    folded_sender: str = attrs.field(init=False, repr=False, eq=False)
    """The sender as most policies compare it: without case."""
    folded_recipients: tuple[str, ...] = attrs.field(init=False, repr=False, eq=False)
    """The recipients as most policies compare them, each once."""
    folded_domains: tuple[str, ...] = attrs.field(init=False, repr=False, eq=False)
    """The domain of each of `folded_recipients`."""

    def __init__(
        self,
        sender: str,
        recipients: Iterable[str],
        client: Client | None = None,
        *,
        id: str | None = None,  # noqa: A002 - the name that users expect
        direction: Literal["outbound", "inbound"] = "outbound",
        size: int | None = None,
        _lenient: bool = False,
    ) -> None:
        if type(recipients) is not list:
            recipients = _listed(recipients)
        if client is None:
            client = NOBODY
        elif not isinstance(client, Client):
            raise TypeError(f"client: a Client is needed, not {show(client)}")
        plain = folded_plain_domains([sender, *recipients])
        count = len(recipients)
        if plain is not None and (count == 1 or 1 < count == len(set(recipients))):
            address = folded_address = sender
            names = folded_names = tuple(recipients)
            domain, domains = plain[0], plain[1:]
            folded_domains = domains
        else:
            address, domain, domain_of, folded_domain_of = _read(sender, recipients, _lenient)
            names, domains = tuple(domain_of), tuple(domain_of.values())
            folded_address = folded(address)
            folded_names, folded_domains = tuple(folded_domain_of), tuple(folded_domain_of.values())
        if id is not None:
            _check_id(id)
        if direction != "outbound" and direction != "inbound":
            raise ValueError(f"direction: {show(direction)} is not one of outbound, inbound")
        if size is not None:
            _check_size(size)
        # A frozen class is slow to fill: this takes an eighth off the time of all of `__init__`.
        frozen = type(self)
        _set(self, "__class__", _unfrozen[frozen])
        draft: Any = self
        draft.sender = address
        draft.recipients = names
        draft.client = client
        draft.id = id
        draft.direction = direction
        draft.size = size
        draft._lenient = _lenient
        draft.sender_domain = domain
        draft.domains = domains
        draft.folded_sender = folded_address
        draft.folded_recipients = folded_names
        draft.folded_domains = folded_domains
        draft.__class__ = frozen

    def __reduce__(self) -> tuple[Any, ...]:
        values = (
            self.sender,
            self.recipients,
            self.client,
            self.id,
            self.direction,
            self.size,
        )
        return _copy, (*values, True) if self._lenient else values

    @classmethod
    def from_smtp(
        cls,
        sender: str,
        recipients: Iterable[str],
        *,
        client: Client | None = None,
        id: str | None = None,  # noqa: A002 - the name that users expect
        direction: Literal["outbound", "inbound"] = "outbound",
        size: int | None = None,
    ) -> Envelope:
        """Return the envelope of a message from the addresses that a mail server accepted.

        sender, recipients: as the server has them; the null sender is `""` or `"<>"`.
        client, id, direction, size: as those of `Envelope`.

        Takes every address that a server accepts: `postmaster` without a domain, a local part with
        spaces or commas and no quotes, a source route, a dot at the end of the domain, control
        characters, bytes that are not UTF-8 (read with `surrogateescape`), any length. Each
        mailbox is one subject and has one spelling here: `ann@uwo.ca` for `<"ann"@UWO.CA.>` and
        `@relay.example:ann@uwo.ca`.

        A part that RFC 5321 does not allow is written in square brackets that begin with an
        underscore, so that it never equals a regular address: `postmaster@[_local]`, which is
        internal for every policy. `usage`, `reset` and overrides take addresses in this form.

        Raises TypeError if an address is not a string, and ValueError if there are no recipients
        (no server takes a message without one) or the id, the direction or the size is wrong.
        """
        return cls(sender, recipients, client, id=id, direction=direction, size=size, _lenient=True)

    @classmethod
    def from_message(
        cls,
        message: Message[Any, Any],
        *,
        client: Client | None = None,
        id: str | None = None,  # noqa: A002 - the name that users expect
        direction: Literal["outbound", "inbound"] = "outbound",
        size: int | None = None,
    ) -> Envelope:
        """Return the envelope that `smtplib.SMTP.send_message` uses for `message`.

        client, id, direction, size: as those of `Envelope`.

        The sender is the address in Sender, or the first one in From. The recipients are those in
        To, Bcc and Cc. If the message has a Resent-Date, all of them come from the Resent- headers
        instead. If a header occurs twice, the first one counts. `<>` alone is the null sender; an
        empty group adds no recipients. The result is the same for every class of message and every
        version of Python. The message is not measured: pass its `size` if limits need it.

        Raises TypeError if `message` is not a message. Raises ValueError that names the header if
        one cannot be read or has a recipient that is not an address, if there are several Resent-
        blocks, or if there are no recipients.
        """
        # Imported here, because `email` is slow to import, and only messages need it.
        from ratelimit_mail.message_headers import sender_and_recipients

        sender, recipients = sender_and_recipients(message)
        return cls(sender, recipients, client, id=id, direction=direction, size=size)


_set: Final = object.__setattr__


def _unfrozen_class(frozen: type[Envelope]) -> type[Envelope]:
    """Return the class of an envelope that is being made: its fields can be set."""
    names = {"__slots__": (), "__setattr__": _set, "__delattr__": object.__delattr__}
    return type(frozen.__name__, (frozen,), names)


_unfrozen: Final = BoundedCache[Any, type[Envelope]](_unfrozen_class)


def _listed(recipients: object) -> list[str]:
    if isinstance(recipients, str | bytes) or not isinstance(recipients, Iterable):
        raise TypeError(f"recipients: a list of addresses is needed, not {show(recipients)}")
    return list(recipients)


def _read(
    sender: str, recipients: list[str], lenient: bool
) -> tuple[str, str, DomainsOf, DomainsOf]:
    """Return the sender and its domain, and the domains of the recipients, also of the folded."""
    read_sender, read_recipients = normal_sender, normal_and_folded
    if lenient:
        from ratelimit_mail.smtp_addresses import smtp_and_folded, smtp_sender  # servers need it

        read_sender, read_recipients = smtp_sender, smtp_and_folded
    try:
        address, domain = read_sender(sender)
    except (TypeError, ValueError) as error:
        raise type(error)(f"sender: {error}") from None
    try:
        domain_of, folded_domain_of = read_recipients(recipients)
    except (TypeError, ValueError) as error:
        raise type(error)(f"recipients: {error}") from None
    if not domain_of:
        raise ValueError("recipients: a message needs at least one")
    return address, domain, domain_of, folded_domain_of


def _copy(
    sender: str,
    recipients: tuple[str, ...],
    client: Client,
    id: str | None,  # noqa: A002
    direction: Literal["outbound", "inbound"],
    size: int | None = None,
    lenient: bool = False,
) -> Envelope:
    return Envelope(
        sender, recipients, client, id=id, direction=direction, size=size, _lenient=lenient
    )


def message_size(message: Message) -> int:
    """Return how many bytes a message has, for `Envelope(size=)`. It is written out for that."""
    return len(message.as_bytes())
