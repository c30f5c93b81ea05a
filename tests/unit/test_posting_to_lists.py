"""Mail to mailing lists: one recipient each, open, held for a moderator or refused."""

from __future__ import annotations

from typing import Any

import pytest
from rlm_testkit.builders import envelope_to, used_counts

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
    RecipientRateLimit,
)
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.directory import Directory, MailingList
from ratelimit_mail.overrides import Exemption, Grant
from ratelimit_mail.policy.directory_lookup import APPROVED
from ratelimit_mail.testing import ManualClock

ANN, SMITH, BOB, MOD = "ann@leeds.ac.uk", "a.smith@leeds.ac.uk", "bob@leeds.ac.uk", "m@leeds.ac.uk"
OUT = "eve@example.com"
OPEN, HELD, NAMED, FREE = (f"{name}@lists.leeds.ac.uk" for name in ("o", "h", "n", "f"))

DIRECTORY = Directory.from_dict(
    {ANN: [SMITH]},
    lists=[
        MailingList(OPEN, members=[f"m{i}@leeds.ac.uk" for i in range(5000)]),
        MailingList(HELD, posting="moderated", moderators=[MOD]),
        MailingList(NAMED, posting="named", posters=[SMITH, "it.leeds.ac.uk"]),
        MailingList(FREE, exempt=True),
    ],
)
BY_MODERATOR = Client(tags={APPROVED})


def limiter_with_lists(*limits: Any, directory: Any = DIRECTORY, **options: Any) -> Limiter:
    policy = Policy(
        name="test",
        limits=limits,
        internal_domains=["leeds.ac.uk", ".leeds.ac.uk"],
        directory=directory,
        **options,
    )
    clock = ManualClock()
    return Limiter(policy, MemoryBackend(clock), sleep=clock.advance)


def check_and_acquire(limiter: Limiter, envelope: Envelope) -> Decision:
    """Return the decision of `check`, which `try_acquire` must repeat."""
    checked = limiter.check(envelope)
    decision = limiter.try_acquire(envelope)
    assert checked == decision
    return decision


# One recipient


def test_a_list_is_one_recipient_whatever_its_membership() -> None:
    limiter = limiter_with_lists(
        RecipientLimit(2), RecipientRateLimit("3/day"), MessageRateLimit("9/day")
    )
    assert check_and_acquire(limiter, envelope_to([OPEN, ANN], BOB))
    assert used_counts(limiter, BOB) == [2, 1]
    assert not check_and_acquire(limiter, envelope_to([OPEN, ANN, OUT], BOB))


def test_a_list_is_one_subject_of_a_limit_per_recipient() -> None:
    limiter = limiter_with_lists(MessageRateLimit("1/hour", scope="recipient"))
    assert limiter.try_acquire(envelope_to([OPEN], BOB))
    assert not limiter.try_acquire(envelope_to([OPEN], ANN))
    assert limiter.try_acquire(envelope_to([ANN], BOB))


def test_an_outside_list_is_one_external_recipient() -> None:
    outside = Directory(lists=[MailingList("dev@lists.example.org", members=[ANN, BOB])])
    limiter = limiter_with_lists(RecipientRateLimit("1/day", count="external"), directory=outside)
    assert limiter.try_acquire(envelope_to(["dev@lists.example.org"], BOB))
    assert used_counts(limiter, BOB) == [1]


# Posting


def test_any_sender_may_post_to_an_open_list() -> None:
    limiter = limiter_with_lists(MessageRateLimit("9/day"))
    for sender in (BOB, OUT, "<>", OPEN):
        assert check_and_acquire(limiter, envelope_to([OPEN], sender))


def test_a_held_message_is_not_charged() -> None:
    limiter = limiter_with_lists(MessageRateLimit("1/day", denied="count"))
    for _ in range(3):
        decision = check_and_acquire(limiter, envelope_to([HELD], BOB))
        assert decision.action is Action.HOLD
        assert not decision
        assert not decision.allowed
        assert decision.retry_after is None
        assert decision.limit is None
        assert str(decision.rule) == "posting to 'h@lists.leeds.ac.uk' is moderated"
        assert str(decision.reply) == "250 2.0.0 Held for the moderator of the mailing list."
        assert decision.refund_token is None
    assert used_counts(limiter, BOB) == [0]


