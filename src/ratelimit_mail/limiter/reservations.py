"""Reservation and AsyncReservation: a booked time for a message, to redeem or to cancel."""

from __future__ import annotations

import attrs

from ratelimit_mail._util.documentation import with_methods_of
from ratelimit_mail._util.steps import run, run_async
from ratelimit_mail.decision import Decision
from ratelimit_mail.limiter.operations import Booking, Operations

__all__ = ["AsyncReservation", "Reservation"]


@attrs.frozen
class Reservation:
    """A booked time in the future: the message may go at that time, and is counted there.

    Call `redeem` when its time has come, before the message is sent.

    at: the backend's time, in milliseconds since the epoch.
    delay: seconds until then, counted from the booking; 0.0 if it may go at once.
    decision: an accepting decision, for `Limiter.refund` and `settle`.
    """

    at: int
    delay: float
    decision: Decision
    _operations: Operations = attrs.field(repr=False, eq=False)
    _booking: Booking = attrs.field(repr=False, eq=False)

    def cancel(self) -> None:
        """Cancel the booking. Raises ValueError if it was cancelled or refunded before."""
        run(self._operations.refund_steps(self.decision))

    def redeem(self) -> Decision:
        """Use the booking now: check again that the message fits, and count it now.

        Returns a decision that accepts, or one that defers because it is too early or because
        other messages were settled in the meantime. A deferred message is booked again, first in
        its sender's queue; redeem it again after `retry_after` seconds. Later bookings of the same
        sender are not counted in this check.

        Raises ValueError if the reservation was cancelled or refunded.
        """
        return run(self._operations.redeem_steps(self._booking))


@with_methods_of(Reservation)
@attrs.frozen
class AsyncReservation:
    """A `Reservation` whose `cancel` and `redeem` are coroutines."""

    at: int
    delay: float
    decision: Decision
    _operations: Operations = attrs.field(repr=False, eq=False)
    _booking: Booking = attrs.field(repr=False, eq=False)

    async def cancel(self) -> None:
        """Cancel the booking. Raises ValueError if it was cancelled or refunded before."""
        await run_async(self._operations.refund_steps(self.decision))

    async def redeem(self) -> Decision:
        """See `Reservation.redeem`."""
        operations = self._operations
        decision: Decision = await operations.finish(operations.redeem_steps(self._booking))
        return decision
