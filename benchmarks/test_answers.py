"""Whether the answers are right: the worst window, and the minute after a refusal by the day."""

from bisect import bisect_right
from collections.abc import Callable
from typing import Any

import pytest

from benchmarks.contenders import BY_HAND, OURS, PEERS, make
from benchmarks.email_check import DAY, MINUTE, message, new_senders

LIMIT = 1_000


def worst_minute(name: str, advance: Callable[[float], None]) -> int:
    """Return the most that passes in any minute, of a limit of 1,000 a minute.

    The sender sends one message as a minute of the clock begins, as many as pass a tenth of a
    second before it ends, and then again and again for two minutes.
    """
    check = make(name, minute=LIMIT).check
    envelope = message("ann")
    assert check(envelope)
    passed = [0.0]
    now = 59.9
    advance(now)
    while now < 180:
        while check(envelope):
            passed.append(now)
        step = 0.1 if now < 60 else 0.5
        advance(step)
        now += step
    # An event at `t` counts while `now < t + 60`: the windows that end at each event.
    return max(i + 1 - bisect_right(passed, at - 60 + 1e-6) for i, at in enumerate(passed))


def charged_by_refusals(name: str) -> int:
    """Return how many of the minute's 30 places thirty refusals by the day have taken."""
    contender = make(name)
    envelopes = new_senders()
    contender.charge_day(envelopes[0].sender, DAY)
    assert not any(contender.check(envelope) for envelope in envelopes)
    return MINUTE - sum(bool(contender.charge_minute(envelope)) for envelope in envelopes)


@pytest.mark.parametrize("name", [BY_HAND, OURS, *PEERS])
def test_answers(benchmark: Any, name: str, advance: Callable[[float], None]) -> None:
    benchmark.group = "answers"
    worst = benchmark.pedantic(worst_minute, args=(name, advance))
    charged = charged_by_refusals(name)
    benchmark.extra_info.update(contender=name, messages=1, worst=worst, charged=charged)
    if name in (BY_HAND, OURS):
        assert (worst, charged) == (LIMIT, 0)
