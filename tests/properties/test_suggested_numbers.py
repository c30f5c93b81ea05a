"""`replay --suggest` on generated mail: neither a theft nor the order of rows changes a number."""

from __future__ import annotations

import random

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ratelimit_mail import (
    Envelope,
    Limiter,
    MessageRateLimit,
    Policy,
    RecipientLimit,
    RecipientRateLimit,
)
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.cli.replay.demand import Demand
from ratelimit_mail.cli.replay.heavy_senders import BusyDays, HeavySender, heavy_senders
from ratelimit_mail.cli.replay.mail_records import MailRecord, MailRecords
from ratelimit_mail.cli.replay.policy_variants import with_number
from ratelimit_mail.cli.replay.suggest import (
    Effect,
    Suggestion,
    quota_of,
    round_up,
    suggest,
)
from ratelimit_mail.cli.replay.time_bins import bins_for
from ratelimit_mail.envelope import NOBODY
from ratelimit_mail.testing import ManualClock

DAY = 86_400_000
T0 = 19_700 * DAY
Rows = list[tuple[int, str, tuple[str, ...]]]

POLICY = Policy(
    name="campus",
    internal_domains=["x.org"],
    limits=[
        RecipientLimit(50),
        MessageRateLimit("30/minute"),
        RecipientRateLimit("500/day", count="external", scope="submitter", denied="count"),
        RecipientRateLimit("900/hour", scope="sender_domain"),
    ],
)
THIEF = "thief@x.org"
LETTER = "letter@x.org"

settings_of_numbers = settings(max_examples=8, deadline=None)

seeds = st.integers(0, 10**9)


def honest(seed: int) -> Rows:
    """Return the mail of some people over eight days, no two messages at the same time."""
    choose = random.Random(seed)
    times = choose.sample(range(8 * 86_400), choose.randint(20, 120))
    rows = []
    for time in times:
        sender = f"s{min(int(choose.expovariate(0.3)), 14)}@x.org"
        domains = ["example.com", "example.net", "x.org"]
        count = choose.choice([1, 1, 1, 2, 3, 12])
        recipients = [f"r{choose.randrange(40)}@{choose.choice(domains)}" for _ in range(count)]
        rows.append((T0 + time * 1000, sender, tuple(dict.fromkeys(recipients))))
    return rows


def theft(seed: int) -> Rows:
    """Return the mail of a thief of an account, which its owner has hardly used."""
    choose = random.Random(seed)
    begin = T0 + choose.randrange(4 * DAY, 7 * DAY)
    size, each = choose.randint(1000, 3000), choose.choice([10, 90, 400])
    owner = [(T0 + choose.randrange(2 * DAY), THIEF, ("friend@example.com",))]
    if choose.random() < 0.5:
        owner = []
    names = [f"victim{i}@example.org" for i in range(size)]
    return owner + [
        (begin + 1 + i * 7, THIEF, tuple(names[i : i + each])) for i in range(0, size, each)
    ]


def newsletter(seed: int) -> Rows:
    """Return a newsletter to the same readers every day."""
    readers = tuple(f"reader{i}@example.net" for i in range(120 + seed % 50))
    return [(T0 + day * DAY + 1, LETTER, readers) for day in range(7)]


@attrs.frozen
class Results:
    heavy: list[HeavySender]
    suggestions: list[Suggestion]

    @property
    def apart(self) -> list[str]:
        return [each.key for each in self.heavy if each.is_set_apart]


def results(rows: Rows, touch: float = 10) -> Results:
    records = MailRecords()
    for time, sender, recipients in rows:
        records.append(MailRecord(time, sender, recipients, NOBODY))
    mail = list(records.by_time())
    busy_days = BusyDays(POLICY)
    for time, envelope in mail:
        busy_days.add(time, envelope)
    heavy = heavy_senders(POLICY, busy_days, lambda _: mail)
    apart = [each.key for each in heavy if each.is_set_apart]
    senders = len({sender for _, sender, _ in rows})
    suggestions = suggest(
        POLICY,
        Demand(POLICY, bins_for([time for time, _ in mail]), mail),
        quota_of(touch, senders),
        lambda _: mail,
        apart=apart,
        quota_without=quota_of(touch, senders - len(apart)),
    )
    return Results(heavy, suggestions)


def numbers_without(results: Results) -> list[tuple[object, ...]]:
    """Return the numbers for the mail of which nothing is set apart."""
    return [
        (each.best.number, each.best.affected, each.best.affected_below, each.best.rounded)
        for each in results.suggestions
    ]


