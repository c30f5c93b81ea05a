"""SMTPTransport: hands each message to a mail server with smtplib, over connections that it reuses.

The commands are sent one by one, because the outbox must know the moment after which the server may
have accepted the message. That is right before the final dot: until then a server has not got the
whole message, and must not deliver it.
"""

from __future__ import annotations

import contextlib
import re
import smtplib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final, Literal

from ratelimit_mail._util.documentation import with_methods_of
from ratelimit_mail._util.text import show
from ratelimit_mail._util.validators import whole_number
from ratelimit_mail.addresses import NULL_SENDER
from ratelimit_mail.exceptions import TransportUnavailable
from ratelimit_mail.outbox.message import OutgoingMessage
from ratelimit_mail.outbox.retry import seconds_of
from ratelimit_mail.outbox.transports.base import Refused, Transport

__all__ = ["SMTPTransport"]

OFFICE365_CONNECTIONS: Final = 3
"""How many connections at the same time Office 365 allows a mailbox."""

LONGEST_IDLE: Final = 30.0
"""Seconds after which an unused connection is not used again; servers close them after minutes."""

_DOT: Final = re.compile(rb"^\.", re.MULTILINE)

_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")

_CLOSING: Final = 421
_ACCEPTED: Final = (250, 251)
_START_INPUT: Final = 354

Secret = str | Callable[[], str]


class _Connection:
    """One connection, and when it was used last."""

    def __init__(self, smtp: smtplib.SMTP) -> None:
        self.smtp = smtp
        self.used_at = time.monotonic()


