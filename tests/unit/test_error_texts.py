"""Each error that quotes a value is one printable line, and never long."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from rlm_testkit.builders import campus_policy, envelope_to

from ratelimit_mail import (
    AsyncLimiter,
    Client,
    Envelope,
    Limiter,
    MessageRateLimit,
    Policy,
    RecipientLimit,
    RecipientRateLimit,
    Tier,
    conditions,
    presets,
)
from ratelimit_mail.backends import AsyncRedisBackend, MemoryBackend, RedisBackend
from ratelimit_mail.directory import Directory, MailingList
from ratelimit_mail.overrides import Exemption, Grant, Override
from ratelimit_mail.planner import plan_mailing
from ratelimit_mail.rates import parse_length, parse_rate

LONGEST = 700
"""Characters of an error: a value in its short form, and a sentence or a list of words."""


class Loud:
    """A value with a long repr and line breaks in it."""

    def __repr__(self) -> str:
        return "\n\x1b[31mloud" * 10_000


VALUES: list[Any] = [
    "x\n\x1b" * 50_000,
    "a" * 100_000,
    b"\xff" * 100_000,
    Loud(),
    [Loud()],
    10**5000,
]

limiter = Limiter(campus_policy(MessageRateLimit("1/day", name="n")))


def with_clock(value: Any) -> None:
    Limiter(campus_policy(), MemoryBackend(lambda: value)).try_acquire(envelope_to())
    MemoryBackend(lambda: value).now()


CALLS: dict[str, Callable[[Any], object]] = {
    "Client.address": lambda x: Client(address=x),
    "Client.user": lambda x: Client(user=x),
    "Client.protocol": lambda x: Client(protocol=x),
    "Client.tags": lambda x: Client(tags=[x, ""]),
    "Envelope.sender": lambda x: Envelope(x, ["a@b.c"]),
    "Envelope.recipients": lambda x: Envelope("a@b.c", [x]),
    "Envelope.client": lambda x: Envelope("a@b.c", ["a@b.c"], x),
    "Envelope.id": lambda x: Envelope("a@b.c", ["a@b.c"], id=x),
    "Envelope.direction": lambda x: Envelope("a@b.c", ["a@b.c"], direction=x),
    "Envelope.from_message": Envelope.from_message,
    "MessageRateLimit": MessageRateLimit,
    "MessageRateLimit.name": lambda x: MessageRateLimit("1/day", name=x),
    "MessageRateLimit.scope": lambda x: MessageRateLimit("1/day", scope=x),
    "MessageRateLimit.share": lambda x: MessageRateLimit("1/day", share=x),
    "MessageRateLimit.resolution": lambda x: MessageRateLimit("1/day", resolution=x),
    "MessageRateLimit.reply": lambda x: MessageRateLimit("1/day", reply=x),
    "MessageRateLimit.enforce": lambda x: MessageRateLimit("1/day", enforce=x),
    "RecipientRateLimit.count": lambda x: RecipientRateLimit("1/day", count=x),
    "RecipientLimit": RecipientLimit,
    "parse_rate": parse_rate,
    "parse_length": parse_length,
    "Tier.name": Tier,
    "Tier.when": lambda x: Tier("t", when=x if not callable(x) else 1),  # type: ignore[arg-type]
    "Tier.limits": lambda x: Tier("t", limits=[x]),
    "Policy.name": lambda x: Policy(name=x),
    "Policy.limits": lambda x: Policy(name="p", limits=[x]),
    "Policy.tiers": lambda x: Policy(name="p", tiers=[x]),
    "Policy.internal_domains": lambda x: Policy(name="p", internal_domains=[x, "!"]),
    "Policy.subaddress": lambda x: Policy(name="p", subaddress=x),
    "Policy.ipv4_prefix": lambda x: Policy(name="p", ipv4_prefix=x),
    "Policy.override_requires": lambda x: Policy(name="p", override_requires=[x]),
    "Policy.shard_by": lambda x: Policy(name="p", shard_by=x),
    "Policy.node": lambda x: Policy(name="p", per_node=True, node=x),
    "Policy.directory": lambda x: Policy(name="p", directory=x),
    "Policy.load": Policy.load,
    "Policy.loads": Policy.loads,
    "Override.limits": lambda x: Override(senders=["a@b.c"], limits=x),
    "Override.senders": lambda x: Override(senders=[x, "@"], limits={"n": 1}),
    "Override.starts": lambda x: Override(senders=["a@b.c"], limits={"n": 1}, starts=x),
    "Override of an unknown limit": lambda x: Policy(
        name="p", overrides=[Override(senders=["a@b.c"], limits={str(x)[:100_000]: 1})]
    ),
    "Exemption.limits": lambda x: Exemption(senders=["a@b.c"], limits=[x, 1]),  # type: ignore[list-item]
    "Grant.reason": lambda x: Grant(senders=[x, "@"]),
    "MailingList": MailingList,
    "MailingList.posting": lambda x: MailingList("l@b.c", posting=x),
    "Directory": Directory,
    "Directory.from_dict": lambda x: Directory.from_dict({x: [x]} if isinstance(x, str) else x),
    "in_network": conditions.in_network,
    "has_tag": lambda x: conditions.has_tag(x if not isinstance(x, str) else ""),
    "protocol": conditions.protocol,
    "any_of": lambda x: conditions.any_of(x),
    "Limiter": Limiter,
    "AsyncLimiter": AsyncLimiter,
    "Limiter.backend": lambda x: Limiter(campus_policy(), x),
    "try_acquire": limiter.try_acquire,
    "acquire.timeout": lambda x: limiter.acquire(envelope_to(), timeout=x),
    "usage.scope": lambda x: limiter.usage("a@b.c", scope=x),
    "usage": limiter.usage,
    "reset": limiter.reset,
    "block": lambda x: limiter.block("a@b.c", scope=x),
    "refund": limiter.refund,
    "from_url": RedisBackend.from_url,
    "async from_url": AsyncRedisBackend.from_url,
    "from_url.timeout": lambda x: RedisBackend.from_url("redis://h", timeout=x),
    "from_url.prefix": lambda x: RedisBackend.from_url("redis://h", prefix=x),
    "western_convergence.unit": lambda x: presets.western_convergence(unit=x),
    "western_convergence.campus_networks": lambda x: presets.western_convergence(
        campus_networks=[x]
    ),
    "a clock": with_clock,
    "plan_mailing": lambda x: plan_mailing(campus_policy(), x),
    "attribute": lambda x: getattr(presets, x) if isinstance(x, str) else None,
}


@pytest.mark.parametrize("value", VALUES, ids=["lines", "str", "bytes", "loud", "list", "int"])
@pytest.mark.parametrize("name", CALLS)
def test_an_error_is_one_short_printable_line(name: str, value: Any) -> None:
    error = error_of(CALLS[name], value)
    assert isinstance(error, ValueError | TypeError | AttributeError | OSError | None)
    if isinstance(error, ValueError | TypeError):
        text = str(error)
        assert text.isprintable(), text[:500]
        assert len(text) <= LONGEST, text[:500]


def error_of(call: Callable[[Any], object], value: Any) -> Exception | None:
    try:
        call(value)
    except Exception as error:
        return error
    return None


@pytest.mark.parametrize("name", [b"policy.toml", b"", 1, None])
def test_the_name_of_a_policy_file_is_a_string_or_a_path(name: Any) -> None:
    with pytest.raises(TypeError):
        Policy.load(name)


def test_a_clock_that_gives_no_int_is_shown_in_short() -> None:
    with pytest.raises(TypeError, match=r"milliseconds since the epoch, not 'aaa.*\(100002 char"):
        with_clock("a" * 100_000)
