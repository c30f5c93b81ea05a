"""The client of a message, from what Postfix knows of it and from a table of tags."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Final

from ratelimit_mail._util.text import show
from ratelimit_mail.client_tags import LONGEST_LOGIN, ClientTags
from ratelimit_mail.envelope import PROTOCOLS, Client
from ratelimit_mail.server.postfix import Request

__all__ = ["client_of", "client_text"]

TLS_TAG: Final = "tls"
CERTIFICATE_TAG: Final = "certificate"

_XTEXT: Final = re.compile(r"\+([0-9A-F]{2})")


def client_of(attributes: Mapping[str, str], table: ClientTags) -> Client:
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
    tags |= table.tags_of(bare.ip, user)
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


def client_text(request: Request) -> str:
    """Return who submits a message, for the log: such as `by 'ann' at '192.0.2.7'`."""
    attributes = request.attributes
    user = attributes.get("sasl_username")
    words = f"by {show(user)}" if user else "without a login"
    return f"{words} at {show(attributes.get('client_address', ''))}"
