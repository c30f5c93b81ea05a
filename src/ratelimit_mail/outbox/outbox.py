"""Outbox: the durable queue of one host, and what a program or an administrator does with it."""

from __future__ import annotations

import inspect
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from email.message import Message
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self

import attrs

from ratelimit_mail._util.epoch import milliseconds_of
from ratelimit_mail._util.logger import log_warning
from ratelimit_mail._util.text import escape, show
from ratelimit_mail.addresses import NULL_SENDER, normal_address
from ratelimit_mail.envelope import Client, Envelope
from ratelimit_mail.events import Dispatcher, Listener
from ratelimit_mail.exceptions import BackendError, RateLimitExceeded
from ratelimit_mail.limiter import Limiter
from ratelimit_mail.limiter.verdicts import decide
from ratelimit_mail.outbox.drafts import draft
from ratelimit_mail.outbox.message import OutboxMessage, OutboxStats, State
from ratelimit_mail.outbox.notices import Notices
from ratelimit_mail.outbox.records import NewMessage
from ratelimit_mail.outbox.reports import Reports
from ratelimit_mail.outbox.retry import RetrySchedule, seconds_of
from ratelimit_mail.outbox.store import Store
from ratelimit_mail.outbox.transports.base import Transport
from ratelimit_mail.outbox.worker import OutboxWorker, Settings
from ratelimit_mail.policy.directory_lookup import APPROVED
from ratelimit_mail.rules import Rule

__all__ = ["Outbox"]

DAY: Final = 86400.0
LONGEST_REASON: Final = 400


def _wall_clock() -> int:
    return time.time_ns() // 1_000_000


