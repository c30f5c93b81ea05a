"""Grant: which senders may send under a policy that requires grants."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime
from typing import Any

import pytest
from rlm_testkit.builders import envelope_to, limiter_with_clock

from ratelimit_mail import (
    Action,
    AsyncLimiter,
    Client,
    Decision,
    Envelope,
    Limiter,
    MessageRateLimit,
    Policy,
    RateLimitExceeded,
    RecipientLimit,
)
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.conditions import has_tag
from ratelimit_mail.directory import Directory
from ratelimit_mail.overrides import Exemption, Grant
from ratelimit_mail.testing import ManualClock

ANN = "ann@leeds.ac.uk"
BOB = "bob@leeds.ac.uk"
REPLY = "550 5.7.1 This sender address has not been granted. Ask your mail administrator first."
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOON_MS = int(NOON.timestamp()) * 1000


def policy_with_grants(grants: Any, **options: Any) -> Policy:
    limits = [
        RecipientLimit(10, name="recipients a message"),
        MessageRateLimit("3/minute", name="messages a minute", denied="count"),
        MessageRateLimit("9/minute", name="all", scope="global", denied="count"),
    ]
    return Policy(name="leeds-smtp", limits=limits, grants=grants, **options)


def is_refused(decision: Decision) -> bool:
    """Return whether the decision rejects a sender without a grant, in every field."""
    if decision.rule is None:
        return False
    assert decision.action is Action.REJECT
    assert decision.limit is None
    assert decision.retry_after is None
    assert str(decision.rule) == "senders must be granted first"
    assert str(decision.reply) == REPLY
    assert not decision.degraded
    return True


# Senders that need one


def test_a_policy_without_grants_lets_all_senders_send() -> None:
    limiter, _ = limiter_with_clock(policy_with_grants(None))
    assert limiter.try_acquire(envelope_to(sender=BOB))
    assert limiter.check(envelope_to(sender="<>"))


def test_a_policy_with_an_empty_list_of_grants_lets_no_sender_send() -> None:
    limiter, _ = limiter_with_clock(policy_with_grants([]))
    for sender in (ANN, BOB, "<>"):
        assert is_refused(limiter.check(envelope_to(sender=sender)))
        assert is_refused(limiter.try_acquire(envelope_to(sender=sender)))


@pytest.mark.parametrize(
    ("sender", "tags", "granted"),
    [
        (ANN, (), True),
        ("Ann@leeds.ac.uk", (), True),
        (BOB, (), False),
        (BOB, {"granted"}, True),
        ("news@lists.leeds.ac.uk", (), True),
        ("<>", (), False),
        ("<>", {"granted"}, True),
    ],
)
def test_only_granted_senders_may_send(sender: str, tags: Any, granted: bool) -> None:
    grants = [
        Grant(senders=[ANN, ".leeds.ac.uk"], reason="Mass mailing", expected_recipients=40_000),
        Grant(when=has_tag("granted")),
    ]
    limiter, _ = limiter_with_clock(policy_with_grants(grants))
    decision = limiter.try_acquire(envelope_to(sender=sender, client=Client(tags=tags)))
    assert decision.allowed is granted
    assert is_refused(decision) is not granted


def test_bounces_need_a_grant_of_the_null_sender() -> None:
    limiter, _ = limiter_with_clock(policy_with_grants([Grant(senders=["<>"])]))
    assert limiter.check(envelope_to(sender="<>"))
    assert limiter.check(envelope_to(sender=""))
    assert is_refused(limiter.check(envelope_to(sender=ANN)))


def test_inbound_mail_does_not_need_a_grant() -> None:
    limiter, _ = limiter_with_clock(policy_with_grants([]))
    assert limiter.try_acquire(Envelope("eve@example.com", [ANN], direction="inbound"))


def test_a_grant_to_an_owner_includes_its_aliases_and_a_grant_to_an_alias_is_its_alone() -> None:
    directory = Directory(aliases={"dean@leeds.ac.uk": ANN, "head@leeds.ac.uk": ANN})
    limiter, _ = limiter_with_clock(policy_with_grants([Grant(senders=[ANN])], directory=directory))
    assert limiter.check(envelope_to(sender="dean@leeds.ac.uk"))
    limiter, _ = limiter_with_clock(
        policy_with_grants([Grant(senders=["dean@leeds.ac.uk"])], directory=directory)
    )
    assert limiter.check(envelope_to(sender="dean@leeds.ac.uk"))
    assert is_refused(limiter.check(envelope_to(sender="head@leeds.ac.uk")))
    assert is_refused(limiter.check(envelope_to(sender=ANN)))


def test_granted_senders_are_subject_to_the_limits() -> None:
    limiter, _ = limiter_with_clock(policy_with_grants([Grant(senders=[ANN])]))
    assert [bool(limiter.try_acquire(envelope_to(sender=ANN))) for _ in range(4)] == [True] * 3 + [
        False
    ]
    assert limiter.check(envelope_to(sender=ANN)).rule is None
    assert limiter.check(envelope_to(11, ANN)).limit == RecipientLimit(
        10, name="recipients a message"
    )


def test_the_decision_names_a_missing_grant_before_any_limit() -> None:
    limiter, _ = limiter_with_clock(policy_with_grants([]))
    assert is_refused(limiter.check(envelope_to(11, BOB)))


# Refusals


def test_a_sender_without_a_grant_is_not_charged_even_if_refused_attempts_count() -> None:
    clock = ManualClock(NOON_MS)
    backend = MemoryBackend(clock)
    limiter = Limiter(policy_with_grants([]), backend)
    for _ in range(20):
        assert is_refused(limiter.try_acquire(envelope_to(sender=BOB)))
        with pytest.raises(RateLimitExceeded):
            limiter.reserve(envelope_to(sender=BOB))
    assert backend.size() == 0
    assert [usage.used for usage in limiter.usage(BOB)] == [0]
    assert [usage.used for usage in limiter.usage(scope="global")] == [0]


@pytest.mark.parametrize("length", [None, 0, 3600])
def test_acquire_without_a_grant_is_refused_at_once(length: float | None) -> None:
    limiter, clock = limiter_with_clock(policy_with_grants([]), NOON_MS)
    for method in (limiter.acquire, limiter.reserve):
        with pytest.raises(RateLimitExceeded) as caught:
            method(envelope_to(sender=BOB), length)
        assert is_refused(caught.value.decision)
    assert clock() == NOON_MS


async def test_an_async_limiter_refuses_at_once_too() -> None:
    clock = ManualClock(NOON_MS)
    limiter = AsyncLimiter(policy_with_grants([]), MemoryBackend(clock), sleep=clock.sleep)
    assert is_refused(await limiter.check(envelope_to(sender=BOB)))
    assert is_refused(await limiter.try_acquire(envelope_to(sender=BOB)))
    for method in (limiter.acquire, limiter.reserve):
        with pytest.raises(RateLimitExceeded) as caught:
            await method(envelope_to(sender=BOB))
        assert is_refused(caught.value.decision)
    assert clock() == NOON_MS


def test_a_refusal_is_not_remembered_under_its_id_after_the_grant() -> None:
    policy = policy_with_grants([Grant(senders=[ANN], starts=NOON)])
    limiter, clock = limiter_with_clock(policy, NOON_MS - 1)
    assert is_refused(limiter.try_acquire(envelope_to(sender=ANN, id="job-1")))
    clock.advance(0.001)
    assert limiter.try_acquire(envelope_to(sender=ANN, id="job-1"))


def test_in_a_batch_only_messages_without_a_grant_are_refused() -> None:
    limiter, _ = limiter_with_clock(policy_with_grants([Grant(senders=[ANN])]))
    decisions = limiter.try_acquire_many(
        [
            envelope_to(sender=BOB),
            envelope_to(sender=ANN),
            envelope_to(sender=BOB),
            envelope_to(sender=ANN),
        ]
    )
    assert [is_refused(each) for each in decisions] == [True, False, True, False]
    assert [each.allowed for each in decisions] == [False, True, False, True]
    assert [usage.used for usage in limiter.usage(ANN)] == [2]


def test_a_decorated_function_is_skipped_or_raises() -> None:
    limiter, _ = limiter_with_clock(policy_with_grants([]))
    called = []

    def send(envelope: Envelope) -> str:
        called.append(envelope)
        return "sent"

    answer = limiter.limited(on_denied="skip")(send)(envelope_to(sender=BOB))
    assert isinstance(answer, Decision)
    assert is_refused(answer)
    for decorated in (limiter.limited(on_denied="raise")(send), limiter.limited(timeout=60)(send)):
        with pytest.raises(RateLimitExceeded, match="granted"):
            decorated(envelope_to(sender=BOB))
    assert called == []


def test_a_refusal_has_nothing_to_refund() -> None:
    limiter, _ = limiter_with_clock(policy_with_grants([]))
    with pytest.raises(ValueError, match="nothing to refund"):
        limiter.refund(limiter.try_acquire(envelope_to(sender=BOB)))


# Dates


def test_a_grant_begins_and_ends_to_the_millisecond() -> None:
    starts, ends = NOON.replace(microsecond=2000), NOON.replace(microsecond=4000)
    limiter, clock = limiter_with_clock(
        policy_with_grants([Grant(senders=[ANN], starts=starts, ends=ends)]), NOON_MS
    )
    envelope = envelope_to(sender=ANN)
    refused = []
    for millisecond in range(6):
        clock.set(NOON_MS + millisecond)
        refused.append(is_refused(limiter.check(envelope)))
    assert refused == [True, True, False, False, True, True]


# Errors and values


@pytest.mark.parametrize(
    "grants", [Grant(senders=[ANN]), ANN, [ANN], 5, False, [None], [Exemption(senders=[ANN])]]
)
def test_a_policy_accepts_only_a_list_of_grants_or_none(grants: Any) -> None:
    with pytest.raises(TypeError, match=r"grants: .*(a list is needed|is not a Grant)"):
        policy_with_grants(grants)


def test_a_policy_with_grants_is_a_value() -> None:
    policy = policy_with_grants([Grant(senders=[ANN], ends=NOON)])
    twin = pickle.loads(pickle.dumps(policy))
    assert twin == policy
    assert hash(twin) == hash(policy)
    assert len({policy_with_grants(None), policy_with_grants([]), policy}) == 3
    assert policy.evolve(grants=None) == policy_with_grants(None)
    assert limiter_with_clock(twin, NOON_MS - 1)[0].check(envelope_to(sender=ANN))
    assert is_refused(limiter_with_clock(twin, NOON_MS)[0].check(envelope_to(sender=ANN)))


def test_a_refusal_survives_a_pickle() -> None:
    limiter, _ = limiter_with_clock(policy_with_grants([]))
    decision = limiter.try_acquire(envelope_to(sender=BOB))
    assert pickle.loads(pickle.dumps(decision)) == decision
    assert is_refused(pickle.loads(pickle.dumps(decision)))
