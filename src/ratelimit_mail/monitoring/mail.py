"""MailAlerts: alerts by mail, gathered into digests, at most so many an hour.

The alerts that wait stand in a register of the store, so that one process sends those of all, and
those of a process that has died. The right to send the next digest is claimed in the store too.
"""

from __future__ import annotations

import json
import os
import secrets
import smtplib
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import Any, Final, Literal

from ratelimit_mail._util.epoch import datetime_of, milliseconds_of
from ratelimit_mail._util.logger import log_warning
from ratelimit_mail._util.text import escape, show
from ratelimit_mail.addresses import normal_address
from ratelimit_mail.backends.base import Backend
from ratelimit_mail.backends.memory import MemoryBackend
from ratelimit_mail.events import Event
from ratelimit_mail.events.log_listener import line_of
from ratelimit_mail.exceptions import BackendError
from ratelimit_mail.monitoring.claims import Claims

__all__ = ["MailAlerts"]

MOST_WAITING: Final = 500
"""How many alerts wait for the next digest; further ones are only counted."""

MOST_LINES: Final = 100

LONGEST_LINE: Final = 600

GATHER: Final = 2.0
"""Seconds after the first alert in which others join its digest."""

IDLE: Final = 60.0
"""How often a process looks for alerts of one that has died."""

LOOK_AGAIN: Final = 15.0
"""How often a process whose alerts wait for a digest of another one looks."""

RETRY: Final = 30.0
"""Seconds until a digest that the relay has not taken is tried again; doubled each time."""

LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")

TLS = Literal["starttls", "implicit", "none"]

MORE: Final = "more"
"""The entry of the register with the number of alerts that did not fit."""


