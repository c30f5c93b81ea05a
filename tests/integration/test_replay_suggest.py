"""`replay --suggest`: its numbers, compared with a brute force that tries every number."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from rlm_testkit.command_line import replay_json, run_replay, write_lines
from rlm_testkit.html_page import HtmlPage

from ratelimit_mail import (
    Client,
    Envelope,
    Limiter,
    MessageRateLimit,
    Policy,
    RecipientLimit,
    RecipientRateLimit,
    Tier,
)
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.cli.replay.demand import Demand
from ratelimit_mail.cli.replay.suggest import Suggestion, quota_of, suggest
from ratelimit_mail.cli.replay.time_bins import bins_for
from ratelimit_mail.conditions import has_tag
from ratelimit_mail.testing import ManualClock

T0 = 1_700_000_000
Mail = list[tuple[int, Envelope]]

WIRELESS = Client(address="10.1.2.3", tags=["wireless"])
WIRED = Client(address="10.1.2.4")


def some_mail(seed: int, messages: int = 150) -> Mail:
    """Return mail of a dozen senders, some much busier, in bursts, to both kinds of recipients."""
    rng = random.Random(seed)
    time, mail = T0 * 1000, []
    for _ in range(messages):
        time += rng.choice([0, 1, 500, 20_000, 60_000, 900_000])
        sender = f"s{min(int(rng.expovariate(0.3)), 11)}@x.org"
        domains = ["example.com", "example.net", "x.org"]
        recipients = [f"r{i}@{rng.choice(domains)}" for i in range(rng.randint(1, 9))]
        mail.append((time, Envelope(sender, recipients, rng.choice([WIRELESS, WIRED]))))
    return mail


def suggested(policy: Policy, mail: Mail, quota: int) -> list[Suggestion]:
    demand = Demand(policy, bins_for([time for time, _ in mail]), mail)
    return suggest(policy, demand, quota, lambda _: mail)


def affected(policy: Policy, mail: Mail) -> int:
    """Return how many senders have a message refused by `policy`."""
    clock = ManualClock(0)
    limiter = Limiter(policy, MemoryBackend(clock))
    senders = set()
    for time, envelope in mail:
        clock.set(time)
        if not limiter.try_acquire(envelope):
            senders.add(envelope.sender)
    return len(senders)


def policy_with(limit: RecipientLimit | MessageRateLimit | RecipientRateLimit) -> Policy:
    return Policy(name="one limit", limits=[limit], internal_domains=["x.org"])


PER_SENDER: dict[str, Callable[[int], Policy]] = {
    "messages": lambda n: policy_with(MessageRateLimit(f"{n}/minute")),
    "recipients": lambda n: policy_with(RecipientRateLimit(f"{n}/hour")),
    "external": lambda n: policy_with(RecipientRateLimit(f"{n} per 15 minutes", count="external")),
    "rejected": lambda n: policy_with(MessageRateLimit(f"{n}/hour", on_excess="reject")),
    "denied": lambda n: policy_with(RecipientRateLimit(f"{n}/hour", denied="count")),
    "slots": lambda n: policy_with(MessageRateLimit(f"{n}/minute", resolution="10 seconds")),
    "unique": lambda n: policy_with(RecipientRateLimit(f"{n}/hour", unique=True)),
    "calendar": lambda n: policy_with(RecipientRateLimit(f"{n}/calendar hour", time_zone="UTC")),
    "spread": lambda n: policy_with(RecipientRateLimit(f"{n}/minute", on_oversize="spread")),
    "blocked": lambda n: policy_with(MessageRateLimit(f"{n}/minute", on_excess="block")),
    "a message": lambda n: policy_with(RecipientLimit(n)),
    "a message, external": lambda n: policy_with(RecipientLimit(n, count="external")),
}


ONCE = ("unique", "calendar", "spread", "blocked")


@pytest.mark.parametrize(
    ("name", "quota"),
    [(name, quota) for name in PER_SENDER for quota in ([1] if name in ONCE else [0, 1, 3])],
)
def test_the_number_is_the_smallest_one_by_brute_force(name: str, quota: int) -> None:
    make = PER_SENDER[name]
    for seed in range(3):
        mail = some_mail(seed)
        smallest = next(n for n in range(1, 10_000) if affected(make(n), mail) <= quota)
        [found] = suggested(make(7), mail, quota)
        assert found.number == smallest
        assert found.affected == affected(make(smallest), mail)
        assert found.affected_below == (
            affected(make(smallest - 1), mail) if smallest > 1 else None
        )


def test_the_peaks_equal_those_of_a_brute_force() -> None:
    mail = some_mail(3)
    policy = policy_with(RecipientRateLimit("5 per 15 minutes", count="external"))
    demand = Demand(policy, bins_for([time for time, _ in mail]), mail)

    def used(at: int, sender: str) -> int:
        return sum(
            sum(domain != "x.org" for domain in envelope.domains)
            for time, envelope in mail[: at + 1]
            if envelope.sender == sender and time > mail[at][0] - 900_000
        )

    by_sender: dict[str, int] = {}
    by_bin = [0] * len(demand.bins)
    for at, (time, envelope) in enumerate(mail):
        if any(domain != "x.org" for domain in envelope.domains):
            amount = used(at, envelope.sender)
            by_sender[envelope.sender] = max(by_sender.get(envelope.sender, 0), amount)
            time_bin = demand.bins.find(time)
            assert time_bin is not None
            by_bin[time_bin] = max(by_bin[time_bin], amount)
    assert demand.by_sender == [by_sender]
    assert demand.peaks == [by_bin]


SHARED: dict[str, Callable[[int], Policy]] = {
    "global": lambda n: policy_with(MessageRateLimit(f"{n}/hour", scope="global")),
    "client": lambda n: policy_with(RecipientRateLimit(f"{n}/hour", scope="client")),
    "domain": lambda n: policy_with(RecipientRateLimit(f"{n}/hour", scope="sender_domain")),
    "recipient": lambda n: policy_with(MessageRateLimit(f"{n}/hour", scope="recipient")),
    "pair": lambda n: policy_with(
        MessageRateLimit(f"{n}/hour", scope=["sender", "recipient_domain"])
    ),
}


@pytest.mark.parametrize("quota", [0, 2])
@pytest.mark.parametrize("name", SHARED)
def test_for_a_shared_count_the_number_affects_few_and_one_less_too_many(
    name: str, quota: int
) -> None:
    make = SHARED[name]
    for seed in range(2):
        mail = some_mail(seed)
        [found] = suggested(make(7), mail, quota)
        assert found.number is not None
        assert found.affected == affected(make(found.number), mail) <= quota
        if found.number > 1:
            assert found.affected_below == affected(make(found.number - 1), mail)
            assert found.affected_below > quota


def test_each_limit_of_each_tier_is_tried_by_itself_with_the_whole_history() -> None:
    def policy(common: int, strict: int, loose: int) -> Policy:
        return Policy(
            name="two tiers",
            limits=[RecipientLimit(common)],
            tiers=[
                Tier(
                    "wireless",
                    when=has_tag("wireless"),
                    limits=[MessageRateLimit(f"{strict}/hour")],
                ),
                Tier("wired", limits=[MessageRateLimit(f"{loose}/day")]),
            ],
        )

    mail, many = some_mail(5), 10**6
    found = suggested(policy(3, 3, 3), mail, 1)
    assert [each.tier for each in found] == [None, "wireless", "wired"]
    makers: list[Callable[[int], Policy]] = [
        lambda n: policy(n, many, many),
        lambda n: policy(many, n, many),
        lambda n: policy(many, many, n),
    ]
    for each, make in zip(found, makers, strict=True):
        assert each.number == next(n for n in range(1, 10_000) if affected(make(n), mail) <= 1)


def test_a_limit_without_messages_has_no_number() -> None:
    policy = Policy(
        name="tiers",
        tiers=[Tier("guests", when=has_tag("guest"), limits=[RecipientLimit(3)])],
    )
    [found] = suggested(policy, some_mail(1), 1)
    assert (found.number, found.text, found.affected, found.affected_below) == (None, None, 0, None)


def test_the_number_is_1_if_all_senders_may_be_affected() -> None:
    [found] = suggested(policy_with(MessageRateLimit("9/minute")), some_mail(1), 12)
    assert (found.number, found.affected_below) == (1, None)
    assert found.text == "1 message per minute per sender"


@pytest.mark.parametrize(
    ("touch", "senders", "quota"),
    [(0.2, 4236, 8), (0.2, 500, 1), (0.2, 499, 0), (0.29, 10_000, 29), (0, 9, 0), (50, 3, 1)],
)
def test_a_share_is_never_exceeded_by_rounding(touch: float, senders: int, quota: int) -> None:
    assert quota_of(touch, senders) == quota


def run(file: Path, *options: str) -> Result:
    return run_replay(file, "leeds-office365", "--suggest", *options)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Write mail in which sender n sends n messages at once, the last to 10 n recipients."""
    rows = [
        f"{T0 + i},s{n}@x.org,{10 * n if i == n - 1 else 1}" for n in range(1, 11) for i in range(n)
    ]
    return write_lines(tmp_path / "log.csv", "time,sender,recipients", *rows)


