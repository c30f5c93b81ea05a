"""`replay --suggest`: what the mail of heavy senders looks like, each judged by its own mail."""

from __future__ import annotations

import random
from collections.abc import Iterable
from datetime import date

import pytest

from ratelimit_mail import Envelope, Policy
from ratelimit_mail.cli.replay import heavy_senders as module
from ratelimit_mail.cli.replay.heavy_senders import BusyDays, HeavySender, heavy_senders

DAY = 86_400_000
T0 = 19_700 * DAY
Mail = list[tuple[int, Envelope]]

POLICY = Policy(name="campus", internal_domains=["x.org"], subaddress="+")


def heavy_in(mail: Iterable[tuple[int, Envelope]], policy: Policy = POLICY) -> list[HeavySender]:
    in_order = sorted(mail, key=lambda item: item[0])
    busy_days = BusyDays(policy)
    for time, envelope in in_order:
        busy_days.add(time, envelope)
    return heavy_senders(policy, busy_days, lambda _: in_order)


def mail(sender: str, day: int, names: Iterable[object], each: int = 10) -> Mail:
    """Return the mail of one day to these recipients, in messages to `each` of them."""
    recipients = [f"{name}@example.com" for name in names]
    groups = [recipients[i : i + each] for i in range(0, len(recipients), each)]
    start = T0 + day * DAY + 9 * 3_600_000
    return [(start + i * 1000, Envelope(sender, group)) for i, group in enumerate(groups)]


def daily(sender: str, days: int, count: int) -> Mail:
    """Return mail to the same recipients on each day."""
    return [each for day in range(days) for each in mail(sender, day, range(count))]


def new(count: int, prefix: str = "new") -> list[str]:
    return [f"{prefix}{i}" for i in range(count)]


def test_a_burst_to_new_recipients_looks_like_a_theft() -> None:
    [thief] = heavy_in(daily("ann@x.org", 9, 12) + mail("Ann+x@X.org", 9, new(240)))
    assert thief.looks_like == "theft"
    assert thief.is_set_apart
    assert (thief.key, thief.sender, thief.messages) == ("ann@x.org", "ann@x.org", 9 * 2 + 24)
    assert (thief.minute, thief.hour, thief.day) == (240, 240, 240)
    assert (thief.burst, thief.before, thief.new) == (240, 12, 1.0)
    assert thief.on == date(2023, 12, 18)
    assert thief.reason == (
        "240 external recipients on 2023-12-18, at most 12 on any day before; 100% of them never"
        " had mail from it"
    )


@pytest.mark.parametrize(
    ("usual", "burst", "known", "looks_like"),
    [
        (12, 120, 0, "theft"),
        (12, 119, 0, None),  # not ten times as many
        (1, 99, 0, None),  # not heavy
        (100, 990, 0, None),
        (100, 1000, 100, "theft"),
        (30, 300, 30, "theft"),
        (20, 100, 20, None),
    ],
)
def test_a_burst_is_ten_times_the_busiest_day_before(
    usual: int, burst: int, known: int, looks_like: str | None
) -> None:
    """The first number is sent to on each of nine days, and `known` of them on the tenth, too."""
    names = [*range(known), *new(burst - known)]
    heavy = heavy_in(daily("ann@x.org", 9, usual) + mail("ann@x.org", 9, names))
    assert [each.looks_like for each in heavy if each.looks_like] == (
        [looks_like] if looks_like else []
    )


def test_a_burst_to_known_recipients_is_not_a_theft() -> None:
    """Each recipient has had mail before, over many days."""
    before = [
        each for day in range(40) for each in mail("ann@x.org", day, range(day * 10, day * 10 + 10))
    ]
    [heavy] = heavy_in(before + mail("ann@x.org", 40, range(400)))
    assert (heavy.looks_like, heavy.new, heavy.is_set_apart) == (None, 0.0, False)
    assert heavy.reason == "400 external recipients on 2024-01-18"


def test_without_earlier_mail_a_burst_needs_1000_recipients() -> None:
    assert [each.looks_like for each in heavy_in(mail("ann@x.org", 0, new(999)))] == [None]
    [thief] = heavy_in(mail("ann@x.org", 0, new(1000)))
    assert (thief.looks_like, thief.before) == ("theft", None)
    assert "no earlier mail to compare with" in thief.reason


def test_a_burst_over_midnight_and_one_of_many_days_are_one_burst() -> None:
    for days in (2, 4, 7):
        theft = [
            each
            for day in range(days)
            for each in mail("ann@x.org", 20 + day, new(300 + 100 * day, f"day{day}."))
        ]
        [thief] = heavy_in(daily("ann@x.org", 20, 5) + theft)
        assert thief.looks_like == "theft"
        assert thief.before == 5
        assert thief.day == 200 + 100 * days


def test_internal_recipients_are_not_a_burst() -> None:
    recipients = [f"r{i}@x.org" for i in range(3000)]
    burst = [(T0 + 9 * DAY, Envelope("ann@x.org", recipients))]
    assert heavy_in(daily("ann@x.org", 9, 2) + burst) == []
    [heavy] = heavy_in(daily("ann@x.org", 9, 2) + burst, Policy(name="all"))
    assert heavy.looks_like == "theft"