class MailAlerts:
    """Sends events as digests by mail; a channel for Alerts, and a listener.

    host, port: the mail server that takes the digests.
    sender, recipients: the addresses of the digests.
    mails_per_hour: the most digests in an hour of all processes that share the store. The first
        alert is sent after two seconds, with those that come in the meantime; the next digest is
        3600 / mails_per_hour seconds later at the earliest.
    tls: `"starttls"`, `"implicit"` or `"none"`; by default "none" for a server on this host, and
        otherwise "starttls", without which nothing is sent.
    username, password: the login, if there is one. The password may be a function.
    context: for TLS; by default one that checks the certificate.
    timeout: seconds for connecting and for each reply.
    store: the backend that the processes share; name: the name of the policy.
    key: as for `log_events`: addresses are replaced by digits.

    A digest has `Auto-Submitted: auto-generated`, so that no holiday notice answers it. What the
    relay does not take is tried again.
    """

    def __init__(
        self,
        host: str,
        port: int = 25,
        *,
        sender: str,
        recipients: Sequence[str],
        mails_per_hour: float = 4,
        tls: TLS | None = None,
        username: str | None = None,
        password: str | Callable[[], str] | None = None,
        context: ssl.SSLContext | None = None,
        timeout: float = 30.0,
        store: Backend | None = None,
        name: str = "alerts",
        key: bytes | None = None,
    ) -> None:
        if isinstance(recipients, str) or not recipients:
            raise ValueError("recipients: a list of at least one address is needed")
        for field, address in (("sender", sender), *(("recipients", each) for each in recipients)):
            try:
                normal_address(address)
            except (TypeError, ValueError) as error:
                raise ValueError(f"{field}: {error}") from None
        if isinstance(mails_per_hour, bool) or not isinstance(mails_per_hour, int | float):
            raise TypeError(f"mails_per_hour: a number is needed, not {show(mails_per_hour)}")
        if not 0.01 <= mails_per_hour <= 3600:
            raise ValueError(f"mails_per_hour: {show(mails_per_hour)} is not between 0.01 and 3600")
        if tls not in (None, "starttls", "implicit", "none"):
            raise ValueError(f"tls: {show(tls)} is not one of starttls, implicit, none")
        if (username is None) != (password is None):
            raise ValueError("username: a login needs a username and a password")
        self._host, self._port = host, port
        self._sender, self._recipients = sender, tuple(recipients)
        self._spacing = 3600.0 / mails_per_hour
        self._tls: TLS = tls or ("none" if host in LOOPBACK else "starttls")
        if username is not None and self._tls == "none" and host not in LOOPBACK:
            raise ValueError("tls: a login would be sent unencrypted; tls='none' cannot have one")
        self._username, self._password = username, password
        self._context, self._timeout = context, timeout
        self._store = MemoryBackend() if store is None else store
        self._name = name
        self._register = f"{name}:alerts"
        self._claims = Claims(self._store, name)
        self._key = key
        self._successor: MailAlerts | None = None
        """What has taken over: it gets each further event."""
        self._start_afresh()

    def _start_afresh(self) -> None:
        """Create what a forked process must not share with its parent."""
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        # A signal handler that sends mail may come while its thread adds an event.
        self._adding = threading.RLock()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._unstored: list[str] = []
        self._failures = 0
        self._turn_ends = 0
        """Until when, by the store's clock, this process may try to send a digest."""
        self._is_closed = False

    def __repr__(self) -> str:
        return f"<MailAlerts by {self._host}:{self._port}>"

    def __call__(self, event: Event) -> None:
        """Add an event to the next digest."""
        if self._pid != os.getpid():
            self._start_afresh()
        self.add(event)
        if self._successor is None:
            self.start()
            self._wake.set()

    def start(self) -> None:
        """Start the thread that sends, which the first event does otherwise.

        It also sends what a process has left in the store that has died.
        """
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(
                    target=self._run, name="ratelimit_mail alerts", daemon=True
                )
                self._thread.start()

    def add(self, event: Event) -> None:
        """Store an event for the next digest, without starting the thread that sends it."""
        with self._adding:
            successor = self._successor
            if successor is None:
                self._put(event)
        if successor is not None:
            successor(event)

    def _put(self, event: Event) -> None:
        line, fields = line_of(event, self._key)
        entry = json.dumps(
            {
                "at": milliseconds_of(event.at),
                "kind": fields["event"],
                "line": line[:LONGEST_LINE],
            }
        )
        name = f"{milliseconds_of(event.at):015d} {secrets.token_hex(6)}"
        try:
            entries = self._store.read_register(self._register).entries
            if len(entries) < MOST_WAITING:
                self._store.write_register(self._register, {name: entry})
            else:
                more = str(_number(entries.get(MORE, "0")) + 1)
                self._store.write_register(self._register, {MORE: more})
        except BackendError:
            if len(self._unstored) < MOST_WAITING:
                self._unstored.append(entry)

    def _run(self) -> None:
        wait = 0.0
        while not self._is_closed:
            self._wake.wait(wait)
            if self._wake.is_set():
                self._wake.clear()
                self._closing.wait(GATHER)
                if self._is_closed:
                    return
            try:
                wait = self.step() or IDLE
            except Exception as error:
                log_warning("alerts by mail: %s: %s", type(error).__name__, show(str(error)))
                wait = RETRY

    def step(self) -> float | None:
        """Send the alerts that wait, if a digest may go now.

        Return in how many seconds to look again; None if nothing waits.
        """
        with self._sending:
            if self._successor is not None:
                return None
            try:
                entries = self._store.read_register(self._register).entries
            except BackendError:
                entries = {}
            if not entries and not self._unstored:
                return None
            now = self._store.now()
            if now >= self._turn_ends:
                if not self._claims.take("digest", self._spacing):
                    return min(LOOK_AGAIN, self._spacing)
                self._turn_ends = now + round(self._spacing * 1000)
            unstored = [*self._unstored]
            try:
                self._send(self._digest(entries, unstored))
            except (OSError, smtplib.SMTPException, ValueError) as error:
                self._failures += 1
                reason = type(error).__name__
                log_warning("alerts by mail wait: %s has not taken them: %s", self, reason)
                return float(min(RETRY * 2.0 ** (self._failures - 1), self._spacing))
            self._turn_ends, self._failures = 0, 0
            del self._unstored[: len(unstored)]
            with suppress(BackendError):
                self._store.write_register(self._register, dict.fromkeys(entries))
            return min(LOOK_AGAIN, self._spacing)

    def _digest(self, entries: Mapping[str, str], unstored: Sequence[str]) -> EmailMessage:
        alerts: list[dict[str, Any]] = []
        more = 0
        for name in sorted(entries):
            if name == MORE:
                more = _number(entries[name])
            else:
                alerts.append(_parsed(entries[name]))
        alerts += map(_parsed, unstored)
        kinds = Counter(str(each["kind"]) for each in alerts)
        count = len(alerts) + more
        words = ", ".join(f"{number} {kind}" for kind, number in kinds.most_common(6))
        lines = [
            f"{datetime_of(each['at']):%Y-%m-%d %H:%M:%S} UTC  {each['line']}"
            for each in alerts[:MOST_LINES]
        ]
        if rest := count - len(lines):
            lines.append(f"and {rest:,} more, which the log has")
        message = EmailMessage()
        message["From"] = self._sender
        message["To"] = ", ".join(self._recipients)
        plural = "alert" if count == 1 else "alerts"
        message["Subject"] = escape(f"[ratelimit-mail] {self._name}: {count:,} {plural} ({words})")
        message["Date"] = formatdate()
        message["Message-ID"] = make_msgid(domain=self._sender.rpartition("@")[2])
        message["Auto-Submitted"] = "auto-generated"
        message["X-Auto-Response-Suppress"] = "All"
        host = socket.gethostname()[:64]
        text = "\n".join(
            [
                f"The mail limits of the policy {self._name}, reported by {escape(host)}:",
                "",
                *(line.encode("utf-8", "backslashreplace").decode() for line in lines),
                "",
                "Who uses most:    ratelimit-mail top",
                "Stop a subject:   ratelimit-mail block SUBJECT --reason TEXT",
                "Let it go again:  ratelimit-mail unblock SUBJECT --reason TEXT",
                "",
                "SUBJECT is as `top` and the alerts show it, such as ann@uwo.ca or user:ann. Each",
                "command needs --control PATH of the server, or --store URL and --policy NAME.",
                "",
            ]
        )
        message.set_content(text, cte="quoted-printable")
        return message

    def _send(self, message: EmailMessage) -> None:
        context = self._context or ssl.create_default_context() if self._tls != "none" else None
        if self._tls == "implicit":
            smtp: smtplib.SMTP = smtplib.SMTP_SSL(
                self._host, self._port, timeout=self._timeout, context=context
            )
        else:
            smtp = smtplib.SMTP(self._host, self._port, timeout=self._timeout)
        with smtp:
            if self._tls == "starttls":
                smtp.starttls(context=context)
            if self._username is not None and self._password is not None:
                password = self._password() if callable(self._password) else self._password
                smtp.login(self._username, password)
            smtp.send_message(message, self._sender, self._recipients)

    def take_over(self, before: MailAlerts) -> None:
        """Send what waits in `before`, which is closed without sending it.

        A digest that `before` sends now is waited for.
        """
        before._end_thread()
        with before._sending, self._sending:
            with before._adding:  # what is being added is moved too
                before._successor = self
            self._unstored += before._unstored
            self._turn_ends = max(self._turn_ends, before._turn_ends)
            if before._store is not self._store or before._register != self._register:
                self._move_entries(before)
        self.start()
        self._wake.set()

    def _move_entries(self, before: MailAlerts) -> None:
        """Move the alerts that wait in the store of `before`, which may be the same one."""
        try:
            entries = before._store.read_register(before._register).entries
            before._store.write_register(before._register, dict.fromkeys(entries))
        except BackendError:
            return  # they stand there, for another process
        try:
            if MORE in entries:
                own = self._store.read_register(self._register).entries.get(MORE, "0")
                entries = {**entries, MORE: str(_number(own) + _number(entries[MORE]))}
            self._store.write_register(self._register, entries)
        except BackendError:
            self._unstored += [entry for name, entry in entries.items() if name != MORE]

    def _end_thread(self) -> None:
        if self._pid != os.getpid():  # the parent's locks may have been held at the fork
            self._start_afresh()
        self._is_closed = True
        self._closing.set()
        self._wake.set()

    def close(self) -> None:
        """Send what waits, if a digest may go now; what remains stands in the store.

        If the relay does not take it, another process may try at once.
        """
        self._end_thread()
        try:
            self.step()
        except Exception as error:
            log_warning("alerts by mail: %s: %s", type(error).__name__, show(str(error)))
        with self._sending:
            if self._turn_ends > self._store.now():
                self._claims.give_back("digest")
                self._turn_ends = 0


def _parsed(entry: str) -> dict[str, Any]:
    """Return an alert that waits, also one that another version of this library has stored."""
    try:
        alert = json.loads(entry)
        at, kind, line = int(alert["at"]), str(alert["kind"]), str(alert["line"])
        datetime_of(at)
        return {"at": at, "kind": kind, "line": escape(line[:LONGEST_LINE])}
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return {"at": 0, "kind": "unreadable", "line": "an alert that cannot be read"}


def _number(entry: str) -> int:
    """Return the number of alerts that did not fit; 0 for an entry that cannot be read."""
    return int(entry) if entry.isascii() and entry.isdecimal() and len(entry) <= 18 else 0
