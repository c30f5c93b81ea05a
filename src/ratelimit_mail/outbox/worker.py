"""The loop that sends: claim, admit, send, note what became of it, settle.

How one message goes:

1. `claim`: the head of a sender's queue, so that only one message of a sender is on its way.
2. `admit`: a place is booked for it, by an id that is the same after a restart, and redeemed when
   its time has come. If it must wait, its lane waits, and the worker looks at the other lanes.
3. `send`: the transport calls `begin_sending` right before the server may accept the message; that
   it is being sent is on the disk before.
4. `finish`: the result is on the disk before the limiter knows of it, so that nothing is sent
   twice. If the program dies in between, the next worker tells the limiter, before it sends.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final

import attrs

from ratelimit_mail._util.epoch import milliseconds_of
from ratelimit_mail._util.logger import log_info, log_warning
from ratelimit_mail.decision import Action, Decision
from ratelimit_mail.envelope import Envelope
from ratelimit_mail.exceptions import BackendError, OutboxError, RateLimitExceeded
from ratelimit_mail.limiter import Limiter
from ratelimit_mail.limits import Limit, RateLimit
from ratelimit_mail.outbox.estimate import expected_times
from ratelimit_mail.outbox.message import OutboxMessage, State
from ratelimit_mail.outbox.outcome import Outcome, outcome_of
from ratelimit_mail.outbox.records import Claim, Finish, NewMessage, Withdrawn, Worker
from ratelimit_mail.outbox.reports import Reports
from ratelimit_mail.outbox.retry import RetrySchedule
from ratelimit_mail.outbox.store import Store
from ratelimit_mail.outbox.transports.base import Transport
from ratelimit_mail.outbox.worker_lock import WorkerLock, is_dead, remove_dead

__all__ = ["OutboxWorker", "Settings"]

BACKEND_WAIT: Final = 5.0
"""Seconds until a lane is tried again when the counts could not be reached."""

BLOCK_WAIT: Final = 60.0
"""Seconds until a blocked sender is looked at again: a block may be lifted before its end."""

LEAST_DELAY: Final = 1.0
"""Seconds; a shorter wait is not reported as a delay."""

MOST_REPORTED: Final = 500
"""How many waiting messages of a sender are reported at once: listeners take their time."""

MOST_LIMITS: Final = 10_000
"""How many lanes a worker knows the limit of."""

HOUSEKEEPING_MS: Final = 1000
PURGE_MS: Final = 3600 * 1000

LEAST_SLEEP: Final = 0.02
IDLE_SLEEP: Final = 1.0

RECORD_TRIES: Final = 30
"""How often a worker tries to note a result when the disk is full or the file is locked."""

DIED: Final = "the program ended while the message was being sent"


@attrs.frozen(kw_only=True)
class Settings:
    """How an outbox sends; as `Outbox` documents it, in seconds."""

    retry: RetrySchedule
    resend: bool
    keep: float
    keep_records: float
    hold_for: float
    poll_interval: float


class OutboxWorker:
    """One `run` of an outbox: a loop in this thread, and one for each further connection."""

    def __init__(
        self,
        store: Store,
        limiter: Limiter,
        transport: Transport,
        reports: Reports,
        settings: Settings,
        clock: Callable[[], int],
        sleep: Callable[[float], object],
        stop: threading.Event,
    ) -> None:
        self._store = store
        self._limiter = limiter
        self._transport = transport
        self._reports = reports
        self._settings = settings
        self._clock = clock
        self._sleep = sleep
        self._stop = stop
        self._lock = WorkerLock(store.path)
        self._me = Worker(id=self._lock.id, pid=os.getpid())
        self._failures = 0
        self._paused_until = 0
        self._limits: dict[str, Limit | None] = {}
        """The limit that a lane waits for."""
        self._housekeeping = threading.Lock()
        self._housekeeping_at = 0
        self._purge_at = 0
        self._error: BaseException | None = None

    def run(self, *, until_empty: bool) -> None:
        """Send until `stop` is set; or, if asked, until nothing is queued."""
        threads: list[threading.Thread] = []
        try:
            remove_dead(self._store.path)
            self._store.register(self._me, self._clock())
            self._keep_house(self._clock())
            self._warn_of_lost_counts()
            for number in range(1, self._transport.max_connections):
                thread = threading.Thread(
                    target=self._loop_in_thread,
                    args=(until_empty,),
                    name=f"ratelimit_mail outbox {number}",
                    daemon=True,
                )
                threads.append(thread)
                thread.start()
            self._loop(until_empty)
        except BaseException as error:
            self._error = self._error or error
            raise
        finally:
            for thread in threads:
                thread.join()
            try:
                self._store.forget_worker(
                    self._me.id, self._clock(), resend=self._settings.resend, reason=DIED
                )
            finally:
                self._lock.release()
                self._transport.close()
        if self._error is not None:
            raise self._error

    def _loop_in_thread(self, until_empty: bool) -> None:
        try:
            self._loop(until_empty)
        except BaseException as error:
            self._error = self._error or error

    def _loop(self, until_empty: bool) -> None:
        while not self._stop.is_set() and self._error is None:
            now = self._clock()
            if now >= self._housekeeping_at or now < self._housekeeping_at - HOUSEKEEPING_MS:
                self._keep_house(now)
            claim = None
            if now >= self._paused_until:
                claim = self._store.claim(self._me, now)
            if claim is not None:
                self._handle(claim)
                continue
            self._keep_house(now)
            if until_empty and self._store.is_empty():
                return
            self._sleep(self._seconds_to_sleep())

    def _seconds_to_sleep(self) -> float:
        now = self._clock()
        moments = [self._store.next_due()]
        if moments[0] is not None and now < self._paused_until:
            moments[0] = max(moments[0], self._paused_until)
        notices = self._reports.notices
        if notices is not None and notices.delayed_after is not None:
            put_at = self._store.next_unannounced()
            if put_at is not None:
                moments.append(put_at + math.ceil(notices.delayed_after * 1000))
        due = min((each for each in moments if each is not None), default=None)
        longest = self._settings.poll_interval
        if due is None:
            return min(longest, IDLE_SLEEP)
        return min(longest, max(LEAST_SLEEP, (due - now) / 1000))

    # One message.

    def _handle(self, claim: Claim) -> None:
        try:
            decision = self._admit(claim)
        except BackendError as error:
            log_warning("the outbox waits, because the limits cannot be checked: %s", error)
            self._store.release(claim, self._me, self._in(BACKEND_WAIT))
            return
        if decision is not None:
            self._send(claim, decision)

    def _in(self, seconds: float) -> int:
        return self._clock() + max(1, math.ceil(seconds * 1000))

    def _admit(self, claim: Claim) -> Decision | None:
        """Return the decision that lets a message go now; None if it was put off or ended."""
        if claim.stale is not None:
            self._give_back(claim.stale)
        try:
            reservation = self._limiter.reserve(claim.envelope)
        except RateLimitExceeded as error:
            self._refused(claim, error.decision)
            return None
        decision = reservation.decision
        if reservation.delay > 0 or decision.repeated:
            redeemed = reservation.redeem()
            if not redeemed:
                if redeemed.block is not None:
                    self._refused(claim, redeemed)
                else:
                    self._wait(claim, redeemed.retry_after or 0.0, redeemed.limit)
                return None
        return decision

    def _refused(self, claim: Claim, decision: Decision) -> None:
        """Put off, hold or end a message that the limiter refuses."""
        if decision.action is Action.HOLD:
            now = self._clock()
            lists = self._limiter.policy.holding_lists(claim.envelope)
            until = now + round(self._settings.hold_for * 1000)
            self._store.hold(claim, self._me, lists, until, now)
            message = self._store.get(claim.id)
            if message is not None:
                self._reports.held(message)
        elif decision.block is not None:
            block = decision.block
            wait = BLOCK_WAIT if decision.retry_after is None else decision.retry_after
            expected = None if block.until is None else milliseconds_of(block.until)
            self._store.release(claim, self._me, self._in(min(wait, BLOCK_WAIT)))
            self._report_delays(claim.lane, expected)
        elif decision.retry_after is None:
            reply = str(decision.reply)
            failed = dict.fromkeys(claim.envelope.recipients, reply)
            self._finish(claim, None, Outcome(failed=failed))
        else:
            self._wait(claim, decision.retry_after, decision.limit)

    def _wait(self, claim: Claim, seconds: float, limit: Limit | None) -> None:
        wait_until = self._in(seconds)
        self._store.release(claim, self._me, wait_until, is_limited=True)
        if len(self._limits) >= MOST_LIMITS:
            self._limits.clear()
        self._limits[claim.lane] = limit
        if seconds >= LEAST_DELAY:
            self._report_delays(claim.lane, wait_until)

    def _report_delays(self, lane: str, first_at: int | None) -> None:
        """Report the messages of a lane that wait, each once, with the time expected."""
        waiting = self._store.waiting_in(lane, self._clock())
        head = self._store.get(waiting[0].id) if waiting else None
        if head is None:
            return
        expected: list[int | None] = [None] * len(waiting)
        if first_at is not None:
            usages = []
            with suppress(BackendError, ValueError):
                client = self._store.client_of(head.id)
                usages = [*self._limiter.usage(head.sender, client=client)]
            expected = [*expected_times(usages, waiting, first_at)]
        unreported = [
            (message.id, moment)
            for message, moment in zip(waiting, expected, strict=True)
            if message.delayed_at is None
        ]
        moments = dict(unreported[:MOST_REPORTED])
        for message in self._store.set_expected(moments, self._clock()):
            self._reports.delayed(message, message.expected_at, self._limits.get(lane))

    def _send(self, claim: Claim, decision: Decision) -> None:
        begun = withdrawn = False

        def begin_sending() -> None:
            nonlocal begun, withdrawn
            try:
                self._store.begin_sending(claim, self._me, self._clock())
            except Withdrawn:
                withdrawn = True
                raise
            begun = True

        result: object
        fatal: BaseException | None = None
        try:
            result = self._transport.send(self._store.content(claim), begin_sending)
        except OutboxError:  # `begin_sending` could not write: nothing was sent
            self._end_charge(claim, decision, "refund")
            raise
        except Exception as error:
            result = error
        except BaseException as error:
            result = fatal = error
        if withdrawn:
            self._store.release(claim, self._me)
            self._end_charge(claim, decision, "refund")
        else:
            outcome = outcome_of(result, claim.envelope.recipients, begun=begun)
            self._finish(claim, decision, outcome)
        if fatal is not None:
            raise fatal

    def _finish(self, claim: Claim, decision: Decision | None, outcome: Outcome) -> None:
        """Note what became of a message, report it, and tell the limiter.

        decision: what admitted it; None if nothing was charged.
        """
        now = self._clock()
        finish, failed = self._next_state(claim, outcome, now)
        before = None
        if failed or outcome.uncertain or (outcome.sent and claim.delayed_at is not None):
            before = self._store.get(claim.id)
        if decision is None:
            finish = attrs.evolve(finish, charge=None)
        if before is not None and failed:
            notice = self._reports.failure_notice(
                before, failed, partial(self._store.headers_text, claim.id)
            )
            if notice is not None:
                finish = attrs.evolve(finish, notices=[notice])
        self._record(claim, finish, now)
        if decision is not None and finish.charge is not None:
            not_reached = [*outcome.deferred, *outcome.failed]
            self._end_charge(claim, decision, finish.charge, not_reached)
        if before is None:
            return
        if failed:
            self._reports.failed(before, failed)
        if outcome.sent and claim.delayed_at is not None:
            self._reports.released(before, outcome.sent)
        if outcome.uncertain:
            recipients = [*outcome.uncertain]
            reply = next(iter(outcome.uncertain.values()))
            self._reports.uncertain(before, recipients, reply, resent=self._settings.resend)

    def _next_state(
        self, claim: Claim, outcome: Outcome, now: int
    ) -> tuple[Finish, dict[str, str]]:
        """Return what becomes of a message, and the recipients that it will not reach."""
        retry = self._settings.retry
        first = now if claim.first_attempt_at is None else claim.first_attempt_at
        failed = dict(outcome.failed)
        deferred = dict(outcome.deferred)
        attempts, next_at, wait_until = claim.attempts, now, None
        if outcome.unavailable is not None:
            deferred = dict.fromkeys(claim.envelope.recipients, outcome.unavailable)
            wait_until = self._pause(claim, outcome, now)
            if retry.next_attempt(first, 1, now) is None:
                failed, deferred = deferred, {}
        else:
            if self._failures:
                log_info("the outbox sends again")
            self._failures = 0
        if outcome.uncertain and self._settings.resend:
            deferred |= outcome.uncertain
        if deferred and outcome.unavailable is None:
            wait_until = self._pushback(claim, outcome.replies, now)
            if wait_until is None and not outcome.again:
                attempts += 1
                following = retry.next_attempt(first, attempts, now)
                if following is None:
                    failed |= deferred
                    deferred = {}
                else:
                    next_at = following
        recipients: dict[str, tuple[State, str | None]] = {}
        recipients |= dict.fromkeys(outcome.sent, (State.SENT, None))
        if not self._settings.resend:
            recipients |= {
                each: (State.UNCERTAIN, reply) for each, reply in outcome.uncertain.items()
            }
        recipients |= {each: (State.FAILED, reply) for each, reply in failed.items()}
        recipients |= {each: (State.QUEUED, reply) for each, reply in deferred.items()}
        state = self._state_of(claim, recipients)
        replies = [reply for _, reply in recipients.values() if reply is not None]
        finish = Finish(
            state=state,
            recipients=recipients,
            charge="refund" if outcome.nothing_sent else "settle",
            next_at=next_at if state == State.QUEUED else None,
            attempts=attempts,
            first_attempt_at=first,
            reply=replies[0] if replies else None,
            wait_until=wait_until,
        )
        return finish, failed

    def _state_of(self, claim: Claim, tried: dict[str, tuple[State, str | None]]) -> State:
        """Return the state of a message by those of its recipients, earlier rounds included."""
        states = {state for state, _ in tried.values()}
        message = None
        if claim.round:
            message = self._store.get(claim.id)
        if message is not None:
            states |= {each.state for each in message.recipients if each.address not in tried}
        for state in (State.QUEUED, State.UNCERTAIN, State.SENT):
            if state in states:
                return state
        return State.FAILED

    def _pause(self, claim: Claim, outcome: Outcome, now: int) -> int:
        """Send nothing for a while; return until when the lane waits."""
        self._failures += 1
        seconds = self._settings.retry.pause(self._failures)
        self._paused_until = now + math.ceil(seconds * 1000)
        log_warning("the outbox sends nothing for %g seconds: %s", seconds, outcome.unavailable)
        blocked_until = self._pushback(claim, outcome.replies, now)
        return max(self._paused_until, blocked_until or 0)

    def _pushback(self, claim: Claim, replies: object, now: int) -> int | None:
        """Block a sender that its provider calls too fast; return until when, else None."""
        if replies is None:
            return None
        try:
            block = self._limiter.pushback(claim.envelope, replies)
        except BackendError as error:
            log_warning("a sender could not be blocked: %s", error)
            return None
        if block is None:
            return None
        if block.until is None:
            return now + round(BLOCK_WAIT * 1000)
        # By the limiter's clock, which need not be that of the outbox.
        return now + milliseconds_of(block.until) - milliseconds_of(block.since)

    def _record(self, claim: Claim, finish: Finish, now: int) -> None:
        """Note a result; if the file cannot be written, try for a while: it must not be lost."""
        for tries in range(1, RECORD_TRIES + 1):
            try:
                self._store.finish(claim, self._me, finish, now)
                return
            except OutboxError as error:
                if tries == RECORD_TRIES:
                    raise
                log_warning("what became of message %d is not noted yet: %s", claim.id, error)
                time.sleep(1.0)

    # The limiter.

    def _end_charge(
        self, claim: Claim, decision: Decision, action: str, not_reached: list[str] | None = None
    ) -> None:
        """Settle or refund a message whose round has ended."""
        try:
            if action == "settle":
                self._limiter.settle(decision, not_reached or ())
            else:
                with suppress(ValueError):  # another worker has refunded it
                    self._limiter.refund(decision)
        except BackendError as error:
            log_warning("message %d stays counted at its admission for now: %s", claim.id, error)
            return
        self._store.charge_done(claim.id)

    def _give_back(self, envelope: Envelope) -> None:
        """Refund what may be booked for an envelope."""
        with suppress(ValueError):  # nothing is booked
            self._limiter.refund(envelope)

    def _end_charges_of_others(self) -> None:
        """Tell the limiter the ends of rounds that a worker before could not tell it."""
        for charge in self._store.outstanding_charges(self._me):
            try:
                if charge.action == "settle":
                    # The booking is the one of then, by its id. It may have been sent until now.
                    with suppress(RateLimitExceeded):
                        reservation = self._limiter.reserve(charge.envelope)
                        self._limiter.settle(reservation.decision)
                else:
                    self._give_back(charge.envelope)
            except BackendError:
                return
            self._store.charge_done(charge.id)

    def _warn_of_lost_counts(self) -> None:
        if not self._limiter.counts_in_memory:
            return
        windows = [
            each.window for each in self._limiter.policy.all_limits if isinstance(each, RateLimit)
        ]
        sent = self._store.sent_since(self._clock() - max(windows, default=0)) if windows else 0
        workers = self._store.worker_ids() - {self._me.id}
        if sent or workers:
            log_warning(
                "the limiter counts in the memory of this program: it does not know of %d messages"
                " that this outbox has sent before, nor of %d other programs that send;"
                " use a backend that lasts and is shared, such as SQLiteBackend",
                sent,
                len(workers),
            )

    # Everything else.

    def _keep_house(self, now: int) -> None:
        """Free what dead workers owned, end what is too late, send notices, and clean up."""
        # No signal is handled between the lock and the `try`.
        for _ in iter(partial(self._housekeeping.acquire, False), False):
            try:
                self._housekeeping_at = now + HOUSEKEEPING_MS
                self._recover(now)
                self._end_charges_of_others()
                self._expire(now)
                self._report_all_delays(now)
                if now >= self._purge_at:
                    self._purge_at = now + PURGE_MS
                    settings = self._settings
                    self._store.purge(
                        now - round(settings.keep * 1000), now - round(settings.keep_records * 1000)
                    )
            finally:
                self._housekeeping.release()
            return

    def _report_all_delays(self, now: int) -> None:
        for lane, until in self._store.unreported_lanes(now, round(LEAST_DELAY * 1000)):
            self._report_delays(lane, until)
        self._announce_delays(now)

    def _recover(self, now: int) -> None:
        resend = self._settings.resend
        for worker_id in self._store.worker_ids() - {self._me.id}:
            if not is_dead(self._store.path, worker_id):
                continue
            for message in self._store.forget_worker(worker_id, now, resend=resend, reason=DIED):
                state = State.QUEUED if resend else State.UNCERTAIN
                recipients = [each.address for each in message.recipients if each.state == state]
                self._reports.uncertain(message, recipients, DIED, resent=resend)

    def _expire(self, now: int) -> None:
        for message, booking in self._store.expire(now, self._expiry_notice):
            if booking is not None:
                with suppress(BackendError):
                    self._give_back(booking)
                    self._store.booking_given_back(message.id)
            self._reports.failed(message, _expired(message))

    def _expiry_notice(
        self, message: OutboxMessage, headers: Callable[[], bytes]
    ) -> NewMessage | None:
        return self._reports.failure_notice(message, _expired(message), headers)

    def _announce_delays(self, now: int) -> None:
        notices = self._reports.notices
        if notices is None or notices.delayed_after is None:
            return
        for message in self._store.unannounced(now - round(notices.delayed_after * 1000)):
            self._announce(message, now)

    def _announce(self, message: OutboxMessage, now: int) -> None:
        notice = self._reports.delay_notice(message, partial(self._store.headers_text, message.id))
        self._store.announce(message.id, notice, now)


def _expired(message: OutboxMessage) -> dict[str, str]:
    """Return the recipients that an expired message has not reached, with the reason."""
    reason = message.reply or "expired"
    return {each.address: reason for each in message.recipients if each.state == State.EXPIRED}
