"""Whether the answers are right: the worst window, and what a refusal leaves behind."""

from __future__ import annotations

from bisect import bisect_right
from typing import Final

import turned_clock
from contenders import Entry
from turns import Turn
from work import NUMBERS, Numbers, letter, letters

LIMIT: Final = 1_000
STEP: Final = 0.5


def worst_window(entry: Entry, port: int | None) -> Turn:
    """The most that passes in any minute, of a limit of 1,000 a minute.

    The sender sends one message as a minute of the clock begins, as many as are let through a
    tenth of a second before it ends, and then again and again for two minutes.
    """
    turned_clock.install()
    check = entry.make(Numbers(minute=LIMIT, day=10**8), port).check
    envelope = letter("ann")

    def turn() -> tuple[float, ...]:
        assert check(envelope)
        passed = [0.0]
        turned_clock.advance(59.9)
        now = 59.9
        while now < 180:
            while check(envelope):
                passed.append(now)
            step = 0.1 if now < 60 else STEP
            turned_clock.advance(step)
            now += step
        # An event at `t` counts while `now < t + 60`: the windows that end at each event.
        return (max(i + 1 - bisect_right(passed, at - 60 + 1e-6) for i, at in enumerate(passed)),)

    return turn


def left_behind(entry: Entry, port: int | None) -> Turn:
    """How many of the minute's 30 places thirty refusals by the day have taken."""
    made = entry.make(NUMBERS, port)

    def turn() -> tuple[float, ...]:
        envelopes = letters(NUMBERS.minute)
        made.spend_day(envelopes[0].sender, NUMBERS.day)
        answers = [made.check(envelope) for envelope in envelopes]  # every one is asked
        assert not any(answers)
        return (NUMBERS.minute - sum(bool(made.charge_minute(each)) for each in envelopes),)

    return turn