def test_the_json_has_each_limit_with_its_number(file: Path) -> None:
    result = run(file, "--touch", "20", "--json")
    assert result.exit_code == 0, result.output
    report: dict[str, Any] = json.loads(result.stdout)
    assert report["suggested"] == {
        "touch_percent": 20,
        "limits": [
            {
                "limit": limit,
                "tier": None,
                "suggested": f"{number} {unit}",
                "number": number,
                "affected": 2,
                "share": 0.2,
                "one_less": {"affected": 3, "share": 0.3},
                "of_all_mail": effect(number, unit, 2, refused),
                "rounded": effect(rounded, unit, affected, refused_rounded),
                "without": None,
                "remark": remark,
            }
            for limit, unit, number, refused, rounded, affected, refused_rounded, remark in [
                (
                    "100 recipients per message",
                    "recipients per message",
                    *(80, 2, 100, 0, 0),
                    "this mail needs only 80 recipients a message, but mail servers must accept 100"
                    " (RFC 5321, 4.5.3.1.8)",
                ),
                (
                    "30 messages per minute per sender",
                    "messages per minute per sender",
                    *(8, 3, 8, 2, 3),
                    None,
                ),
                (
                    "10000 recipients per day per sender",
                    "recipients per day per sender",
                    *(87, 2, 100, 1, 1),
                    None,
                ),
            ]
        ],
        "set_apart": 0,
        "heavy_senders": [
            {
                "sender": "s10@x.org",
                "looks_like": None,
                "reason": "109 external recipients on 2023-11-14",
                "set_apart": False,
                "messages": 10,
                "recipients": {"minute": 109, "hour": 109, "day": 109},
                "day": "2023-11-14",
                "external": 1.0,
                "new": None,
            }
        ],
    }


