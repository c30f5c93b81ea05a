"""Lock-out: with `on_excess="block"`, a subject above a limit is blocked until it is unblocked."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
from rlm_testkit.builders import campus_policy, envelope_to, limiter_with_clock

from ratelimit_mail import (
    Action,
    Client,
    Envelope,
    Limiter,
    MessageRateLimit,
    Policy,
    RateLimitExceeded,
    RecipientRateLimit,
)
from ratelimit_mail.backends import MemoryBackend, SQLiteBackend
from ratelimit_mail.events import Blocked, Dispatcher, Event
from ratelimit_mail.exceptions import BackendUnavailable
from ratelimit_mail.limiter import blocks
from ratelimit_mail.limits import RateLimit

TWO_A_MINUTE = MessageRateLimit("2/minute", on_excess="block")


def limiter_of(*limits: RateLimit, **options: Any) -> Limiter:
    return limiter_with_clock(campus_policy(*limits), **options)[0]


@pytest.mark.parametrize("store", ["memory", "sqlite"])
def test_a_sender_who_exceeds_the_limit_stays_blocked_until_it_is_lifted(
    store: Literal["memory", "sqlite"], tmp_path: Path
) -> None:
    limiter, clock = limiter_with_clock(campus_policy(TWO_A_MINUTE))
    if store == "sqlite":
        limiter = Limiter(limiter.policy, SQLiteBackend(tmp_path / "x.db", clock=clock))
    assert [bool(limiter.try_acquire(envelope_to())) for _ in range(3)] == [True, True, False]
    (block,) = limiter.blocks()
    assert (block.subject, block.until) == ("ann@uwo.ca", None)
    assert block.reason == "exceeded 2 messages per minute per sender"
    clock.advance(3600)
    assert limiter.try_acquire(envelope_to()).block == block
    assert limiter.try_acquire(envelope_to(sender="kim@uwo.ca"))
    assert limiter.unblock("ANN@uwo.ca")
    assert limiter.try_acquire(envelope_to())


def test_the_refusal_says_so_and_names_no_wait() -> None:
    limiter = limiter_of(MessageRateLimit("9/day", on_excess="reject"), TWO_A_MINUTE)
    for _ in range(2):
        limiter.try_acquire(envelope_to())
    checked = limiter.check(envelope_to())
    assert not limiter.blocks()  # a check exceeds nothing
    decision = limiter.try_acquire(envelope_to())
    assert decision == checked
    assert (decision.action, decision.retry_after) == (Action.REJECT, None)
    assert decision.limit == TWO_A_MINUTE
    assert str(decision.reply) == (
        "550 5.7.1 Sending limit exceeded, and sending is blocked. Ask your mail administrator."
    )


def test_a_limit_that_blocks_is_named_before_one_with_a_longer_wait() -> None:
    limiter = limiter_of(MessageRateLimit("2/day", on_excess="reject"), TWO_A_MINUTE)
    decisions = limiter.try_acquire_many([envelope_to()] * 3)
    assert decisions[2].limit == TWO_A_MINUTE
    assert limiter.blocks()


def test_a_message_that_could_never_be_sent_exceeds_the_limit_too() -> None:
    limiter = limiter_of(RecipientRateLimit("3/day", on_excess="block"))
    assert limiter.try_acquire(envelope_to(4)).retry_after is None
    assert [block.subject for block in limiter.blocks()] == ["ann@uwo.ca"]


def test_a_message_that_waits_exceeds_nothing() -> None:
    limiter = limiter_of(TWO_A_MINUTE)
    for _ in range(4):
        limiter.acquire(envelope_to())
    with pytest.raises(RateLimitExceeded):
        limiter.acquire(envelope_to(), timeout=1)
    assert not limiter.blocks()


def test_what_is_blocked_is_what_the_limit_counts_per() -> None:
    limiter = limiter_of(MessageRateLimit("1/hour", scope=("client", "sender"), on_excess="block"))
    here, there = Client(address="10.0.0.1"), Client(address="10.0.0.2")
    for _ in range(2):
        limiter.try_acquire(envelope_to(client=here))
    assert limiter.try_acquire(envelope_to(client=here)).block is not None
    assert limiter.try_acquire(envelope_to(client=there))
    assert limiter.unblock(("10.0.0.1", "ann@uwo.ca"), scope=("client", "sender"))


def test_a_shadow_limit_blocks_nobody() -> None:
    limiter = limiter_of(MessageRateLimit("1/hour", on_excess="block", enforce=False))
    decisions = [limiter.try_acquire(envelope_to()) for _ in range(3)]
    assert all(decisions)
    assert [bool(each.shadow) for each in decisions] == [True, False, False]
    assert not limiter.blocks()


def test_a_lock_out_is_an_event() -> None:
    events: list[Event] = []
    dispatcher = Dispatcher(events.append)
    limiter = limiter_of(TWO_A_MINUTE, on_event=dispatcher)
    for _ in range(4):
        limiter.try_acquire(envelope_to())
    dispatcher.flush()
    assert [each.subject for each in events if isinstance(each, Blocked)] == ["ann@uwo.ca"]


class NoRegister(MemoryBackend):
    """A store whose register cannot be written."""

    def write_register(self, name: str, changes: Any) -> None:
        raise BackendUnavailable("the register is away")


def test_a_message_is_refused_also_if_nobody_can_be_blocked(
    caplog: pytest.LogCaptureFixture,
) -> None:
    limiter = Limiter(campus_policy(TWO_A_MINUTE), NoRegister(), on_backend_error="raise")
    decisions = [limiter.try_acquire(envelope_to()) for _ in range(3)]
    assert [bool(each) for each in decisions] == [True, True, False]
    assert "could not be blocked: the register is away" in caplog.text


@pytest.mark.parametrize(
    "options",
    [{"scope": "recipient"}, {"scope": ("sender", "recipient_domain")}, {"direction": "inbound"}],
)
def test_a_limit_that_cannot_block_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="'block' stops those who send"):
        MessageRateLimit("1/hour", on_excess="block", **options)


def test_a_lock_out_stands_in_policy_files() -> None:
    policy = Policy(name="x", limits=[TWO_A_MINUTE])
    assert Policy.loads(policy.dump()) == policy


async def test_an_async_limiter_blocks_as_well() -> None:
    from ratelimit_mail import AsyncLimiter

    limiter = AsyncLimiter(campus_policy(TWO_A_MINUTE))
    envelope: Envelope = envelope_to()
    decisions = [await limiter.try_acquire(envelope) for _ in range(4)]
    assert [bool(each) for each in decisions] == [True, True, False, False]
    assert [each.subject for each in await limiter.blocks()] == ["ann@uwo.ca"]


def test_a_block_is_parsed_once_however_many_are_added_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parsed: list[str] = []
    parse = blocks._parsed

    def counted(name: str, text: str) -> Any:
        parsed.append(name)
        return parse(name, text)

    monkeypatch.setattr(blocks, "_parsed", counted)
    policy = Policy(name="p", limits=[MessageRateLimit("1/hour", on_excess="block")])
    limiter = Limiter(policy)
    for i in range(30):
        for _ in range(2):
            limiter.try_acquire(Envelope(f"a{i}@example.org", ["bob@example.com"]))
    assert len(limiter.blocks()) == 30
    assert len(parsed) == len(set(parsed)) == 30


def exceed(limiter: Limiter, sender: str, user: str | None = None) -> None:
    for _ in range(3):
        limiter.try_acquire(envelope_to(sender=sender, client=Client(user=user)))


def subjects_of(limiter: Limiter) -> list[str]:
    return sorted(str(block.subject) for block in limiter.blocks())


def test_of_many_forged_senders_the_newest_stay_blocked(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(blocks, "MOST_AUTOMATIC", 20)
    limiter, clock = limiter_with_clock(campus_policy(TWO_A_MINUTE))
    limiter.block("dana@uwo.ca", reason="by hand")
    limiter.block("kim@uwo.ca", 10**6, reason="by hand, for a time")
    exceed(limiter, "ann@uwo.ca", user="ann")
    for i in range(60):
        clock.advance(0.001)
        exceed(limiter, f"forged{i:02}@example.com")
    newest = [f"forged{i}@example.com" for i in range(41, 60)]
    assert subjects_of(limiter) == sorted(["ann@uwo.ca", "dana@uwo.ca", "kim@uwo.ca", *newest])
    assert caplog.text.count("senders may be forged") == 1
    # Then the login that was blocked first goes, and what somebody has blocked stays.
    for i in range(20):
        clock.advance(0.001)
        exceed(limiter, f"more{i}@uwo.ca", user=f"more{i}")
    logins = [f"more{i}@uwo.ca" for i in range(20)]
    assert subjects_of(limiter) == sorted(["dana@uwo.ca", "kim@uwo.ca", *logins])


def test_a_lock_out_replaces_no_block_and_is_one_event_for_several_processes(
    tmp_path: Path,
) -> None:
    events: list[Event] = []
    limiters, dispatchers = [], []
    for _ in range(2):
        dispatchers.append(Dispatcher(events.append))
        store = SQLiteBackend(tmp_path / "x.db")
        policy = campus_policy(TWO_A_MINUTE)
        limiters.append(Limiter(policy, store, on_event=dispatchers[-1]))
    first, second = limiters
    first.block("ann@uwo.ca", 3600, reason="by hand")
    second.blocks()
    copy = second._operations.blocks
    for sender in ("ann@uwo.ca", "kim@uwo.ca"):
        exceed(first, sender)
        # The second process does not know the block yet: its copy may be a second old.
        copy._by_scope = {}
        copy.refresh_steps = lambda **_: iter(())  # type: ignore[method-assign, assignment]
        exceed(second, sender)
    for dispatcher in dispatchers:
        dispatcher.flush()
    by_subject = {block.subject: block.reason for block in second.blocks()}
    assert by_subject["ann@uwo.ca"] == "by hand"
    assert [each.subject for each in events if isinstance(each, Blocked)] == [
        "ann@uwo.ca",
        "kim@uwo.ca",
    ]
