"""`plan --report`: the calendar, the batches, and that the page needs nothing else."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rlm_testkit.command_line import error_line, run_command
from rlm_testkit.html_page import HtmlPage, assert_accessible, assert_self_contained

from ratelimit_mail.cli.plan.batches import batches_of, days_of
from ratelimit_mail.planner import MailingPlan

START = ["--start", "2026-11-23T09:00"]
MAILING = ["--policy", "leeds-office365", "--recipients", "25000", "--per-message", "100"]
LEEDS = [*MAILING, *START]
LONG = ["--recipients", "400000", "--per-message", "500", "--client", "129.100.1.1"]


def render(folder: Path, *options: str) -> HtmlPage:
    html = folder / "plan.html"
    result = run_command("plan", *options, "--report", str(html))
    assert result.exit_code == 0, result.output
    return HtmlPage(html.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> HtmlPage:
    options = [*LEEDS, "--policy", "western-office365", "--policy", "leeds-smtp"]
    return render(tmp_path_factory.mktemp("plan"), *options)


def test_the_page_needs_nothing_else_and_can_be_read_without_seeing_it(usual: HtmlPage) -> None:
    assert_self_contained(usual)
    assert_accessible(usual)


def test_the_summary_says_when_the_mailing_starts_and_ends(usual: HtmlPage) -> None:
    assert (
        "250 messages to 25,000 recipients go from Mon 23 Nov 2026, 09:00 UTC"
        " to Wed 25 Nov 2026, 09:01 UTC, which is 2 d 1 min after the start." in usual.words
    )
    assert "Half of the messages will have gone by Tue 24 Nov 2026, 09:00 UTC." in usual.words
    assert "They go on 3 days, in 3 batches" in usual.words
    assert "What delays the mailing longest: 10000 recipients per day per sender." in usual.words


def test_the_calendar_says_how_much_goes_on_each_day(usual: HtmlPage) -> None:
    titles = [title for title in usual.values("title") if not title.endswith(": 0 messages")]
    assert titles == [
        "Monday 23 November: 100 messages",
        "Tuesday 24 November: 100 messages",
        "Wednesday 25 November: 50 messages",
    ]
    assert ["23 100", "24 100", "25 50", "26", "27", "28", "29"] in usual.rows
    day = ["Tue 24 Nov 2026", "09:00 UTC", "09:03 UTC", "100", "10,000", "200 (80 %)"]
    assert day in usual.rows


def test_the_page_shows_batches_limits_and_rules(usual: HtmlPage) -> None:
    day = "25 Nov 2026"
    batch = ["3", f"Wed {day}, 09:00 UTC", f"Wed {day}, 09:01 UTC", "50", "5,000"]
    assert batch in usual.rows
    limit = "10000 recipients per day per sender"
    times = ["Mon 23 Nov 2026, 09:03 UTC", "Tue 24 Nov 2026, 09:00 UTC"]
    assert [limit, *times, "150"] in usual.rows
    assert ["everybody", limit] in usual.rows


def test_policies_are_compared(usual: HtmlPage) -> None:
    assert [row[:2] for row in usual.rows if row[0] in ("western-office365", "leeds-smtp")] == [
        ["western-office365", "2 d"],
        ["leeds-smtp", "never"],
    ]
    assert "Under leeds-smtp it can never finish" in usual.words


def test_days_are_those_of_the_time_zone(tmp_path: Path) -> None:
    options = [*MAILING, "--start", "2026-11-23T04:58Z", "--time-zone", "America/Toronto"]
    page = render(tmp_path, *options)
    assert "Sunday 22 November: 60 messages" in page.values("title")
    assert "Monday 23 November: 100 messages" in page.values("title")
    assert "which is 2 d 1 min after the start" in page.words


def test_a_mailing_that_goes_at_once_is_one_batch(tmp_path: Path) -> None:
    page = render(tmp_path, "--policy", "leeds-office365", "--messages", "1", *START)
    assert_accessible(page)
    assert "1 message to 1 recipient goes at once: Mon 23 Nov 2026, 09:00 UTC." in page.words
    assert "No limit delays a message: all of them fit at once." in page.words


def test_with_all_policies_the_page_compares_them(tmp_path: Path) -> None:
    page = render(tmp_path, "--all", "--messages", "10", *START)
    assert_self_contained(page)
    assert_accessible(page)
    assert "When this mailing goes under each policy 10 messages to 10 recipients" in page.words
    assert re.search(
        "Latest: under .* after the start\\. It can never finish under leeds-smtp", page.words
    )
    assert ["leeds-office365", "at once"] in [row[:2] for row in page.rows]


def test_a_long_mailing_has_a_page_of_bounded_size(tmp_path: Path) -> None:
    page = render(tmp_path, "--policy", "western-convergence", *LONG, *START)
    assert len(page.source) < 400_000
    assert "and 15 more months, until 30 January 2029" in page.words
    assert "and 770 more days" in page.words


def test_a_hostile_file_is_text_and_is_not_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "<b>mail.csv"
    file.write_text('recipients\n"<script>alert(1)</script>"@x.org\n')
    options = ["--policy", "leeds-office365", "--csv", str(file), *START]
    assert "is the input file" in error_line(run_command("plan", *options, "--report", str(file)))
    sender = "\"<script>alert('x')</script>\"@x.org"
    granted = ["--policy", "leeds-smtp", "--granted", "--sender", sender]
    page = render(tmp_path, *granted, "--messages", "10", *START)
    assert_self_contained(page)
    assert sender in page.words


def test_nothing_is_written_for_a_mailing_that_can_never_go(tmp_path: Path) -> None:
    html = tmp_path / "plan.html"
    options = ["--policy", "leeds-smtp", "--messages", "10", "--report", str(html)]
    assert "can never go" in error_line(run_command("plan", *options))
    assert not html.exists()


@given(st.lists(st.integers(0, 5 * 86_400), min_size=1, max_size=30))
def test_days_and_batches_have_each_message_once(seconds: list[int]) -> None:
    zone = ZoneInfo("Europe/London")
    start = datetime(2026, 10, 23, 9, tzinfo=UTC)  # the clocks go back on the 25th
    delays = tuple(map(float, sorted(seconds)))
    plan = MailingPlan(policy="x", start=start, delays=delays, sizes=(2,) * len(delays), held=())
    by_day: dict[date, int] = {}
    for delay in delays:
        day = (start + timedelta(seconds=delay)).astimezone(zone).date()
        by_day[day] = by_day.get(day, 0) + 1
    days = days_of(plan, zone)
    assert {day: batch.messages for day, batch in days.items()} == by_day
    batches = list(batches_of(plan))
    assert sum(batch.messages for batch in batches) == len(delays)
    assert sum(batch.recipients for batch in batches) == 2 * len(delays)
    for earlier, later in pairwise(batches):
        assert later.first - earlier.last >= timedelta(hours=1)