@settings_of_numbers
@given(seeds, st.booleans())
def test_a_theft_does_not_change_the_numbers_and_is_named(seed: int, has_letter: bool) -> None:
    mail = honest(seed)
    if has_letter:
        mail += newsletter(seed)
    without_theft, with_theft = results(mail), results(mail + theft(seed))
    assert without_theft.apart == ([LETTER] if has_letter else [])
    assert with_theft.apart == [THIEF, *without_theft.apart]
    assert with_theft.heavy[0].looks_like == "theft"
    assert numbers_without(with_theft) == numbers_without(without_theft)
    for each in with_theft.suggestions:
        assert each.without is not None
    # The remark is about the number that is found without it, too.
    assert [each.remark for each in with_theft.suggestions] == [
        each.remark for each in without_theft.suggestions
    ]


@settings_of_numbers
@given(seeds)
def test_the_order_of_the_rows_changes_nothing(seed: int) -> None:
    rows = honest(seed) + theft(seed)
    shuffled = rows.copy()
    random.Random(seed).shuffle(shuffled)
    assert results(rows) == results(shuffled)


@settings_of_numbers
@given(seeds, st.floats(0, 99), st.floats(0, 99))
def test_a_larger_share_needs_no_larger_number(seed: int, one: float, other: float) -> None:
    low, high = sorted((round(one, 1), round(other, 1)))
    rows = honest(seed)
    for few, many in zip(
        results(rows, low).suggestions[:3], results(rows, high).suggestions[:3], strict=True
    ):
        assert few.number is not None
        assert many.number is not None
        assert many.number <= few.number
        assert many.affected >= few.affected


def refused(number: int, index: int, rows: Rows) -> dict[str, int]:
    """Return how many messages of each sender a limit alone refuses, by a replay of all mail."""
    policy = POLICY.evolve(limits=[with_number(POLICY.limits[index], number)])
    clock = ManualClock(0)
    limiter = Limiter(policy, MemoryBackend(clock))
    counts: dict[str, int] = {}
    for time, sender, recipients in sorted(rows):
        clock.set(time)
        if not limiter.try_acquire(Envelope(sender, recipients)):
            counts[sender] = counts.get(sender, 0) + 1
    return counts


@settings_of_numbers
@given(seeds)
def test_the_effect_of_each_number_is_that_of_a_replay_of_all_mail(seed: int) -> None:
    rows = honest(seed) + theft(seed) + newsletter(seed)
    outcome = results(rows)
    assert set(outcome.apart) == {THIEF, LETTER}
    for index, suggestion in enumerate(outcome.suggestions):
        assert suggestion.without is not None
        for numbers in (suggestion.numbers, suggestion.without):
            assert numbers.number is not None
            assert numbers.rounded is not None
            assert numbers.rounded >= numbers.number
            for number, effect in (
                (numbers.number, numbers.exact_effect),
                (numbers.rounded, numbers.rounded_effect),
            ):
                counts = refused(number, index, rows)
                of_apart = [counts[key] for key in outcome.apart if key in counts]
                assert effect == Effect(
                    number=number,
                    text=str(with_number(suggestion.limit, number)),
                    senders=len(counts),
                    messages=sum(counts.values()),
                    senders_apart=len(of_apart),
                    messages_apart=sum(of_apart),
                )


@given(st.integers(1, 10**15), st.integers(0, 10**12))
def test_a_round_number_is_near_and_not_below(number: int, more: int) -> None:
    rounded = round_up(number)
    assert number <= rounded < max(2 * number, 2)
    assert round_up(rounded) == rounded
    assert round_up(number + more) >= rounded
    assert len(str(rounded).rstrip("0")) <= 2


@pytest.mark.parametrize(
    ("number", "rounded"),
    [(1, 1), (7, 8), (9, 10), (11, 15), (42, 50), (104, 150), (151, 200), (1581, 2000), (24, 25)],
)
def test_a_number_is_rounded_up_to_one_that_a_person_would_set(number: int, rounded: int) -> None:
    assert round_up(number) == rounded


@settings_of_numbers
@given(seeds)
def test_a_low_number_of_recipients_is_not_suggested_without_a_word(seed: int) -> None:
    outcome = results(honest(seed), touch=60)
    [a_message, _, a_day, _] = outcome.suggestions
    assert a_message.number is not None
    assert a_message.number < 100 == a_message.best.rounded
    assert a_message.remark is not None
    assert "RFC 5321" in a_message.remark
    assert a_day.best.rounded is not None
    assert (a_day.remark is not None) == (a_day.best.rounded < 100)
