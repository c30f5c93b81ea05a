"""InnerBackend: the backend that sends, one message at a time over one connection.

Django's SMTP backend says neither which recipients a server refused nor how far a failed message
came. Its smtplib connection knows both, so it is watched while a message is sent. Of any other
backend, an exception of smtplib proves that nothing was sent, and so does a result of 0.
"""

from __future__ import annotations

import contextlib
import smtplib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import django
from django.core.mail import EmailMessage
from django.core.mail.backends.base import BaseEmailBackend
from django.utils.module_loading import import_string

from ratelimit_mail.adapters.django.configuration import (
    MailerOptions,
    improperly_configured,
    own_backend_problem,
)
from ratelimit_mail.adapters.options import NotSent
from ratelimit_mail.smtp_errors import proves_not_sent

__all__ = ["InnerBackend", "NothingSent", "Refused"]

LONGEST_IDLE: Final = 30.0
"""Seconds after which an unused connection is not used again; servers close them after minutes."""

_CLOSING: Final = 421

Refused = dict[str, tuple[int, bytes]]


class NothingSent(Exception):
    """The backend returned that it sent nothing."""


class _Watched:
    """What has been seen of one message on a connection of smtplib.

    in_doubt: whether the server may have the message. refused: the recipients that it refused.
    """

    def __init__(self, begin_sending: Callable[[], object] | None) -> None:
        self.in_doubt = False
        self.refused: Refused = {}
        self._begin_sending = begin_sending

    @contextlib.contextmanager
    def watching(self, connection: smtplib.SMTP) -> Iterator[None]:
        """Watch what is sent on a connection."""
        send, sendmail = connection.send, connection.sendmail

        def watched_send(data: Any) -> None:
            # smtplib's commands are strings, and the text of a message is bytes.
            self.in_doubt = not isinstance(data, str)
            if self.in_doubt and self._begin_sending is not None:
                self._begin_sending()
            send(data)

        def watched_sendmail(*args: Any, **options: Any) -> Refused:
            self.in_doubt = False
            self.refused = dict(sendmail(*args, **options))
            return self.refused

        watched: Any = connection
        watched.send, watched.sendmail = watched_send, watched_sendmail
        try:
            yield
        finally:
            for name in ("send", "sendmail"):
                with contextlib.suppress(AttributeError):
                    delattr(watched, name)


class InnerBackend:
    """The backend that sends, made by the options of a mailer; safe for threads.

    alias: that of the mailer in MAILERS. ignored: what Django 6.1 calls `_ignore_unknown_kwargs`.

    Raises ImproperlyConfigured if there is no such backend.
    """

    def __init__(
        self, options: MailerOptions, alias: str | None, ignored: set[str] | None = None
    ) -> None:
        try:
            backend_class = import_string(options.backend)
        except ImportError as error:
            text = f"BACKEND: {options.backend!r} cannot be imported: {error}"
            raise improperly_configured(text, alias) from error
        from ratelimit_mail.adapters.django.backend import EmailBackend

        if isinstance(backend_class, type) and issubclass(backend_class, EmailBackend):
            raise improperly_configured(own_backend_problem().text, alias)
        arguments: dict[str, Any] = dict(options.inner)
        if django.VERSION >= (6, 1):
            arguments["alias"] = alias
            if ignored:
                arguments["_ignore_unknown_kwargs"] = ignored
        self._backend: BaseEmailBackend = backend_class(**arguments)
        self._lock = threading.RLock()
        self._used_at = 0.0
        self._is_open = False
        self._users = 0

    def open(self) -> bool | None:
        """Open the connection, which then stays open until `close`; return what Django returns."""
        with self._lock:
            is_new = self._open()
            self._is_open = True
            return is_new

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._is_open = False
            self._backend.close()

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Use one connection for several messages, and close it afterwards unless it was open."""
        with self._lock:
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if not self._users and not self._is_open and self._used_at:
                    self._used_at = 0.0
                    with contextlib.suppress(OSError):  # the messages have been sent
                        self._backend.close()

    def send(
        self, message: EmailMessage, begin_sending: Callable[[], object] | None = None
    ) -> Refused:
        """Send a message, and return the recipients that the server refused.

        begin_sending: called right before the server may get the message.

        Raises NotSent with the error if no recipient got it, and otherwise the error itself.
        """
        with self._lock:
            try:
                is_new = self._ready()
            except Exception as error:
                raise NotSent(error) from error
            try:
                return self._send(message, begin_sending)
            except NotSent as not_sent:
                # The server has closed a connection that was idle: the message has not begun.
                if is_new or not _is_closed(not_sent.error):
                    raise
            try:
                self._reopen()
            except Exception as error:
                raise NotSent(error) from error
            return self._send(message, begin_sending)

    def _send(self, message: EmailMessage, begin_sending: Callable[[], object] | None) -> Refused:
        connection = getattr(self._backend, "connection", None)
        try:
            if isinstance(connection, smtplib.SMTP):
                return self._send_by_smtp(connection, message, begin_sending)
            if begin_sending is not None:
                begin_sending()
            try:
                count: object = self._backend.send_messages([message])
            except BaseException as error:
                if proves_not_sent(error):
                    raise NotSent(error) from error
                raise
            if count == 0 and count is not None:
                raise NotSent(NothingSent())
            return {}
        finally:
            self._used_at = time.monotonic()

    def _send_by_smtp(
        self,
        connection: smtplib.SMTP,
        message: EmailMessage,
        begin_sending: Callable[[], object] | None,
    ) -> Refused:
        watched = _Watched(begin_sending)
        try:
            with watched.watching(connection):
                count: object = self._backend.send_messages([message])
        except BaseException as error:
            if watched.in_doubt and not isinstance(error, smtplib.SMTPResponseException):
                # The server waits for the rest of the message, or has ended the connection.
                connection.close()
                raise
            raise NotSent(error) from error
        if count == 0:
            raise NotSent(NothingSent())
        return watched.refused

    def _open(self) -> bool | None:
        is_new: bool | None = self._backend.open()
        self._used_at = time.monotonic()
        return is_new

    def _ready(self) -> bool:
        """Have an open connection; return whether it is new."""
        connection = getattr(self._backend, "connection", None)
        if isinstance(connection, smtplib.SMTP):
            is_closed = getattr(connection, "sock", None) is None
            if is_closed or time.monotonic() - self._used_at > LONGEST_IDLE:
                self._drop(connection)
        return bool(self._open())

    def _reopen(self) -> None:
        self._drop(getattr(self._backend, "connection", None))
        self._open()

    def _drop(self, connection: Any) -> None:
        """Close a connection without a word to the server, which may not answer any more."""
        if isinstance(connection, smtplib.SMTP):
            connection.close()
        with contextlib.suppress(OSError):
            self._backend.close()

    def __repr__(self) -> str:
        return f"<InnerBackend of {type(self._backend).__module__}>"


def _is_closed(error: BaseException) -> bool:
    """Return whether a server has closed the connection before it heard of a message."""
    if isinstance(error, smtplib.SMTPSenderRefused):
        return error.smtp_code == _CLOSING
    return isinstance(error, smtplib.SMTPServerDisconnected)
