"""The one charge of a message, with what decides on it in memory without a plan."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ratelimit_mail._util.cache import BoundedCache
from ratelimit_mail.backends.memory import MemoryBackend
from ratelimit_mail.backends.memory.backend import QuickAnswer
from ratelimit_mail.counting.charge import Costs, Ledger
from ratelimit_mail.envelope import Envelope
from ratelimit_mail.policy.charges import EffectiveLimits, MessageCharge

__all__ = ["QuickCharge", "QuickCharges", "quick_charges"]


class QuickCharge(NamedTuple):
    """What messages to recipients of some domains are charged, if it is one charge.

    subject_of: returns the subject of a message.
    answer_to: decides on the charge of a subject, if that takes no look at logs.
    shadow: the charge under the limits that only report; None if that is not one charge.
    """

    subject_of: Callable[[Envelope], str]
    answer_to: Callable[[str], QuickAnswer | None]
    ledger: Ledger
    costs: Costs
    shadow: QuickCharge | None


QuickCharges = BoundedCache[tuple[str, ...], QuickCharge | None]
"""By the domains of a message's recipients; None for a message that needs a plan."""


def quick_charges(limits: EffectiveLimits, backend: MemoryBackend, *, record: bool) -> QuickCharges:
    """Return the charges of messages under some limits; without `record` they are only checked."""
    answerer = backend.taker if record else backend.peeker
    shadow = None
    if limits.shadow is not None:
        shadow = quick_charges(limits.shadow, backend, record=record)

    def quick_charge(key: tuple[MessageCharge, QuickCharge | None]) -> QuickCharge:
        (ledger, subject_of, costs), of_shadow = key
        return QuickCharge(subject_of, answerer(ledger, costs), ledger, costs, of_shadow)

    by_charge = BoundedCache(quick_charge, most=512)

    def charge_for(domains: tuple[str, ...]) -> QuickCharge | None:
        charges = limits.charges_by_domains[domains]
        if charges is None or charges.only is None:
            return None
        return by_charge[charges.only, None if shadow is None else shadow[domains]]

    return BoundedCache(charge_for, most=512)