class Outbox:
    """A durable queue for mail: what is put there goes when the limits allow it, once.

    path: the file, which is created for its owner alone if it is missing. Any number of programs of
        one host may use it at the same time; it must not be on a network file system.
    limiter: what decides. It should count in a backend that lasts and is shared, `SQLiteBackend`
        or `RedisBackend`; counts in memory are lost with the program.
    transport: how messages are sent; a program that only puts messages needs none.
    retry: when a message is tried again after a temporary refusal.
    on_uncertain: what happens to a message that was being sent when the program or the connection
        died: `"report"` it, so that nobody gets it twice, or `"resend"` it, so that everybody gets
        it.
    notices: the notices that senders get by mail; None for none.
    on_event: a callable, several, or an `events.Dispatcher` of them: called on a thread of its own
        with each event: Delayed, Released, Failed, Held and Uncertain.
    hold_for: for how many seconds a message waits for a moderator before it expires.
    keep: for how many seconds the text of a message that has ended is stored. keep_records: for how
        many its record, and so its key.
    shared: whether the file also has tables of another program, for `put(connection=)`.
    poll_interval: the most seconds after which `run` looks for messages that other programs put.
    clock: returns milliseconds since the epoch. sleep: waits for a number of seconds. For tests;
        by default the wall clock, and a sleep that `stop` ends.

    Safe for threads.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        limiter: Limiter,
        transport: Transport | None = None,
        *,
        retry: RetrySchedule | None = None,
        on_uncertain: Literal["report", "resend"] = "report",
        notices: Notices | None = None,
        on_event: Listener | Sequence[Listener] | Dispatcher | None = None,
        hold_for: float = 5 * DAY,
        keep: float = 7 * DAY,
        keep_records: float = 90 * DAY,
        shared: bool = False,
        poll_interval: float = 1.0,
        clock: Callable[[], int] = _wall_clock,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        if not isinstance(limiter, Limiter):
            raise TypeError(f"limiter: a Limiter is needed, not {show(limiter)}")
        if transport is not None and not callable(getattr(transport, "send", None)):
            raise TypeError(
                "transport: a transport such as SMTPTransport(...) is needed,"
                f" not {show(transport)}"
            )
        if on_uncertain not in ("report", "resend"):
            raise ValueError(f"on_uncertain: {show(on_uncertain)} is not one of report, resend")
        if retry is not None and not isinstance(retry, RetrySchedule):
            raise TypeError(f"retry: a RetrySchedule is needed, not {show(retry)}")
        if notices is not None and not isinstance(notices, Notices):
            raise TypeError(f"notices: Notices are needed, not {show(notices)}")
        if sleep is not None and inspect.iscoroutinefunction(sleep):
            raise TypeError(f"sleep: {show(sleep)} is async; an Outbox does not await it")
        self._limiter = limiter
        self._transport = transport
        self._clock = clock
        self._stop = threading.Event()
        self._sleep = self._stop.wait if sleep is None else sleep
        self._running = threading.Lock()
        self._settings = Settings(
            retry=retry or RetrySchedule(),
            resend=on_uncertain == "resend",
            keep=seconds_of("keep", keep),
            keep_records=max(seconds_of("keep", keep), seconds_of("keep_records", keep_records)),
            hold_for=seconds_of("hold_for", hold_for),
            poll_interval=(
                poll_interval
                if poll_interval == float("inf")
                else seconds_of("poll_interval", poll_interval, least=0.001)
            ),
        )
        dispatcher = on_event if isinstance(on_event, Dispatcher) else None
        if on_event is not None and dispatcher is None:
            dispatcher = Dispatcher(on_event)  # type: ignore[arg-type] # not a Dispatcher
        self._reports = Reports(limiter.policy, dispatcher, notices, clock)
        self._store = Store(Path(os.path.abspath(os.fspath(path))), shared=shared)

    def __repr__(self) -> str:
        return f"<Outbox {os.fspath(self._store.path)!r} of {self._limiter.policy.name!r}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; a later call opens it again."""
        self._store.close()

    # Putting.

    def put(
        self,
        message: Message[Any, Any] | bytes,
        *,
        envelope: Envelope | None = None,
        client: Client | None = None,
        key: str | None = None,
        priority: int = 0,
        not_before: datetime | None = None,
        expires: datetime | None = None,
        connection: sqlite3.Connection | None = None,
    ) -> OutboxMessage:
        """Put a message; it is durable when this returns.

        message: an `email.message` object, or the text as bytes, which needs `envelope`. The header
            Bcc is read, but not sent. A missing Message-ID or Date is added to what is sent.
        envelope: the sender, recipients and client; by default those of the message's headers.
        client: the client that submits the message.
        key: the name that the program has for this message, such as the number of a job. A key that
            was put before is the same message: it is returned, and nothing is put.
        priority: messages of a sender with a higher number go first; equal ones in the order put.
        not_before, expires: aware datetimes: when it may be sent, and when it is too late.
        connection: a connection of the caller to the same file, in whose transaction the message is
            put: it is there if and when that is committed.

        Returns the message: queued, or held if a mailing list is moderated.

        Raises RateLimitExceeded if the message can never be sent, such as one with more recipients
        than allowed; it is not put. Raises ValueError or TypeError for an address or a header that
        is not one, and OutboxError if the file cannot be written.
        """
        now = self._clock()
        if envelope is None:
            if not isinstance(message, Message):
                raise TypeError(
                    f"message: without envelope=, an EmailMessage is needed, not {show(message)}"
                )
            envelope = Envelope.from_message(message, client=client)
        elif not isinstance(envelope, Envelope):
            raise TypeError(f"envelope: an Envelope is needed, not {show(envelope)}")
        elif client is not None:
            raise TypeError("client: give it with the envelope")
        if not isinstance(message, Message | bytes):
            raise TypeError(f"message: an EmailMessage or bytes are needed, not {show(message)}")
        if envelope.direction != "outbound":
            raise ValueError("envelope: an outbox only sends outbound mail")
        if envelope.size is None and self._limiter.policy.counts_bytes:
            data = message if isinstance(message, bytes) else message.as_bytes()
            envelope = attrs.evolve(envelope, size=len(data))
        first, last = _moment("not_before", not_before), _moment("expires", expires)
        if last is not None and last <= max(now, first or now):
            raise ValueError(
                f"expires: {show(str(expires))} is over before the message may be sent"
            )
        policy = self._limiter.policy
        plan = policy.plan(envelope, now)
        held_by: tuple[str, ...] = ()
        if isinstance(plan.never, Rule) and plan.never.action == "hold":
            held_by = policy.holding_lists(envelope)
        elif plan.never is not None:
            raise RateLimitExceeded(decide(plan, None, self, envelope))
        new = draft(
            message,
            envelope,
            policy,
            now,
            key=key,
            priority=priority,
            not_before=first,
            deadline=last,
            held_by=held_by,
            held_until=now + round(self._settings.hold_for * 1000) if held_by else None,
        )
        if connection is None:
            stored, is_new = self._store.insert(new)
        else:
            stored, is_new = self._store.insert_with(connection, new)
        if held_by and is_new:
            self._reports.held(stored)
        return stored

    # Sending.

    def run(self, until_empty: bool = False) -> None:
        """Send what may be sent, until `stop` is called.

        until_empty: whether to return when nothing is queued any more. Messages that are held or
            uncertain are not waited for.

        Several programs may run the same outbox. What a program was doing when it died is taken
        over by the next one, or by another that runs.

        Raises TypeError without a transport, and RuntimeError if this outbox runs already.
        """
        if self._transport is None:
            raise TypeError("transport: an Outbox without one can put messages, but not send them")
        # No signal is handled between the lock and the `try`.
        for _ in iter(partial(self._running.acquire, False), False):
            try:
                worker = OutboxWorker(
                    self._store,
                    self._limiter,
                    self._transport,
                    self._reports,
                    self._settings,
                    self._clock,
                    self._sleep,
                    self._stop,
                )
                worker.run(until_empty=until_empty)
            finally:
                self._stop.clear()
                self._running.release()
            return
        raise RuntimeError("this Outbox runs already, in another thread")

    def stop(self) -> None:
        """Make `run` return when it has sent the message in hand; callable from a signal handler.

        If this outbox does not run, the next `run` returns at once.
        """
        self._stop.set()

    # Looking.

    def show(self, id: int) -> OutboxMessage:  # noqa: A002 - the name that users expect
        """Return a message. Raises KeyError if there is none with this number.

        id: the number of the message.
        """
        message = self._store.get(id)
        if message is None:
            raise KeyError(id)
        return message

    def text(self, id: int) -> bytes:  # noqa: A002
        """Return the text of a message as it is sent.

        id: the number of the message.

        Raises KeyError if there is no such message, and ValueError if its text is not stored any
        more.
        """
        text = self._store.text(id)
        if text is None:
            raise ValueError(f"message {id}: its text is not stored any more")
        return text

    def list(
        self,
        *,
        state: State | str | None = None,
        sender: str | None = None,
        moderator: str | None = None,
        after: int = 0,
        limit: int = 100,
    ) -> tuple[OutboxMessage, ...]:
        """Return messages in the order in which they were put.

        state: only those in this state. sender: only those of this sender, in any spelling that the
            policy counts as the same. moderator: only those that this address may approve.
        after: the number of the last message that was seen. limit: the most that are returned.
        """
        if state is not None:
            try:
                state = State(state)
            except ValueError:
                words = ", ".join(State)
                raise ValueError(f"state: {show(state)} is not one of {words}") from None
        policy = self._limiter.policy
        lane = None
        if sender is not None:
            null = sender in ("", NULL_SENDER)
            address = NULL_SENDER if null else normal_address(sender)[0]
            lane = policy.comparison.address(policy.owner(address))
        lists = None
        if moderator is not None:
            state = State.HELD
            address = normal_address(moderator)[0]
            held = self._store.pending_holds()
            lists = [each for each in sorted(held) if policy.is_moderator(address, each)]
        return self._store.list(state, lane, lists, after, limit)

    def stats(self) -> OutboxStats:
        """Return how many messages there are in each state, and how old the queue is."""
        return self._store.stats()

    # Changes by hand.

    def cancel(self, id: int) -> OutboxMessage:  # noqa: A002
        """Cancel a message that is queued, held or uncertain, and return it.

        id: the number of the message.

        Raises KeyError if there is no such message, and ValueError if it is being sent or has
        ended.
        """
        booked = self._store.cancel(id, self._clock())
        if booked is not None:
            try:
                self._limiter.refund(booked)
            except BackendError as error:
                log_warning("message %d is cancelled, and stays booked for now: %s", id, error)
            except ValueError:
                pass  # nothing is booked, or not by this limiter; the worker sees to it
            else:
                self._store.booking_given_back(id)
        return self.show(id)

    def retry(self, id: int) -> OutboxMessage:  # noqa: A002
        """Try a message again as soon as possible, and return it.

        id: the number of the message.

        A message that failed, expired, was cancelled or is uncertain is queued again, for those of
        its recipients that have not got it. A queued one does not wait for its next attempt.

        Raises KeyError if there is no such message, and ValueError if it is being sent, held or
        sent, or if its text is not stored any more.
        """
        self._store.retry(id, self._clock())
        return self.show(id)

    def approve(self, id: int, by: str | None = None) -> OutboxMessage:  # noqa: A002
        """Approve a held message, and return it: it is queued when all its lists have approved.

        id: the number of the message.
        by: the moderator; left out: the administrator, who decides for every list.

        Raises KeyError if there is no such message, and ValueError if it is not held, or if `by` is
        not a moderator of a list that holds it.
        """
        client = self._store.client_of(id)
        approved = Client(
            address=client.address,
            user=client.user,
            protocol=client.protocol,
            tags={*client.tags, APPROVED},
        )
        lists, by = self._lists_of(by)
        self._store.decide_hold(id, lists, by, self._clock(), approved, None)
        return self.show(id)

    def reject(
        self,
        id: int,  # noqa: A002
        by: str | None = None,
        reason: str | None = None,
    ) -> OutboxMessage:
        """Reject a held message, and return it: it has failed, for all of its recipients.

        id: the number of the message.
        by: the moderator, as in `approve`. reason: for the sender to read.

        Raises as `approve` does.
        """
        if reason is not None and (not isinstance(reason, str) or len(reason) > LONGEST_REASON):
            raise ValueError(
                f"reason: {show(reason)} is not a text of at most {LONGEST_REASON} characters"
            )
        reply = "550 5.7.2 Rejected by the moderator of the mailing list."
        if reason:
            reply += f" {escape(' '.join(reason.split()))}"
        failed: dict[str, str] = {}

        def notice_of(message: OutboxMessage, headers: Callable[[], bytes]) -> NewMessage | None:
            failed.update((each.address, reply) for each in message.recipients)
            return self._reports.failure_notice(message, failed, headers)

        lists, by = self._lists_of(by)
        self._store.decide_hold(id, lists, by, self._clock(), None, reply, notice_of)
        message = self.show(id)
        self._reports.failed(message, failed)
        return message

    def purge(self) -> int:
        """Delete texts and records that are older than `keep` and `keep_records`.

        `run` does so every hour. Returns how many were deleted.
        """
        now, settings = self._clock(), self._settings
        return self._store.purge(
            now - round(settings.keep * 1000), now - round(settings.keep_records * 1000)
        )

    def _lists_of(self, by: str | None) -> tuple[tuple[str, ...] | None, str | None]:
        """Return the lists that a moderator may decide on, None for all, and the address."""
        if by is None:
            return None, None
        address = normal_address(by)[0]
        policy = self._limiter.policy
        held = self._store.pending_holds()
        return tuple(each for each in sorted(held) if policy.is_moderator(address, each)), address


def _moment(field: str, value: datetime | None) -> int | None:
    if value is None:
        return None
    if not isinstance(value, datetime):
        raise TypeError(f"{field}: a datetime is needed, not {show(value)}")
    if value.tzinfo is None:
        raise ValueError(f"{field}: {show(str(value))} has no time zone")
    return milliseconds_of(value)
