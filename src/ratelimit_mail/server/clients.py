"""The client of a message, from what Postfix knows of it and from a table of networks and logins.

A table gives tags to networks and logins, one line each; `#` begins a comment:

    129.100.0.0/16       campus
    10.20.0.0/16         wireless
    129.100.9.25         webmail           # the word webmail is the protocol, too
    ann@uwo.ca           staff
    @students.uwo.ca     student           # all logins of a realm
    @                    local             # all logins without a realm

A client has the tags of every line that applies to it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Final

from ratelimit_mail._util.text import show
from ratelimit_mail.addresses import folded_text
from ratelimit_mail.conditions import in_network
from ratelimit_mail.envelope import PROTOCOLS, Client

__all__ = ["TagTable", "client_of"]

LONGEST_LOGIN: Final = 320
LARGEST_FILE: Final = 16_000_000
"""In bytes."""

TLS_TAG: Final = "tls"
CERTIFICATE_TAG: Final = "certificate"

_WORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_XTEXT: Final = re.compile(r"\+([0-9A-F]{2})")

NO_TAGS: Final[frozenset[str]] = frozenset()


class TagTable:
    """The tags of networks and of logins.

    lines: pairs of a network, an address, a login, or `@` and a realm, and its tags.

    Raises ValueError that names the line.
    """

    def __init__(self, lines: Iterable[tuple[str, Iterable[str]]] = ()) -> None:
        self._networks: dict[tuple[int, int], dict[int, frozenset[str]]] = {}
        self._logins: dict[str, frozenset[str]] = {}
        for target, tags in lines:
            self._add(target, frozenset(tags))
        self._prefixes = [
            (version, prefix, 32 if version == 4 else 128) for version, prefix in self._networks
        ]

    @classmethod
    def load(cls, path: str | PathLike[str], more: Iterable[str] = ()) -> TagTable:
        """Return the table in a file, and in `more` lines.

        Raises OSError if it cannot be read, and ValueError that names the line that is wrong.
        """
        with Path(path).open("rb") as file:
            contents = file.read(LARGEST_FILE + 1)
        if len(contents) > LARGEST_FILE:
            raise ValueError(f"{path}: the file has more than {LARGEST_FILE} bytes")
        try:
            text = contents.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: the file is not UTF-8: byte {error.start}") from None
        lines = [(f"{path}, line {i}", line) for i, line in enumerate(text.splitlines(), 1)]
        return cls.parse([*lines, *((f"--tag {line}", line) for line in more)])

    @classmethod
    def parse(cls, lines: Iterable[tuple[str, str]]) -> TagTable:
        """Return the table of lines, each with its place for errors."""
        table = cls()
        for place, line in lines:
            words = line.partition("#")[0].replace("=", " ", 1).replace(",", " ").split()
            if not words:
                continue
            try:
                if len(words) < 2:
                    raise ValueError("a network or a login, and its tags, are needed")
                table._add(words[0], frozenset(words[1:]))
            except ValueError as error:
                raise ValueError(f"{place}: {error}") from None
        table._prefixes = [
            (version, prefix, 32 if version == 4 else 128) for version, prefix in table._networks
        ]
        return table

    def _add(self, target: str, tags: frozenset[str]) -> None:
        for tag in tags:
            if not _WORD.fullmatch(tag):
                raise ValueError(f"{show(tag)} is not a tag such as 'wireless'")
        if not target.startswith("@") and "@" not in target and _is_network(target):
            condition = in_network(target)
            [network] = condition.networks  # type: ignore[attr-defined] # of one network
            bits = network.max_prefixlen - network.prefixlen
            key = int(network.network_address) >> bits
            of_prefix = self._networks.setdefault((network.version, network.prefixlen), {})
            of_prefix[key] = of_prefix.get(key, NO_TAGS) | tags
            return
        if len(target) > LONGEST_LOGIN or not target.isprintable():
            raise ValueError(f"{show(target)} is not a network, a login or @ and a realm")
        login = folded_text(target)
        self._logins[login] = self._logins.get(login, NO_TAGS) | tags

    def tags(
        self, ip: ipaddress.IPv4Address | ipaddress.IPv6Address | None, user: str | None
    ) -> frozenset[str]:
        """Return the tags of a client."""
        result = NO_TAGS
        if ip is not None and self._prefixes:
            number = int(ip)
            for version, prefix, length in self._prefixes:
                if version == ip.version:
                    of_prefix = self._networks[version, prefix]
                    result |= of_prefix.get(number >> (length - prefix), NO_TAGS)
        if user is not None and self._logins:
            login = folded_text(user)
            realm = login.rpartition("@")[2] if "@" in login else ""
            result |= self._logins.get(login, NO_TAGS) | self._logins.get(f"@{realm}", NO_TAGS)
        return result


def _is_network(text: str) -> bool:
    """Return whether `text` is meant as a network or an address, and not as a login."""
    head = text.partition("/")[0]
    if "/" in text:
        return True
    try:
        ipaddress.ip_address(head)
    except ValueError:
        return False
    return True


def client_of(attributes: Mapping[str, str], table: TagTable) -> Client:
    """Return the client that Postfix describes.

    Its address is `client_address`. Its user is `sasl_username`; without a login, the common name
    of its certificate (`ccert_subject`, which Postfix sends only if it trusts the certificate), as
    `certificate:NAME`. Its tags are `tls` if the connection is encrypted, `certificate` if there is
    one, and those of the table. Its protocol is `smtp`, or `webmail` or `api` if that is a tag.
    """
    user = _login(attributes.get("sasl_username", ""))
    subject = attributes.get("ccert_subject", "")
    tags = set()
    if attributes.get("encryption_protocol"):
        tags.add(TLS_TAG)
    if subject:
        tags.add(CERTIFICATE_TAG)
        if user is None:
            user = _login(f"certificate:{_from_xtext(subject)}")
    text = attributes.get("client_address", "")
    try:
        address = str(ipaddress.ip_address(text))
        bare = Client(address=address)
    except ValueError:  # "unknown", or empty
        bare = Client()
    tags |= table.tags(bare.ip, user)
    protocol = next((each for each in PROTOCOLS if each != "smtp" and each in tags), "smtp")
    return Client(address=bare.address, user=user, protocol=protocol, tags=tags)


def _login(text: str) -> str | None:
    """Return a login that `Client` takes, different for every login of Postfix's."""
    if not text:
        return None
    if not text.isprintable():
        text = text.encode("unicode_escape", "surrogatepass").decode("ascii")
    if len(text) > LONGEST_LOGIN:
        import hashlib  # few logins need it

        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        text = text[: LONGEST_LOGIN - len(digest)] + digest
    return text


def _from_xtext(text: str) -> str:
    """Return text without Postfix's xtext encoding (RFC 3461)."""
    return _XTEXT.sub(lambda match: chr(int(match[1], 16)), text)