def test_a_refused_message_is_not_charged() -> None:
    limiter = limiter_with_lists(MessageRateLimit("1/day", denied="count"))
    decision = check_and_acquire(limiter, envelope_to([NAMED], BOB))
    assert decision.action is Action.REJECT
    assert decision.retry_after is None
    assert decision.limit is None
    assert str(decision.rule) == "posting to 'n@lists.leeds.ac.uk' is for named senders"
    assert str(decision.reply) == "550 5.7.2 Only named senders may post to this mailing list."
    assert used_counts(limiter, BOB) == [0]


def test_moderators_and_named_posters_post_as_to_an_open_list() -> None:
    limiter = limiter_with_lists(MessageRateLimit("1/day"))
    assert check_and_acquire(limiter, envelope_to([HELD], MOD))
    assert not check_and_acquire(limiter, envelope_to([HELD], MOD)).rule
    assert check_and_acquire(limiter, envelope_to([NAMED], "x@it.leeds.ac.uk"))


@pytest.mark.parametrize("sender", [ANN, SMITH])
def test_a_sender_who_may_post_under_an_alias_may_post_under_the_owners_address(
    sender: str,
) -> None:
    limiter = limiter_with_lists()
    assert check_and_acquire(limiter, envelope_to([NAMED], sender))


def test_an_approved_message_is_not_held() -> None:
    limiter = limiter_with_lists(MessageRateLimit("1/day"))
    assert APPROVED == "approved"
    assert check_and_acquire(limiter, envelope_to([HELD], BOB, BY_MODERATOR))
    decision = check_and_acquire(limiter, envelope_to([HELD], BOB, BY_MODERATOR))
    assert decision.action is Action.DEFER
    assert used_counts(limiter, BOB) == [1]


def test_approval_does_not_open_a_list_for_named_senders() -> None:
    limiter = limiter_with_lists()
    assert (
        check_and_acquire(limiter, envelope_to([NAMED], BOB, BY_MODERATOR)).action is Action.REJECT
    )


@pytest.mark.parametrize("recipients", [[HELD, NAMED], [NAMED, HELD], [OUT, HELD, NAMED, OPEN]])
def test_the_decision_names_a_list_that_refuses_before_one_that_holds(
    recipients: list[str],
) -> None:
    limiter = limiter_with_lists()
    decision = check_and_acquire(limiter, envelope_to([*recipients], BOB))
    assert decision.action is Action.REJECT
    assert NAMED in str(decision.rule)


def test_the_decision_names_the_first_list_that_holds() -> None:
    second = MailingList("h2@lists.leeds.ac.uk", posting="moderated")
    limiter = limiter_with_lists(directory=DIRECTORY.with_list(second))
    assert "'h2@" in str(check_and_acquire(limiter, envelope_to([second.address, HELD], BOB)).rule)
    assert "'h@" in str(check_and_acquire(limiter, envelope_to([HELD, second.address], BOB)).rule)


def test_a_message_to_a_held_list_and_outsiders_is_held_as_a_whole() -> None:
    limiter = limiter_with_lists(
        RecipientRateLimit("9/day"), MessageRateLimit("9/day", scope="recipient")
    )
    assert check_and_acquire(limiter, envelope_to([OUT, HELD, ANN], BOB)).action is Action.HOLD
    assert used_counts(limiter, BOB) == [0]
    assert limiter.usage(OUT, scope="recipient")[0].used == 0
    assert check_and_acquire(limiter, envelope_to([OUT, HELD, ANN], BOB, BY_MODERATOR))
    assert used_counts(limiter, BOB) == [3]


def test_a_message_refused_by_a_list_uses_no_memory() -> None:
    backend = MemoryBackend(ManualClock())
    policy = Policy(name="test", limits=[MessageRateLimit("1/day")], directory=DIRECTORY)
    limiter = Limiter(policy, backend)
    for number in range(100):
        assert not limiter.try_acquire(Envelope(f"s{number}@x.org", [HELD], id=f"job-{number}"))
    assert backend.size() == 0


def test_an_approved_message_with_the_same_id_is_decided_anew() -> None:
    limiter = limiter_with_lists(MessageRateLimit("9/day"))
    assert not limiter.try_acquire(Envelope(BOB, [HELD], id="job-1"))
    assert limiter.try_acquire(Envelope(BOB, [HELD], BY_MODERATOR, id="job-1"))
    assert limiter.try_acquire(Envelope(BOB, [HELD], BY_MODERATOR, id="job-1"))
    assert used_counts(limiter, BOB) == [1]


