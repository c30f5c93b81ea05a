"""Override: other numbers for named limits, for whom and until when they are conceded."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import attrs
import pytest

from ratelimit_mail import (
    Action,
    AsyncLimiter,
    Client,
    Envelope,
    Limiter,
    MessageRateLimit,
    Policy,
    RateLimitExceeded,
    RecipientLimit,
    RecipientRateLimit,
    Tier,
)
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.conditions import has_tag
from ratelimit_mail.directory import Directory
from ratelimit_mail.limits import Limit
from ratelimit_mail.overrides import Exemption, Override
from ratelimit_mail.policy import selection
from ratelimit_mail.rates import MOST
from ratelimit_mail.testing import ManualClock

ANN = "ann@leeds.ac.uk"
BOB = "bob@leeds.ac.uk"
WIRELESS = Client(tags={"wireless"})
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOON_MS = int(NOON.timestamp()) * 1000

LIMITS: list[Limit] = [
    RecipientLimit(10, name="recipients a message"),
    MessageRateLimit("3/minute", name="messages a minute"),
    RecipientRateLimit("20/day", name="recipients a day"),
]


def letter(sender: str = ANN, recipients: int = 1, client: Client | None = None) -> Envelope:
    return Envelope(sender, [f"r{i}@example.com" for i in range(recipients)], client)


def policy_of(*overrides: Override, limits: Any = LIMITS, **options: Any) -> Policy:
    return Policy(name="leeds", limits=limits, overrides=overrides, **options)


def limiter_of(policy: Policy, now: int = NOON_MS) -> tuple[Limiter, ManualClock]:
    clock = ManualClock(now)
    return Limiter(policy, MemoryBackend(clock), sleep=clock.advance), clock


def passing(limiter: Limiter, envelope: Envelope) -> int:
    """How many go before one is turned away."""
    sent = 0
    while sent < 1000 and limiter.try_acquire(envelope):
        sent += 1
    return sent


def numbers(limiter: Limiter, sender: str = ANN, client: Client | None = None) -> list[int]:
    return [usage.limit.limit for usage in limiter.usage(sender, client=client)]


# Other numbers


def test_a_sender_has_other_numbers_and_nobody_else_has() -> None:
    limiter, _ = limiter_of(policy_of(Override({"messages a minute": 7}, senders=[ANN])))
    assert passing(limiter, letter(ANN)) == 7
    assert passing(limiter, letter(BOB)) == 3
    assert passing(limiter, letter("<>")) == 3


def test_a_recipient_limit_can_be_raised_for_one_sender() -> None:
    limiter, _ = limiter_of(policy_of(Override({"recipients a message": 15}, senders=[ANN])))
    assert limiter.try_acquire(letter(ANN, 15))
    assert limiter.try_acquire(letter(BOB, 15)).action is Action.REJECT


def test_what_never_fits_is_told_by_the_numbers_of_the_override() -> None:
    limiter, _ = limiter_of(
        policy_of(
            Override({"recipients a message": 15}, senders=[ANN]),
            Override({"recipients a day": 5}, senders=[BOB]),
        )
    )
    decision = limiter.try_acquire(letter(ANN, 16))
    assert decision.retry_after is None
    assert decision.limit == RecipientLimit(15, name="recipients a message")
    assert decision.reply.text == "Too many recipients: at most 15 in one message."
    decision = limiter.check(letter(BOB, 6))
    assert decision.retry_after is None
    assert decision.limit == RecipientRateLimit("5/day", name="recipients a day")
    assert "At most 5 recipients per day" in decision.reply.text
    with pytest.raises(RateLimitExceeded) as caught:
        limiter.acquire(letter(ANN, 16))
    assert caught.value.decision.limit == RecipientLimit(15, name="recipients a message")


def test_a_number_can_be_lower_too() -> None:
    limiter, _ = limiter_of(policy_of(Override({"messages a minute": 1}, senders=[ANN])))
    assert passing(limiter, letter(ANN)) == 1


def test_a_number_keeps_the_window_and_a_rate_replaces_it() -> None:
    limiter, clock = limiter_of(
        policy_of(
            Override({"messages a minute": 5}, senders=[ANN]),
            Override({"messages a minute": "5/hour"}, senders=[BOB]),
        )
    )
    assert passing(limiter, letter(ANN)) == 5
    assert passing(limiter, letter(BOB)) == 5
    clock.advance(60)
    assert passing(limiter, letter(ANN)) == 5
    assert passing(limiter, letter(BOB)) == 0
    clock.advance(3540)
    assert passing(limiter, letter(BOB)) == 5


def test_all_else_of_the_limit_stays_as_it_was() -> None:
    limit = MessageRateLimit(
        "10 per 15 minutes",
        name="all",
        scope=("sender", "client"),
        count="external",
        denied="count",
        on_excess="reject",
        resolution="1 second",
        reply="Slow down.",
    )
    for number, rate in ((4, "4 per 15 minutes"), ("4/hour", "4/hour")):
        override = Override({"all": number}, senders=[ANN])
        assert override.applied_to(limit) == attrs.evolve(limit, rate=rate)
    limiter, _ = limiter_of(policy_of(Override({"all": 4}, senders=[ANN]), limits=[limit]))
    assert passing(limiter, letter()) == 4
    decision = limiter.check(letter())
    assert decision.action is Action.REJECT
    assert isinstance(decision.limit, MessageRateLimit)
    assert decision.limit.limit == 4
    assert decision.reply.text == "Slow down."


def test_the_share_of_a_limit_is_taken_of_the_other_number() -> None:
    limit = MessageRateLimit("100/hour", name="one sender", share=0.33)
    override = Override({"one sender": 200}, senders=[ANN])
    limiter, _ = limiter_of(policy_of(override, limits=[limit]))
    assert passing(limiter, letter(ANN)) == 66
    assert passing(limiter, letter(BOB)) == 33


def test_several_limits_of_one_name_have_the_other_number_together() -> None:
    limits = [
        MessageRateLimit("2/minute", name="small"),
        MessageRateLimit("3/minute", name="small", scope="global"),
        MessageRateLimit("5/minute"),
    ]
    limiter, _ = limiter_of(policy_of(Override({"small": 4}, senders=[ANN]), limits=limits))
    assert passing(limiter, letter(ANN)) == 4


def test_a_count_that_all_share_stays_one_whatever_number_each_has() -> None:
    limit = MessageRateLimit("3/day", name="all", scope="global")
    limiter, _ = limiter_of(policy_of(Override({"all": 5}, senders=[ANN]), limits=[limit]))
    assert passing(limiter, letter(BOB)) == 3
    assert passing(limiter, letter(ANN)) == 2
    assert [usage.used for usage in limiter.usage(scope="global")] == [5]
    assert passing(limiter, letter(BOB)) == 0


def test_a_limit_that_only_reports_can_be_overridden() -> None:
    limit = MessageRateLimit("1/day", name="new", enforce=False)
    limiter, _ = limiter_of(policy_of(Override({"new": 2}, senders=[ANN]), limits=[limit]))
    for sender, expected in ((ANN, [True, True, False]), (BOB, [True, False, False])):
        shadows = [limiter.try_acquire(letter(sender)).shadow for _ in range(3)]
        assert [shadow is not None and shadow.allowed for shadow in shadows] == expected


def test_limits_of_tiers_can_be_overridden() -> None:
    policy = Policy(
        name="campus",
        tiers=[
            Tier("high", when=has_tag("wireless"), limits=[MessageRateLimit("1/day", name="day")]),
            Tier("low", limits=[MessageRateLimit("2/day", name="day")]),
        ],
        overrides=[Override({"day": 4}, senders=[ANN])],
    )
    limiter, _ = limiter_of(policy)
    assert passing(limiter, letter(BOB, client=WIRELESS)) == 1
    assert passing(limiter, letter(BOB)) == 1
    assert passing(limiter, letter(ANN, client=WIRELESS)) == 4
    assert limiter.check(letter(ANN, client=WIRELESS)).tier == "high"
    assert limiter.check(letter(ANN)).tier == "low"


def test_refused_attempts_count_under_an_override_as_well() -> None:
    limit = MessageRateLimit("2/minute", name="strict", denied="count")
    override = Override({"strict": 4}, senders=[ANN], ends=NOON.replace(second=50))
    limiter, clock = limiter_of(policy_of(override, limits=[limit]))
    assert passing(limiter, letter()) == 4
    for _ in range(9):
        clock.advance(20)
        assert not limiter.try_acquire(letter())
    clock.advance(60)
    assert passing(limiter, letter()) == 2


def test_an_inbound_limit_can_be_overridden_by_who_sends() -> None:
    policy = Policy(
        name="in",
        limits=[MessageRateLimit("2/hour", name="received", direction="inbound")],
        overrides=[Override({"received": 3}, senders=["alerts@example.com"])],
    )
    limiter, _ = limiter_of(policy)

    def arriving(sender: str) -> Envelope:
        return Envelope(sender, [ANN], direction="inbound")

    assert passing(limiter, arriving("eve@example.com")) == 2
    assert passing(limiter, arriving("alerts@example.com")) == 1


# Which of several


def test_the_first_override_that_holds_is_the_one_for_each_limit() -> None:
    limiter, _ = limiter_of(
        policy_of(
            Override({"messages a minute": 5}, senders=[ANN], when=has_tag("wireless")),
            Override({"messages a minute": 6, "recipients a message": 20}, senders=[ANN]),
            Override({"messages a minute": 9, "recipients a day": 500}, senders=["leeds.ac.uk"]),
            Override({"recipients a message": 400}, when=has_tag("wireless")),
        )
    )
    assert numbers(limiter, ANN, WIRELESS) == [5, 500]
    assert numbers(limiter, ANN) == [6, 500]
    assert numbers(limiter, BOB) == [9, 500]
    assert numbers(limiter, "eve@example.com", WIRELESS) == [3, 20]
    assert limiter.check(letter(ANN, 20, WIRELESS))
    assert not limiter.check(letter(ANN, 21, WIRELESS))
    assert limiter.check(letter(BOB, 400, WIRELESS))
    assert not limiter.check(letter(BOB, 11))


def test_an_ended_override_gives_way_to_the_next() -> None:
    limiter, clock = limiter_of(
        policy_of(
            Override({"messages a minute": 5}, senders=[ANN], ends=NOON.replace(minute=10)),
            Override({"messages a minute": 4}, senders=[ANN]),
        )
    )
    assert numbers(limiter) == [5, 20]
    clock.advance(600)
    assert numbers(limiter) == [4, 20]


def test_sender_and_client_must_both_fit_where_both_are_given() -> None:
    override = Override({"messages a minute": 5}, senders=[ANN], when=has_tag("wireless"))
    limiter, _ = limiter_of(policy_of(override))
    assert numbers(limiter, ANN, WIRELESS) == [5, 20]
    assert numbers(limiter, ANN) == [3, 20]
    assert numbers(limiter, BOB, WIRELESS) == [3, 20]


# In time


def test_what_was_sent_before_a_raise_still_counts_and_after_its_end_too() -> None:
    override = Override(
        {"recipients a day": 50},
        senders=[ANN],
        starts=NOON.replace(hour=14),
        ends=NOON.replace(hour=16),
    )
    limiter, clock = limiter_of(policy_of(override))
    assert limiter.try_acquire(letter(recipients=10))
    assert limiter.try_acquire(letter(recipients=10))
    assert not limiter.try_acquire(letter())

    clock.advance(2 * 3600)  # 14:00
    assert limiter.usage(ANN)[1].remaining == 30
    assert [bool(limiter.try_acquire(letter(recipients=10))) for _ in range(4)] == [
        *[True] * 3,
        False,
    ]

    clock.advance(2 * 3600)  # 16:00
    [_, day] = limiter.usage(ANN)
    assert (day.limit.limit, day.used, day.remaining) == (20, 50, 0)
    clock.advance(20 * 3600)  # noon of the next day: the 30 of the raise are still in the window
    assert limiter.usage(ANN)[1].used == 30
    assert not limiter.try_acquire(letter())
    clock.advance(2 * 3600)
    assert limiter.try_acquire(letter(recipients=10))


def test_history_is_kept_as_long_as_the_window_of_an_override_to_come() -> None:
    override = Override({"messages a minute": "3/hour"}, senders=[ANN], starts=NOON)
    limiter, clock = limiter_of(policy_of(override), NOON_MS - 1800 * 1000)
    assert passing(limiter, letter()) == 3
    clock.advance(60)
    assert limiter.try_acquire(letter())
    clock.advance(1740)
    [minute, _] = limiter.usage(ANN)
    assert (str(minute.limit), minute.used) == ("3 messages per hour per sender", 4)
    assert not limiter.check(letter())


def test_it_begins_and_ends_to_the_millisecond_by_the_clock_of_the_backend() -> None:
    starts, ends = NOON.replace(microsecond=5000), NOON.replace(microsecond=9000)
    override = Override({"recipients a message": 15}, senders=[ANN], starts=starts, ends=ends)
    limiter, clock = limiter_of(policy_of(override))
    envelope = letter(recipients=15)  # the same object, which remembers its plan
    allowed = []
    for millisecond in range(12):
        clock.set(NOON_MS + millisecond)
        allowed.append(bool(limiter.check(envelope)))
    assert allowed == [*[False] * 5, *[True] * 4, *[False] * 3]


def test_a_date_as_its_end_includes_that_day_in_utc() -> None:
    override = Override({"recipients a message": 15}, senders=[ANN], ends=date(2026, 3, 1))
    limiter, clock = limiter_of(policy_of(override), NOON_MS)
    clock.advance(12 * 3600 - 0.001)
    assert limiter.check(letter(recipients=15))
    clock.advance(0.001)
    assert not limiter.check(letter(recipients=15))


def test_a_clock_that_goes_back_brings_an_ended_override_back() -> None:
    override = Override({"messages a minute": 9}, senders=[ANN], ends=NOON)
    limiter, clock = limiter_of(policy_of(override), NOON_MS)
    assert numbers(limiter) == [3, 20]
    clock.advance(-0.001)
    assert numbers(limiter) == [9, 20]


def test_every_verb_asks_by_the_time_at_hand() -> None:
    override = Override({"recipients a message": 15}, senders=[ANN], ends=NOON)
    limiter, clock = limiter_of(policy_of(override), NOON_MS - 1)
    envelope = letter(recipients=15)

    @limiter.limited(on_denied="skip", envelope=lambda: envelope)
    def send() -> str:
        return "sent"

    assert limiter.check(envelope)
    assert send() == "sent"
    limiter.reset(ANN)
    limiter.reserve(envelope).cancel()
    limiter.refund(limiter.acquire(envelope))
    limiter.refund(limiter.try_acquire_many([envelope])[0])

    clock.advance(0.001)
    assert not limiter.check(envelope)
    assert not limiter.try_acquire(envelope)
    assert not limiter.try_acquire_many([envelope])[0]
    assert send() != "sent"
    for verb in (limiter.acquire, limiter.reserve):
        with pytest.raises(RateLimitExceeded):
            verb(envelope)


async def test_an_async_limiter_asks_by_the_time_at_hand_too() -> None:
    clock = ManualClock(NOON_MS - 1)
    override = Override({"recipients a message": 15}, senders=[ANN], ends=NOON)
    limiter = AsyncLimiter(policy_of(override), MemoryBackend(clock), sleep=clock.sleep)
    envelope = letter(recipients=15)
    assert await limiter.try_acquire(envelope)
    clock.advance(0.001)
    assert not await limiter.try_acquire(envelope)
    assert [usage.used for usage in await limiter.usage(ANN)] == [1, 15]


def test_a_message_booked_under_an_override_keeps_its_place_when_that_ends() -> None:
    override = Override({"messages a minute": 1}, senders=[ANN], ends=NOON.replace(minute=1))
    limiter, clock = limiter_of(policy_of(override))
    booked = [limiter.reserve(letter()).at - NOON_MS for _ in range(3)]
    assert booked == [0, 60_000, 120_000]
    clock.advance(60)
    assert limiter.reserve(letter()).at - NOON_MS == 120_000


def test_usage_shows_the_limits_that_hold_now_for_that_sender_and_client() -> None:
    override = Override(
        {"messages a minute": "7/hour"}, senders=[ANN], when=has_tag("wireless"), ends=NOON
    )
    limiter, clock = limiter_of(policy_of(override), NOON_MS - 1)
    limiter.try_acquire(letter(client=WIRELESS))
    [hour, day] = limiter.usage(ANN, client=WIRELESS)
    assert (str(hour.limit), hour.used, hour.remaining, hour.resets_in) == (
        "7 messages per hour per sender",
        1,
        6,
        3600.0,
    )
    assert (day.limit.limit, day.used) == (20, 1)
    assert numbers(limiter, ANN) == [3, 20]
    clock.advance(0.001)
    [minute, _] = limiter.usage(ANN, client=WIRELESS)
    assert (minute.limit.limit, minute.used, minute.remaining) == (3, 1, 2)


def test_usage_of_what_tells_no_sender_shows_what_is_conceded_to_clients_alone() -> None:
    limit = MessageRateLimit("3/day", name="all", scope="global")
    overrides = [
        Override({"all": 5}, senders=[ANN]),
        Override({"all": 4}, when=has_tag("wireless")),
    ]
    limiter, _ = limiter_of(policy_of(*overrides, limits=[limit]))
    [usage] = limiter.usage(scope="global")
    assert usage.limit.limit == 3
    [usage] = limiter.usage(scope="global", client=WIRELESS)
    assert usage.limit.limit == 4


def test_a_reset_forgets_what_was_sent_under_an_override() -> None:
    limiter, _ = limiter_of(policy_of(Override({"messages a minute": "9/hour"}, senders=[ANN])))
    assert passing(limiter, letter()) == 9
    limiter.reset(ANN)
    assert passing(limiter, letter()) == 9


# Aliases

ALIASES = Directory(aliases={"dean@leeds.ac.uk": ANN, "head@leeds.ac.uk": ANN})


def test_an_override_of_the_owner_holds_for_the_aliases_and_one_of_an_alias_for_it_alone() -> None:
    whole = Override({"messages a minute": 5}, senders=[ANN])
    limiter, _ = limiter_of(policy_of(whole, directory=ALIASES))
    assert passing(limiter, letter("dean@leeds.ac.uk")) == 5
    assert numbers(limiter, "head@leeds.ac.uk") == [5, 20]

    one = Override({"messages a minute": 5}, senders=["dean@leeds.ac.uk"])
    limiter, _ = limiter_of(policy_of(one, directory=ALIASES))
    assert passing(limiter, letter(ANN)) == 3
    assert passing(limiter, letter("dean@leeds.ac.uk")) == 2
    assert passing(limiter, letter("head@leeds.ac.uk")) == 0


def test_usage_of_an_alias_shows_the_override_of_the_alias() -> None:
    one = Override({"messages a minute": 5}, senders=["dean@leeds.ac.uk"])
    limiter, _ = limiter_of(policy_of(one, directory=ALIASES))
    assert numbers(limiter, "dean@leeds.ac.uk") == [5, 20]


@pytest.mark.parametrize(
    ("scope", "subject"),
    [(("sender", "client"), (ANN, "10.0.0.1")), (("client", "sender"), ("10.0.0.1", ANN))],
)
def test_usage_of_a_sender_and_more_shows_the_override_of_the_sender(
    scope: tuple[str, ...], subject: tuple[str, ...]
) -> None:
    limit = MessageRateLimit("2/day", name="m", scope=scope)
    limiter, _ = limiter_of(policy_of(Override({"m": 5}, senders=[ANN]), limits=[limit]))
    assert [usage.limit.limit for usage in limiter.usage(subject, scope=scope)] == [5]


# What is wrong


@pytest.mark.parametrize(
    ("limits", "error", "words"),
    [
        ({}, TypeError, ["limits", "{}"]),
        (None, TypeError, ["limits", "None"]),
        (500, TypeError, ["limits", "500"]),
        ("recipients a message", TypeError, ["limits", "'recipients a message'"]),
        ([("recipients a message", 500)], TypeError, ["limits", "500"]),
        ({5: 5}, TypeError, ["limits", "name", "5"]),
        ({"recipients a message": True}, TypeError, ["recipients a message", "True"]),
        ({"recipients a message": 1.5}, TypeError, ["recipients a message", "1.5"]),
        ({"recipients a message": None}, TypeError, ["recipients a message", "None"]),
        ({"recipients a message": [5]}, TypeError, ["recipients a message", "[5]"]),
        ({"x" * 999: None}, TypeError, ["1001 characters", "None"]),
    ],
)
def test_nonsense_is_named(limits: Any, error: type[Exception], words: list[str]) -> None:
    with pytest.raises(error) as caught:
        Override(limits, senders=[ANN])
    assert [word for word in words if word not in str(caught.value)] == []
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("name", "number", "words"),
    [
        ("recipients a message", 0, ["0", "at least 1"]),
        ("recipients a message", -3, ["-3", "at least 1"]),
        ("recipients a message", MOST + 1, [str(MOST + 1), "above"]),
        ("recipients a message", "500/day", ["'500/day'", "a number is needed"]),
        ("recipients a message", "500", ["'500'", "a number is needed"]),
        ("messages a minute", 0, ["0", "at least 1"]),
        ("messages a minute", -3, ["-3", "at least 1"]),
        ("messages a minute", MOST + 1, [str(MOST + 1), "above"]),
        pytest.param("messages a minute", 10**5000, ["above"], id="huge"),
        ("messages a minute", "many", ["'many'", "one rate"]),
        ("messages a minute", "", ["''", "one rate"]),
        ("messages a minute", "60", ["'60'", "one rate"]),
        ("messages a minute", "0/minute", ["0", "at least 1"]),
        ("messages a minute", "5/minute; 9/hour", ["'5/minute; 9/hour'", "one rate"]),
        ("slots", "9/second", ["resolution", "'10 seconds'", "longer"]),
        ("shared", 3, ["share", "0.33", "nothing"]),
    ],
)
def test_a_number_that_does_not_fit_its_limit_is_an_error_of_the_policy(
    name: str, number: int | str, words: list[str]
) -> None:
    override = Override({name: number}, senders=[ANN])
    limits = [
        *LIMITS,
        MessageRateLimit("9/minute", name="slots", resolution="10 seconds"),
        MessageRateLimit("9/minute", name="shared", share=0.33),
    ]
    with pytest.raises(ValueError, match=f"override of '{name}'") as caught:
        policy_of(override, limits=limits)
    assert [word for word in words if word not in str(caught.value)] == []
    with pytest.raises(ValueError, match=f"override of '{name}'"):
        Policy(name="p", tiers=[Tier("t", limits=limits)], overrides=[override])


def test_one_number_must_fit_every_limit_of_the_name() -> None:
    limits = [RecipientLimit(10, name="both"), MessageRateLimit("3/minute", name="both")]
    assert policy_of(Override({"both": 5}, senders=[ANN]), limits=limits)
    with pytest.raises(ValueError, match="a number is needed, not '5/day'"):
        policy_of(Override({"both": "5/day"}, senders=[ANN]), limits=limits)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (Override({"messages a minute": 5}, senders=[ANN]), "a list is needed, not Override"),
        ("ann@leeds.ac.uk", "a list is needed, not 'ann@leeds.ac.uk'"),
        (None, "a list is needed, not None"),
        ([{"messages a minute": 5}], "{'messages a minute': 5} is not an Override"),
        ([Exemption(senders=[ANN])], "is not an Override"),
    ],
)
def test_a_policy_takes_a_list_of_overrides(given: Any, words: str) -> None:
    with pytest.raises(TypeError, match=f"overrides: .*{words}"):
        Policy(name="p", limits=LIMITS, overrides=given)


# Values

ALL: dict[str, Any] = {
    "limits": {"recipients a message": 500, "recipients a day": "20000/day"},
    "senders": [ANN],
    "reason": "Open day",
    "granted_by": "IT Service Desk",
    "expected_recipients": 350,
}


def test_numbers_count_for_equality_and_need_no_order() -> None:
    turned = dict(reversed(ALL["limits"].items()))
    assert Override(**ALL) == Override(**{**ALL, "limits": turned})
    assert hash(Override(**ALL)) == hash(Override(**{**ALL, "limits": turned}))
    assert Override(**ALL) != Override(**{**ALL, "limits": {"recipients a message": 500}})
    assert Override(**ALL) != Override(**{**ALL, "expected_recipients": 351})


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))]
)
def test_a_copy_is_the_same_value(copied: Callable[[Any], Any]) -> None:
    twin = copied(Override(**ALL))
    assert twin == Override(**ALL)
    assert dict(twin.limits) == ALL["limits"]
    assert twin.expected_recipients == 350


def test_its_numbers_cannot_be_changed_from_outside() -> None:
    given: dict[str, int | str] = {"messages a minute": 5}
    override = Override(given, senders=[ANN])
    given["messages a minute"] = 900
    assert override.limits == {"messages a minute": 5}
    with pytest.raises(TypeError):
        override.limits["messages a minute"] = 900  # type: ignore[index]


def test_a_repr_leaves_out_what_was_left_out() -> None:
    words = repr(Override({"messages a minute": 5}, senders=[ANN]))
    assert words.startswith("Override(senders=('ann@leeds.ac.uk',), limits=")
    assert "None" not in words


def test_a_repr_shows_its_numbers_as_they_were_given() -> None:
    assert repr(Override({"messages a minute": 5}, senders=[ANN])) == (
        "Override(senders=('ann@leeds.ac.uk',), limits={'messages a minute': 5})"
    )


def test_a_policy_with_overrides_is_a_value() -> None:
    policy = policy_of(Override(**ALL, ends=NOON))
    twin = pickle.loads(pickle.dumps(policy))
    assert twin == policy
    assert hash(twin) == hash(policy)
    assert policy != policy_of()
    assert policy_of().evolve(overrides=[Override(**ALL, ends=NOON)]) == policy
    assert policy.evolve(overrides=()) == policy_of()
    limiter, clock = limiter_of(twin, NOON_MS - 1)
    assert limiter.check(letter(recipients=11))
    clock.advance(0.001)
    assert not limiter.check(letter(recipients=11))


def test_a_policy_that_has_been_asked_survives_a_pickle() -> None:
    policy = policy_of(Override(**ALL))
    asked = policy.plan(letter(recipients=500))
    twin = pickle.loads(pickle.dumps(policy))
    assert twin == policy
    plan = twin.plan(letter(recipients=500))
    assert [ledger.name for ledger, _, _ in plan.charges] == ["leeds:sender"]
    assert plan.effective_limits.limits == asked.effective_limits.limits


def test_without_overrides_a_policy_keeps_the_names_of_its_counts() -> None:
    plain, raised = policy_of(), policy_of(Override(**ALL))
    names = [
        [ledger.name for ledger, _, _ in each.plan(letter()).charges] for each in (plain, raised)
    ]
    assert names[0] == names[1] == ["leeds:sender"]


# Many


def test_sheets_for_many_overrides_are_made_once_and_kept_within_bounds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(selection, "MOST_BUILT", 8)
    monkeypatch.setattr(selection, "MOST_SELECTED", 20)
    senders = [f"user{i}@leeds.ac.uk" for i in range(50)]
    policy = policy_of(
        *(Override({"messages a minute": i + 4}, senders=[each]) for i, each in enumerate(senders))
    )
    for _ in range(2):
        for i, sender in enumerate(senders):
            effective = policy.plan(letter(sender)).effective_limits
            assert [limit.limit for limit in effective.limits] == [10, i + 4, 20]
            assert policy.plan(letter(sender)).effective_limits is effective
            assert len(policy._selector._built) <= 8
            assert len(policy._selector._selected) <= 20


def test_those_with_the_same_numbers_share_their_effective_limits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(selection, "MOST_SELECTED", 20)
    senders = [f"user{i}@leeds.ac.uk" for i in range(50)]
    policy = policy_of(
        *(Override({"recipients a message": 500}, senders=[each]) for each in senders)
    )
    assert len({policy.plan(letter(sender)).effective_limits for sender in senders}) == 1
    assert len(policy._selector._selected) <= 20


def test_ten_thousand_overrides_are_not_looked_at_for_one_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    overrides = [
        Override({"messages a minute": 5}, senders=[f"user{i}@leeds.ac.uk"]) for i in range(10_000)
    ]
    policy = policy_of(*overrides, limits=LIMITS[1:2])
    asked = []
    holds = Override.holds

    def counting(self: Override, *args: Any) -> bool:
        asked.append(self)
        return holds(self, *args)

    monkeypatch.setattr(Override, "holds", counting)
    assert [
        limit.limit for limit in policy.plan(letter("user9999@leeds.ac.uk")).effective_limits.limits
    ] == [5]
    assert [limit.limit for limit in policy.plan(letter(ANN)).effective_limits.limits] == [3]
    assert asked == [overrides[9999]]
