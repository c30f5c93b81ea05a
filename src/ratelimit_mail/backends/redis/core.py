"""What both colours of the Redis backend do, written once as scripts of calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final

from ratelimit_mail._util.steps import Script
from ratelimit_mail._util.text import show
from ratelimit_mail.backends.base import Intent, Message, Reading, Verdict
from ratelimit_mail.backends.redis.batches import Batches
from ratelimit_mail.backends.redis.codec import Calls, Receipt, Share
from ratelimit_mail.backends.redis.keys import foreign, refund_key
from ratelimit_mail.backends.redis.multi_slot import InTurn, Spread, read_answer, write_answer
from ratelimit_mail.backends.redis.scripts import FORGET, READ, REMEMBER, TAKE_OUT
from ratelimit_mail.counting.charge import Charge, Ledger
from ratelimit_mail.exceptions import BackendError, BackendUnavailable

__all__ = ["PREFIX", "Steps"]

PREFIX: Final = "ratelimit-mail:"


class Steps:
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
        self._calls = Calls(prefix, clock, sharded=link.sharded)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} on {self._first_link.where}, prefix {self._prefix!r}>"

    @property
    def _link(self) -> Any:
        """The way to the server for whoever calls now."""
        return self._first_link

    apply: Callable[..., Any]
    take_out: Callable[..., Any]

    def part_of(self, charges: Sequence[Charge]) -> str:
        """The node of a cluster that counts them; of several the first."""
        return self._link.node(self._first_key(charges)) if self._sharded else ""

    def present(self) -> int:
        """The time of the clock that was handed in, or of this host."""
        return self._calls.present()

    def _first_key(self, charges: Sequence[Charge]) -> bytes:
        """A key in the slot of the first charge, that of its log of the first unit."""
        ledger, subject, _ = charges[0]
        return self._calls.key_of(ledger, subject, 0)

    def _is_spread(self, charges: Sequence[Charge], intent: Intent) -> bool:
        """Whether no one script reaches all counts of a message."""
        if not self._sharded:
            return False
        tag = self._calls.tag
        tags = {tag(charge) for charge in charges}
        if intent.line is not None:
            tags.add(tag(intent.line))
        return len(tags) > 1

    def _in_turn(self, charges: Sequence[Charge], intent: Intent) -> Script[Verdict]:
        """The verdict on a message that no one script reaches; the same again for the same id."""
        once = intent.once
        turn = InTurn(charges, intent, self._calls.tag, self._ask, self._give_back)
        if once is None:
            return (yield from turn.verdict())
        key = self._calls.id_key(charges, once)
        log = self._first_key(charges)
        clock = self._calls.time_of_clock()
        now, told = yield from self._remembering([key], [b"tell", clock])
        if told is None:
            verdict = yield from turn.verdict()
            token, text = write_answer(verdict, charges)
            lifetime = once.lifetime
            if verdict.refusals:
                lifetime = max(1, min(lifetime, verdict.at - verdict.now))
            kept = [b"keep", clock, str(lifetime).encode(), token.encode(), text.encode()]
            now, told = yield from self._remembering([key], kept)
            if told is None:
                if verdict.receipt is None:
                    return verdict
                return verdict._replace(receipt=Spread(verdict.receipt.receipts, key, token, log))
            if verdict.receipt is not None:  # the same was asked elsewhere at the same time
                yield partial(self.take_out, verdict.receipt)
        return read_answer(told, now, key, log, charges)

    def _remembering(self, keys: Sequence[bytes], arguments: Sequence[bytes]) -> Script[Any]:
        reply = yield partial(self._link.run, REMEMBER, keys, arguments)
        if reply == -1:
            raise foreign(keys[0])
        return reply

    def _give_back(self, receipt: Receipt) -> Any:
        """Take out what one slot was charged, or what to await for that."""
        return self.take_out(receipt)

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

    def _applying_many(self, messages: Sequence[Message]) -> Script[list[Verdict]]:
        verdicts: dict[int, Verdict] = {}
        try:
            if self._sharded and any(self._is_spread(*message) for message in messages):
                for number, message in enumerate(messages):
                    verdicts[number] = yield partial(self.apply, *message)
            else:
                batches = Batches(self._calls, self._link, messages, verdicts)
                for numbers in self._by_slot(messages):
                    yield from batches.decide(numbers)
        except BackendUnavailable:
            raise
        except BackendError:
            for verdict in verdicts.values():
                if verdict.receipt is not None:
                    yield partial(self.take_out, verdict.receipt)
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

    def _taking_out(self, receipt: Receipt | Share | Spread) -> Script[None]:
        try:
            yield from self._taking_each_out(receipt)
        except BackendUnavailable as error:
            # What is taken out by its id is taken out once.
            if isinstance(receipt, Receipt) and receipt.token:
                error.safe_to_repeat = True
            raise

    def _taking_each_out(self, receipt: Receipt | Share | Spread) -> Script[None]:
        if isinstance(receipt, Share):
            receipt = self._calls.receipt_of(receipt)
        if isinstance(receipt, Spread) and receipt.token:
            arguments = [b"drop", self._calls.time_of_clock(), receipt.token.encode()]
            keys = [receipt.key, refund_key(receipt.key, receipt.token), receipt.log]
            if not (yield from self._remembering(keys, arguments)):
                return  # somebody else who asked with the same id has taken it out
        for each in [receipt] if isinstance(receipt, Receipt) else receipt.receipts:
            keys, argument = self._calls.pack_receipt(each)
            reply = yield partial(self._link.run, TAKE_OUT, keys, [argument])
            if isinstance(reply, list):
                raise foreign(keys[reply[1] - 1])

    def _reading(self, ledger: Ledger, subject: str) -> Script[list[list[Reading]]]:
        keys, argument = self._calls.pack_reading(ledger, subject)
        reply = yield partial(self._link.run, READ, keys, [argument])
        return self._calls.readings(ledger, keys, reply)

    def _forgetting(self, ledgers: Sequence[Ledger], subject: str) -> Script[None]:
        for ledger in ledgers:
            keys = self._calls.keys_of(ledger, subject)
            wrong = yield partial(self._link.run, FORGET, keys, [])
            if wrong:
                raise foreign(keys[wrong - 1])