def test_a_sender_without_a_grant_is_refused_and_not_held() -> None:
    limiter = limiter_with_lists(grants=[Grant(senders=[ANN])])
    assert check_and_acquire(limiter, envelope_to([HELD], ANN)).action is Action.HOLD
    assert check_and_acquire(limiter, envelope_to([HELD], BOB)).action is Action.REJECT


# Methods that wait or send


@pytest.mark.parametrize(("recipient", "action"), [(HELD, Action.HOLD), (NAMED, Action.REJECT)])
def test_acquire_does_not_wait_for_a_message_that_a_list_refuses(
    recipient: str, action: Action
) -> None:
    limiter = limiter_with_lists(MessageRateLimit("9/day", denied="count"))
    for method in (limiter.acquire, limiter.reserve):
        with pytest.raises(RateLimitExceeded) as caught:
            method(envelope_to([recipient], BOB))
        assert caught.value.decision.action is action
        assert caught.value.decision == limiter.check(envelope_to([recipient], BOB))
    assert used_counts(limiter, BOB) == [0]


@pytest.mark.parametrize(("recipient", "why"), [(HELD, "moderated"), (NAMED, "named senders")])
def test_the_exception_names_the_list(recipient: str, why: str) -> None:
    with pytest.raises(RateLimitExceeded) as caught:
        limiter_with_lists().acquire(envelope_to([recipient], BOB))
    assert why in str(caught.value)
    assert "backend" not in str(caught.value)


def test_a_decorated_function_does_not_send_a_held_message() -> None:
    limiter = limiter_with_lists(MessageRateLimit("9/day"))
    sent: list[Envelope] = []

    @limiter.limited(on_denied="skip")
    def skips(envelope: Envelope) -> None:
        sent.append(envelope)

    @limiter.limited(on_denied="raise")
    def raises(envelope: Envelope) -> None:
        sent.append(envelope)

    @limiter.limited()
    def waits(envelope: Envelope) -> None:
        sent.append(envelope)

    decision = skips(envelope_to([HELD], BOB))
    assert isinstance(decision, Decision)
    assert decision.action is Action.HOLD
    for function in (raises, waits):
        with pytest.raises(RateLimitExceeded) as caught:
            function(envelope_to([HELD], BOB))
        assert caught.value.decision.action is Action.HOLD
    assert sent == []
    for send in (skips, raises, waits):
        send(envelope_to([HELD], BOB, BY_MODERATOR))
    assert len(sent) == 3
    assert used_counts(limiter, BOB) == [3]


def test_in_a_batch_only_messages_that_lists_accept_are_charged() -> None:
    limiter = limiter_with_lists(MessageRateLimit("2/day"))
    batch = [
        envelope_to([OPEN], BOB),
        envelope_to([HELD], BOB),
        envelope_to([NAMED], BOB),
        envelope_to([HELD], BOB, BY_MODERATOR),
        envelope_to([OPEN], BOB),
    ]
    assert [decision.action for decision in limiter.try_acquire_many(batch)] == [
        Action.ACCEPT,
        Action.HOLD,
        Action.REJECT,
        Action.ACCEPT,
        Action.DEFER,
    ]
    assert used_counts(limiter, BOB) == [2]


def test_a_held_message_has_nothing_to_refund() -> None:
    limiter = limiter_with_lists(MessageRateLimit("9/day"))
    with pytest.raises(ValueError, match="nothing to refund"):
        limiter.refund(limiter.try_acquire(envelope_to([HELD], BOB)))


async def test_an_async_limiter_holds_and_refuses_alike() -> None:
    policy = Policy(name="test", limits=[MessageRateLimit("9/day")], directory=DIRECTORY)
    limiter = AsyncLimiter(policy, MemoryBackend(ManualClock()))
    assert (await limiter.check(envelope_to([HELD], BOB))).action is Action.HOLD
    assert (await limiter.try_acquire(envelope_to([HELD], BOB))).action is Action.HOLD
    assert (await limiter.try_acquire(envelope_to([NAMED], BOB))).action is Action.REJECT
    with pytest.raises(RateLimitExceeded):
        await limiter.acquire(envelope_to([HELD], BOB))
    with pytest.raises(RateLimitExceeded):
        await limiter.reserve(envelope_to([HELD], BOB))
    assert await limiter.acquire(envelope_to([HELD], BOB, BY_MODERATOR))
    assert (await limiter.usage(BOB))[0].used == 1


# Exempt lists


