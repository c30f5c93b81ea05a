"""What a replay tells of rules, moderators, overrides, aliases and limits that only report."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
from click.testing import CliRunner
from rich.console import Console

from ratelimit_mail import (
    Envelope,
    Limiter,
    MessageRateLimit,
    Policy,
    RecipientLimit,
    RecipientRateLimit,
)
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.cli.command import command
from ratelimit_mail.cli.replay.demand import Demand
from ratelimit_mail.cli.replay.html.page import render
from ratelimit_mail.cli.replay.outcome import Report, as_json
from ratelimit_mail.cli.replay.run import Watcher, replay
from ratelimit_mail.cli.replay.suggest import suggest
from ratelimit_mail.cli.replay.terminal import print_report
from ratelimit_mail.cli.replay.text_tables import suggestions
from ratelimit_mail.cli.replay.time_bins import bins_for
from ratelimit_mail.cli.replay.timeline import Timeline
from ratelimit_mail.directory import Directory, MailingList
from ratelimit_mail.overrides import Exemption, Override
from ratelimit_mail.testing import ManualClock

T0 = 1_700_000_000_000
Mail = list[tuple[int, Envelope]]


def to(count: int) -> list[str]:
    return [f"r{i}@example.com" for i in range(count)]


def mail(*messages: tuple[str, Sequence[str]]) -> Mail:
    """Messages a second apart."""
    return [
        (T0 + 1000 * i, Envelope(sender, recipients))
        for i, (sender, recipients) in enumerate(messages)
    ]


def reported(policy: Policy, messages: Mail, *watchers: Watcher) -> Report:
    return Report(
        file="x.csv",
        format="csv",
        policy=policy.name,
        given=policy.name,
        tally=replay(policy, messages, *watchers),
        first=messages[0][0],
        last=messages[-1][0],
        out_of_order=0,
        broken=0,
    )


def told(policy: Policy, messages: Mail) -> tuple[dict[str, Any], str, str]:
    """What a replay says as JSON, in a terminal, and on the page."""
    timeline = Timeline(bins_for([time for time, _ in messages]))
    report = reported(policy, messages, timeline.add)
    terminal = Console(file=io.StringIO(), width=80)
    print_report(report, terminal)
    assert isinstance(terminal.file, io.StringIO)
    text = "\n".join(" ".join(line.split()) for line in terminal.file.getvalue().splitlines())
    demand = Demand(policy, timeline.bins, messages)
    return as_json(report), text, render(report, policy, timeline, demand)


def smallest(policy: Policy, messages: Mail, quota: int = 0) -> list[int | None]:
    demand = Demand(policy, bins_for([time for time, _ in messages]), messages)
    return [each.number for each in suggest(policy, demand, quota, lambda _: messages)]


def refuses(policy: Policy, messages: Mail) -> bool:
    clock = ManualClock(0)
    limiter = Limiter(policy, MemoryBackend(clock))
    decisions = []
    for time, envelope in messages:
        clock.set(time)
        decisions.append(limiter.try_acquire(envelope))
    return not all(decisions)


def test_a_rule_that_refuses_has_a_table_and_touches(tmp_path: Path) -> None:
    file = tmp_path / "log.csv"
    file.write_text("time,sender,recipients\n1,ann@x.org,1\n2,bob@x.org,1\n2,bob@x.org,1\n")
    arguments = ["replay", str(file), "--policy", "leeds-smtp"]
    page = tmp_path / "report.html"
    result = CliRunner().invoke(command, [*arguments, "--json", "--report", str(page)])
    report = json.loads(result.stdout)
    rule = "senders must be granted first"
    assert report["rules"] == [{"rule": rule, "rejected": 3, "held": 0}]
    assert report["senders"]["touched"] == 2
    table = CliRunner().invoke(command, [*arguments, "--suggest"]).stdout
    lines = [" ".join(line.split()) for line in table.splitlines()]
    assert f"{rule} 3 0" in lines
    assert "no message met it" in table
    html = page.read_text()
    assert f"<span>{rule}</span></th><td>3</td><td>0</td>" in html
    assert "100.00 % (2)" in html


def test_what_a_moderator_holds_is_neither_refused_nor_sent() -> None:
    moderated = MailingList("news@x.org", posting="moderated")
    policy = Policy(name="x", limits=[RecipientLimit(5)], directory=Directory(lists=[moderated]))
    report, text, html = told(
        policy, mail(("ann@x.org", ["news@x.org"]), ("ann@x.org", to(1)), ("bob@x.org", to(6)))
    )
    counts = {kind: report["messages"][kind]["messages"] for kind in list(report["messages"])[1:]}
    assert counts == {"accepted": 1, "deferred": 0, "rejected": 1, "held": 1}
    assert report["messages"]["total"] == 3
    [rule] = report["rules"]
    assert (rule["rejected"], rule["held"]) == (0, 1)
    assert "news@x.org" in rule["rule"]
    assert report["senders"] == {"seen": 2, "touched": 1, "share": 0.5}
    assert report["most_touched"][0]["held"] == 0
    assert "held 1 33.33 %" in text
    assert "<dt>held</dt><dd>1 " in html


def test_a_limit_that_only_reports_has_a_table_of_its_own() -> None:
    policy = Policy(
        name="x", limits=[RecipientLimit(9), MessageRateLimit("2/minute", enforce=False)]
    )
    report, text, html = told(policy, mail(*[("ann@x.org", to(1))] * 5))
    assert report["messages"]["accepted"]["messages"] == 5
    assert report["senders"]["touched"] == 0
    shadow = "2 messages per minute per sender, only reported"
    assert report["only_reported"] == [{"limit": shadow, "deferred": 3, "rejected": 0}]
    assert [each["limit"] for each in report["limits"]] == ["9 recipients per message"]
    assert f"{shadow} 3 0" in text
    assert "Would have been refused (limits that only report)" in html
    assert smallest(policy, mail(*[("ann@x.org", to(1))] * 5)) == [1, 5]


def test_the_limit_of_an_override_is_counted_under_its_own_number() -> None:
    policy = Policy(
        name="x",
        limits=[RecipientLimit(3, name="recipients a message")],
        overrides=[Override({"recipients a message": 6}, senders=["ann@x.org"])],
    )
    report, _, _ = told(policy, mail(("ann@x.org", to(7)), ("bob@x.org", to(4))))
    found = {each["limit"]: each["rejected"] for each in report["limits"]}
    assert found == {"3 recipients per message": 1, "6 recipients per message": 1}


def test_numbers_are_suggested_for_those_who_have_no_override_of_that_limit() -> None:
    policy = Policy(
        name="x",
        limits=[
            RecipientLimit(3, name="recipients a message"),
            MessageRateLimit("2/hour", name="messages an hour"),
        ],
        overrides=[
            Override({"recipients a message": 60, "messages an hour": 1}, senders=["ann@x.org"])
        ],
        exemptions=[Exemption(["messages an hour"], senders=["bob@x.org"], reason="a robot")],
    )
    messages = mail(
        ("ann@x.org", to(50)),
        *[("bob@x.org", to(4))] * 9,
        *[("cat@x.org", to(5))] * 4,
    )
    assert smallest(policy, messages) == [5, 4]


def test_where_overrides_alone_touch_too_many_no_number_is_suggested() -> None:
    policy = Policy(
        name="x",
        limits=[MessageRateLimit("9/hour", name="messages an hour")],
        overrides=[Override({"messages an hour": 1}, senders=["ann@x.org", "bob@x.org"])],
    )
    few = mail(*[(f"{name}@x.org", to(1)) for name in ("ann", "bob", "cat", "cat") * 3])
    assert smallest(policy, few, quota=1) == [None]
    assert smallest(policy, few, quota=2) == [6]
    many = few + [(T0 + 60_000 + i, Envelope("dan@x.org", to(1))) for i in range(30)]
    assert smallest(policy, many, quota=2) == [30]
    assert smallest(policy, many, quota=3) == [6]
    assert smallest(policy, many, quota=0) == [None]
    found = suggest(policy, Demand(policy, bins_for([T0]), many), 1, lambda _: many)
    assert suggestions(attrs.evolve(reported(policy, many), suggested=found)).rows == [
        ("9 messages per hour per sender", "", ""),
        ("  no number will do: overrides", "2", "50.00 %"),
    ]


def test_aliases_of_one_owner_share_a_count_also_in_what_is_suggested() -> None:
    policy = Policy(
        name="x",
        limits=[RecipientRateLimit("5/hour"), RecipientLimit(3)],
        directory=Directory(aliases={"a@x.org": "ann@x.org", "b@x.org": "ann@x.org"}),
    )
    messages = mail(("a@x.org", to(3)), ("b@x.org", to(4)), ("bob@x.org", ["a@x.org", "b@x.org"]))
    rate, recipients = smallest(policy, messages)
    assert (rate, recipients) == (7, 4)
    assert not refuses(policy.evolve(limits=[RecipientRateLimit("7/hour")]), messages)
    assert refuses(policy.evolve(limits=[RecipientRateLimit("6/hour")]), messages)


def test_receiving_limits_and_counts_per_node_are_measured_too() -> None:
    policy = Policy(
        name="x",
        limits=[MessageRateLimit("2/hour", direction="inbound")],
        internal_domains=["x.org"],
        per_node=True,
    )
    messages = mail(*[(f"s{i}@x.org", ["ann@x.org", *to(2)]) for i in range(6)])
    assert smallest(policy, messages) == [6]
    assert smallest(policy, messages, quota=2) == [4]


def test_a_share_of_a_rate_is_suggested_as_a_number() -> None:
    policy = Policy(name="x", limits=[MessageRateLimit("10/hour", share=0.33)])
    assert smallest(policy, mail(*[("ann@x.org", to(1))] * 7)) == [7]
