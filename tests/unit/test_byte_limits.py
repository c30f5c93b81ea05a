"""Limits on bytes: their notation, what a message costs, and what a missing size does."""

from __future__ import annotations

import pickle
from email.message import EmailMessage
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rlm_testkit.builders import campus_policy, envelope_to, limiter_with_clock

from ratelimit_mail import (
    Action,
    ByteRateLimit,
    Envelope,
    Limiter,
    MessageRateLimit,
    MessageSizeLimit,
    Policy,
    RateLimitExceeded,
)
from ratelimit_mail.limits import Limit
from ratelimit_mail.outbox import Outbox
from ratelimit_mail.overrides import Override
from ratelimit_mail.rates import parse_size, size_text


def limiter_of(*limits: Limit) -> Limiter:
    return limiter_with_clock(campus_policy(*limits))[0]


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1 byte", 1),
        ("500 kB", 500_000),
        ("25 MB", 25_000_000),
        ("25MB", 25_000_000),
        ("25 mib", 25 * 2**20),
        ("3 GiB", 3 * 2**30),
        ("1 TB", 10**12),
    ],
)
def test_a_size_has_a_unit(text: str, size: int) -> None:
    assert parse_size(text) == size
    assert MessageSizeLimit(text).limit == size
    assert ByteRateLimit(f"{text}/day").limit == size
    assert ByteRateLimit(f"{text} per 2 hours").limit == size


@pytest.mark.parametrize(
    "text",
    ["", "MB", "25", "25 XB", "-5 MB", "2.5 MB", "25 MB MB", "0 MB", "2 TB", "9" * 14 + " B"],
)
def test_what_is_not_a_size_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="size"):
        MessageSizeLimit(text)


@given(st.integers(1, 10**12))
def test_a_size_in_words_is_read_as_the_same_size(size: int) -> None:
    assert parse_size(size_text(size)) == size


def test_only_a_byte_rate_limit_takes_a_unit() -> None:
    with pytest.raises(ValueError, match="'25 MB/day' is not one rate"):
        MessageRateLimit("25 MB/day")


def test_limits_on_bytes_in_words() -> None:
    assert str(ByteRateLimit("500 MB/day")) == "500 MB per day per sender"
    limit = ByteRateLimit("5 MiB/hour", count="external", scope="client")
    assert str(limit) == "5 MiB of external mail per hour per client"
    limit = ByteRateLimit("1001/minute", direction="inbound")
    assert str(limit) == "1001 bytes of received mail per minute per recipient"
    assert str(MessageSizeLimit("25 MB", enforce=False)) == "25 MB per message, only reported"


def test_a_message_costs_its_size_once_however_many_recipients_it_has() -> None:
    limiter = limiter_of(ByteRateLimit("10 kB/minute"))
    assert limiter.try_acquire(envelope_to(5, size=6_000))
    assert limiter.usage("ann@uwo.ca")[0].used == 6_000
    refused = limiter.try_acquire(envelope_to(size=4_001))
    assert refused.action is Action.DEFER
    assert refused.retry_after == 60.0
    assert limiter.try_acquire(envelope_to(size=4_000))


def test_only_messages_with_an_external_recipient_cost_external_bytes() -> None:
    limiter = limiter_of(ByteRateLimit("10 kB/minute", count="external"))
    assert limiter.try_acquire(envelope_to(["bob@uwo.ca"], size=50_000))
    assert limiter.try_acquire(envelope_to(["bob@uwo.ca", "eve@example.com"], size=9_000))
    assert limiter.usage("ann@uwo.ca")[0].used == 9_000


def test_each_recipient_may_have_bytes_of_its_own() -> None:
    limiter = limiter_of(ByteRateLimit("10 kB/minute", scope="recipient"))
    assert limiter.try_acquire(envelope_to(["bob@example.com", "eve@example.com"], size=9_000))
    assert limiter.usage("bob@example.com", scope="recipient")[0].used == 9_000
    assert not limiter.try_acquire(envelope_to(["eve@example.com"], size=2_000))


def test_a_message_that_is_too_large_is_rejected_for_ever() -> None:
    limiter = limiter_of(ByteRateLimit("10 kB/minute"), MessageSizeLimit("20 kB"))
    above_the_rate = limiter.try_acquire(envelope_to(size=15_000))
    assert (above_the_rate.action, above_the_rate.retry_after) == (Action.REJECT, None)
    assert "At most 10 kB per minute" in above_the_rate.reply.text
    too_large = limiter.try_acquire(envelope_to(size=20_001))
    assert str(too_large.reply) == "552 5.3.4 Message too large: at most 20 kB."
    assert limiter.usage("ann@uwo.ca")[0].used == 0


