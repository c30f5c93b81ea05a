"""What a provider sees while many workers send, and while some of them are stopped for a minute.

A real SMTP server in its own process records when each message arrives, by its own clock. A message
takes 0 to 400 ms there, before and after its arrival together; the limit is 30 a second.

What holds: no window of the provider, wherever it begins, holds more than 30 of the messages whose
sending takes less than a window. A sending is everything from the moment at which the limiter
admits the message to the moment at which it is settled, the answers of the backend included.

What a stopped worker can do: if it is stopped by SIGSTOP while it waits in `acquire`, nothing: it
redeems its booking when it goes on. If it is stopped during a sending, this sending takes longer
than a window, and its message may arrive when it no longer counts. No limiter can prevent that,
because between the last check and the message itself a process can always be stopped. So a window
may hold, beyond its 30, the messages that were being sent when their worker was stopped: at most
one for each of its threads or tasks. They count when they are settled, and nothing else is let
through: after 55 windows, the waiting workers do not send 55 windows' worth of mail.

most: messages whose sending took less than a window, in the fullest window. late: the others.
in all: both, in the fullest window. limit: N·W / (W + mean time of a sending), in messages a
second. share: the part of it that was reached.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from random import Random
from statistics import fmean, median
from typing import Final

import pytest
from rlm_testkit.redis_backends import KINDS, unique_prefix, valkey_only
from rlm_testkit.sending_load import SendingProcesses, Sent, Store, Work
from rlm_testkit.servers import Server
from rlm_testkit.smtp_sink import ArrivalRow, SMTPSink, arrivals_per_second, most_in_a_window

from ratelimit_mail import Envelope, MessageRateLimit, Policy

pytestmark = [pytest.mark.drill, pytest.mark.parametrize("kind", KINDS)]

Report = Callable[[ArrivalRow], None]

LIMIT, WINDOW = 30, 1.0
PER_SENDER = Policy(name="test", limits=[MessageRateLimit("30/second")])
TOGETHER = Policy(name="test", limits=[MessageRateLimit("30/second", scope="global")])
ROUNDS: Final = 3
STOPPED: Final = 55 * WINDOW
WORKERS = {"sync": "threads", "async": "tasks"}


def envelope(sender: int = 0) -> Envelope:
    return Envelope(f"user{sender}@uwo.ca", ["bob@example.com"])


def row(name: str, sink: SMTPSink, sent: Sequence[Sent]) -> ArrivalRow:
    """Return what arrived at the sink; check that everything did, and the limit."""
    arrivals = sink.arrivals()
    assert sorted(each.name for each in arrivals) == sorted(each.name for each in sent)
    quick = {each.name for each in sent if each.took < WINDOW * 1000}
    most = most_in_a_window([each for each in arrivals if each.name in quick], WINDOW)
    mean = fmean(each.took for each in sent if each.name in quick) / 1000
    rate, possible = arrivals_per_second(arrivals), LIMIT * WINDOW / (WINDOW + mean)
    in_all = most_in_a_window(arrivals, WINDOW)
    late = len(sent) - len(quick)
    return ArrivalRow(name, len(sent), most, late, in_all, rate, possible, rate / possible)


def rows_of_rounds(
    name: str, report: Report, run: Callable[[SMTPSink], Sequence[Sent]]
) -> list[ArrivalRow]:
    """Return what arrived in each of some rounds; check that none exceeds the limit."""
    rows = []
    for number in range(ROUNDS):
        with SMTPSink(sending=0.4, seed=number) as sink:
            rows.append(row(name, sink, run(sink)))
        report(rows[-1])
    assert all(each.most <= LIMIT for each in rows)
    return rows


def test_a_hundred_workers_in_memory(kind: str, report_arrivals: Report) -> None:
    def run(sink: SMTPSink) -> Sequence[Sent]:
        work = [Work(envelope(), each=3)]
        processes = SendingProcesses(kind, PER_SENDER, sink.port, work, workers=100)
        processes.start()
        return processes.sent(timeout=300)

    rows = rows_of_rounds(f"100 {WORKERS[kind]} in memory", report_arrivals, run)
    assert median(each.share for each in rows) >= 0.9


@valkey_only
@pytest.mark.parametrize("senders", [1, 8])
def test_eight_processes_of_four_workers(
    server: Server, kind: str, senders: int, report_arrivals: Report
) -> None:
    policy = PER_SENDER if senders == 1 else TOGETHER

    def run(sink: SMTPSink) -> Sequence[Sent]:
        work = [Work(envelope(number % senders), each=10) for number in range(8)]
        store = Store(server.url, unique_prefix())
        processes = SendingProcesses(kind, policy, sink.port, work, workers=4, store=store)
        processes.start()
        return processes.sent(timeout=300)

    name = f"8 processes of 4 {WORKERS[kind]}, senders: {senders}"
    rows = rows_of_rounds(name, report_arrivals, run)
    # Senders who share a limit have a queue each, and wait for bookings of the others.
    assert median(each.share for each in rows) >= (0.9 if senders == 1 else 0.6)


@valkey_only
def test_processes_stopped_for_55_windows(
    server: Server, kind: str, report_arrivals: Report
) -> None:
    source = Random(1)
    end = time.monotonic() + STOPPED + 35
    work = [Work(envelope(), end=end) for _ in range(8)]
    store = Store(server.url, unique_prefix())
    with SMTPSink(sending=0.4) as sink:
        processes = SendingProcesses(kind, PER_SENDER, sink.port, work, workers=4, store=store)
        processes.start()
        stopped = source.sample(range(8), 5)
        processes.stop_each_for(STOPPED, {each: source.uniform(2, 8) for each in stopped})
        name = f"8 processes of 4 {WORKERS[kind]}, 5 stopped"
        result = row(name, sink, processes.sent(timeout=300))
    report_arrivals(result)
    assert result.most <= LIMIT


def test_all_workers_in_memory_stopped_for_55_windows(kind: str, report_arrivals: Report) -> None:
    work = [Work(envelope(), end=time.monotonic() + STOPPED + 25)]
    with SMTPSink(sending=0.4) as sink:
        processes = SendingProcesses(kind, PER_SENDER, sink.port, work, workers=100)
        processes.start()
        processes.stop_each_for(STOPPED, {0: Random(1).uniform(2, 8)})
        result = row(f"100 {WORKERS[kind]} in memory, stopped", sink, processes.sent(timeout=300))
    report_arrivals(result)
    assert result.most <= LIMIT
