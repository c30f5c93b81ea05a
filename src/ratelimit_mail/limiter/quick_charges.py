"""The one charge of a message, with what decides on it in memory without a plan."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import attrs

from ratelimit_mail._util.cache import BoundedCache
from ratelimit_mail.backends.memory import MemoryBackend
from ratelimit_mail.backends.memory.backend import Marks, QuickAnswer
from ratelimit_mail.counting.charge import Costs, Ledger
from ratelimit_mail.envelope import Envelope
from ratelimit_mail.policy.charges import EffectiveLimits, MessageCharge

__all__ = ["QuickCharge", "QuickCharges", "quick_charges"]


@attrs.frozen(eq=False)
class QuickCharge:
    """What messages to recipients of some domains are charged, if it is one charge.

    subject_of: returns the subject of a message.
    answer_to: decides on the charge of a subject; returns None if `MemoryBackend.apply` must.
    marks: what of the ledger a subject has used when an observer must look closer.
    shadow: the charge under the limits that only report; None if that is not one charge.
    """

    subject_of: Callable[[Envelope], str]
    answer_to: Callable[[str], QuickAnswer | None]
    ledger: Ledger
    costs: Costs
    marks: Marks
    shadow: QuickCharge | None


QuickCharges = BoundedCache[tuple[str, ...], QuickCharge | None]
"""By the domains of a message's recipients; None for a message that needs a plan."""


def quick_charges(
    limits: EffectiveLimits,
    backend: MemoryBackend,
    *,
    record: bool,
    marks_of: Callable[[Ledger], Marks] | None = None,
) -> QuickCharges:
    """Return the charges of messages under some limits.

    record: False only checks them. marks_of: returns the marks of a ledger; None if there are none.
    """
    shadow: QuickCharges | None = None
    if limits.shadow is not None:
        shadow = quick_charges(limits.shadow, backend, record=record)

    def quick_charge(key: tuple[MessageCharge, QuickCharge | None]) -> QuickCharge:
        (ledger, subject_of, costs), of_shadow = key
        marks = () if marks_of is None else marks_of(ledger)
        taker = partial(backend.taker, marks=marks) if record else backend.peeker
        answer_to = taker(ledger, costs)
        return QuickCharge(subject_of, answer_to, ledger, costs, marks, of_shadow)

    by_charge = BoundedCache(quick_charge, most=512)

    def charge_for(domains: tuple[str, ...]) -> QuickCharge | None:
        charges = limits.charges_by_domains[domains]
        if charges is None or charges.only is None:
            return None
        return by_charge[charges.only, None if shadow is None else shadow[domains]]

    return BoundedCache(charge_for, most=512)
