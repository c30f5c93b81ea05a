"""InOrderCounts: what it holds, and for how long."""

from __future__ import annotations

import gc
import random

import pytest

from ratelimit_mail.counting import in_order
from ratelimit_mail.counting.charge import UNITS, Charge, Costs, Count, Ledger, retention_for
from ratelimit_mail.counting.event_log import EventLog
from ratelimit_mail.counting.in_order import InOrderCounts
from ratelimit_mail.counting.window import Window

HOUR = 3_600_000
ONE_MESSAGE: Costs = (1, 0, 0, 0, 0, 0, 0, 0)


def charge_of(subject: str, *windows: Window, costs: Costs = ONE_MESSAGE) -> Charge:
    retention = retention_for([*windows])
    ledger = Ledger("sender", (Count(0, windows, retention),), retention.span)
    return ledger, subject, costs


def test_subjects_that_have_been_idle_for_two_windows_are_dropped() -> None:
    counts = InOrderCounts()
    most = 0
    for number in range(5000):
        [charge] = counts.prepare([charge_of(f"ann{number}@uwo.ca", Window(1, HOUR))])
        assert counts.take([charge], number * HOUR // 100) is None
        most = max(most, len(counts))
    assert 100 < most <= 201


def test_a_subject_that_is_charged_again_stays() -> None:
    counts = InOrderCounts()
    [ann] = counts.prepare([charge_of("ann@uwo.ca", Window(1, HOUR))])
    [bob] = counts.prepare([charge_of("bob@uwo.ca", Window(1, HOUR))])
    for hour in range(5):
        at = hour * HOUR
        assert counts.take([ann], at) is None
        assert counts.take([bob], at + 10) is None
        assert counts.take([ann], at + HOUR - 1) is not None
        assert len(counts) == 2


def test_a_log_with_what_was_sent_and_refused_in_order_answers_as_one_that_takes_it_back() -> None:
    windows = [Window(5, 1000), Window(30, 20_000, denied=True), Window(9, 2000, resolution=100)]
    retention = retention_for(windows)
    dice = random.Random(1)
    log, same = EventLog(undo=[]), EventLog()
    now = 0
    for _ in range(3000):
        now += dice.choice((0, 0, 1, 30, 200, 1500))
        cost, is_sent = dice.randint(1, 3), dice.random() < 0.5
        same.append(now, cost, retention, is_sent=is_sent)
        if is_sent:
            log.add(now, cost, retention)
        else:
            log.refuse(now, cost, retention)
        later = now + dice.choice((0, 500, 1999))
        answers = [[each.earliest(later, 2, window) for window in windows] for each in (log, same)]
        assert answers[0] == answers[1]
        assert len(same.times) < 300


def test_a_message_of_several_charges_is_taken_as_a_whole_or_not_at_all() -> None:
    counts = InOrderCounts()
    ann, bob = counts.prepare(
        [charge_of("ann@uwo.ca", Window(1, HOUR)), charge_of("bob@uwo.ca", Window(1, HOUR))]
    )
    assert counts.take([ann], 0) is None
    refused = counts.take([bob, ann], 1)
    assert refused is not None
    assert refused[0] == HOUR
    assert counts.take([bob], 2) is None
    assert len(UNITS) == len(ONE_MESSAGE)


def test_ledgers_that_are_made_anew_are_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_order, "MOST_COSTS", 8)
    counts = InOrderCounts()
    window = Window(3, HOUR, denied=True)
    charges = [charge_of("ann@uwo.ca", window) for _ in range(100)]
    ids = {id(ledger.counts[0]) for ledger, _, _ in charges}
    while charges:
        counts.take(counts.prepare([charges.pop()]), 100 - len(charges))
    gc.collect()
    assert sum(id(each) in ids for each in gc.get_objects() if type(each) is Count) <= 8