def newsletter(sizes: Iterable[int], days: Iterable[int], sender: str = "news@x.org") -> Mail:
    return [
        each
        for size, day in zip(sizes, days, strict=True)
        for each in mail(sender, day, range(size), 50)
    ]


def test_mail_of_one_size_at_regular_times_to_known_recipients_is_bulk_mail() -> None:
    [bulk] = heavy_in(newsletter([500, 510, 505, 520, 515], range(0, 35, 7)))
    assert (bulk.looks_like, bulk.mailings, bulk.size, bulk.every) == ("bulk", 5, 510, 7)
    assert bulk.reason == "5 mailings to about 510 recipients, one every 7 days"
    large = heavy_in(newsletter([1500] * 6, range(6)))
    assert [(each.looks_like, each.every) for each in large] == [("bulk", 1)]
    assert large[0].reason.endswith("one every day")


def test_mail_on_working_days_is_regular() -> None:
    days = [week * 7 + day for week in range(4) for day in range(5)]
    assert heavy_in(newsletter([200] * 20, days))[0].looks_like == "bulk"


@pytest.mark.parametrize(
    ("sizes", "days"),
    [
        ([500, 500, 500], [0, 7, 14]),
        ([500, 300, 480, 700, 260], [0, 7, 14, 21, 28]),
        ([500] * 5, [0, 1, 9, 11, 30]),
    ],
    ids=["too few", "different sizes", "irregular times"],
)
def test_irregular_mail_is_not_bulk_mail(sizes: list[int], days: list[int]) -> None:
    [heavy] = heavy_in(newsletter(sizes, days))
    assert (heavy.looks_like, heavy.mailings) == (None, 0)


def test_a_theft_in_equal_portions_is_not_bulk_mail() -> None:
    theft = [each for day in range(6) for each in mail("ann@x.org", day, new(1200, f"day{day}."))]
    [thief] = heavy_in(theft)
    assert thief.looks_like == "theft"


def test_the_theft_of_an_account_that_sends_bulk_mail_is_a_theft() -> None:
    regular = newsletter([100] * 8, range(0, 56, 7), "news@x.org")
    [thief] = heavy_in(regular + mail("news@x.org", 60, new(5000)))
    assert (thief.looks_like, thief.before) == ("theft", 100)


def test_a_burst_to_recipients_that_the_file_does_not_name_is_called_a_burst() -> None:
    unknown = [f"recipient-{i}@replay.invalid" for i in range(1, 101)]

    def burst(messages: int) -> Mail:
        return [(T0 + 9 * DAY + i, Envelope("ann@x.org", unknown)) for i in range(messages)]

    [heavy] = heavy_in(daily("ann@x.org", 9, 2) + burst(10))
    assert (heavy.looks_like, heavy.new, heavy.burst) == ("burst", None, 1000)
    assert heavy.reason.endswith("; the files do not say who they are")
    [heavy] = heavy_in(daily("ann@x.org", 9, 2) + burst(9))
    assert heavy.looks_like is None


def test_bounces_are_never_set_apart() -> None:
    [bounces] = heavy_in(mail("", 5, new(3000), 1))
    assert (bounces.key, bounces.looks_like) == ("<>", None)


def test_what_one_sender_sends_does_not_change_what_another_looks_like() -> None:
    choose = random.Random(7)
    senders = [
        daily("ann@x.org", 9, 12) + mail("ann@x.org", 9, new(240)),
        newsletter([500] * 6, range(6)),
        mail("bob@x.org", 3, new(1500)),
        newsletter([150, 700, 90], [0, 5, 6], "carl@x.org"),
    ]
    alone = [each for one in senders for each in heavy_in(one)]
    together = [each for one in senders for each in one]
    choose.shuffle(together)
    heavy = heavy_in(together)
    assert {each.key: each for each in heavy} == {each.key: each for each in alone}
    assert [each.looks_like for each in heavy] == ["theft", "theft", "bulk", None]
    assert [each.key for each in heavy[:2]] == ["bob@x.org", "ann@x.org"]


def test_a_sample_of_recipients_shows_the_share_that_is_new(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = [
        each for day in range(30) for each in mail("ann@x.org", day, range(day * 20, day * 20 + 20))
    ]
    [heavy] = heavy_in(before + mail("ann@x.org", 31, [*range(600), *new(1400)]))
    assert heavy.new == pytest.approx(0.7, abs=0.08)
    monkeypatch.setattr(module, "SAMPLE", 10_000)
    [heavy] = heavy_in(before + mail("ann@x.org", 31, [*range(600), *new(1400)]))
    assert heavy.new == 0.7


def test_only_the_heaviest_are_looked_at_and_bursts_come_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MOST", 3)
    steady = [each for i in range(5) for each in newsletter([900, 300], [0, 5], f"s{i}@x.org")]
    heavy = heavy_in(steady + daily("ann@x.org", 9, 12) + mail("ann@x.org", 9, new(240)))
    assert [each.key for each in heavy] == ["ann@x.org", "s3@x.org", "s4@x.org"]


def test_a_sender_of_yesterday_has_no_history_either() -> None:
    [heavy] = heavy_in(mail("ann@x.org", 8, range(5)) + mail("ann@x.org", 9, new(150)))
    assert heavy.looks_like is None
