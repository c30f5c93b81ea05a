"""What a provider sees: the arrivals at a real SMTP server, by its own clock, keep to the limit.

The claim is about sendings of less than a window, from the admission of a message to its
settlement. On a slow machine one may take longer: such a message may arrive in addition, so it is
not counted here. The drills do the same with more workers, with processes, and stop some of them.
"""

from __future__ import annotations

from rlm_testkit.builders import campus_policy, envelope_to
from rlm_testkit.redis_backends import unique_prefix, valkey_only
from rlm_testkit.sending_load import (
    SendingProcesses,
    Sent,
    Store,
    Work,
    send_in_tasks,
    send_in_threads,
)
from rlm_testkit.servers import Server
from rlm_testkit.smtp_sink import SMTPSink, most_in_a_window

from ratelimit_mail import AsyncLimiter, Limiter, MessageRateLimit

POLICY = campus_policy(MessageRateLimit("30/second"))
WORKERS = [str(number) for number in range(25)]
WORK = Work(envelope_to(), each=3)


def check_arrivals(sink: SMTPSink, sent: list[Sent]) -> None:
    """Check that all messages arrived, and not too many in any second, wherever it begins."""
    arrivals = sink.arrivals()
    assert sorted(arrival.name for arrival in arrivals) == sorted(each.name for each in sent)
    quick = {each.name for each in sent if each.took < 1000}
    assert most_in_a_window((each for each in arrivals if each.name in quick), 1.0) <= 30


def test_messages_of_threads() -> None:
    with SMTPSink(sending=0.4) as sink:
        sent = send_in_threads(Limiter(POLICY), sink.port, WORK, WORKERS)
        assert len(sent) == 75
        check_arrivals(sink, sent)


async def test_messages_of_tasks() -> None:
    with SMTPSink(sending=0.4) as sink:
        sent = await send_in_tasks(AsyncLimiter(POLICY), sink.port, WORK, WORKERS)
        assert len(sent) == 75
        check_arrivals(sink, sent)


@valkey_only
def test_messages_of_processes(server: Server) -> None:
    store = Store(server.url, unique_prefix())
    with SMTPSink(sending=0.4) as sink:
        processes = SendingProcesses("sync", POLICY, sink.port, [WORK] * 2, workers=12, store=store)
        processes.start()
        sent = processes.sent(timeout=100)
        assert len(sent) == 72
        check_arrivals(sink, sent)
