"""What real mail costs in memory: new addresses each time, parsed messages, refusals, options."""

from __future__ import annotations

from email import message_from_bytes
from email import policy as email_policy
from email.message import EmailMessage
from itertools import count
from typing import Any, Final

import pytest

from benchmarks.contenders import BY_HAND, LIMITS, OURS, Contender, make
from benchmarks.email_check import INTERNAL, MINUTE, RECIPIENTS, new_senders, policy
from benchmarks.ours import VARIANTS, make_variant
from benchmarks.workloads import Workload, by_sender, one_by_one, threads_of
from ratelimit_mail import Envelope, Limiter, MessageRateLimit, RecipientRateLimit

pytestmark = pytest.mark.benchmark(disable_gc=True)

NEW_ADDRESSES: Final = "ratelimit-mail, new addresses"
PARSING: Final = "the standard library parses the headers"
CHECK: Final = "ratelimit-mail, check"
_numbers = count()


def with_new_addresses() -> Workload:
    """Messages to recipients that were never seen, built from plain strings."""
    limiter = Limiter(policy())

    def prepare() -> list[Any]:
        return [
            (each.sender, [f"{next(_numbers)}.{address}" for address in RECIPIENTS])
            for each in new_senders(5)
        ]

    def send(mails: list[Any]) -> list[object]:
        return [limiter.try_acquire(Envelope(sender, names)) for sender, names in mails]

    return Workload(prepare, send)


@pytest.mark.parametrize("name", [NEW_ADDRESSES, *VARIANTS])
def test_variant(compare: Any, name: str) -> None:
    def build(each: str) -> Workload:
        if each == NEW_ADDRESSES:
            return with_new_addresses()
        return by_sender(make_variant(each) if each in VARIANTS else make(each), messages=20)

    others = [BY_HAND, LIMITS] if name == NEW_ADDRESSES else [BY_HAND]
    compare("memory, calls and options", name, build, others)


def first_denied(contender: Contender) -> Workload:
    """The first refused message of each of 150 senders, who have just filled their minute."""

    def prepare() -> list[Envelope]:
        envelopes = new_senders(150, MINUTE)
        for envelope in envelopes:
            contender.check(envelope)
        return envelopes[::MINUTE]

    return Workload(prepare, one_by_one(contender.check), expected=False)


@pytest.mark.parametrize("name", [BY_HAND, OURS, LIMITS])
def test_first_refusal(compare: Any, name: str) -> None:
    compare("memory, first refusal", name, lambda each: first_denied(make(each)), [BY_HAND])


@pytest.mark.parametrize("senders", [1, 8])
def test_threads(compare: Any, senders: int) -> None:
    """Eight threads with the messages of one sender or of eight, against one thread."""
    wide = [MessageRateLimit("1000000000/minute"), RecipientRateLimit("1000000000/day")]

    def build(each: str) -> Workload:
        limiter = Limiter(policy().evolve(limits=wide))
        return threads_of(Contender(limiter.try_acquire), senders, 1 if each != OURS else 8)

    compare(f"memory, 8 threads, senders: {senders}", OURS, build, ["one thread"])


def test_check(compare: Any) -> None:
    """`check` of messages that are accepted, against `try_acquire`."""

    def build(each: str) -> Workload:
        limiter = Limiter(policy())
        call = limiter.try_acquire if each == OURS else limiter.check

        def prepare() -> list[Envelope]:
            envelopes = new_senders(5)
            for envelope in envelopes[::MINUTE]:
                limiter.try_acquire(envelope)
            return [each for i, each in enumerate(envelopes) if i % MINUTE]

        return Workload(prepare, one_by_one(call))

    compare("memory, check", CHECK, build)


def test_parsed_messages(compare: Any) -> None:
    """`Envelope.from_message` of parsed messages and the check, against parsing their headers."""
    limiter = Limiter(policy())

    def raw(number: int) -> bytes:
        message = EmailMessage()
        message["From"] = f"Ann Smith <new{number}@{INTERNAL}>"
        message["To"] = ", ".join(f"Somebody <{number}.{each}>" for each in RECIPIENTS[:3])
        message["Cc"] = ", ".join(f"{number}.{each}" for each in RECIPIENTS[3:])
        message.set_content("Hello")
        return message.as_bytes()

    def prepare() -> list[Any]:
        raws = [raw(next(_numbers)) for _ in range(20)]
        return [message_from_bytes(each, policy=email_policy.default) for each in raws]

    def parse(message: Any) -> bool:
        for name in ("From", "To", "Cc"):
            for address in message[name].addresses:
                assert address.addr_spec
        return True

    def build(each: str) -> Workload:
        def check(message: Any) -> bool:
            return bool(limiter.try_acquire(Envelope.from_message(message)))

        return Workload(prepare, one_by_one(check if each == OURS else parse))

    compare("memory, parsed messages", OURS, build, [PARSING])
