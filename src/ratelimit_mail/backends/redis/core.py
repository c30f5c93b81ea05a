"""What both colours of the Redis backend do, written once as scripts of calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final

from ratelimit_mail._util.steps import Steps
from ratelimit_mail._util.text import show
from ratelimit_mail.backends.base import Intent, Message, Reading, Verdict
from ratelimit_mail.backends.redis.batches import Batches
from ratelimit_mail.backends.redis.codec import BatchShare, Codec, Receipt
from ratelimit_mail.backends.redis.keys import foreign, refund_key
from ratelimit_mail.backends.redis.multi_slot import (
    MultiSlotReceipt,
    MultiSlotTransaction,
    read_answer,
    write_answer,
)
from ratelimit_mail.backends.redis.scripts import MULTI_SLOT_IDEMPOTENCY, REFUND, RESET, USAGE
from ratelimit_mail.counting.charge import Charge, Ledger
from ratelimit_mail.exceptions import BackendError, BackendUnavailable

__all__ = ["PREFIX", "RedisCore"]

PREFIX: Final = "ratelimit-mail:"


class RedisCore:
    """A link and the packing for it."""

    def __init__(self, link: Any, prefix: str, clock: Callable[[], int] | None) -> None:
        if not isinstance(prefix, str):
            raise TypeError(f"prefix: a string is needed, not {show(prefix)}")
        if not 0 < len(prefix) <= 100 or not prefix.isprintable() or set(prefix) & set("{} "):
            raise ValueError(
                f"prefix: {show(prefix)} is none of 1 to 100 printable characters without"
                " braces and spaces; two such prefixes never meet in one key"
            )
        if clock is not None and not callable(clock):
            raise TypeError(f"clock: something to call is needed, not {show(clock)}")
        self._first_link = link
        self._sharded: bool = link.sharded
        self._prefix = prefix
        self._codec = Codec(prefix, clock, sharded=link.sharded)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} on {self._first_link.where}, prefix {self._prefix!r}>"

    @property
    def _link(self) -> Any:
        """The way to the server for whoever calls now."""
        return self._first_link

    apply: Callable[..., Any]
    refund: Callable[..., Any]

    def shard_of(self, charges: Sequence[Charge]) -> str:
        """The node of a cluster that counts them; of several the first."""
        return self._link.node(self._first_key(charges)) if self._sharded else ""

    def now(self) -> int:
        """The time of the clock that was handed in, or of this host."""
        return self._codec.now()

    def _first_key(self, charges: Sequence[Charge]) -> bytes:
        """A key in the slot of the first charge, that of its log of the first unit."""
        ledger, subject, _ = charges[0]
        return self._codec.key_of(ledger, subject, 0)

    def _is_multi_slot(self, charges: Sequence[Charge], intent: Intent) -> bool:
        """Whether no one script reaches all counts of a message."""
        if not self._sharded:
            return False
        tag = self._codec.tag
        tags = {tag(charge) for charge in charges}
        if intent.queue is not None:
            tags.add(tag(intent.queue))
        return len(tags) > 1

    def _multi_slot_steps(self, charges: Sequence[Charge], intent: Intent) -> Steps[Verdict]:
        """The verdict on a message that no one script reaches; the same again for the same id."""
        idempotency = intent.idempotency
        turn = MultiSlotTransaction(charges, intent, self._codec.tag, self._ask, self._give_back)
        if idempotency is None:
            return (yield from turn.verdict())
        key = self._codec.id_key(charges, idempotency)
        log = self._first_key(charges)
        clock = self._codec.time_of_clock()
        now, told = yield from self._remembering([key], [b"tell", clock])
        if told is None:
            verdict = yield from turn.verdict()
            token, text = write_answer(verdict, charges)
            lifetime = idempotency.lifetime
            if verdict.refusals:
                lifetime = max(1, min(lifetime, verdict.at - verdict.now))
            kept = [b"keep", clock, str(lifetime).encode(), token.encode(), text.encode()]
            now, told = yield from self._remembering([key], kept)
            if told is None:
                if verdict.receipt is None:
                    return verdict
                return verdict._replace(
                    receipt=MultiSlotReceipt(verdict.receipt.receipts, key, token, log)
                )
            if verdict.receipt is not None:  # the same was asked elsewhere at the same time
                yield partial(self.refund, verdict.receipt)
        return read_answer(told, now, key, log, charges)

    def _remembering(self, keys: Sequence[bytes], arguments: Sequence[bytes]) -> Steps[Any]:
        reply = yield partial(self._link.run, MULTI_SLOT_IDEMPOTENCY, keys, arguments)
        if reply == -1:
            raise foreign(keys[0])
        return reply

    def _give_back(self, receipt: Receipt) -> Any:
        """Take out what one slot was charged, or what to await for that."""
        return self.refund(receipt)

    def _ask(
        self,
        charges: Sequence[Charge],
        intent: Intent,
        *,
        start: int | None = None,
        flags: int = 0,
    ) -> Any:
        """The verdict of one slot, or what to await for it."""
        raise NotImplementedError

    def _apply_many_steps(self, messages: Sequence[Message]) -> Steps[list[Verdict]]:
        verdicts: dict[int, Verdict] = {}
        try:
            if self._sharded and any(self._is_multi_slot(*message) for message in messages):
                for number, message in enumerate(messages):
                    verdicts[number] = yield partial(self.apply, *message)
            else:
                batches = Batches(self._codec, self._link, messages, verdicts)
                for numbers in self._by_slot(messages):
                    yield from batches.decide(numbers)
        except BackendUnavailable:
            raise
        except BackendError:
            for verdict in verdicts.values():
                if verdict.receipt is not None:
                    yield partial(self.refund, verdict.receipt)
            raise
        return [verdicts[number] for number in range(len(messages))]

    def _by_slot(self, messages: Sequence[Message]) -> Iterable[list[int]]:
        """The numbers of the messages of each slot of a cluster."""
        if not self._sharded:
            return [list(range(len(messages)))]
        slots: dict[int, list[int]] = {}
        for number, (charges, _) in enumerate(messages):
            slot = self._link.slot(self._first_key(charges))
            slots.setdefault(slot, []).append(number)
        return slots.values()

    def _refund_steps(self, receipt: Receipt | BatchShare | MultiSlotReceipt) -> Steps[None]:
        try:
            yield from self._refund_each_steps(receipt)
        except BackendUnavailable as error:
            # What is taken out by its id is taken out once.
            if isinstance(receipt, Receipt) and receipt.token:
                error.safe_to_repeat = True
            raise

    def _refund_each_steps(self, receipt: Receipt | BatchShare | MultiSlotReceipt) -> Steps[None]:
        if isinstance(receipt, BatchShare):
            receipt = self._codec.receipt_of(receipt)
        if isinstance(receipt, MultiSlotReceipt) and receipt.token:
            arguments = [b"drop", self._codec.time_of_clock(), receipt.token.encode()]
            keys = [receipt.key, refund_key(receipt.key, receipt.token), receipt.log]
            if not (yield from self._remembering(keys, arguments)):
                return  # somebody else who asked with the same id has taken it out
        for each in [receipt] if isinstance(receipt, Receipt) else receipt.receipts:
            keys, argument = self._codec.pack_receipt(each)
            reply = yield partial(self._link.run, REFUND, keys, [argument])
            if isinstance(reply, list):
                raise foreign(keys[reply[1] - 1])

    def _usage_steps(self, ledger: Ledger, subject: str) -> Steps[list[list[Reading]]]:
        keys, argument = self._codec.pack_reading(ledger, subject)
        reply = yield partial(self._link.run, USAGE, keys, [argument])
        return self._codec.readings(ledger, keys, reply)

    def _reset_steps(self, ledgers: Sequence[Ledger], subject: str) -> Steps[None]:
        for ledger in ledgers:
            keys = self._codec.keys_of(ledger, subject)
            wrong = yield partial(self._link.run, RESET, keys, [])
            if wrong:
                raise foreign(keys[wrong - 1])