@with_methods_of(Transport)
class SMTPTransport:
    """Sends messages to one mail server with smtplib.

    host, port: the server; port 587 is for submission.
    username, password: the login. The password may be a function that returns it.
    oauth: a function that returns an access token, for a login by XOAUTH2 with `username`; it is
        called for each login.
    tls: `"starttls"`; `"implicit"` for a server that begins with TLS, such as on port 465; or
        `"none"`. If the server does not offer TLS, nothing is sent.
    context: for TLS; by default `ssl.create_default_context()`, which checks the certificate.
    timeout: the most seconds for connecting and for each reply.
    max_connections: how many connections one program opens; Office 365 allows 3 for a mailbox.
    local_hostname: the name in EHLO; by default that of the host.

    A connection is used for many messages, and opened again if the server has closed it. Secrets
    are in no repr, log line or error of this class.

    Raises ValueError for a login without TLS, unless the server is on this host.
    """

    def __init__(
        self,
        host: str,
        port: int = 587,
        *,
        username: str | None = None,
        password: Secret | None = None,
        oauth: Callable[[], str] | None = None,
        tls: Literal["starttls", "implicit", "none"] = "starttls",
        context: ssl.SSLContext | None = None,
        timeout: float = 60.0,
        max_connections: int = OFFICE365_CONNECTIONS,
        local_hostname: str | None = None,
    ) -> None:
        if not isinstance(host, str) or not host or not host.isprintable():
            raise TypeError(f"host: the name of a server is needed, not {show(host)}")
        if not 0 < whole_number("port", port) < 65536:
            raise ValueError(f"port: {show(port)} is not a port from 1 to 65535")
        if tls not in ("starttls", "implicit", "none"):
            raise ValueError(f"tls: {show(tls)} is not one of starttls, implicit, none")
        if password is not None and oauth is not None:
            raise ValueError("oauth: a login has a password or an access token, not both")
        if (username is None) != (password is None and oauth is None):
            raise ValueError("username: a login needs a username, and a password or oauth=")
        if username is not None and tls == "none" and host not in _LOOPBACK:
            raise ValueError("tls: a login would be sent unencrypted; tls='none' cannot have one")
        if oauth is not None and not callable(oauth):
            raise TypeError("oauth: a function that returns an access token is needed")
        if whole_number("max_connections", max_connections) < 1:
            raise ValueError(f"max_connections: must be at least 1, not {show(max_connections)}")
        self.max_connections = max_connections
        self._host = host
        self._port = port
        self._username = username
        self._password = password
        self._oauth = oauth
        self._tls = tls
        self._context = context
        self._timeout = seconds_of("timeout", timeout, least=0.001)
        self._local_hostname = local_hostname
        self._free = threading.BoundedSemaphore(max_connections)
        self._lock = threading.Lock()
        self._idle: list[_Connection] = []

    def __repr__(self) -> str:
        return f"<SMTPTransport to {self._host}:{self._port}>"

    def send(self, message: OutgoingMessage, begin_sending: Callable[[], None]) -> Refused:
        """See `Transport.send`."""
        with self._free:
            connection, is_new = self._take()
            try:
                try:
                    self._mail(connection.smtp, message)
                except (smtplib.SMTPServerDisconnected, smtplib.SMTPSenderRefused) as error:
                    # The server has closed a connection that was idle: the message has not begun.
                    is_closed = isinstance(error, smtplib.SMTPServerDisconnected)
                    if is_new or not (is_closed or _is_closing(error)):
                        raise
                    _close(connection)
                    connection = self._connect()
                    self._mail(connection.smtp, message)
                refused = _send(connection.smtp, message, begin_sending)
            except (
                smtplib.SMTPSenderRefused,
                smtplib.SMTPRecipientsRefused,
                smtplib.SMTPDataError,
            ) as error:
                if _is_closing(error):
                    _close(connection)
                else:
                    self._put_back(connection, reset=True)
                raise
            except BaseException:
                _close(connection)
                raise
            self._put_back(connection)
            return refused

    def close(self) -> None:
        """Close the connections that are not in use."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            with contextlib.suppress(OSError, smtplib.SMTPException):
                connection.smtp.quit()
            _close(connection)

    def _take(self) -> tuple[_Connection, bool]:
        """Return a connection that was used before, or a new one, and whether it is new."""
        while True:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                return self._connect(), True
            if time.monotonic() - connection.used_at < LONGEST_IDLE:
                return connection, False
            _close(connection)

    def _put_back(self, connection: _Connection, *, reset: bool = False) -> None:
        if reset:
            try:
                code, _ = connection.smtp.rset()
            except (OSError, smtplib.SMTPException):
                code = _CLOSING
            if code != 250:
                _close(connection)
                return
        connection.used_at = time.monotonic()
        with self._lock:
            self._idle.append(connection)

    def _connect(self) -> _Connection:
        """Return a new connection that is logged in.

        Raises TransportUnavailable for whatever goes wrong: none of it is about a message.
        """
        smtp: smtplib.SMTP | None = None
        try:
            if self._tls == "implicit":
                smtp = smtplib.SMTP_SSL(
                    local_hostname=self._local_hostname,
                    timeout=self._timeout,
                    context=self._context or ssl.create_default_context(),
                )
            else:
                smtp = smtplib.SMTP(local_hostname=self._local_hostname, timeout=self._timeout)
            smtp._host = self._host  # type: ignore[attr-defined] # what TLS checks
            code, text = smtp.connect(self._host, self._port)
            if smtp.sock is not None:
                # The final dot follows the content at once, not when the server has confirmed it.
                smtp.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if code != 220:
                raise smtplib.SMTPConnectError(code, text)
            smtp.ehlo_or_helo_if_needed()
            if self._tls == "starttls":
                smtp.starttls(context=self._context or ssl.create_default_context())
                smtp.ehlo_or_helo_if_needed()
            if self._username is not None:
                self._log_in(smtp, self._username)
        except Exception as error:
            if smtp is not None:
                smtp.close()
            raise _unavailable(self._host, self._port, error) from None
        except BaseException:
            if smtp is not None:
                smtp.close()
            raise
        return _Connection(smtp)

    def _log_in(self, smtp: smtplib.SMTP, username: str) -> None:
        if self._oauth is None:
            password = self._password
            smtp.login(username, password() if callable(password) else str(password))
            return
        token = self._oauth()
        credentials = f"user={username}\1auth=Bearer {token}\1\1"
        # A server that refuses the token sends the reason as a challenge; the answer is empty.
        smtp.auth("XOAUTH2", lambda challenge=None: "" if challenge else credentials)

    @staticmethod
    def _mail(smtp: smtplib.SMTP, message: OutgoingMessage) -> None:
        """Send MAIL. Raises SMTPSenderRefused if the server refuses it."""
        sender = "" if message.sender == NULL_SENDER else message.sender
        options = []
        if smtp.does_esmtp and smtp.has_extn("size"):
            options.append(f"size={len(message.content)}")
        addresses = (sender, *message.recipients)
        if not all(each.isascii() for each in addresses):
            if not smtp.has_extn("smtputf8"):
                raise smtplib.SMTPSenderRefused(
                    553, b"5.6.7 the server does not take addresses that are not ASCII", sender
                )
            options.append("SMTPUTF8")
            smtp.command_encoding = "utf-8"
        else:
            smtp.command_encoding = "ascii"
        if not message.content.isascii() and smtp.has_extn("8bitmime"):
            options.append("BODY=8BITMIME")
        code, text = smtp.mail(sender, options)
        if code != 250:
            raise smtplib.SMTPSenderRefused(code, text, sender)


def _send(
    smtp: smtplib.SMTP, message: OutgoingMessage, begin_sending: Callable[[], None]
) -> dict[str, tuple[int, bytes]]:
    """Send the recipients and the content; return the recipients that were refused."""
    refused: dict[str, tuple[int, bytes]] = {}
    for recipient in message.recipients:
        code, text = smtp.rcpt(recipient)
        if code not in _ACCEPTED:
            refused[recipient] = (code, text)
        if code == _CLOSING:
            raise smtplib.SMTPRecipientsRefused(refused)
    if len(refused) == len(message.recipients):
        raise smtplib.SMTPRecipientsRefused(refused)
    code, text = smtp.docmd("DATA")
    if code != _START_INPUT:
        raise smtplib.SMTPDataError(code, text)
    content = _DOT.sub(b"..", message.content)
    if not content.endswith(b"\r\n"):
        content += b"\r\n"
    smtp.send(content)
    begin_sending()
    smtp.send(b".\r\n")
    code, text = smtp.getreply()
    if not 200 <= code < 600:
        raise smtplib.SMTPServerDisconnected("the reply to the message is not one")
    if code >= 300:
        raise smtplib.SMTPDataError(code, text)
    return refused


def _is_closing(error: Any) -> bool:
    """Return whether the server said 421, after which it closes the connection."""
    return _CLOSING in _codes(error)


def _codes(error: Any) -> Iterator[int]:
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return (code for code, _ in error.recipients.values())
    return iter((error.smtp_code,))


def _close(connection: _Connection) -> None:
    connection.smtp.close()


def _line(code: int, text: bytes | str) -> str:
    return f"{code} {text.decode('utf-8', 'replace') if isinstance(text, bytes) else text}"


def _unavailable(host: str, port: int, error: Exception) -> TransportUnavailable:
    """Return the error that nothing can be sent, without anything of the login."""
    where = f"the mail server {host}:{port}"
    if isinstance(error, smtplib.SMTPResponseException):
        reply = (error.smtp_code, error.smtp_error)
        doing = "the login" if isinstance(error, smtplib.SMTPAuthenticationError) else "to talk"
        return TransportUnavailable(f"{where} refuses {doing}: {show(_line(*reply))}", reply)
    if isinstance(error, smtplib.SMTPNotSupportedError):
        advice = ""
        if "STARTTLS" in str(error):
            advice = ' tls="none" (--tls none) is for a server on this host.'
        return TransportUnavailable(f"{where}: {error}{advice}")
    return TransportUnavailable(f"{where} cannot be reached ({type(error).__name__})")
