"""ExpectedRecipientsExceeded on real servers: several processes count together."""

from __future__ import annotations

from contextlib import closing

from rlm_testkit.builders import envelope_to
from rlm_testkit.servers import Server

from ratelimit_mail import Limiter, Override, Policy, RecipientLimit, RecipientRateLimit
from ratelimit_mail.backends import RedisBackend
from ratelimit_mail.events import Dispatcher, Event, ExpectedRecipientsExceeded

RAISED = Override(
    {"recipients a message": 500}, senders=["ann@uwo.ca"], reason="Open day", expected_recipients=50
)


def test_each_process_reports_what_all_of_them_have_sent(server: Server) -> None:
    policy = Policy(
        name="expected recipients",
        limits=[
            RecipientLimit(10, name="recipients a message"),
            RecipientRateLimit("1000/day", denied="count"),
        ],
        overrides=[RAISED],
    )
    for own, other, numbers in ((20, 30, []), (20, 31, [51])):
        events: list[Event] = []
        dispatcher = Dispatcher(events.append)
        with (
            closing(RedisBackend.from_url(server.url)) as first,
            closing(RedisBackend.from_url(server.url)) as second,
        ):
            limiter = Limiter(policy, first, on_event=dispatcher)
            limiter.reset("ann@uwo.ca")
            assert Limiter(policy, second).try_acquire(envelope_to(other))
            assert not limiter.try_acquire(envelope_to(501))
            assert limiter.try_acquire(envelope_to(own))
            assert dispatcher.flush(60)
        assert [
            event.recipients for event in events if isinstance(event, ExpectedRecipientsExceeded)
        ] == numbers
