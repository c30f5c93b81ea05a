"""What the sync and the async Redis backend have in common, as steps.

A step is a call that the sync backend makes and the async backend awaits. `RedisCore` decides which
calls a method needs: `SingleSlotCalls` for the usual case, `multi_slot` for a message whose counts
are in several slots of a cluster, `Batch` for many messages at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any, Final, Generic, TypeVar

from ratelimit_mail._util.steps import Steps
from ratelimit_mail.backends.base import Intent, Message, Reading, Register, Verdict
from ratelimit_mail.backends.ranking import Ranking
from ratelimit_mail.backends.redis.batches import Batch
from ratelimit_mail.backends.redis.codec import BatchShare, Codec, Receipt, as_bytes
from ratelimit_mail.backends.redis.multi_slot import (
    apply_multi_slot_steps,
    refund_multi_slot_steps,
)
from ratelimit_mail.backends.redis.multi_slot_answers import MultiSlotReceipt
from ratelimit_mail.backends.redis.multi_slot_moves import (
    redeem_multi_slot_steps,
    settle_multi_slot_steps,
)
from ratelimit_mail.backends.redis.scripts import TOP
from ratelimit_mail.backends.redis.single_slot import SingleSlotCalls
from ratelimit_mail.backends.redis.transport import AsyncTransport, Transport
from ratelimit_mail.counting.charge import Charge, Ledger
from ratelimit_mail.exceptions import BackendError, BackendUnavailable

__all__ = ["RedisCore"]

SCANNED_TOGETHER: Final = 200
"""How many keys one step of `top` passes over."""

SEARCHED_TOGETHER: Final = 16
"""How many logs one step of `top` searches; as in lua/top.lua."""

AnyReceipt = Receipt | BatchShare | MultiSlotReceipt

AnyTransport = TypeVar("AnyTransport", bound=Transport | AsyncTransport)


Result = TypeVar("Result")


def _voiding_steps(receipt: AnyReceipt, steps: Steps[Result]) -> Steps[Result]:
    """Run steps that move the charges of a receipt; if they get no answer, make it void.

    Its charges may then be elsewhere, and another message's in their place. Those of an id and of
    a booking in its queue are found by the server, so that trying again is safe.
    """
    try:
        return (yield from steps)
    except BackendUnavailable as error:
        if getattr(receipt, "token", 0):
            error.safe_to_repeat = True
        elif not error.safe_to_repeat:
            _void(receipt)
        raise
    except BackendError:  # nothing was changed
        raise
    except BaseException:  # a task was cancelled
        if not getattr(receipt, "token", 0):
            _void(receipt)
        raise


def _void(receipt: AnyReceipt) -> None:
    if isinstance(receipt, BatchShare):
        receipt.is_void = True
    elif isinstance(receipt, MultiSlotReceipt):
        for each in receipt.receipts:
            _void(each)
    else:
        for numbers in (receipt.keys, receipt.costs, receipt.moments):
            if isinstance(numbers, list):
                numbers.clear()


class RedisCore(Generic[AnyTransport]):
    """The methods of a backend as steps, by one transport.

    transport: runs scripts on the server.
    codec: packs their arguments and reads their replies.
    """

    def __init__(self, transport: AnyTransport, codec: Codec) -> None:
        self.transport = transport
        self._keys = codec.keys
        self._codec = codec
        self._calls = SingleSlotCalls(transport, codec)

    def shard_of(self, charges: Sequence[Charge]) -> str:
        """Return the node of a cluster that has the first of `charges`; empty without a cluster."""
        if not self._keys.sharded:
            return ""
        return self.transport.node(self._keys.first_key(charges))

    def apply_steps(self, charges: Sequence[Charge], intent: Intent) -> Steps[Verdict]:
        """Charge all of `charges` or none, as `intent` says."""
        if self._keys.is_multi_slot(charges, intent.queue):
            return apply_multi_slot_steps(self._calls, charges, intent)
        return self._calls.apply_steps(charges, intent)

    def apply_many_steps(self, messages: Sequence[Message]) -> Steps[list[Verdict]]:
        """Apply several messages in order, many with one script."""
        verdicts: dict[int, Verdict] = {}
        try:
            if any(self._keys.is_multi_slot(charges, intent.queue) for charges, intent in messages):
                for number, message in enumerate(messages):
                    verdicts[number] = yield from self.apply_steps(*message)
            else:
                batch = Batch(self._calls, messages, verdicts)
                slots = self._numbers_by_slot(messages)
                if len(slots) > 1:
                    slots = yield from self._charge_by_node_steps(batch, messages, slots)
                for numbers in slots:
                    yield from batch.decide_steps(numbers)
        except BackendUnavailable:
            raise
        except BackendError:
            for verdict in verdicts.values():
                if verdict.receipt is not None:
                    yield from self.refund_steps(verdict.receipt)
            raise
        return [verdicts[number] for number in range(len(messages))]

    def _numbers_by_slot(self, messages: Sequence[Message]) -> list[list[int]]:
        """Return the numbers of the messages of each slot."""
        if not self._keys.sharded:
            return [list(range(len(messages)))]
        slots: dict[int, list[int]] = {}
        for number, (charges, _) in enumerate(messages):
            slot = self.transport.slot(self._keys.first_key(charges))
            slots.setdefault(slot, []).append(number)
        return list(slots.values())

    def _charge_by_node_steps(
        self, batch: Batch, messages: Sequence[Message], slots: list[list[int]]
    ) -> Steps[list[list[int]]]:
        """Charge what fits together at each node, and return the other messages of each slot."""
        masters = {master.name: master for master in (yield self.transport.masters)}
        slots_by_node: dict[str, list[list[int]]] = {}
        for numbers in slots:
            name = self.shard_of(messages[numbers[0]][0])
            slots_by_node.setdefault(name, []).append(numbers)
        undecided: set[int] = set()
        for name, own_slots in slots_by_node.items():
            numbers = sorted(chain.from_iterable(own_slots))
            if len(own_slots) > 1 and name in masters:
                numbers = yield from batch.charge_at_node_steps(masters[name], numbers)
            undecided.update(numbers)
        remaining = [[number for number in numbers if number in undecided] for numbers in slots]
        return [numbers for numbers in remaining if numbers]

    def refund_steps(self, receipt: AnyReceipt) -> Steps[None]:
        """Take the charges of a receipt out."""
        if isinstance(receipt, MultiSlotReceipt):
            yield from refund_multi_slot_steps(self._calls, receipt)
        elif isinstance(receipt, BatchShare):
            if not receipt.is_void:
                yield from self._calls.refund_steps(self._codec.receipt_of_share(receipt))
        elif receipt.costs or receipt.token or receipt.place:
            try:
                yield from self._calls.refund_steps(receipt)
            except BackendUnavailable as error:
                if receipt.token:  # the charge of an id is refunded once
                    error.safe_to_repeat = True
                raise

    def settle_steps(self, receipt: AnyReceipt, charges: Sequence[Charge] | None) -> Steps[Any]:
        """Move the charges of a receipt to the present; return the new receipt."""
        steps = self._settle_steps(receipt, receipt.charges if charges is None else charges)
        return (yield from _voiding_steps(receipt, steps))

    def _settle_steps(self, receipt: AnyReceipt, charges: Sequence[Charge]) -> Steps[Any]:
        if isinstance(receipt, BatchShare):
            receipt = self._codec.receipt_of_share(receipt)
        if isinstance(receipt, MultiSlotReceipt):
            return (yield from settle_multi_slot_steps(self._calls, receipt, charges))
        if self._keys.is_multi_slot([*receipt.charges, *charges], None):
            yield from self._calls.refund_steps(receipt)
            return (yield from settle_multi_slot_steps(self._calls, MultiSlotReceipt([]), charges))
        return (yield from self._calls.settle_steps(receipt, charges))

    def redeem_steps(self, receipt: AnyReceipt, charges: Sequence[Charge]) -> Steps[Verdict]:
        """Use a booking now if it fits now, or book it anew."""
        if isinstance(receipt, BatchShare):
            raise TypeError("the receipt of a booking is needed")
        if isinstance(receipt, MultiSlotReceipt):
            steps = redeem_multi_slot_steps(self._calls, receipt, charges)
        else:
            steps = self._calls.redeem_steps(receipt, charges)
        return _voiding_steps(receipt, steps)

    def usage_steps(self, ledger: Ledger, subject: str) -> Steps[list[list[Reading]]]:
        """Read each window of each of the ledger's counts, for one subject."""
        return self._calls.usage_steps(ledger, subject)

    def top_steps(self, ledger: Ledger, n: int) -> Steps[list[str]]:
        """Return the `n` subjects that hold the largest shares of a window, largest first.

        Every key of the server is passed over once, in steps that take it well below a
        millisecond each, so that other clients are served in between.
        """
        ranking = Ranking(n)
        masters = yield self.transport.masters
        for master in masters:
            cursor = b"0"
            while True:
                pattern = self._keys.pattern(ledger)
                arguments = [cursor, str(SCANNED_TOGETHER).encode(), pattern]
                cursor, rest = yield from self._rank_steps(master, ledger, ranking, arguments)
                while rest:
                    _, unsearched = yield from self._rank_steps(
                        master, ledger, ranking, [b"", *rest[:SEARCHED_TOGETHER]]
                    )
                    rest = rest[SEARCHED_TOGETHER:] + unsearched
                if cursor == b"0":
                    break
        return ranking.subjects()

    def _rank_steps(
        self, master: Any, ledger: Ledger, ranking: Ranking, arguments: Sequence[bytes]
    ) -> Steps[tuple[bytes, list[bytes]]]:
        """Run TOP once; return the next cursor and the keys that it had no time for."""
        packed = self._codec.pack_top(ledger, ranking.threshold)
        run_at = self.transport.run_at
        reply = yield partial(run_at, master, TOP, [*packed, *arguments])
        cursor, *pairs = map(as_bytes, reply)
        unsearched = []
        for key, share in zip(pairs[::2], pairs[1::2], strict=True):
            if share:
                ranking.add(self._keys.subject(ledger, key), float(share))
            else:
                unsearched.append(key)
        return cursor, unsearched

    def reset_steps(self, ledgers: Sequence[Ledger], subject: str) -> Steps[None]:
        """Forget all that was counted for one subject, in every unit."""
        for ledger in ledgers:
            yield from self._calls.reset_steps(ledger, subject)

    def read_register_steps(self, name: str) -> Steps[Register]:
        """Read all entries of a register."""
        return self._calls.read_register_steps(name)

    def write_register_steps(self, name: str, changes: Mapping[str, str | None]) -> Steps[None]:
        """Set entries of a register, or remove those that are None."""
        return self._calls.write_register_steps(name, changes)
