"""The transport that the options of `outbox run` describe. A password is in no message."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, cast
from urllib.parse import unquote, urlsplit

import click

from ratelimit_mail._util.text import escape
from ratelimit_mail.cli.errors import CommandError
from ratelimit_mail.outbox import MaildirTransport, OutgoingMessage, SMTPTransport, Transport

__all__ = ["CountedTransport", "Login", "maildir_transport", "smtp_transport"]

TLS: Final = {"smtp": "starttls", "smtps": "implicit"}
PORTS: Final = {"smtp": 587, "smtps": 465}

EXAMPLE: Final = "smtp://ann@example.com@smtp.example.com:587"

Tls = Literal["starttls", "implicit", "none"]

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LONGEST_SECRET: Final = 100_000


class Login(NamedTuple):
    """Where the secret of a login is: in a file, in an environment variable, or a token file."""

    password_file: Path | None = None
    password_env: str | None = None
    token_file: Path | None = None


class CountedTransport:
    """Counts the messages that another transport has sent.

    sent: how many the server has accepted, for one recipient at least.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._lock = threading.Lock()
        self.max_connections = transport.max_connections
        self.sent = 0

    def send(self, message: OutgoingMessage, begin_sending: Callable[[], None]) -> Any:
        """See `Transport.send`."""
        refused = self._transport.send(message, begin_sending)
        with self._lock:
            self.sent += 1
        return refused

    def close(self) -> None:
        """Close the other transport."""
        self._transport.close()


def maildir_transport(path: Path) -> Transport:
    """Return the transport into a Maildir."""
    return MaildirTransport(path)


def smtp_transport(
    url: str, login: Login, *, tls: str | None, connections: int, timeout: float
) -> Transport:
    """Return the transport to the server that a URL names; raise CommandError if it is wrong."""
    scheme, host, port, user = _server(url)
    secrets = {
        "--password-file": login.password_file,
        "--password-env": login.password_env,
        "--oauth-token-file": login.token_file,
    }
    present = [name for name, value in secrets.items() if value is not None]
    if len(present) > 1:
        raise CommandError(f"{' and '.join(present)}: a login has only one of them")
    if user is not None and not present:
        raise CommandError(f"--smtp: a login with a user needs one of {', '.join(secrets)}")
    if user is None and present:
        raise CommandError(f"{present[0]} needs a user in --smtp, such as {EXAMPLE}")
    options: dict[str, Any] = {}
    if login.password_file is not None:
        options["password"] = _from_file("--password-file", login.password_file)
    elif login.password_env is not None:
        options["password"] = _from_environment(login.password_env)
    elif login.token_file is not None:
        options["oauth"] = _from_file("--oauth-token-file", login.token_file)
    try:
        return SMTPTransport(
            host,
            port,
            username=user,
            tls=cast("Tls", tls or TLS[scheme]),
            timeout=timeout,
            max_connections=connections,
            **options,
        )
    except (TypeError, ValueError) as error:
        raise CommandError(escape(f"--smtp: {error}")) from None


def _server(url: str) -> tuple[str, str, int, str | None]:
    """Return the scheme, host, port and user of a URL, which no message repeats."""
    wrong = CommandError(f"--smtp: the URL is not one such as {EXAMPLE}, or smtps:// for port 465")
    try:
        address = urlsplit(url)
        host, port = address.hostname, address.port
    except ValueError:
        raise wrong from None
    if address.password is not None:
        raise CommandError(
            "--smtp: other users of this host can read a password in the URL; use --password-file"
            " FILE or --password-env NAME, and change the password"
        )
    if address.scheme not in TLS or not host or address.path.strip("/") or address.query:
        raise wrong
    user = None if address.username is None else unquote(address.username)
    return address.scheme, host, port or PORTS[address.scheme], user or None


def _from_file(option: str, path: Path) -> Callable[[], str]:
    """Return a function that reads a secret for each login; raise CommandError if it cannot."""

    def read() -> str:
        with path.open("rb") as file:
            return _secret(file.read(_LONGEST_SECRET))

    try:
        read()
        mode = path.stat().st_mode
    except OSError as error:
        raise CommandError(escape(f"{option}: {path}: {error.strerror or error}")) from None
    except ValueError as error:
        raise CommandError(escape(f"{option}: {path} {error}")) from None
    if os.name == "posix" and mode & 0o007:
        click.echo(
            escape(f"{option}: every user of this host may read {path}; chmod o= {path}"), err=True
        )
    return read


def _from_environment(name: str) -> str:
    if not _NAME.fullmatch(name):  # which might be the password itself
        raise CommandError("--password-env: the name of an environment variable is needed")
    value = os.environ.get(name)
    if value is None:
        raise CommandError(f"--password-env: the environment variable {name} is not set")
    try:
        return _secret(value.encode())
    except ValueError as error:
        raise CommandError(f"--password-env: {name} {error}") from None


def _secret(content: bytes) -> str:
    """Return a secret without the line break at its end; raise ValueError without showing it."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8") from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise ValueError("is empty")
    if not text.isprintable():
        raise ValueError("has several lines, or a control character")
    return text
