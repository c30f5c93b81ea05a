"""`replay`: rules, moderators, overrides, aliases and limits that only report."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
from rich.console import Console
from rlm_testkit.command_line import run_command
from rlm_testkit.html_page import HtmlPage

from ratelimit_mail import (
    Envelope,
    Limiter,
    MessageRateLimit,
    Policy,
    RecipientLimit,
    RecipientRateLimit,
)
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.cli.html.page import render
from ratelimit_mail.cli.replay.demand import Demand
from ratelimit_mail.cli.replay.html.page import replay_page
from ratelimit_mail.cli.replay.html.results import Results
from ratelimit_mail.cli.replay.report import Report, as_json
from ratelimit_mail.cli.replay.report_tables import suggestion_table
from ratelimit_mail.cli.replay.retry import retry
from ratelimit_mail.cli.replay.run import DecisionCallback, replay
from ratelimit_mail.cli.replay.sender_delays import SenderDelays
from ratelimit_mail.cli.replay.suggest import suggest
from ratelimit_mail.cli.replay.terminal import print_report
from ratelimit_mail.cli.replay.time_bins import bins_for
from ratelimit_mail.cli.replay.timeline import Timeline
from ratelimit_mail.directory import Directory, MailingList
from ratelimit_mail.overrides import Exemption, Override
from ratelimit_mail.testing import ManualClock

T0 = 1_700_000_000_000
Mail = list[tuple[int, Envelope]]


def external(count: int) -> list[str]:
    return [f"r{i}@example.com" for i in range(count)]


def mail(*messages: tuple[str, Sequence[str]]) -> Mail:
    """Return messages that are a second apart."""
    return [
        (T0 + 1000 * i, Envelope(sender, recipients))
        for i, (sender, recipients) in enumerate(messages)
    ]


def report_of(policy: Policy, messages: Mail, *callbacks: DecisionCallback) -> Report:
    return Report(
        file="x.csv",
        format="csv",
        policy=policy.name,
        name=policy.name,
        tally=replay(policy, messages, *callbacks),
        first=messages[0][0],
        last=messages[-1][0],
        out_of_order=0,
        rejected_rows=0,
    )


def outputs(policy: Policy, messages: Mail) -> tuple[dict[str, Any], str, str]:
    """Return a replay's JSON, its tables for the terminal, and its page."""
    timeline = Timeline(bins_for([time for time, _ in messages]))
    report = report_of(policy, messages, timeline.add)
    terminal = Console(file=io.StringIO(), width=80)
    print_report(report, terminal)
    assert isinstance(terminal.file, io.StringIO)
    text = "\n".join(" ".join(line.split()) for line in terminal.file.getvalue().splitlines())
    sender_delays = SenderDelays(policy)
    page = replay_page(
        Results(
            report=report,
            policies={report.name: policy},
            timeline=timeline,
            demand=Demand(policy, timeline.bins, messages),
            delays={report.name: retry(policy, messages, sender_delays.add)},
            sender_delays=sender_delays,
        )
    )
    return as_json(report), text, render(page)


def suggested_numbers(policy: Policy, messages: Mail, quota: int = 0) -> list[int | None]:
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


def test_a_rule_that_refuses_has_a_table_and_affects_senders(tmp_path: Path) -> None:
    file = tmp_path / "log.csv"
    file.write_text("time,sender,recipients\n1,ann@x.org,1\n2,bob@x.org,1\n2,bob@x.org,1\n")
    arguments = ["replay", str(file), "--policy", "leeds-smtp"]
    page = tmp_path / "report.html"
    result = run_command(*arguments, "--json", "--report", str(page))
    report = json.loads(result.stdout)
    rule = "senders must be granted first"
    assert report["rules"] == [{"rule": rule, "rejected": 3, "held": 0}]
    assert report["senders"]["affected"] == 2
    table = run_command(*arguments, "--suggest").stdout
    lines = [" ".join(line.split()) for line in table.splitlines()]
    assert f"{rule} 3 0" in lines
    assert "no message is subject to it" in table
    assert [rule, "0", "3", "2", "100.00 %"] in HtmlPage(page.read_text()).rows


def test_a_message_held_for_a_moderator_is_neither_refused_nor_accepted() -> None:
    moderated = MailingList("news@x.org", posting="moderated")
    policy = Policy(name="x", limits=[RecipientLimit(5)], directory=Directory(lists=[moderated]))
    report, text, html = outputs(
        policy,
        mail(("ann@x.org", ["news@x.org"]), ("ann@x.org", external(1)), ("bob@x.org", external(6))),
    )
    counts = {kind: report["messages"][kind]["messages"] for kind in list(report["messages"])[1:]}
    assert counts == {"accepted": 1, "deferred": 0, "rejected": 1, "held": 1}
    assert report["messages"]["total"] == 3
    [rule] = report["rules"]
    assert (rule["rejected"], rule["held"]) == (0, 1)
    assert "news@x.org" in rule["rule"]
    assert report["senders"] == {"seen": 2, "affected": 1, "share": 0.5}
    assert report["most_affected"][0]["held"] == 0
    assert "held 1 33.33 %" in text
    assert "1 message would wait for a moderator." in html
    assert "<dt>Held</dt><dd>1 " in html


