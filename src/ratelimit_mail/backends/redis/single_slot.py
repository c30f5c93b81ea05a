"""Script calls whose keys are all in one slot: pack, run one script, read its reply.

On a single server all keys are in one slot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from redis.exceptions import ResponseError

from ratelimit_mail._util.steps import Steps
from ratelimit_mail.backends.base import TAKE, Intent, Reading, Register, Verdict
from ratelimit_mail.backends.redis.codec import Codec, PackedMessage, Receipt
from ratelimit_mail.backends.redis.keys import foreign_value_error, members_key
from ratelimit_mail.backends.redis.scripts import (
    APPLY,
    APPLY_AT_NODE,
    MOVE,
    READ_REGISTER,
    REDEEM,
    REFUND,
    RESET,
    SETTLE,
    USAGE,
    WRITE_REGISTER,
    Script,
)
from ratelimit_mail.backends.redis.transport import AsyncTransport, Transport
from ratelimit_mail.counting.charge import FIRST_UNIQUE, Charge, Ledger
from ratelimit_mail.exceptions import BackendError, BackendUnavailable

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

    def apply_at_node_steps(self, node: Any, packed: PackedMessage) -> Steps[Any]:
        """Apply a message whose keys are in several slots of one node of a cluster.

        Returns None if nothing was changed, because the node refuses the call or is away.
        """
        arguments = [str(len(packed.keys)).encode(), *packed.keys, packed.message]
        try:
            return (yield partial(self._transport.run_at, node, APPLY_AT_NODE, arguments))
        except BackendUnavailable as error:
            # An error that the server answers comes before the first change.
            if not error.safe_to_repeat and not isinstance(error.__cause__, ResponseError):
                raise
        except BackendError:
            pass
        return None

    def refund_steps(self, receipt: Receipt) -> Steps[None]:
        """Take the charges of a receipt out."""
        keys, argument = self.codec.pack_receipt(receipt)
        keys += self.codec.members_keys(receipt)
        reply = yield from self.run_steps(REFUND, keys, [argument])
        if isinstance(reply, list):
            raise foreign_value_error(keys[reply[1] - 1])

    def settle_steps(self, receipt: Receipt, charges: Sequence[Charge]) -> Steps[Receipt]:
        """Take the charges of a receipt out, and charge `charges` now; return the new receipt."""
        packed = self.codec.pack(charges, TAKE)
        verdict = yield from self._move_steps(SETTLE, packed, receipt)
        settled: Receipt = verdict.receipt
        return settled

    def redeem_steps(self, receipt: Receipt, charges: Sequence[Charge]) -> Steps[Verdict]:
        """Use a booking now if it fits now, or book it anew."""
        place = receipt.place
        if place is None:
            raise TypeError("the receipt of a booking is needed")
        packed = self.codec.pack(charges, Intent(queue=place.queue))
        return (yield from self._move_steps(REDEEM, packed, receipt))

    def move_steps(
        self,
        charges: Sequence[Charge],
        intent: Intent,
        own: Receipt,
        behind: Receipt,
        *,
        start: int | None,
        flags: int,
    ) -> Steps[Verdict]:
        """Check charges without the events of a booking and of those behind it, or move it."""
        packed = self.codec.pack(charges, intent, start=start, flags=flags)
        own_keys, own_argument = self.codec.pack_receipt(own)
        behind_keys, behind_argument = self.codec.pack_receipt(behind)
        packed = self.codec.with_keys(packed, own_keys + behind_keys, own)
        arguments = [packed.message, own_argument, behind_argument]
        reply = yield from self.run_steps(MOVE, packed.keys, arguments)
        return self.codec.verdict(packed, reply)

    def _move_steps(
        self, script: Script, packed: PackedMessage, receipt: Receipt
    ) -> Steps[Verdict]:
        """Run a script that takes the charges of a receipt out and charges a message."""
        keys, argument = self.codec.pack_receipt(receipt)
        if receipt.place is not None:
            packed = packed._replace(queue=receipt.place.queue)
        packed = self.codec.with_keys(packed, keys, receipt)._replace(id_key=receipt.id_key)
        reply = yield from self.run_steps(script, packed.keys, [packed.message, argument])
        return self.codec.verdict(packed, reply)

    def usage_steps(self, ledger: Ledger, subject: str) -> Steps[list[list[Reading]]]:
        """Read each window of each of the ledger's counts."""
        keys, argument = self.codec.pack_usage(ledger, subject)
        reply = yield from self.run_steps(USAGE, keys, [argument])
        return self.codec.readings(ledger, keys, reply)

    def reset_steps(self, ledger: Ledger, subject: str) -> Steps[None]:
        """Forget what was counted for a subject, in every unit."""
        logs = self.codec.keys.all_keys(ledger, subject)
        keys = [*logs, *map(members_key, logs[FIRST_UNIQUE:])]
        foreign_key = yield from self.run_steps(RESET, keys, [str(len(logs)).encode()])
        if foreign_key:
            raise foreign_value_error(keys[foreign_key - 1])

    def read_register_steps(self, name: str) -> Steps[Register]:
        """Read a register, and the time."""
        key = self.codec.keys.register_key(name)
        reply = yield from self.run_steps(READ_REGISTER, [key], [self.codec.clock_text()])
        if reply == -1:
            raise foreign_value_error(key)
        now, fields = reply
        texts = [each.decode() if isinstance(each, bytes) else each for each in fields]
        return Register(now, dict(zip(texts[::2], texts[1::2], strict=True)))

    def write_register_steps(self, name: str, changes: Mapping[str, str | None]) -> Steps[None]:
        """Change a register."""
        key = self.codec.keys.register_key(name)
        removed = [field.encode() for field, text in changes.items() if text is None]
        arguments = [str(len(removed)).encode(), *removed]
        for field, text in changes.items():
            if text is not None:
                arguments += [field.encode(), text.encode()]
        if (yield from self.run_steps(WRITE_REGISTER, [key], arguments)) == -1:
            raise foreign_value_error(key)
