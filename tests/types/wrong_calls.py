"""Calls that raise TypeError or ValueError and that mypy --strict and pyright must report.

Each is one line and ends with `# wrong`; each other line must be right. A string where a list of
strings is needed, as in Envelope("a@x.org", "b@x.org"), raises TypeError too, but no checker
reports it: a string is an iterable of strings.
"""

from __future__ import annotations

import time
from datetime import date

from ratelimit_mail import (
    AsyncLimiter,
    ByteRateLimit,
    Client,
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
from ratelimit_mail.conditions import has_tag, in_network, not_, protocol
from ratelimit_mail.events import Dispatcher
from ratelimit_mail.outbox import (
    CallableTransport,
    Notices,
    Outbox,
    RetrySchedule,
    SMTPTransport,
)

limit = MessageRateLimit("30/minute", name="a")
policy = Policy(name="campus", limits=[limit])
limiter = Limiter(policy)
envelope = Envelope("ann@uwo.ca", ["bob@example.com"])
decision = limiter.try_acquire(envelope)


async def send_async(envelope: Envelope) -> None:
    """Send nothing."""


def send(envelope: Envelope) -> None:
    """Send nothing."""


MessageRateLimit()  # wrong
MessageRateLimit(30)  # wrong
MessageRateLimit(None)  # wrong
MessageRateLimit("30/minute", "sender")  # wrong
MessageRateLimit("30/minute", scope=5)  # wrong
MessageRateLimit("30/minute", scope=[5])  # wrong
MessageRateLimit("30/minute", scope=None)  # wrong
MessageRateLimit("30/minute", scopes="sender")  # wrong
MessageRateLimit("30/minute", count="internal")  # wrong
MessageRateLimit("30/minute", denied=True)  # wrong
MessageRateLimit("30/minute", on_excess="raise")  # wrong
MessageRateLimit("30/minute", share="0.5")  # wrong
MessageRateLimit("30/minute", resolution=1)  # wrong
MessageRateLimit("30/minute", name=5)  # wrong
MessageRateLimit("30/minute", enforce="no")  # wrong
RecipientRateLimit(10_000, scope="global")  # wrong
RecipientLimit("100")  # wrong
MessageSizeLimit(2.5)  # wrong
ByteRateLimit(500)  # wrong
RecipientLimit(100, direction="inbound")  # wrong
RecipientLimit(100, count="internal")  # wrong

Policy(limits=[limit])  # wrong
Policy("campus")  # wrong
Policy(name=5)  # wrong
Policy(name="a", limits="x")  # wrong
Policy(name="a", limits=limit)  # wrong
Policy(name="a", limits=["30/minute"])  # wrong
Policy(name="a", limits=None)  # wrong
Policy(name="a", tiers=[limit])  # wrong
Policy(name="a", tiers=Tier("b"))  # wrong
Policy(name="a", internal_domains=[5])  # wrong
Policy(name="a", internal_domains=5)  # wrong
Policy(name="a", overrides=["ann@uwo.ca"])  # wrong
Policy(name="a", override_requires=[5])  # wrong
Policy(name="a", exemptions=["ann@uwo.ca"])  # wrong
Policy(name="a", grants=["ann@uwo.ca"])  # wrong
Policy(name="a", directory={"a.smith@uwo.ca": "ann@uwo.ca"})  # wrong
Policy(name="a", partial="yes")  # wrong
Policy(name="a", limit=[limit])  # wrong

Tier(5)  # wrong
Tier("a", when="wireless")  # wrong
Tier("a", limits=limit)  # wrong
Tier("a", limits="x")  # wrong
Tier("a", [limit])  # wrong
in_network(5)  # wrong
has_tag(5)  # wrong
protocol(25)  # wrong
not_("wireless")  # wrong

Override(senders=["ann@uwo.ca"])  # wrong
Override(500, senders=["ann@uwo.ca"])  # wrong
Override({"a": 1.5}, senders=["ann@uwo.ca"])  # wrong
Override({1: 500}, senders=["ann@uwo.ca"])  # wrong
Override({"a": 500}, senders=[5])  # wrong
Override({"a": 500}, senders=["ann@uwo.ca"], ends="2026-03-31")  # wrong
Override({"a": 500}, senders=["ann@uwo.ca"], reason=5)  # wrong
Override({"a": 500}, senders=["ann@uwo.ca"], expected_recipients="350")  # wrong
Override({"a": 500}, when=date(2026, 3, 31))  # wrong
Exemption([5], senders=["ann@uwo.ca"])  # wrong
Exemption(senders=5)  # wrong
Grant(["ann@uwo.ca"])  # wrong

Envelope("ann@uwo.ca")  # wrong
Envelope("ann@uwo.ca", 5)  # wrong
Envelope("ann@uwo.ca", None)  # wrong
Envelope(None, ["bob@example.com"])  # wrong
Envelope("ann@uwo.ca", [5])  # wrong
Envelope("ann@uwo.ca", [b"bob@example.com"])  # wrong
Envelope("ann@uwo.ca", ["bob@example.com"], "10.1.2.3")  # wrong
Envelope("ann@uwo.ca", ["bob@example.com"], id=4711)  # wrong
Envelope("ann@uwo.ca", ["bob@example.com"], direction="both")  # wrong
Envelope("ann@uwo.ca", to=["bob@example.com"])  # wrong
Envelope.from_smtp("ann@uwo.ca", 5)  # wrong
Envelope.from_message("From: ann@uwo.ca")  # wrong
Client("10.1.2.3")  # wrong
Client(address=5.5)  # wrong
Client(user=5)  # wrong
Client(protocol=25)  # wrong
Client(tags=5)  # wrong
Client(tags=[5])  # wrong
Client(tag="wireless")  # wrong

Directory(5)  # wrong
Directory(["a.smith@uwo.ca"])  # wrong
Directory({"a.smith@uwo.ca": 5})  # wrong
Directory(lists=["staff@uwo.ca"])  # wrong
Directory.from_dict({"ann@uwo.ca": 5})  # wrong
MailingList(5)  # wrong
MailingList("a@uwo.ca", members=5)  # wrong
MailingList("a@uwo.ca", posters=[5])  # wrong
MailingList("a@uwo.ca", posting="closed")  # wrong

Limiter()  # wrong
Limiter("policy")  # wrong
Limiter(presets.leeds_office365)  # wrong
Limiter(policy, "redis://localhost")  # wrong
Limiter(policy, MemoryBackend)  # wrong
Limiter(policy, on_backend_error="ignore")  # wrong
Limiter(policy, fallback_share="1/8")  # wrong
Limiter(policy, remember=None)  # wrong
Limiter(policy, on_event=5)  # wrong
Limiter(policy, timeout=5)  # wrong
AsyncLimiter("policy")  # wrong
MemoryBackend(clock=time.time)  # wrong
MemoryBackend(5)  # wrong
Dispatcher(5)  # wrong
Dispatcher([5])  # wrong

limiter.check("ann@uwo.ca")  # wrong
limiter.try_acquire()  # wrong
limiter.try_acquire(None)  # wrong
limiter.try_acquire(envelope, timeout=5)  # wrong
limiter.try_acquire_many(envelope)  # wrong
limiter.acquire(envelope, timeout="5")  # wrong
limiter.reserve(envelope, max_delay="5")  # wrong
limiter.usage(5)  # wrong
limiter.usage("ann@uwo.ca", scope=5)  # wrong
limiter.usage("ann@uwo.ca", client="10.1.2.3")  # wrong
limiter.reset(5)  # wrong
limiter.limited(on_denied="ignore")  # wrong
limiter.limited(timeout="5")  # wrong
limiter.limited(refund_on="OSError")  # wrong
limiter.limited(refund_on=(5,))  # wrong
limiter.limited(on_denied="skip", timeout=5)  # wrong
AsyncLimiter(policy).limited()(send)  # wrong
limiter.limited()(send)(5)  # wrong

presets.leeds_office365(100)  # wrong
presets.leeds_office365(recipient_limit="100")  # wrong
presets.leeds_office365(message_rate=30)  # wrong
presets.leeds_office365(overrides=["ann@leeds.ac.uk"])  # wrong
presets.leeds_smtp(grants=5)  # wrong
presets.western_convergence(campus_networks=5)  # wrong

Outbox("outbox.db", policy)  # wrong
Outbox("outbox.db", AsyncLimiter(policy))  # wrong
Outbox("outbox.db", limiter, "smtp.x.org")  # wrong
Outbox("outbox.db", limiter, on_uncertain="ignore")  # wrong
Outbox("outbox.db", limiter, retry=60)  # wrong
Outbox("outbox.db", limiter, notices="postmaster@x.org")  # wrong
RetrySchedule("60")  # wrong
RetrySchedule(["60"])  # wrong
Notices(5)  # wrong
Notices("postmaster@x.org", failures="yes")  # wrong
SMTPTransport("smtp.x.org", "587")  # wrong
SMTPTransport("smtp.x.org", tls="maybe")  # wrong
SMTPTransport("smtp.x.org", username="ann", oauth="token")  # wrong
CallableTransport("send")  # wrong
