"""HoldQueue: messages over a rate are booked, held by Postfix, and released at their time."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

from ratelimit_mail._util.logger import log_info, log_warning
from ratelimit_mail._util.rare_warnings import RareWarnings
from ratelimit_mail._util.text import escape, show
from ratelimit_mail.decision import Action, Decision
from ratelimit_mail.envelope import Envelope
from ratelimit_mail.exceptions import BackendError, RateLimitExceeded
from ratelimit_mail.limiter import AsyncLimiter
from ratelimit_mail.server.clients import client_text
from ratelimit_mail.server.held_mail import HeldMail
from ratelimit_mail.server.postfix import QUEUE_ID, Request

__all__ = ["HeldMailError", "HoldQueue"]

FINISH_SECONDS: Final = 10.0
"""How long Postfix may need from the last answer until a message is in its hold queue."""

LONGEST_MISSING: Final = 86_400.0
"""How long a message is looked for in Postfix's hold queue, in seconds."""

MOST_REMEMBERED: Final = 20_000


class HeldMailError(Exception):
    """The list of held messages cannot be written."""


class HoldQueue:
    """Books messages, and releases those whose time has come.

    held: the list of held messages. hold_for: the longest time for which a message is booked, in
        seconds. clock: seconds that only grow.
    """

    def __init__(
        self,
        held: HeldMail,
        hold_for: float | None,
        warnings: RareWarnings,
        clock: Callable[[], float],
    ) -> None:
        self.held = held
        self._hold_for = hold_for
        self._warnings = warnings
        self._clock = clock
        self._incomplete_until: OrderedDict[str, float] = OrderedDict()
        """Queue ids of held messages that are not in Postfix's hold queue yet."""
        self._missing_since: OrderedDict[str, float] = OrderedDict()
        """Queue ids of messages that were released and not found in Postfix's hold queue."""

    async def book(
        self, request: Request, envelope: Envelope, limiter: AsyncLimiter, complete_in: float | None
    ) -> Decision | None:
        """Return the decision on a message that goes now or is refused; None if it is to be held.

        complete_in: the most seconds until Postfix says that the message is complete; None if it
            is now.

        Raises HeldMailError if it would be held and the list cannot be written; it is not booked.
        """
        queue_id = request.queue_id
        try:
            # Without a queue id, it could not be released.
            max_delay = self._hold_for if queue_id else 0.0
            reservation = await limiter.reserve(envelope, max_delay=max_delay)
        except RateLimitExceeded as error:
            if error.decision.action is Action.HOLD and queue_id:
                # What had this queue id is gone: its time must not release this message.
                await asyncio.to_thread(self.held.replace, queue_id)
            return error.decision
        if reservation.delay <= 0:
            return reservation.decision
        self._note_incomplete(queue_id, FINISH_SECONDS if complete_in is None else complete_in)
        self._missing_since.pop(queue_id, None)
        try:
            await asyncio.to_thread(self.held.add, queue_id, envelope, reservation.at)
        except Exception as error:
            self._warnings.warn("held", "the list of held messages cannot be written: %r", error)
            await reservation.cancel()
            raise HeldMailError from error
        log_info(
            "held %s from %s %s until it fits, in %.0f s",
            queue_id,
            show(request.sender),
            client_text(request),
            reservation.delay,
        )
        return None

    def note_complete(self, queue_id: str) -> None:
        """Note that Postfix has all of a message, and now puts it into its hold queue."""
        if queue_id in self._incomplete_until:
            self._note_incomplete(queue_id, FINISH_SECONDS)

    async def release(self, limiter: AsyncLimiter, most: int) -> list[str]:
        """Return the queue ids of held messages that may go now; each is counted as sent now.

        One whose room was taken meanwhile is booked anew, first in its sender's queue.
        """
        now = round(time.time() * 1000)
        queue_ids = []
        for message in await asyncio.to_thread(self.held.due, now, most):
            missing = self._incomplete_until.get(message.queue_id, 0.0) - self._clock()
            if missing > 0:  # postsuper would not find it
                at = now + round(min(missing, FINISH_SECONDS) * 1000)
                await asyncio.to_thread(self.held.rebook, message.queue_id, at)
                continue
            if not message.is_redeemed:
                # The id finds the booking; after it was lost, the message is booked again.
                try:
                    reservation = await limiter.reserve(message.envelope)
                    decision = await reservation.redeem()
                except RateLimitExceeded as error:
                    decision = error.decision
                if not decision:
                    wait = 60.0 if decision.retry_after is None else decision.retry_after
                    at = round(time.time() * 1000 + wait * 1000)
                    await asyncio.to_thread(self.held.rebook, message.queue_id, at)
                    continue
                await asyncio.to_thread(self.held.redeem, message.queue_id)
            queue_ids.append(message.queue_id)
        return queue_ids

    async def note_released(
        self, limiter: AsyncLimiter, queue_ids: Sequence[str], missing: Sequence[str]
    ) -> None:
        """Note which messages Postfix has released, and which are not in its hold queue.

        Postfix puts a message there when it is complete, which may be after its time. It stays
        counted, and is looked for again: at first after ten seconds, then after as long as it has
        been missing, for a day. When it is released at last, it is counted at that moment.
        """
        for queue_id in queue_ids:
            if self._missing_since.pop(queue_id, None) is not None:
                message = await asyncio.to_thread(self.held.find, queue_id)
                if message is not None and message.is_redeemed:
                    await self._count_now(message.envelope, limiter)
        gone = list(queue_ids)
        for queue_id in filter(QUEUE_ID.fullmatch, missing):
            since = self._missing_since.setdefault(queue_id, self._clock())
            waited = self._clock() - since
            if waited >= LONGEST_MISSING:
                del self._missing_since[queue_id]
                log_warning("%s was not in the hold queue for a day: it is forgotten", queue_id)
                gone.append(queue_id)
            else:
                at = round((time.time() + max(FINISH_SECONDS, waited)) * 1000)
                await asyncio.to_thread(self.held.rebook, queue_id, at)
        _shrink(self._missing_since)
        await asyncio.to_thread(self.held.remove, gone)
        if queue_ids:
            log_info("released %s", escape(" ".join(queue_ids)))

    async def _count_now(self, envelope: Envelope, limiter: AsyncLimiter) -> None:
        """Move a held message that was counted at its time to the time at which it is sent."""
        try:
            reservation = await limiter.reserve(envelope)
            await limiter.settle(reservation.decision)
        except (BackendError, RateLimitExceeded) as error:
            self._warnings.warn("settle", "a message stays counted at its time: %s", error)

    def _note_incomplete(self, queue_id: str, seconds: float) -> None:
        """Note for how long a held message is not to be released, unless its end comes earlier."""
        self._incomplete_until[queue_id] = self._clock() + seconds
        self._incomplete_until.move_to_end(queue_id)
        _shrink(self._incomplete_until)


def _shrink(remembered: OrderedDict[str, float]) -> None:
    while len(remembered) > MOST_REMEMBERED:
        remembered.popitem(last=False)
