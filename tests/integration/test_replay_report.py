"""`replay --report`: the content of the page, and that it needs nothing else."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from rlm_testkit.command_line import error_line, run_replay, write_lines
from rlm_testkit.html_page import HtmlPage, assert_accessible, assert_self_contained

from ratelimit_mail.cli.errors import CommandError
from ratelimit_mail.cli.html.output_file import OutputFile

LEEDS = "leeds-office365"
T0 = 1_700_000_000
YEAR = 365 * 86_400
HOSTILE = '"<script>alert(1)</script>&amp;$x^2$"@example.com'


Rendered = tuple[HtmlPage, str, dict[str, Any]]
"""A page, its source, and the JSON of the same run."""


def write(path: Path, *rows: tuple[float, str, int]) -> Path:
    lines = [
        f'{time},"{sender.replace(chr(34), chr(34) * 2)}",{count}' for time, sender, count in rows
    ]
    return write_lines(path, "time,sender,recipients", *lines)


def run(file: Path, *options: str, policy: str = LEEDS) -> Result:
    return run_replay(file, policy, *options)


def render(file: Path, *options: str, policy: str = LEEDS) -> Rendered:
    """Return the page, its source, and the JSON of the same run."""
    html = file.parent / "report.html"
    result = run(file, "--report", str(html), "--json", *options, policy=policy)
    assert result.exit_code == 0, result.output
    text = html.read_text(encoding="utf-8")
    return HtmlPage(text), text, json.loads(result.stdout)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_mail(tmp_path / "log.csv")


def write_mail(path: Path) -> Path:
    """Write mail of three senders: within the limits, over the rate, and over the size."""
    rows = [(T0 + 86_400 * day, "quiet@x.org", 2) for day in range(4)]
    rows += [(T0 + 90_000 + i, "busy@x.org", 1) for i in range(45)]
    rows += [(T0 + 180_000, "wide@x.org", 101)]
    return write(path, *rows)


@pytest.fixture(scope="module")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def usual(shared_folder: Path) -> Rendered:
    """Return what `render` does for the mail of `file`, once for all tests that only read it."""
    return render(write_mail(shared_folder / "usual.csv"))


@pytest.fixture(scope="module")
def compared(shared_folder: Path) -> Rendered:
    """Return the same with numbers that are suggested, and with another policy."""
    file = write_mail(shared_folder / "compared.csv")
    return render(file, "--compare", "western-convergence", "--suggest")


def test_the_page_needs_no_network_and_no_other_file(compared: Rendered) -> None:
    assert_self_contained(compared[0])


def test_the_page_can_be_read_without_seeing_it(compared: Rendered) -> None:
    page = compared[0]
    assert_accessible(page)
    assert len(page.attributes("svg")) > 30
    assert len([each for each in page.attributes("svg") if each.get("role") == "img"]) == 7


def test_the_summary_says_in_sentences_what_would_happen(usual: Rendered) -> None:
    words = usual[0].words
    assert "Of 50 messages, 34 (68.00 %) go at once, 15 (30.00 %) go later and 1" in words
    assert "50 messages of 3 senders, from 14 November 2023 to 17 November 2023" in words
    assert "2 of 3 senders (66.67 %) would be affected" in words
    assert "That is more than the mark of 0.2 %." in words
    assert "Of the delayed messages, half would go within 30 s, 95 % within 30 s" in words
    assert "1 message would never go, because a limit or rule rejects it" in words
    assert "Most are rejected by 100 recipients per message." in words


def test_the_page_says_how_late_the_mail_of_each_sender_would_be(usual: Rendered) -> None:
    rows = usual[0].rows
    assert ["busy@x.org", "45", "15", "0", "15", "30 s", "30 s", "0"] in rows
    assert ["wide@x.org", "1", "0", "1", "0", "-", "-", "1"] in rows
    assert ["up to 1 minute", "15", "30.00 %"] in rows
    assert ["never: rejected", "1", "2.00 %"] in rows


def test_the_page_says_the_rules_in_words(usual: Rendered) -> None:
    rows = usual[0].rows
    assert ["everybody", "100 recipients per message"] in rows
    assert ["everybody", "30 messages per minute per sender"] in rows


def test_the_tables_of_the_page_show_the_numbers_of_the_json(usual: Rendered) -> None:
    page, _, report = usual
    senders = report["senders"]
    part = f"{senders['share'] * 100:.2f} %"
    assert ["senders", str(senders["seen"]), str(senders["affected"]), part] in page.rows
    assert ["messages", "50", "16", "32.00 %"] in page.rows
    for each in report["limits"]:
        row = [each["limit"], str(each["deferred"]), str(each["rejected"])]
        assert row in [cells[:3] for cells in page.rows]


def test_the_page_says_how_near_senders_come_to_each_limit(usual: Rendered) -> None:
    page = usual[0]
    assert "Largest message: 101 recipients, 101 % of the limit." in page.words
    assert "Most in any minute of one sender: 45 messages, 150 % of the limit." in page.words
    assert "Most in any day of one sender: 101 recipients, 1.01 % of the limit." in page.words
    assert ["up to a quarter of the limit (at most 25)", "2", "66.67 %"] in page.rows
    assert ["above it, up to twice the limit (at most 60)", "1", "33.33 %"] in page.rows


def test_charts_show_their_values_under_the_pointer(usual: Rendered) -> None:
    page = usual[0]
    assert "2023-11-15 23:00: 45 messages" in page.titles
    assert "2023-11-15 23:00: 15 deferred, 0 rejected" in page.titles
    assert "Wed 23:00 to 24:00: 45 messages" in page.titles
    assert "one column per hour" in page.words
    assert ["2023-11-15 23:00", "15", "0"] in page.rows  # in a table, too


def test_the_rhythm_of_the_week_is_that_of_a_time_zone(
    tmp_path: Path, usual: Rendered, file: Path
) -> None:
    assert "Most on Wed from 23:00 to 24:00: 45 of 50." in usual[0].words
    assert "Hours are those of UTC." in usual[0].words
    toronto = render(file, "--timezone", "America/Toronto")[0].words
    assert "Most on Wed from 18:00 to 19:00: 45 of 50." in toronto
    assert "Hours are those of America/Toronto." in toronto
    # Half an hour beside the hours that are counted.
    assert "Hours are those of UTC." in render(file, "--timezone", "Asia/Kolkata")[0].words


def test_policies_are_compared_with_their_delays_and_rules(compared: Rendered) -> None:
    page = compared[0]
    assert "Under western-convergence, 1 sender is affected no longer: busy@x.org." in page.words
    assert ["leeds-office365", "2", "66.67 %", "-", "34", "15", "1", "30 s", "30 s"] in page.rows
    assert ["western-convergence", "1", "33.33 %", "-1", "49", "0", "1", "-", "-"] in page.rows
    assert ["tier 1", "any other client:"] in page.rows
    assert ["45 is the smallest", "0", "0.00 %", "0", "0.00 %"] in page.rows


def test_a_theft_is_named_beside_the_suggested_numbers(tmp_path: Path) -> None:
    lines = [f"{T0},ann@x.org,bob@y.org"]
    for i in range(12):
        recipients = " ".join(f"v{i}-{n}@z.org" for n in range(100))
        lines.append(f"{T0 + 100 * i},thief@x.org,{recipients}")
    file = write_lines(tmp_path / "log.csv", "time,sender,recipients", *lines)
    page, _, _ = render(file, "--suggest", policy="leeds-office365")
    assert "looks like a theft, a burst or bulk mail: thief@x.org (theft)." in page.words
    assert ["thief@x.org", "theft", "100", "1,200", "1,200", "100%"] in [x[:6] for x in page.rows]


def test_the_page_says_what_was_left_out(tmp_path: Path) -> None:
    rows = ["time,sender,recipients", f"{T0},ann@x.org,1", f"{T0},ann@x.org,", "<b>,a@x.org,1"]
    page, text, _ = render(write_lines(tmp_path / "log.csv", *rows))
    assert ["skipped", "2 that cannot be read"] in page.rows
    assert ["share skipped", "66.67 %"] in page.rows
    assert "recipients: a message needs at least one" in page.words
    assert "<b>," not in text


def test_senders_beyond_the_most_affected_have_one_row(tmp_path: Path) -> None:
    rows = [(T0, f"user{number}@x.org", 101) for number in range(100)]
    page, text, _ = render(write(tmp_path / "log.csv", *rows))
    assert ["75 more affected senders", "75", "0", "75", "", "", "", ""] in page.rows
    assert len([row for row in page.rows if row[0].startswith("user")]) == 25
    assert len(text) < 200_000


def test_touch_sets_the_mark(file: Path) -> None:
    assert "the line is the mark of 12.5 %." in render(file, "--touch", "12.5")[0].words
    assert "the line is" not in render(file, "--touch", "0")[0].words


def test_the_same_mail_gives_the_same_page_byte_for_byte(file: Path) -> None:
    first = render(file, "--compare", "western-office365")[1]
    arguments = ["-m", "ratelimit_mail.cli", "replay", str(file), "--policy", LEEDS]
    arguments += ["--compare", "western-office365", "--report", str(file.parent / "again.html")]
    again = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONHASHSEED": "7"},
        capture_output=True,
        check=True,
    )
    assert again.stderr == b""
    assert (file.parent / "again.html").read_text(encoding="utf-8") == first


def test_hostile_senders_are_escaped_everywhere(tmp_path: Path) -> None:
    file = write(tmp_path / "<b>log.csv", *[(T0, HOSTILE, 1)] * 31)
    page, text, _ = render(file, "--suggest", "--compare", "western-office365")
    assert_self_contained(page)
    assert_accessible(page)
    assert text.count("<script") == 1
    assert not page.attributes("b") or all(not attrs for attrs in page.attributes("b"))
    assert [HOSTILE, "31", "1", "0", "1", "1 min", "1 min", "0"] in page.rows
    assert f"from {HOSTILE}." in page.words
    assert "<b>log.csv" in page.words
    assert "<b>log.csv" not in text


def test_very_long_and_unprintable_senders_do_no_harm(tmp_path: Path) -> None:
    strange = "\U0001f9a4\u0915\u06f1\u4e2d@example.com"
    long = "a" * 200 + "@example.com"
    file = write(tmp_path / "log.csv", *[(T0, strange, 1)] * 33, *[(T0, long, 1)] * 32)
    names = [row[0] for row in render(file)[0].rows]
    assert {strange, long} <= set(names)


def test_without_refusals_there_are_words_instead_of_charts(tmp_path: Path) -> None:
    file = write(tmp_path / "log.csv", *[(T0 + 3600 * i, "ann@x.org", 1) for i in range(5)])
    page, _, _ = render(file, "--compare", "western-office365")
    assert "No sender would notice: every message goes at once." in page.words
    assert "No sender is affected: nothing was deferred or rejected." in page.words
    assert "Under western-office365 the same senders are affected." in page.words
    assert "most affected" not in page.words
    assert ["senders", "1", "0", "0.00 %"] in page.rows


def test_a_limit_without_messages_has_no_chart(tmp_path: Path) -> None:
    page, _, _ = render(
        write(tmp_path / "log.csv", (T0, "ann@x.org", 1)), policy="western-convergence"
    )
    assert (
        "tier 1: 500 external recipients per day per submitter No message is subject to this limit."
        in page.words
    )


def test_the_share_of_the_clients_of_each_tier_can_be_read_off(tmp_path: Path) -> None:
    lines = [f"{T0},u{i}@uwo.ca,1,129.100.1.{i}" for i in range(200)]
    lines += [f"{T0 + i},loud@uwo.ca,1,129.100.2.1" for i in range(501)]
    file = write_lines(tmp_path / "log.csv", "time,sender,recipients,client", *lines)
    page, _, _ = render(file, policy="western-convergence")
    words = "1 of 201 clients in tier 1 (0.50 %) would be affected, more than the mark of 0.2 %."
    assert words in page.words
    assert ["clients", "201", "1", "0.50 %"] in page.rows


def test_a_report_of_one_message_is_complete(tmp_path: Path) -> None:
    page, text, _ = render(write(tmp_path / "log.csv", (T0, "ann@x.org", 1)), "--suggest")
    assert_self_contained(page)
    assert_accessible(page)
    assert "The busiest minute had 1 message at 2023-11-14 22:13 UTC." in page.words
    assert not re.search(r"\b(nan|inf)\b", text)


@pytest.mark.parametrize(
    ("span", "unit"),
    [
        (600, "minute"),
        (86_400, "hour"),
        (60 * 86_400, "day"),
        (3 * YEAR, "week"),
        (23 * YEAR, "month"),
        (90 * YEAR, "year"),
        (7_900 * YEAR, "year"),
    ],
)
def test_the_length_of_a_column_depends_on_the_span_and_is_stated(
    tmp_path: Path, span: int, unit: str
) -> None:
    rows = [(T0 + span * i // 40, "ann@x.org", 1) for i in range(41)]
    file = write(tmp_path / "log.csv", *rows)
    page, text, _ = render(file, policy="western-convergence")
    assert f"one column per {unit}" in page.words
    assert len(text) < 400_000


def test_times_up_to_the_year_9999_are_drawn(tmp_path: Path) -> None:
    rows = [(253_402_300_799, "ann@x.org", 1), (0, "ann@x.org", 1)]
    page, _, _ = render(write(tmp_path / "log.csv", *rows))
    assert "1970-01-01 to 9999-12-31 UTC, one column per year" in page.words


def test_a_few_outliers_are_counted_but_left_out_of_the_charts(tmp_path: Path) -> None:
    rows = [(T0 + 60 * i, "ann@x.org", 1) for i in range(2_000)] + [(1, "old@x.org", 1)]
    page, _, report = render(write(tmp_path / "log.csv", *rows, (T0 * 2, "new@x.org", 101)))
    assert report["rows"]["messages"] == 2_002
    assert "1 before 14 November 2023 and 1 from 16 November 2023 on." in page.words
    assert "one column per hour" in page.words
    assert "Deferred and rejected per hour" not in page.words
    assert "1 message would never go" in page.words


def test_without_its_dependencies_the_report_says_what_to_install(file: Path) -> None:
    for missing in ("jinja2",):
        start = (
            f"import sys; sys.modules[{missing!r}] = None;"
            "from ratelimit_mail.cli import main; main()"
        )
        arguments = [sys.executable, "-c", start, "replay", str(file), "--policy", LEEDS]
        html = file.parent / "none.html"
        done = subprocess.run(
            [*arguments, "--report", str(html)], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout) == (2, "")
        [line] = done.stderr.splitlines()
        assert "pip install 'ratelimit-mail[report]'" in line
        assert not html.exists()
        without = subprocess.run([*arguments, "--suggest"], capture_output=True, check=True)
        assert b"Numbers that affect" in without.stdout


def test_a_report_that_cannot_be_written_is_an_error_before_the_replay(file: Path) -> None:
    directory = file.parent
    (directory / "pipe").unlink(missing_ok=True)
    os.mkfifo(directory / "pipe")
    before = file.read_bytes()
    for name, reason in (
        ("nowhere/report.html", "does not exist"),
        (".", "is a directory"),
        ("pipe", "is not a regular file"),
        ("log.csv", "is the input file"),
        ("x" * 300, "File name too long"),
    ):
        line = error_line(run(file, "--report", str(directory / name)))
        assert line.startswith("--report ")
        assert reason in line
    assert file.read_bytes() == before


def test_a_directory_deleted_before_writing_is_an_error(file: Path) -> None:
    directory = file.parent / "gone"
    directory.mkdir()
    output = OutputFile(directory / "report.html", file)
    directory.rmdir()
    with pytest.raises(CommandError, match=r"--report .*report\.html: No such file"):
        output.write("a report")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write")
def test_a_directory_without_permission_is_an_error(file: Path) -> None:
    closed = file.parent / "closed"
    closed.mkdir(mode=0o500)
    assert "cannot write to the directory" in error_line(
        run(file, "--report", str(closed / "r.html"))
    )


def test_a_report_replaces_an_older_one_and_leaves_no_other_file(file: Path) -> None:
    directory = file.parent
    (directory / "real.html").write_text("the last one")
    (directory / "link.html").symlink_to(directory / "real.html")
    assert run(file, "--report", str(directory / "link.html")).exit_code == 0
    assert (directory / "link.html").is_symlink()
    assert (directory / "real.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert sorted(path.name for path in directory.iterdir()) == [
        "link.html",
        "log.csv",
        "real.html",
    ]


def test_report_does_not_change_the_tables(file: Path) -> None:
    html = file.parent / "report.html"
    assert run(file, "--report", str(html)).output == run(file).output
