"""Calls that work at run time and that mypy --strict and pyright must accept."""

from __future__ import annotations

from collections.abc import Awaitable, Iterator, Mapping
from datetime import UTC, date, datetime
from email.message import EmailMessage
from ipaddress import ip_address, ip_network
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import assert_type

from limits import RateLimitItemPerMinute

from ratelimit_mail import (
    AsyncLimiter,
    ByteRateLimit,
    Client,
    Decision,
    Directory,
    Envelope,
    Exemption,
    Grant,
    Limiter,
    MailingList,
    MessageRateLimit,
    MessageSizeLimit,
    Override,
    Policy,
    RecipientLimit,
    RecipientRateLimit,
    Tier,
    presets,
)
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.conditions import all_of, any_of, has_tag, in_network, not_, protocol
from ratelimit_mail.events import Dispatcher, Event, log_events
from ratelimit_mail.limits import Limit
from ratelimit_mail.outbox import (
    CallableTransport,
    MaildirTransport,
    Notices,
    Outbox,
    OutboxMessage,
    RetrySchedule,
    SMTPTransport,
    State,
)
from ratelimit_mail.testing import ManualClock

# Rates and scopes

MessageRateLimit("30/minute")
MessageRateLimit(rate="30/minute")
MessageRateLimit(RateLimitItemPerMinute(30))
RecipientRateLimit("10000/day", scope="global")
RecipientRateLimit("10000/day", scope=["sender", "recipient_domain"])
RecipientRateLimit("10000/day", scope=("sender", "client"))
RecipientRateLimit("10000/day", scope={"sender", "client"})
RecipientRateLimit(
    "50/15 minutes",
    name="recipients in 15 minutes",
    share=0.5,
    count="external",
    denied="count",
    on_excess="reject",
    resolution="1 second",
    reply="Try again later.",
    enforce=False,
)
MessageRateLimit("3600/hour", direction="inbound", share=1)
RecipientLimit(100)
MessageSizeLimit("25 MB", name="size of a message")
MessageSizeLimit(25_000_000)
ByteRateLimit("100 MB/day", count="external", on_excess="block")
RecipientLimit(limit=100, name="recipients a message", count="external", enforce=False)
assert_type(MessageRateLimit("30/minute").scope, tuple[str, ...])
assert_type(MessageRateLimit("30/minute").limit, int)
assert_type(RecipientLimit(100).name, str | None)

# Conditions and tiers


def on_monday(client: Client) -> bool:
    return client.user == "monday"


networks = in_network("10.0.0.0/8", ip_network("2001:db8::/32"))
high_risk = any_of(protocol("webmail"), has_tag("wireless"), all_of(networks, on_monday))
tiers = [
    Tier("high-risk", when=high_risk, limits=[RecipientRateLimit("50/day")]),
    Tier(
        "monday", when=all_of(on_monday, not_(has_tag("a"))), limits=(RecipientRateLimit("9/day"),)
    ),
    Tier("low-risk", limits=[RecipientLimit(9), MessageRateLimit("1/minute")]),
]

# Policies: any iterable of what is needed

limits = [
    RecipientLimit(500, name="recipients a message"),
    MessageRateLimit("30/minute", name="messages a minute"),
    RecipientRateLimit("10000/day", name="recipients a day"),
]
overrides = [
    Override({"recipients a message": 500}, senders=["ann@uwo.ca"]),
    Override(
        {"messages a minute": 60, "recipients a day": "20000/day"},
        senders={"uwo.ca", ".uwo.ca"},
        when=on_monday,
        reason="Open day",
        granted_by="IT",
        expected_recipients=350,
        starts=date(2026, 3, 1),
        ends=datetime(2026, 3, 31, tzinfo=UTC),
    ),
]
Exemption(senders=("ann@uwo.ca",))
Exemption(["messages a minute"], when=has_tag("lists"))
Grant(senders=["ann@uwo.ca"], expected_recipients=9, ends=date(2026, 3, 31))


def some_tiers() -> Iterator[Tier]:
    yield from tiers


policy = Policy(
    name="campus",
    limits=limits,
    tiers=tiers,
    internal_domains=["uwo.ca", ".uwo.ca"],
    overrides=overrides,
    override_requires=[],
    exemptions=[Exemption(senders=["bob@uwo.ca"])],
    grants=None,
    directory=Directory({"a.smith@uwo.ca": "ann@uwo.ca"}, [MailingList("staff@uwo.ca")]),
    proxy_address_limit=200,
    partial=True,
    per_node=False,
    shard_by="sender",
)
Policy(name="a", limits=tuple(limits), tiers=some_tiers(), internal_domains={"uwo.ca"})
Policy(name="a", limits=(MessageRateLimit(f"{n}/minute") for n in (1, 2)), grants=[])
Policy(name="a", limits=[RecipientLimit(1), MessageRateLimit("1/day")])
policy.evolve(overrides=overrides)
assert_type(policy.limits, tuple[Limit, ...])
assert_type(policy.overrides[0].limits, Mapping[str, int | str])
presets.leeds_office365(overrides=overrides[1:])
presets.leeds_smtp(grants=["ann@leeds.ac.uk", Grant(senders=["bob@leeds.ac.uk"])])
presets.western_convergence(campus_networks=["129.100.0.0/16"], internal_domains=["uwo.ca"])