def test_a_limit_that_only_reports_has_its_own_table() -> None:
    policy = Policy(
        name="x", limits=[RecipientLimit(9), MessageRateLimit("2/minute", enforce=False)]
    )
    report, text, html = outputs(policy, mail(*[("ann@x.org", external(1))] * 5))
    assert report["messages"]["accepted"]["messages"] == 5
    assert report["senders"]["affected"] == 0
    shadow = "2 messages per minute per sender, only reported"
    assert report["only_reported"] == [{"limit": shadow, "deferred": 3, "rejected": 0}]
    assert [each["limit"] for each in report["limits"]] == ["9 recipients per message"]
    assert f"{shadow} 3 0" in text
    assert "Would have been refused (limits that only report)" in html
    assert suggested_numbers(policy, mail(*[("ann@x.org", external(1))] * 5)) == [1, 5]


def test_the_limit_of_an_override_is_listed_with_its_own_number() -> None:
    policy = Policy(
        name="x",
        limits=[RecipientLimit(3, name="recipients a message")],
        overrides=[Override({"recipients a message": 6}, senders=["ann@x.org"])],
    )
    report, _, _ = outputs(policy, mail(("ann@x.org", external(7)), ("bob@x.org", external(4))))
    rejected = {each["limit"]: each["rejected"] for each in report["limits"]}
    assert rejected == {"3 recipients per message": 1, "6 recipients per message": 1}


def test_suggestions_leave_out_senders_with_an_override_or_exemption() -> None:
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
        ("ann@x.org", external(50)),
        *[("bob@x.org", external(4))] * 9,
        *[("cat@x.org", external(5))] * 4,
    )
    assert suggested_numbers(policy, messages) == [5, 4]


def test_no_number_is_suggested_if_overrides_alone_affect_too_many_senders() -> None:
    policy = Policy(
        name="x",
        limits=[MessageRateLimit("9/hour", name="messages an hour")],
        overrides=[Override({"messages an hour": 1}, senders=["ann@x.org", "bob@x.org"])],
    )
    few = mail(*[(f"{name}@x.org", external(1)) for name in ("ann", "bob", "cat", "cat") * 3])
    assert suggested_numbers(policy, few, quota=1) == [None]
    assert suggested_numbers(policy, few, quota=2) == [6]
    many = few + [(T0 + 60_000 + i, Envelope("dan@x.org", external(1))) for i in range(30)]
    assert suggested_numbers(policy, many, quota=2) == [30]
    assert suggested_numbers(policy, many, quota=3) == [6]
    assert suggested_numbers(policy, many, quota=0) == [None]
    suggestions = suggest(policy, Demand(policy, bins_for([T0]), many), 1, lambda _: many)
    assert suggestion_table(attrs.evolve(report_of(policy, many), suggested=suggestions)).rows == [
        ("9 messages per hour per sender", "", "", "", ""),
        ("  no number fits, because of overrides", "2", "50.00 %", "", ""),
    ]


def test_suggestions_count_aliases_of_one_owner_together() -> None:
    policy = Policy(
        name="x",
        limits=[RecipientRateLimit("5/hour"), RecipientLimit(3)],
        directory=Directory(aliases={"a@x.org": "ann@x.org", "b@x.org": "ann@x.org"}),
    )
    messages = mail(
        ("a@x.org", external(3)), ("b@x.org", external(4)), ("bob@x.org", ["a@x.org", "b@x.org"])
    )
    rate, recipients = suggested_numbers(policy, messages)
    assert (rate, recipients) == (7, 4)
    assert not refuses(policy.evolve(limits=[RecipientRateLimit("7/hour")]), messages)
    assert refuses(policy.evolve(limits=[RecipientRateLimit("6/hour")]), messages)


def test_inbound_limits_and_counts_per_node_get_suggestions() -> None:
    policy = Policy(
        name="x",
        limits=[MessageRateLimit("2/hour", direction="inbound")],
        internal_domains=["x.org"],
        per_node=True,
    )
    messages = mail(*[(f"s{i}@x.org", ["ann@x.org", *external(2)]) for i in range(6)])
    assert suggested_numbers(policy, messages) == [6]
    assert suggested_numbers(policy, messages, quota=2) == [4]


def test_a_limit_with_a_share_gets_a_plain_number() -> None:
    policy = Policy(name="x", limits=[MessageRateLimit("10/hour", share=0.33)])
    assert suggested_numbers(policy, mail(*[("ann@x.org", external(1))] * 7)) == [7]
