"""Blocks: a subject that may send nothing, until a time or until it is unblocked."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rlm_testkit.builders import campus_policy, envelope_to, inbound_envelope
from rlm_testkit.either_limiter import EitherLimiter, sync_and_async

from ratelimit_mail import (
    Action,
    Client,
    Directory,
    Envelope,
    Limiter,
    MessageRateLimit,
    Policy,
    RateLimitExceeded,
)
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.testing import ManualClock

ANN = envelope_to(["bob@example.com"])
KIM = envelope_to(["bob@example.com"], sender="kim@uwo.ca")
NINE_A_MINUTE = MessageRateLimit("9/minute")


def moment(limiter: EitherLimiter, seconds: float = 0) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(
        milliseconds=limiter.clock() + round(seconds * 1000)
    )


# For ever, and for a time.


@sync_and_async
def test_a_block_refuses_all_messages_of_its_sender_and_of_nobody_else(mode: str) -> None:
    limiter = EitherLimiter(mode, NINE_A_MINUTE)
    block = limiter.block("ann@uwo.ca", reason="account stolen")
    assert (block.scope, block.subject) == (("sender",), "ann@uwo.ca")
    assert (block.since, block.until, block.reason) == (moment(limiter), None, "account stolen")
    decision = limiter.try_acquire(ANN)
    assert (decision.action, decision.retry_after) == (Action.REJECT, None)
    assert (decision.block, decision.limit, decision.rule) == (block, None, None)
    assert str(decision.reply) == "550 5.7.1 Sending is blocked. Ask your mail administrator."
    assert limiter.try_acquire(KIM)
    assert limiter.used() == [0]


@sync_and_async
def test_a_block_for_a_time_defers_and_ends_to_the_millisecond(mode: str) -> None:
    limiter = EitherLimiter(mode, NINE_A_MINUTE)
    block = limiter.block("ann@uwo.ca", seconds=60)
    assert block.until == moment(limiter, 60)
    limiter.clock.advance(20)
    decision = limiter.try_acquire(ANN)
    assert (decision.action, decision.retry_after) == (Action.DEFER, 40)
    assert str(decision.reply) == "450 4.7.1 Sending is blocked for now. Try again later."
    limiter.clock.advance(39.999)
    assert limiter.try_acquire(ANN).retry_after == 0.001
    limiter.clock.advance(0.001)
    assert limiter.try_acquire(ANN)


@sync_and_async
def test_unblock_lifts_a_block_and_says_whether_there_was_one(mode: str) -> None:
    limiter = EitherLimiter(mode, NINE_A_MINUTE)
    assert limiter.unblock("ann@uwo.ca") is False
    limiter.block("ann@uwo.ca")
    assert limiter.unblock("kim@uwo.ca") is False
    assert limiter.unblock("ann@uwo.ca") is True
    assert limiter.try_acquire(ANN)
    assert limiter.unblock("ann@uwo.ca") is False
    limiter.block("ann@uwo.ca", 5)
    limiter.clock.advance(5)
    assert limiter.unblock("ann@uwo.ca") is False


@sync_and_async
def test_blocking_a_blocked_subject_replaces_its_block(mode: str) -> None:
    limiter = EitherLimiter(mode, NINE_A_MINUTE)
    limiter.block("ann@uwo.ca", reason="first")
    limiter.block("ann@uwo.ca", 60, "second")
    (block,) = limiter.blocks()
    assert (block.reason, block.until) == ("second", moment(limiter, 60))


@sync_and_async
def test_blocks_lists_those_in_force(mode: str) -> None:
    limiter = EitherLimiter(mode, NINE_A_MINUTE)
    assert limiter.blocks() == ()
    limiter.block("ann@uwo.ca", 60)
    limiter.block("10.1.2.3", scope="client")
    limiter.block(scope="global", seconds=30)
    subjects = {(block.scope, block.subject) for block in limiter.blocks()}
    assert subjects == {
        (("sender",), "ann@uwo.ca"),
        (("client",), "10.1.2.3"),
        (("global",), None),
    }
    limiter.clock.advance(60)
    assert [block.subject for block in limiter.blocks()] == ["10.1.2.3"]


@sync_and_async
def test_expired_blocks_are_removed_from_the_backend_at_the_next_change(mode: str) -> None:
    limiter = EitherLimiter(mode, NINE_A_MINUTE)
    for number in range(20):
        limiter.block(f"user{number}@uwo.ca", 5)
    limiter.clock.advance(5)
    limiter.block("ann@uwo.ca")
    (register,) = limiter.backend._registers.values()
    assert len(register) == 1
    limiter.block("kim@uwo.ca", 1)
    limiter.clock.advance(1)
    limiter.unblock("ann@uwo.ca")
    assert limiter.backend._registers == {}


# Every call.


@sync_and_async
def test_every_call_refuses_a_blocked_message(mode: str) -> None:
    limiter = EitherLimiter(mode, NINE_A_MINUTE)
    limiter.block("ann@uwo.ca", 60)
    assert limiter.check(ANN).block is not None
    assert limiter.try_acquire(ANN).block is not None
    decisions = limiter.try_acquire_many([ANN, KIM, ANN])
    assert [each.allowed for each in decisions] == [False, True, False]
    for call in (limiter.acquire, limiter.reserve):
        with pytest.raises(RateLimitExceeded) as caught:
            call(ANN)
        assert caught.value.decision.block is not None
    with pytest.raises(RateLimitExceeded), limiter.sending(ANN):
        pytest.fail("it was sent")
    with pytest.raises(RateLimitExceeded):
        limiter.send(lambda envelope: "sent", ANN, on_denied="raise")
    assert not limiter.send(lambda envelope: "sent", ANN, on_denied="skip")
    assert limiter.used() == [0]
    assert limiter.slept == []


@sync_and_async
def test_a_message_that_was_decided_on_before_the_block_is_refused_after_it(mode: str) -> None:
    # In memory, most messages are decided on without a look at anything but their counts.
    limiter = EitherLimiter(mode, MessageRateLimit("1000/minute"))
    for _ in range(100):
        assert limiter.try_acquire(ANN)
    limiter.block("ann@uwo.ca")
    assert not limiter.try_acquire(ANN)
    assert not limiter.check(ANN)
    assert limiter.try_acquire(KIM)


@sync_and_async
def test_a_message_with_nothing_to_count_is_refused_too(mode: str) -> None:
    limiter = EitherLimiter(mode, MessageRateLimit("1/day", count="external"))
    internal = envelope_to(["kim@uwo.ca"])
    assert limiter.try_acquire(internal)
    limiter.block("ann@uwo.ca")
    assert not limiter.try_acquire(internal)
    assert not limiter.check(internal)
    with pytest.raises(RateLimitExceeded):
        limiter.acquire(internal)


@sync_and_async
def test_an_exception_for_a_blocked_message_names_the_block(mode: str) -> None:
    limiter = EitherLimiter(mode, NINE_A_MINUTE)
    limiter.block("ann@uwo.ca", 30, "account stolen")
    with pytest.raises(RateLimitExceeded) as caught:
        limiter.acquire(ANN)
    assert str(caught.value) == (
        "450 4.7.1 Sending is blocked for now. Try again later."
        " ('ann@uwo.ca' is blocked: account stolen; for 30 seconds)"
    )
    limiter.block(scope="global")
    limiter.unblock("ann@uwo.ca")
    with pytest.raises(RateLimitExceeded, match="everybody is blocked; until it is unblocked"):
        limiter.acquire(ANN)


@sync_and_async
def test_blocked_messages_are_not_charged_even_where_refused_attempts_count(mode: str) -> None:
    limiter = EitherLimiter(mode, MessageRateLimit("9/minute", denied="count"))
    limiter.block("ann@uwo.ca", 5)
    for _ in range(20):
        assert not limiter.try_acquire(ANN)
    assert limiter.used() == [0]


@sync_and_async
def test_what_was_accepted_or_booked_before_stays_counted(mode: str) -> None:
    limiter = EitherLimiter(mode, MessageRateLimit("1/minute"))
    decision = limiter.try_acquire(ANN)
    reservation = limiter.reserve(ANN)
    limiter.block("ann@uwo.ca", 70)
    assert limiter.used() == [1]
    limiter.clock.advance(60)
    refused = reservation.redeem()
    assert (refused.block is not None, refused.retry_after) == (True, 10)
    limiter.settle(decision)
    limiter.refund(decision)
    limiter.clock.advance(10)
    assert reservation.redeem()


@sync_and_async
def test_usage_shows_the_block_of_its_subject(mode: str) -> None:
    limiter = EitherLimiter(mode, NINE_A_MINUTE, MessageRateLimit("99/day"))
    assert [usage.block for usage in limiter.usage("ann@uwo.ca")] == [None, None]
    block = limiter.block("ann@uwo.ca", 60)
    assert [usage.block for usage in limiter.usage("ann@uwo.ca")] == [block, block]
    assert limiter.usage("kim@uwo.ca")[0].block is None
    limiter.clock.advance(60)
    assert limiter.usage("ann@uwo.ca")[0].block is None


@sync_and_async
def test_a_reset_does_not_lift_a_block(mode: str) -> None:
    limiter = EitherLimiter(mode, NINE_A_MINUTE)
    limiter.block("ann@uwo.ca")
    limiter.reset("ann@uwo.ca")
    assert not limiter.try_acquire(ANN)


@sync_and_async
def test_arriving_mail_of_a_blocked_sender_is_refused_for_every_recipient(mode: str) -> None:
    inbound = MessageRateLimit("9/minute", direction="inbound")
    limiter = EitherLimiter(mode, policy=campus_policy(inbound, partial=True))
    limiter.block("eve@example.com", 60)
    decision = limiter.try_acquire(inbound_envelope("kim@uwo.ca", "lee@uwo.ca"))
    assert (decision.allowed, decision.retry_after) == (False, 60)
    assert [each.block is not None for each in decision.recipients.values()] == [True, True]
    assert not limiter.check(inbound_envelope("kim@uwo.ca", "lee@uwo.ca"))


# Several limiters.


@sync_and_async
def test_a_limiter_that_shares_the_backend_refuses_the_next_message(mode: str) -> None:
    limiter = EitherLimiter(mode, NINE_A_MINUTE)
    other = EitherLimiter(mode, NINE_A_MINUTE, backend=limiter.backend)
    assert other.try_acquire(ANN)
    limiter.block("ann@uwo.ca")
    assert not other.try_acquire(ANN)
    assert other.unblock("ann@uwo.ca")
    assert limiter.try_acquire(ANN)
    later = EitherLimiter(mode, NINE_A_MINUTE, backend=limiter.backend)
    other.block("ann@uwo.ca")
    assert not later.try_acquire(ANN)


@sync_and_async
def test_policies_of_other_names_have_blocks_of_their_own(mode: str) -> None:
    limiter = EitherLimiter(mode, NINE_A_MINUTE)
    other = EitherLimiter(
        mode, policy=Policy(name="other", limits=[NINE_A_MINUTE]), backend=limiter.backend
    )
    limiter.block("ann@uwo.ca")
    assert other.try_acquire(ANN)
    assert other.blocks() == ()


def test_limiters_that_are_gone_do_not_stay_in_memory() -> None:
    import gc

    backend = MemoryBackend(ManualClock())
    for _ in range(50):
        Limiter(campus_policy(NINE_A_MINUTE), backend).try_acquire(ANN)
    gc.collect()
    (copies,) = backend._copies.values()
    assert len(copies) <= 1


# Scopes.


@sync_and_async
@pytest.mark.parametrize(
    ("scope", "subject", "envelope"),
    [
        ("client", "10.1.2.3", envelope_to(client=Client(address="10.1.2.3"))),
        ("client", "2001:DB8::1", envelope_to(client=Client(address="2001:db8::1"))),
        ("user", "ann", envelope_to(client=Client(user="ann"))),
        ("sender_domain", "UWO.ca", ANN),
        ("sender", "<>", envelope_to(sender="<>")),
        ("sender", "", envelope_to(sender="")),
        ("sender", "ann@UWO.CA", ANN),
        (
            ["client", "sender"],
            ["10.1.2.3", "ann@uwo.ca"],
            envelope_to(client=Client(address="10.1.2.3")),
        ),
        ("global", None, ANN),
    ],
)
def test_a_block_of_any_scope_stops_whatever_is_counted_there(
    mode: str, scope: Any, subject: Any, envelope: Envelope
) -> None:
    limiter = EitherLimiter(mode, NINE_A_MINUTE)
    unconcerned = Envelope("kim@example.org", ["bob@example.com"], Client(address="10.9.9.9"))
    block = limiter.block(subject, 60, scope=scope)
    assert limiter.try_acquire(envelope).block == block
    assert bool(limiter.try_acquire(unconcerned)) is (scope != "global")
    assert [each.subject for each in limiter.blocks()] == [block.subject]
    assert limiter.unblock(subject, scope=scope)
    assert limiter.try_acquire(envelope)


@sync_and_async
def test_a_block_of_several_words_needs_all_of_them(mode: str) -> None:
    limiter = EitherLimiter(mode, NINE_A_MINUTE)
    limiter.block(["ann@uwo.ca", "10.1.2.3"], scope=["sender", "client"])
    assert limiter.try_acquire(ANN)
    assert not limiter.try_acquire(envelope_to(client=Client(address="10.1.2.3")))
    assert limiter.unblock(["10.1.2.3", "ann@uwo.ca"], scope=["client", "sender"])


@sync_and_async
def test_the_values_of_a_block_stand_in_the_order_of_its_scope(mode: str) -> None:
    limiter = EitherLimiter(mode, NINE_A_MINUTE)
    block = limiter.block(["10.1.2.3", "ann@uwo.ca"], scope=["client", "sender"])
    assert (block.scope, block.subject) == (("sender", "client"), ("ann@uwo.ca", "10.1.2.3"))
    assert limiter.block("").subject == "<>"


@sync_and_async
def test_a_block_of_an_owner_stops_its_aliases_and_the_other_way_round(mode: str) -> None:
    directory = Directory(aliases={"a.smith@uwo.ca": "ann@uwo.ca"})
    policy = campus_policy(NINE_A_MINUTE, directory=directory)
    alias = envelope_to(sender="a.smith@uwo.ca")
    for blocked in ("ann@uwo.ca", "a.smith@uwo.ca"):
        limiter = EitherLimiter(mode, policy=policy)
        assert limiter.block(blocked).subject == blocked
        assert not limiter.try_acquire(ANN)
        assert not limiter.try_acquire(alias)
        assert limiter.try_acquire(KIM)


@sync_and_async
def test_a_block_of_a_domain_stops_an_alias_whose_owner_is_there(mode: str) -> None:
    directory = Directory(aliases={"ann@alumni.example": "ann@uwo.ca"})
    limiter = EitherLimiter(mode, policy=campus_policy(NINE_A_MINUTE, directory=directory))
    limiter.block("uwo.ca", scope="sender_domain")
    assert not limiter.try_acquire(envelope_to(sender="ann@alumni.example"))
    assert limiter.try_acquire(envelope_to(sender="kim@alumni.example"))


@sync_and_async
def test_senders_that_only_a_server_lets_pass_can_be_blocked_and_do_not_disturb(mode: str) -> None:
    directory = Directory(aliases={"a.smith@uwo.ca": "ann@uwo.ca"})
    limiter = EitherLimiter(mode, policy=campus_policy(NINE_A_MINUTE, directory=directory))
    limiter.block("postmaster@[_local]")
    assert not limiter.try_acquire(Envelope.from_smtp("postmaster", ["bob@example.com"]))
    odd_recipients = Envelope.from_smtp("a.smith@uwo.ca", ["postmaster", "bob..x@example.com"])
    assert limiter.try_acquire(odd_recipients)
    limiter.block("ann@uwo.ca")
    assert not limiter.try_acquire(odd_recipients)


# Wrong arguments.


@sync_and_async
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"subject": "ann"}, ValueError, "'ann'"),
        ({"subject": 5}, TypeError, "not 5"),
        ({"subject": None}, ValueError, "None does not name one subject"),
        ({"subject": "ann@uwo.ca", "scope": "planet"}, ValueError, "'planet' is not one of"),
        ({"subject": "bob@example.com", "scope": "recipient"}, ValueError, "'recipient'"),
        ({"subject": "x.org", "scope": "recipient_domain"}, ValueError, "recipients cannot be"),
        ({"subject": "ann@uwo.ca", "scope": "global"}, ValueError, "leave 'ann@uwo.ca' out"),
        ({"subject": "ann@uwo.ca", "seconds": 0}, ValueError, "seconds: 0 is not"),
        ({"subject": "ann@uwo.ca", "seconds": -1}, ValueError, "seconds: -1 is not"),
        ({"subject": "ann@uwo.ca", "seconds": 0.0001}, ValueError, "seconds: 0.0001 is not"),
        ({"subject": "ann@uwo.ca", "seconds": float("nan")}, ValueError, "seconds: nan is not"),
        ({"subject": "ann@uwo.ca", "seconds": float("inf")}, ValueError, "leave it out"),
        ({"subject": "ann@uwo.ca", "seconds": "60"}, TypeError, "seconds: .*'60'"),
        ({"subject": "ann@uwo.ca", "seconds": True}, TypeError, "seconds: .*True"),
        ({"subject": "ann@uwo.ca", "reason": 5}, TypeError, "reason: .*5"),
        ({"subject": "ann@uwo.ca", "reason": "two\nlines"}, ValueError, r"reason: 'two\\nlines'"),
        ({"subject": "ann@uwo.ca", "reason": "x" * 401}, ValueError, "at most 400 characters"),
    ],
    ids=repr,
)
def test_a_wrong_argument_is_an_error_that_names_it(
    mode: str, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    limiter = EitherLimiter(mode, NINE_A_MINUTE)
    with pytest.raises(error, match=message):
        limiter.block(**arguments)
    assert limiter.blocks() == ()


@sync_and_async
@pytest.mark.parametrize("is_blocked", [False, True])
def test_what_is_not_an_envelope_is_the_same_error_with_blocks(mode: str, is_blocked: bool) -> None:
    limiter = EitherLimiter(mode, NINE_A_MINUTE)
    if is_blocked:
        limiter.block("ann@uwo.ca")
        assert not limiter.try_acquire(ANN)
    for call in (limiter.try_acquire, limiter.check, limiter.acquire, limiter.reserve):
        with pytest.raises(TypeError, match=r"an Envelope is needed, not 'ann@uwo\.ca'"):
            call("ann@uwo.ca")


# What else may stand in the register of a backend.

GOOD = {"since": 0, "until": None, "reason": None, "subject": "ann@uwo.ca"}


@sync_and_async
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("", ""),
        ("sender", json.dumps(GOOD)),
        ("sender kim@uwo.ca", "{"),
        ("sender kim@uwo.ca", "[]"),
        ("sender kim@uwo.ca", "5"),
        ("sender kim@uwo.ca", "{}"),
        ("sender kim@uwo.ca", "[" * 100_000),
        ("sender kim@uwo.ca", json.dumps({**GOOD, "since": 10**30})),
        ("sender kim@uwo.ca", json.dumps({**GOOD, "since": None})),
        ("sender kim@uwo.ca", json.dumps({**GOOD, "until": 10**30})),
        ("sender kim@uwo.ca", json.dumps({**GOOD, "until": "tomorrow"})),
        ("sender kim@uwo.ca", json.dumps({**GOOD, "until": float("nan")})),
        ("planet earth", json.dumps(GOOD)),
        ("recipient bob@example.com", json.dumps(GOOD)),
        ("sender+sender kim@uwo.ca", json.dumps(GOOD)),
    ],
    ids=str,
)
def test_an_entry_that_cannot_be_read_is_logged_and_breaks_nothing(
    mode: str, name: str, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    limiter = EitherLimiter(mode, NINE_A_MINUTE)
    limiter.block("ann@uwo.ca")
    (register,) = limiter.backend._registers
    limiter.backend.write_register(register, {name: text})
    assert not limiter.try_acquire(ANN)
    assert limiter.try_acquire(KIM)
    assert limiter.check(KIM)
    assert limiter.try_acquire(envelope_to(client=Client(address="10.1.2.3"), sender="lee@uwo.ca"))
    if name != "sender":
        assert any("is not readable" in record.getMessage() for record in caplog.records)
        assert [block.subject for block in limiter.blocks()] == ["ann@uwo.ca"]
    limiter.block("kim@uwo.ca", 60)
    assert not limiter.try_acquire(KIM)
    assert limiter.unblock("ann@uwo.ca")
    assert limiter.try_acquire(ANN)
    # What another version of the library may understand stays.
    assert name in limiter.backend._registers[register]
