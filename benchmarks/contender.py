"""What a contender is: three calls that every one of them must have."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import attrs

from ratelimit_mail import Envelope

Check = Callable[[Envelope], object]
"""Decides on a message; what it gives is true if the message may go."""
AwaitedCheck = Callable[[Envelope], Awaitable[object]]


@attrs.frozen
class Contender:
    """One way of doing the e-mail check, with counts of its own."""

    check: Check
    """The e-mail check itself."""
    charge_minute: Check
    """Charges a message to the minute alone, as one to internal recipients is."""
    spend_day: Callable[[str, int], object]
    """Charges so many recipients of a sender to the day alone."""
    together: Callable[[list[Envelope]], object] | None = None
    """Decides on many messages at once, where there is a way to."""
    tidy: Callable[[], object] | None = None
    """What its thread in the background does now and then, where it has been left out."""


def _cannot(*_: object) -> object:
    raise NotImplementedError


def floor(check: Check) -> Contender:
    """A contender that decides nothing and is only timed."""
    return Contender(check, _cannot, _cannot)