# Directories

Directory.from_dict({"ann@uwo.ca": ["a.smith@uwo.ca"], "bob@uwo.ca": ("b@uwo.ca",)})
Directory(lists=(MailingList("a@uwo.ca", members=["b@uwo.ca"], posters={"uwo.ca"}),))


class Ldap:
    def owner(self, address: str) -> str:
        return address

    def mailing_list(self, address: str) -> MailingList | None:
        return None


Policy(name="a", directory=Ldap())

# Envelopes and clients

client = Client(address="10.1.2.3", user="ann", protocol="smtp", tags={"wireless"})
Client(address=ip_address("10.1.2.3"), tags=["wireless", "reznet"])
Client(address=None, user=None, protocol=None, tags=())
envelope = Envelope("ann@uwo.ca", ["bob@example.com"], client)
Envelope(sender="<>", recipients=("bob@example.com",), id="job", direction="inbound")
Envelope("ann@uwo.ca", {"bob@example.com": 1}.keys())
Envelope("ann@uwo.ca", (f"r{i}@example.com" for i in range(2)))
Envelope.from_smtp("", ["postmaster"], client=client)
message = EmailMessage()
message["From"], message["To"] = "ann@uwo.ca", "bob@example.com"
Envelope.from_message(message, client=client)

# Limiters

clock = ManualClock()
backend = MemoryBackend(clock)
limiter = Limiter(Policy(name="a", limits=limits), backend, sleep=clock.advance)
Limiter(policy, MemoryBackend(lambda: 0), on_backend_error="allow", fallback_share=0.5)
Limiter(policy, on_backend_error=MemoryBackend(), remember=60, on_event=print)
Limiter(policy, on_event=[log_events(), print])
Limiter(policy, on_event=Dispatcher(log_events("mail")))


def listen(event: Event) -> None:
    print(event.sender)


Limiter(policy, on_event=listen)
assert_type(limiter.check(envelope), Decision)
assert_type(limiter.acquire(envelope, timeout=5), Decision)
assert_type(limiter.try_acquire_many([envelope]), list[Decision])
limiter.usage("ann@uwo.ca", client=client)
limiter.usage(["ann@uwo.ca", "example.com"], scope=["sender", "recipient_domain"])
limiter.usage(scope="global")
reservation = limiter.reserve(envelope, max_delay=3600)
assert_type(reservation.delay, float)
reservation.cancel()
decision = limiter.try_acquire(envelope)
assert_type(decision.retry_after, float | None)
limiter.refund(decision)


@limiter.limited(timeout=60)
def send(message: EmailMessage) -> int:
    return 1


@limiter.limited(on_denied="skip", refund_on=(OSError, ValueError))
def send_or_skip(message: EmailMessage, times: int = 1) -> int:
    return times


assert_type(send(message), int)
assert_type(send_or_skip(message, times=2), int | Decision)

async_limiter = AsyncLimiter(policy, MemoryBackend())


@async_limiter.limited(refund_on=OSError)
async def send_async(message: EmailMessage) -> int:
    return 1


# The outbox

schedule = RetrySchedule([60, 300.0], give_up=86400)
notices = Notices("postmaster@x.org", delayed_after=3600)
smtp = SMTPTransport("smtp.x.org", 587, username="ann@x.org", oauth=lambda: "token")
with TemporaryDirectory() as folder:
    outbox = Outbox(f"{folder}/outbox.db", limiter, CallableTransport(lambda outgoing: None))
    assert_type(outbox.put(message, key="1", priority=1), OutboxMessage)
    outbox.put(b"Subject: Hi", envelope=envelope, expires=datetime(2099, 1, 1, tzinfo=UTC))
    assert_type(outbox.list(state="queued"), tuple[OutboxMessage, ...])
    assert_type(outbox.stats().counts[State.QUEUED], int)
    outbox.close()
    path = Path(folder) / "outbox.db"
    Outbox(path, limiter, smtp, retry=schedule, notices=notices, on_uncertain="resend").close()
    Outbox(path, limiter, MaildirTransport(path), on_event=[print], keep=60).close()


def not_run() -> None:
    awaitable: Awaitable[int] = send_async(message)
    print(awaitable)