def test_a_message_of_unknown_size_is_an_error_and_costs_nothing() -> None:
    limits: list[Limit] = [
        MessageRateLimit("10/minute"),
        ByteRateLimit("10 kB/minute", name="bytes"),
    ]
    for each in (limiter_of(*limits), limiter_of(limits[0], MessageSizeLimit("1 MB"))):
        with pytest.raises(ValueError, match=r"size: the envelope has none, .* \(1.* (MB|kB) per"):
            each.try_acquire(envelope_to())
        assert each.usage("ann@uwo.ca")[0].used == 0


@pytest.mark.parametrize("size", [-1, 2.0, True, "5", 10**12 + 1])
def test_a_size_that_is_not_a_number_of_bytes_is_named(size: object) -> None:
    with pytest.raises((TypeError, ValueError), match="size: "):
        envelope_to(size=size)


def test_a_size_survives_copies() -> None:
    envelope = envelope_to(size=5)
    assert pickle.loads(pickle.dumps(envelope)) == envelope
    assert attrs.evolve(envelope, sender="kim@uwo.ca").size == 5
    lenient = Envelope.from_smtp("<>", ["a b@c"], size=7)
    assert pickle.loads(pickle.dumps(lenient)).size == 7


def test_limits_on_bytes_stand_in_policy_files() -> None:
    policy = Policy(
        name="x",
        limits=[
            MessageSizeLimit("25 MiB", name="size"),
            ByteRateLimit("1 GB/day", count="external", on_excess="block"),
        ],
    )
    assert Policy.loads(policy.dump()) == policy
    read = Policy.loads(
        'name = "x"\n[[limits]]\nkind = "message size limit"\nlimit = "25 MiB"\nname = "size"\n'
        '[[limits]]\nkind = "byte rate limit"\nrate = "1 GB/day"\ncount = "external"\n'
        'on_excess = "block"\n'
    )
    assert read == policy


def test_overrides_take_sizes() -> None:
    limits: list[Limit] = [
        MessageSizeLimit("1 kB", name="size"),
        ByteRateLimit("2 kB/day", name="bytes"),
    ]
    raised = Override({"size": "5 kB", "bytes": "9 kB/hour"}, senders=["kim@uwo.ca"])
    limiter, _ = limiter_with_clock(campus_policy(*limits, overrides=[raised]))
    assert not limiter.try_acquire(envelope_to(size=1_500))
    assert limiter.try_acquire(envelope_to(size=4_500, sender="kim@uwo.ca"))
    assert limiter.try_acquire(envelope_to(size=4_500, sender="kim@uwo.ca"))


def message_of(size: int) -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"] = "ann@uwo.ca", "bob@example.com"
    message.set_content("x" * 70 + "\n")
    body = message.as_bytes()
    message.set_content(("x" * 70 + "\n") * ((size - len(body)) // 71 + 1))
    return message


def test_the_decorator_measures_what_it_sends() -> None:
    limiter = limiter_of(ByteRateLimit("10 kB/minute"))
    sent: list[EmailMessage] = []
    message = message_of(4_000)
    limiter.limited()(sent.append)(message)
    assert limiter.usage("ann@uwo.ca")[0].used == len(message.as_bytes())


def test_the_outbox_measures_what_it_sends(tmp_path: Path) -> None:
    limiter = limiter_of(ByteRateLimit("10 kB/minute"), MessageSizeLimit("5 kB"))
    outbox = Outbox(tmp_path / "outbox.db", limiter)
    with pytest.raises(RateLimitExceeded) as refused:
        outbox.put(message_of(6_000))
    assert refused.value.decision.reply.code == 552
    assert outbox.put(message_of(4_000)).size > 3_900


def test_a_message_does_not_pay_for_overrides_when_it_asks_whether_bytes_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limits = [MessageRateLimit("9/day", name="messages")]
    raised = Override({"messages": 99}, senders=["kim@uwo.ca"])
    policies = [
        campus_policy(*limits, overrides=[raised]),
        campus_policy(*limits, ByteRateLimit("1 kB/day", on_excess="block"), overrides=[raised]),
    ]
    monkeypatch.setattr(Override, "applied_to", None)
    assert [policy.counts_bytes for policy in policies] == [False, True]
    assert [policy.blocks_on_excess for policy in policies] == [False, True]