def effect(number: int, unit: str, affected: int, refused: int) -> dict[str, Any]:
    """Return what a number does, if no sender is set apart."""
    shares = {
        "senders": {"affected": affected, "share": affected / 10},
        "messages": {"refused": refused, "share": refused / 55},
    }
    return {
        "number": number,
        "suggested": f"{number} {unit}",
        **shares,
        "not_set_apart": shares,
    }


def test_the_table_and_the_page_show_the_same_numbers(file: Path) -> None:
    page = file.parent / "report.html"
    result = run(file, "--touch", "20", "--report", str(page))
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert "Numbers that affect at most 20 % of the senders" in lines
    for line, cells in (
        ("80 is the smallest", ("2", "20.00 %", "2", "3.64 %")),
        ("8 is the smallest", ("2", "20.00 %", "3", "5.45 %")),
        ("87 is the smallest", ("2", "20.00 %", "2", "3.64 %")),
    ):
        at = lines.index(" ".join((line, *cells)))
        assert lines[at + 1].endswith("is one less 3 30.00 %")
        assert [line, *cells] in HtmlPage(page.read_text(encoding="utf-8")).rows
    heavy = ["s10@x.org", "-", "109", "109", "109", "unknown"]
    assert " ".join(heavy) in lines
    assert "s10@x.org" in page.read_text(encoding="utf-8")


def test_without_suggest_the_json_has_no_suggestions(file: Path) -> None:
    assert "suggested" not in replay_json(file, "leeds-office365")


@pytest.mark.parametrize("touch", ["-0.1", "100", "nan", "inf", "few"])
def test_an_invalid_share_is_an_error(file: Path, touch: str) -> None:
    result = run(file, "--touch", touch)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--touch" in result.stderr