def test_an_exempt_list_costs_rate_limits_nothing() -> None:
    limiter = limiter_with_lists(
        MessageRateLimit("1/day"),
        RecipientRateLimit("1/day", scope="global"),
        MessageRateLimit("1/day", scope="recipient"),
        MessageRateLimit("1/day", scope=("sender", "recipient_domain")),
        MessageRateLimit("1/day", direction="inbound"),
    )
    for _ in range(3):
        assert check_and_acquire(limiter, envelope_to([FREE], BOB))
    assert used_counts(limiter, BOB) == [0]
    assert limiter.usage(FREE, scope="recipient")[0].used == 0


def test_an_exempt_list_is_a_recipient_for_the_recipient_limit() -> None:
    limiter = limiter_with_lists(RecipientLimit(2))
    assert check_and_acquire(limiter, envelope_to([FREE, OUT], BOB))
    assert check_and_acquire(limiter, envelope_to([FREE, OUT, ANN], BOB)).limit == RecipientLimit(2)


def test_the_other_recipients_of_a_message_to_an_exempt_list_count() -> None:
    limiter = limiter_with_lists(
        RecipientRateLimit("3/day"),
        MessageRateLimit("9/day"),
        RecipientRateLimit("3/day", count="external"),
    )
    assert check_and_acquire(limiter, envelope_to([FREE, OUT, ANN, OPEN], BOB))
    assert used_counts(limiter, BOB) == [3, 1, 1]
    assert check_and_acquire(limiter, envelope_to([FREE, OUT], BOB)).action is Action.DEFER
    assert check_and_acquire(limiter, envelope_to([FREE], BOB))


def test_exempt_recipients_do_not_count_towards_what_never_fits() -> None:
    limiter = limiter_with_lists(RecipientRateLimit("1/day"))
    assert check_and_acquire(limiter, envelope_to([FREE, OUT], BOB))
    assert check_and_acquire(limiter, envelope_to([OPEN, ANN], BOB)).retry_after is None


def test_a_message_is_planned_again_after_its_list_becomes_exempt() -> None:
    lists = {OPEN: MailingList(OPEN)}

    class Live:
        def owner(self, address: str) -> str:
            return address

        def mailing_list(self, address: str) -> MailingList | None:
            return lists.get(address)

    limiter = limiter_with_lists(MessageRateLimit("1/day"), directory=Live())
    envelope = envelope_to([OPEN], BOB)
    assert limiter.try_acquire(envelope)
    assert not limiter.try_acquire(envelope)
    lists[OPEN] = MailingList(OPEN, exempt=True)
    assert limiter.try_acquire(envelope)
    lists[OPEN] = MailingList(OPEN)
    assert not limiter.try_acquire(envelope)


def test_an_exempt_list_may_be_moderated_too() -> None:
    both_ways = MailingList("x@lists.leeds.ac.uk", posting="moderated", exempt=True)
    limiter = limiter_with_lists(MessageRateLimit("1/day"), directory=Directory(lists=[both_ways]))
    assert check_and_acquire(limiter, envelope_to([both_ways.address], BOB)).action is Action.HOLD
    for _ in range(2):
        assert check_and_acquire(limiter, envelope_to([both_ways.address], BOB, BY_MODERATOR))


@pytest.mark.parametrize("listed", [OPEN, FREE])
def test_an_exempt_list_is_not_exempt_as_a_sender(listed: str) -> None:
    limiter = limiter_with_lists(MessageRateLimit("1/day"))
    assert check_and_acquire(limiter, envelope_to([OUT], listed))
    assert check_and_acquire(limiter, envelope_to([OUT], listed)).action is Action.DEFER
    assert used_counts(limiter, listed) == [1]


def test_an_exemption_applies_to_a_list_as_sender() -> None:
    limiter = limiter_with_lists(
        MessageRateLimit("1/day"),
        exemptions=[Exemption(senders=[OPEN], reason="list traffic", granted_by="postmaster")],
    )
    assert all(check_and_acquire(limiter, envelope_to([OUT], OPEN)) for _ in range(3))


# Inbound mail


@pytest.mark.parametrize("partial", [True, False])
def test_a_list_accepts_or_holds_inbound_mail_too(partial: bool) -> None:
    limiter = limiter_with_lists(MessageRateLimit("1/hour", direction="inbound"), partial=partial)
    inbound = Envelope(OUT, [HELD], direction="inbound")
    assert check_and_acquire(limiter, inbound).action is Action.HOLD
    assert check_and_acquire(limiter, Envelope(OUT, [HELD], BY_MODERATOR, direction="inbound"))
    assert limiter.usage(HELD, scope="recipient")[0].used == 1
