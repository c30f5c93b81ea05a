"""The remembered answers to messages whose counts are in several slots of a cluster."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from ratelimit_mail._util.steps import Steps
from ratelimit_mail.backends.base import (
    Intent,
    Verdict,
    refusal_numbers,
    refusals_from_numbers,
)
from ratelimit_mail.backends.redis.codec import (
    BookedPlace,
    Receipt,
    join_generations,
    split_generations,
)
from ratelimit_mail.backends.redis.keys import foreign_value_error, moved_key, tag_of_key
from ratelimit_mail.backends.redis.scripts import MULTI_SLOT_IDEMPOTENCY
from ratelimit_mail.backends.redis.single_slot import SingleSlotCalls
from ratelimit_mail.counting.charge import Charge

__all__ = [
    "Event",
    "MultiSlotReceipt",
    "events_of",
    "put_steps",
    "read_answer_steps",
    "receipts_by_slot",
    "store_answer_steps",
    "take_steps",
]


NO_TOKEN: Final = "0"  # noqa: S105
"""The token of a refusal, which cannot be refunded."""

Event = tuple[bytes, int, int, bytes]
"""One event in a log: its key, cost, moment and generation."""


class MultiSlotReceipt(NamedTuple):
    """The receipts of several slots.

    place: of a booking.
    charges: that made the events.
    id_key, token: where the answer to an id is remembered, and its token.
    log_key: the key of a log in the same slot.
    answered_at: the time of the remembered verdict.
    """

    receipts: Sequence[Receipt]
    place: BookedPlace | None = None
    charges: Sequence[Charge] = ()
    id_key: bytes = b""
    token: str = ""
    log_key: bytes = b""
    answered_at: int = 0


def read_answer_steps(
    calls: SingleSlotCalls, charges: Sequence[Charge], intent: Intent
) -> Steps[tuple[int, Verdict | None]]:
    """Return the time, and the verdict of the remembered answer if there is one."""
    id_key = _id_key(calls, charges, intent)
    now, text = yield from _run_steps(calls, [id_key], [b"read"])
    if text is None:
        return now, None
    return now, _read_answer(calls, text, now, charges, intent)


def store_answer_steps(
    calls: SingleSlotCalls, charges: Sequence[Charge], intent: Intent, verdict: Verdict
) -> Steps[Verdict]:
    """Remember a verdict; return it, or the answer that another call has stored meanwhile."""
    assert intent.idempotency is not None  # noqa: S101 - for the type checker
    id_key = _id_key(calls, charges, intent)
    receipt: MultiSlotReceipt | None = verdict.receipt
    token = NO_TOKEN if receipt is None else str(random.getrandbits(48) | 1)
    lifetime = intent.idempotency.lifetime
    if verdict.refusals:
        lifetime = max(1, min(lifetime, verdict.at - verdict.now))
    elif verdict.at > verdict.now:  # a booking
        lifetime += verdict.at - verdict.now
    answer = _write_charges(receipt)
    answer["at"] = verdict.at
    answer["refusals"] = refusal_numbers(verdict.refusals, charges)
    arguments = [b"store", str(lifetime).encode(), token.encode(), json.dumps(answer).encode()]
    now, text = yield from _run_steps(calls, [id_key], arguments)
    if text is not None:
        return _read_answer(calls, text, now, charges, intent)
    if receipt is None:
        return verdict
    log_key = calls.codec.keys.first_key(charges)
    return verdict._replace(
        receipt=receipt._replace(
            id_key=id_key, token=token, log_key=log_key, answered_at=verdict.at
        )
    )


def take_steps(
    calls: SingleSlotCalls, receipt: MultiSlotReceipt, *, refund: bool = False
) -> Steps[MultiSlotReceipt | None]:
    """Return a receipt with what is charged now; None if another caller has taken that out.

    The charges of an id then belong to this caller until `put_steps`.
    """
    if not receipt.token:
        return receipt
    arguments = [b"take", receipt.token.encode(), b"refund" if refund else b""]
    text = yield from _run_steps(calls, _keys(receipt), arguments)
    if text == 0:
        return None
    if text == 1:
        return receipt
    answer = json.loads(text)
    receipts, place = _read_charges(answer, receipt.place and receipt.place.queue)
    return receipt._replace(receipts=receipts, place=place, answered_at=answer["at"])


def put_steps(calls: SingleSlotCalls, receipt: MultiSlotReceipt) -> Steps[None]:
    """Store what the charges of an id are now."""
    if receipt.token:
        answer = {**_write_charges(receipt), "at": receipt.answered_at, "refusals": []}
        arguments = [b"put", receipt.token.encode(), json.dumps(answer).encode()]
        yield from _run_steps(calls, _keys(receipt), arguments)


def receipts_by_slot(events: Iterable[Event]) -> list[Receipt]:
    """Return a receipt for the events of each slot."""
    by_tag: dict[bytes, list[Event]] = {}
    for event in events:
        by_tag.setdefault(tag_of_key(event[0]), []).append(event)
    return [
        Receipt(
            [key for key, _, _, _ in of_slot],
            [cost for _, cost, _, _ in of_slot],
            [moment for _, _, moment, _ in of_slot],
            (),
            generations=join_generations([generation for _, _, _, generation in of_slot]),
        )
        for of_slot in by_tag.values()
    ]


def events_of(receipts: Iterable[Receipt]) -> list[Event]:
    """Return the events of receipts."""
    events: list[Event] = []
    for receipt in receipts:
        count = len(receipt.costs)
        moments = receipt.moments
        events += zip(
            receipt.keys,
            receipt.costs,
            [moments] * count if isinstance(moments, int) else moments,
            split_generations(receipt.generations)[:count],
            strict=True,
        )
    return events


def _id_key(calls: SingleSlotCalls, charges: Sequence[Charge], intent: Intent) -> bytes:
    assert intent.idempotency is not None  # noqa: S101 - for the type checker
    return calls.codec.keys.id_key(charges, intent.idempotency)


def _keys(receipt: MultiSlotReceipt) -> list[bytes]:
    return [receipt.id_key, moved_key(receipt.id_key, receipt.token), receipt.log_key]


def _run_steps(
    calls: SingleSlotCalls, keys: Sequence[bytes], arguments: Sequence[bytes]
) -> Steps[Any]:
    """Run a command, with the time of the clock after its name."""
    command, *rest = arguments
    reply = yield from calls.run_steps(
        MULTI_SLOT_IDEMPOTENCY, keys, [command, calls.codec.clock_text(), *rest]
    )
    if reply == -1:
        raise foreign_value_error(keys[0])
    return reply


def _write_charges(receipt: MultiSlotReceipt | None) -> dict[str, Any]:
    if receipt is None:
        return {"events": []}
    events = [
        [key.decode(), cost, moment, generation.decode()]
        for key, cost, moment, generation in events_of(receipt.receipts)
    ]
    if receipt.place is None:
        return {"events": events}
    return {
        "events": events,
        "number": receipt.place.number,
        "booked_at": receipt.place.at,
    }


def _read_charges(
    answer: dict[str, Any], queue: Charge | None
) -> tuple[list[Receipt], BookedPlace | None]:
    receipts = receipts_by_slot(
        (key.encode(), cost, moment, generation.encode())
        for key, cost, moment, generation in answer["events"]
    )
    if queue is None or "booked_at" not in answer:
        return receipts, None
    return receipts, BookedPlace(queue, answer["booked_at"], answer["number"])


def _read_answer(
    calls: SingleSlotCalls,
    text: str | bytes,
    now: int,
    charges: Sequence[Charge],
    intent: Intent,
) -> Verdict:
    """Return the verdict of a remembered answer, as of now."""
    _, _, token, rest = (text.decode() if isinstance(text, bytes) else text).split(" ", 3)
    answer: dict[str, Any] = json.loads(rest)
    receipt: MultiSlotReceipt | None = None
    if token != NO_TOKEN:
        receipts, place = _read_charges(answer, intent.queue)
        receipt = MultiSlotReceipt(
            receipts,
            place,
            charges,
            _id_key(calls, charges, intent),
            token,
            calls.codec.keys.first_key(charges),
            answer["at"],
        )
    refusals = refusals_from_numbers(answer["refusals"], charges)
    return Verdict(now, max(now, answer["at"]), receipt, refusals, repeated=True)
