"""DataCharges: messages that were charged at DATA, until Postfix asks at END-OF-MESSAGE.

One that comes to its end is counted at that moment; one that does not is refunded.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any, Final

import attrs

from ratelimit_mail._util.rare_warnings import RareWarnings
from ratelimit_mail.decision import Decision
from ratelimit_mail.exceptions import BackendError
from ratelimit_mail.limiter import AsyncLimiter

__all__ = ["DataCharges"]

MOST_OPEN: Final = 20_000
"""Messages that were charged at DATA and are not complete."""

MOST_CONFIRMED: Final = 20_000


@attrs.frozen
class _Charge:
    """What a message was charged at DATA."""

    limiter: AsyncLimiter
    decision: Decision
    at: float


class DataCharges:
    """The messages by their instance.

    start: runs a coroutine beside. clock: seconds that only grow.
    """

    def __init__(
        self,
        start: Callable[[Coroutine[Any, Any, None]], object],
        warnings: RareWarnings,
        clock: Callable[[], float],
    ) -> None:
        self._start = start
        self._warnings = warnings
        self._clock = clock
        self._open: OrderedDict[str, _Charge] = OrderedDict()
        self._confirmed: OrderedDict[str, None] = OrderedDict()
        self.is_end_known = False
        """Whether Postfix has asked at END-OF-MESSAGE: perhaps it never does."""

    def __contains__(self, instance: str) -> bool:
        return instance in self._open

    def __len__(self) -> int:
        return len(self._open)

    def add(self, instance: str, limiter: AsyncLimiter, decision: Decision) -> None:
        """Note that a message was charged."""
        self._open[instance] = _Charge(limiter, decision, self._clock())
        if len(self._open) > MOST_OPEN:
            self.give_back(next(iter(self._open)))

    def note_confirmed(self, instance: str) -> None:
        """Note that nothing is to be done at END-OF-MESSAGE."""
        self._confirmed[instance] = None
        if len(self._confirmed) > MOST_CONFIRMED:
            self._confirmed.popitem(last=False)

    async def confirm(self, instance: str) -> bool:
        """Count a message at the time at which it is complete; return whether it is known."""
        charge = self._open.pop(instance, None)
        if charge is None:  # perhaps Postfix asks again, because the connection broke
            return instance in self._confirmed
        self.note_confirmed(instance)
        try:
            await charge.limiter.settle(charge.decision)
        except BackendError as error:
            self._warnings.warn("settle", "a message stays counted at its DATA: %s", error)
        return True

    async def refund(self, instance: str) -> None:
        """Refund what a message was charged before, if anything."""
        charge = self._open.pop(instance, None)
        if charge is not None:
            await self._refund(charge)

    def give_back(self, instance: str) -> None:
        """Refund a message that did not complete, if it was charged."""
        charge = self._open.pop(instance, None)
        if charge is None:
            return
        if not self.is_end_known:
            # Perhaps Postfix does not ask there at all; then this would open the limits.
            self._warnings.warn(
                "no end",
                "Postfix has not asked at end-of-message yet: a message that may have been dropped"
                " after DATA stays counted",
            )
            return
        self._start(self._refund(charge))

    def sweep(self, seconds: float) -> None:
        """Refund the messages that were charged so many seconds ago or earlier."""
        now = self._clock()
        while self._open:
            instance, charge = next(iter(self._open.items()))
            if now - charge.at < seconds:
                break
            self.give_back(instance)

    async def _refund(self, charge: _Charge) -> None:
        try:
            await charge.limiter.refund(charge.decision)
        except BackendError as error:
            self._warnings.warn(
                "refund", "a message that was dropped after DATA stays counted: %s", error
            )
