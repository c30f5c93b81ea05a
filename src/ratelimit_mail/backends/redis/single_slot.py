"""Script calls whose keys are all in one slot: pack, run one script, read its reply.

On a single server all keys are in one slot.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from ratelimit_mail._util.steps import Steps
from ratelimit_mail.backends.base import Intent, Reading, Verdict
from ratelimit_mail.backends.redis.codec import Codec, Receipt
from ratelimit_mail.backends.redis.keys import foreign_value_error
from ratelimit_mail.backends.redis.scripts import APPLY, REFUND, RESET, USAGE, Script
from ratelimit_mail.backends.redis.transport import AsyncTransport, Transport
from ratelimit_mail.counting.charge import Charge, Ledger

__all__ = ["SingleSlotCalls"]


class SingleSlotCalls:
    """The script calls of a backend as steps, by a sync or an async transport."""

    def __init__(self, transport: Transport | AsyncTransport, codec: Codec) -> None:
        self.codec = codec
        self._transport = transport

    def run_steps(
        self, script: Script, keys: Sequence[bytes], arguments: Sequence[bytes]
    ) -> Steps[Any]:
        """Run a script, and return its reply."""
        return (yield partial(self._transport.run, script, keys, arguments))

    def apply_steps(
        self,
        charges: Sequence[Charge],
        intent: Intent,
        *,
        start: int | None = None,
        flags: int = 0,
    ) -> Steps[Verdict]:
        """Charge all of `charges` or none; for `start` and `flags` see `Codec.pack`."""
        packed = self.codec.pack(charges, intent, start=start, flags=flags)
        reply = yield from self.run_steps(APPLY, packed.keys, [packed.message])
        return self.codec.verdict(packed, reply)

    def refund_steps(self, receipt: Receipt) -> Steps[None]:
        """Take the charges of a receipt out."""
        keys, argument = self.codec.pack_refund(receipt)
        reply = yield from self.run_steps(REFUND, keys, [argument])
        if isinstance(reply, list):
            raise foreign_value_error(keys[reply[1] - 1])

    def usage_steps(self, ledger: Ledger, subject: str) -> Steps[list[list[Reading]]]:
        """Read each window of each of the ledger's counts."""
        keys, argument = self.codec.pack_usage(ledger, subject)
        reply = yield from self.run_steps(USAGE, keys, [argument])
        return self.codec.readings(ledger, keys, reply)

    def reset_steps(self, ledger: Ledger, subject: str) -> Steps[None]:
        """Forget what was counted for a subject, in every unit."""
        keys = self.codec.keys.all_keys(ledger, subject)
        foreign_key = yield from self.run_steps(RESET, keys, [])
        if foreign_key:
            raise foreign_value_error(keys[foreign_key - 1])
