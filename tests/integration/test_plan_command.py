"""The command `plan`: its tables and JSON, its three ways to say how much, and bad input."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from ratelimit_mail.cli.command import command
from ratelimit_mail.cli.plan import command as module
from ratelimit_mail.cli.plan.mailing import moment_of
from ratelimit_mail.cli.plan.tables import MOST_ROWS, print_plan
from ratelimit_mail.limits import MessageRateLimit
from ratelimit_mail.planner import plan_mailing
from ratelimit_mail.policy import Policy
from ratelimit_mail.presets import PRESETS

LEEDS = ("--policy", "leeds-office365")
START = ("--start", "2026-11-23T09:00:00")
UNIX = 1_795_424_400.0
SHELL = [sys.executable, "-m", "ratelimit_mail.cli"]


def run(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "80"}).invoke(command, ["plan", *arguments])


def output(*arguments: str) -> str:
    result = run(*arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


def lines(*arguments: str) -> list[str]:
    """What is printed, with every run of spaces as one."""
    return [" ".join(line.split()) for line in output(*arguments).splitlines()]


def report(*arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(output(*arguments, "--json"))
    return found


def last(*arguments: str) -> float:
    """How many seconds after the start the last message goes, under the one policy."""
    [plan] = report(*arguments)["plans"]
    return float(plan["last"]["after"])


def complaint(*arguments: str) -> str:
    """The one line that is printed where there is no plan."""
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    [line] = result.stderr.splitlines()
    assert line.startswith("Error: ")
    return line.removeprefix("Error: ")


# What is printed


def test_one_policy_is_told_in_full() -> None:
    told = lines(*LEEDS, "--messages", "25000", *START)
    assert told[:7] == [
        "Plan of 25,000 messages under leeds-office365",
        "",
        "recipients 25,000 in all",
        "start 2026-11-23 09:00:00 UTC",
        "first 2026-11-23 09:00:00 UTC, after 00:00:00",
        "half 2026-11-24 10:23:00 UTC, after 1 d 01:23:00",
        "last 2026-11-25 11:46:00 UTC, after 2 d 02:46:00",
    ]
    minute, day = "30 messages per minute per sender", "10000 recipients per day per sender"
    for line in (
        f"00:00:00 05:33:00 {minute} 24,970",
        f"05:33:00 1 d 00:00:00 {day} 15,000",
        f"2 d 00:00:00 2 d 02:46:00 {minute} 4,970",
        f"0 to 4 1,800 1,800 {minute}",
        f"5 1,000 1,000 {minute}",
        f"6 to 23 0 0 {day}",
        f"50 1,400 1,400 {minute}",
    ):
        assert line in told
    assert "Side by side" not in "\n".join(told)


def test_several_policies_stand_side_by_side_below_the_first() -> None:
    others = ("--policy", "western-office365", "--policy", "western-convergence")
    told = lines(*LEEDS, *others, "--messages", "12000", *START)
    assert told[0] == "Plan of 12,000 messages under leeds-office365"
    below = told[told.index("Side by side: when messages will have gone, after the start") :]
    assert [line for line in below if line.startswith(("leeds", "western"))] == [
        "leeds-office365 00:00:00 03:19:00 1 d 01:06:00 10000 recipients",
        "western-office365 00:00:00 00:00:00 1 d 00:00:00 10000 recipients",
        "western-convergence 00:00:00 11 d 02:15:00 23 d 02:15:00 500 external",
    ]


def test_all_puts_every_preset_side_by_side() -> None:
    told = output("--all", "--messages", "40")
    assert told.startswith("Side by side")
    for name in PRESETS:
        assert f"\n{name} " in told
    assert "Plan of 40 messages under leeds-office365" in output(
        "--all", *LEEDS, "--messages", "40"
    )


def test_a_policy_that_is_named_twice_stands_there_once() -> None:
    found = report(*LEEDS, *LEEDS, "--all", "--messages", "1")
    names = [plan["policy"] for plan in found["plans"]]
    assert names == ["leeds-office365", *(name for name in PRESETS if name != "leeds-office365")]


def test_a_plan_that_never_finishes_under_one_policy_may_under_another() -> None:
    both = (*LEEDS, "--policy", "western-office365", "--recipients", "600", "--per-message", "200")
    told = lines(*both)
    assert told[0].startswith("Side by side")  # there is no plan of the first to tell in full
    assert "leeds-office365 never" in told
    assert "western-office365 00:00:00 00:00:00 00:00:00 nothing" in told
    why = "message 1, with 200 recipients, can never go: at most 100 recipients per message"
    assert why in " ".join(told)
    never, can = report(*both)["plans"]
    assert never == {"policy": "leeds-office365", "never": why}
    assert (can["never"], can["last"]["after"]) == (None, 0.0)


def test_a_plan_that_never_finishes_under_any_policy_says_why_for_each_and_fails() -> None:
    both = (*LEEDS, "--policy", "western-office365", "--recipients", "600", "--per-message", "600")
    result = run(*both)
    assert result.exit_code == 2
    assert "at most 100 recipients per message" in " ".join(result.stdout.split())
    assert "at most 500 recipients per message" in " ".join(result.stdout.split())
    assert result.stderr == "Error: none of these policies lets all messages go\n"
    failed = run(*both, "--json")
    assert failed.exit_code == 2
    assert [plan["policy"] for plan in json.loads(failed.stdout)["plans"]] == [
        "leeds-office365",
        "western-office365",
    ]


def test_a_plan_that_fits_at_once_says_that_no_limit_holds() -> None:
    told = lines(*LEEDS, "--messages", "1", *START)
    assert told[0] == "Plan of 1 message under leeds-office365"
    assert "No limit holds: every message fits at once." in told
    assert told[-1] == "0 1 1"


def test_json_has_the_same_for_machines() -> None:
    found = report(*LEEDS, "--recipients", "6100", "--per-message", "100", *START)
    minute = "30 messages per minute per sender"

    def moment(after: float) -> dict[str, float]:
        return {"time": UNIX + after, "after": after}

    assert found == {
        "start": UNIX,
        "messages": 61,
        "recipients": 6100,
        "plans": [
            {
                "policy": "leeds-office365",
                "never": None,
                "first": moment(0),
                "half": moment(60),
                "last": moment(120),
                "longest_held": minute,
                "held": [{"limit": minute, "from": moment(0), "to": moment(120), "waiting": 31}],
                "by_hour": [{"hour": 0, "messages": 61, "recipients": 6100, "held": [minute]}],
            }
        ],
    }


def test_tables_fit_80_columns_and_carry_no_escape_codes() -> None:
    told = output("--all", *LEEDS, "--messages", "3000")
    assert max(map(len, told.splitlines())) <= 80
    assert "\x1b" not in told
    assert "…" not in told


def test_a_long_schedule_is_cut_and_says_so() -> None:
    limit = MessageRateLimit("1/90 minutes")
    slow = plan_mailing(Policy(name="slow", limits=[limit]), [1] * 200)
    text = io.StringIO()
    print_plan(slow, Console(file=text, width=80))
    # 100 rows of two hours with a message each, and 99 between them without one
    assert f"and {199 - MOST_ROWS} more rows; --json has all of them" in text.getvalue()


def test_parts_of_a_second_are_rounded_up() -> None:
    quick = Policy(name="quick", limits=[MessageRateLimit("2/second")])
    text = io.StringIO()
    start = moment_of("1700000000.25")
    print_plan(plan_mailing(quick, [1, 1, 1], start=start), Console(file=text, width=80))
    assert "22:13:22 UTC, after 00:00:01" in text.getvalue()


# How much there is to send


def test_recipients_are_spread_over_as_few_messages_as_there_can_be() -> None:
    found = report(*LEEDS, "--recipients", "4010", "--per-message", "80")
    assert (found["messages"], found["recipients"]) == (51, 4010)
    assert found["plans"][0]["by_hour"][0]["recipients"] == 4010


def write(path: Path, *rows: str) -> str:
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return str(path)


def test_a_csv_file_has_addresses_or_numbers_in_its_recipients_column(tmp_path: Path) -> None:
    rows = ("Name, Recipients", "Ann,bob@x.org; kim@x.org  joe@x.org", "", "Bob,7", "Kim,eve@x.org")
    found = report(*LEEDS, "--csv", write(tmp_path / "mail.csv", *rows))
    assert (found["messages"], found["recipients"]) == (3, 11)


@pytest.mark.parametrize("name", ["n_recipients", "count"])
def test_a_column_of_numbers_may_be_named_as_in_a_replay(tmp_path: Path, name: str) -> None:
    found = report(*LEEDS, "--csv", write(tmp_path / "mail.csv", f"id,{name}", "1,2", "2,3"))
    assert (found["messages"], found["recipients"]) == (2, 5)


def test_a_csv_file_may_be_compressed(tmp_path: Path) -> None:
    file = tmp_path / "mail.csv.gz"
    file.write_bytes(gzip.compress(b"recipients\n1\n2\n"))
    assert report(*LEEDS, "--csv", str(file))["recipients"] == 3


def test_internal_addresses_of_a_file_are_free_where_the_policy_says_so(tmp_path: Path) -> None:
    inside = " ".join(f"user{i}@uwo.ca" for i in range(60))
    outside = " ".join(f"user{i}@example.com" for i in range(30))
    file = write(tmp_path / "mail.csv", "recipients", inside, outside, inside, outside)
    assert last("--policy", "western-convergence", "--csv", file) == 900


# Who sends it, and when


@pytest.mark.parametrize(
    ("who", "seconds"),
    [
        ((), 900),
        (("--client", "129.100.6.7"), 0),
        (("--client", "129.100.6.7", "--protocol", "webmail"), 900),
        (("--client", "129.100.6.7", "--tag", "printer", "--tag", "wireless"), 900),
        (("--client", "198.51.100.7"), 900),
    ],
)
def test_the_client_decides_on_the_tier(who: tuple[str, ...], seconds: float) -> None:
    assert last("--policy", "western-convergence", "--messages", "51", *who) == seconds


def test_a_sender_that_was_never_granted_is_refused_by_the_rule() -> None:
    assert complaint("--policy", "leeds-smtp", "--messages", "1") == (
        "under leeds-smtp, message 1, with 1 recipient, can never go: senders must be granted first"
    )


def test_it_can_be_planned_as_if_the_sender_were_granted() -> None:
    assert last("--policy", "leeds-smtp", "--messages", "40", "--granted") == 0
    assert last(*LEEDS, "--messages", "31", "--granted") == 60


@pytest.mark.parametrize("text", ["2026-11-23T10:00:00+01:00", "1795424400", "2026-11-23 09:00Z"])
def test_the_start_has_a_zone_or_is_utc_or_unix_seconds(text: str) -> None:
    assert report(*LEEDS, "--messages", "1", "--start", text)["start"] == UNIX


# Bad input


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((), "exactly one of --messages, --csv, --recipients is needed"),
        (
            ("--messages", "1", "--recipients", "1", "--per-message", "1"),
            "exactly one of --messages, --csv, --recipients is needed,"
            " not --messages and --recipients together",
        ),
        (("--messages", "1", "--csv", "x.csv"), "not --messages and --csv together"),
        (("--recipients", "1"), "one needs the other"),
        (("--messages", "1", "--per-message", "1"), "one needs the other"),
        (("--messages", "1", "--start", "soon"), "--start: 'soon' is neither Unix seconds nor"),
        (("--messages", "1", "--start", "9999-06-01"), "start: 9999-06-01 00:00:00+00:00 is not"),
        (("--messages", "1", "--sender", "ann"), "sender: the address 'ann' has no '@'"),
        (("--messages", "1", "--client", "here"), "client address: 'here' is not an IP address"),
        (("--messages", "1", "--tag", ""), "client tags: '' is not a word"),
        (("--csv", "missing.csv"), "missing.csv: No such file or directory"),
    ],
)
def test_what_does_not_go_together_is_told_in_one_line(
    arguments: tuple[str, ...], text: str
) -> None:
    assert text in complaint(*LEEDS, *arguments)


def test_a_policy_is_needed_and_must_be_one() -> None:
    assert complaint("--messages", "1") == (
        "a policy is needed: --policy NAME, or --all for all presets"
    )
    assert "did you mean leeds-office365" in complaint(
        "--policy", "leeds-ofice365", "--messages", "1"
    )


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--messages", "0"), "0 is not in the range 1<=x<=1000000"),
        (("--messages", "1000001"), "1000001 is not in the range"),
        (("--messages", "many"), "'many' is not a valid integer"),
        (("--recipients", "-4"), "-4 is not in the range"),
        (("--recipients", "4", "--per-message", "0"), "0 is not in the range"),
        (("--messages", "1", "--protocol", "fax"), "'fax' is not one of 'smtp', 'webmail', 'api'"),
    ],
)
def test_a_number_out_of_range_is_told_with_the_option(
    arguments: tuple[str, ...], text: str
) -> None:
    result = run(*LEEDS, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert arguments[-2] in result.stderr
    assert text in result.stderr


BAD_FILES: dict[bytes, str] = {
    b"": "is empty",
    b"\n\n": "is empty",
    b"recipients\n": "has no messages",
    b"to,cc\n1,2\n": "no column for the recipients (recipients or n_recipients or count);"
    " the header has 'to', 'cc'",
    b"recipients,Recipients\n1,2\n": "the header has the column 'recipients' twice",
    b"recipients\n1\n\n0\n": "line 4: recipients: a message needs at least one",
    b"recipients\n-3\n": "line 2: recipients: '-3' is no number of recipients",
    b"recipients\n1000001\n": "line 2: recipients: 1,000,001 are more than 1,000,000",
    b"recipients\n1\nbob\n": "line 3: recipients: the address 'bob' has no '@'",
    b"id,recipients\n1,\n": "line 2: recipients: a message needs at least one",
    b"recipients\n1,2\n": "line 2: 2 columns where the header has 1",
    b'recipients\n1\n"a"b\n': "line 3: no CSV: ",
    b'recipients\n"a@x.org\nb@x.org"\nbob\n': "line 4: ",
    b"recipients\n\xff@\x1b[2J\n": "line 2: recipients: ",
    b"recipients\n1\n\x00\n": "line 3 has a NUL byte",
}


@pytest.mark.parametrize("content", BAD_FILES)
def test_a_file_that_cannot_be_read_is_told_with_its_line(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "mail.csv"
    file.write_bytes(content)
    told = complaint(*LEEDS, "--csv", str(file))
    assert told.startswith(f"{file}: ")
    assert BAD_FILES[content] in told
    assert "\x1b" not in told


def test_names_from_strangers_are_escaped(tmp_path: Path) -> None:
    file = tmp_path / "a\x1b[31m.csv"
    assert "a\\x1b[31m.csv: No such file" in complaint(*LEEDS, "--csv", str(file))
    assert complaint("--policy", "\x1b[31m", "--messages", "1").startswith(
        "there is no policy \\x1b[31m"
    )


def test_a_directory_is_no_csv_file(tmp_path: Path) -> None:
    assert complaint(*LEEDS, "--csv", str(tmp_path)).endswith(": Is a directory")


def test_a_message_over_the_cap_is_told_in_one_line() -> None:
    assert complaint(*LEEDS, "--recipients", "101", "--per-message", "101") == (
        "under leeds-office365, message 1, with 101 recipients,"
        " can never go: at most 100 recipients per message"
    )


# As a shell meets it


class Terminal(io.StringIO):
    """A terminal as far as the progress bar can tell."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("most", "shown"), [(9, True), (10, False)])
def test_a_bar_shows_for_long_plans_on_a_terminal_alone(
    monkeypatch: pytest.MonkeyPatch, most: int, shown: bool
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(module, "WITHOUT_A_BAR", most)
    monkeypatch.setattr(
        module,
        "Console",
        lambda stderr=False: Console(file=terminal) if stderr else Console(file=io.StringIO()),
    )
    assert run(*LEEDS, "--messages", "10").exit_code == 0
    assert ("Planning for leeds-office365" in terminal.getvalue()) is shown


def test_ctrl_c_while_reading_ends_quietly(tmp_path: Path) -> None:
    pipe = tmp_path / "mail.csv"
    os.mkfifo(pipe)
    start = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from ratelimit_mail.cli import main; main()"
    )
    arguments = [sys.executable, "-c", start, "plan", *LEEDS, "--csv", str(pipe)]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with process, pipe.open("wb", buffering=0) as file:  # opens when it is being read
        file.write(b"recipients\n")
        process.send_signal(signal.SIGINT)
        with suppress(BrokenPipeError):
            while True:  # a read that has begun is over before Python heeds the signal
                file.write(b"1\n" * 1000)
        assert process.communicate() == ("", "")
    assert process.returncode == 130


def test_ctrl_c_while_planning_ends_quietly(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "plan_mailing", interrupted)
    result = run(*LEEDS, "--messages", "1")
    assert (result.exit_code, result.output) == (130, "")


@pytest.mark.parametrize("option", [[], ["--json"]], ids=["tables", "json"])
def test_a_reader_that_goes_away_ends_it_quietly(option: list[str]) -> None:
    read, write_end = os.pipe()
    os.close(read)
    arguments = [*SHELL, "plan", *LEEDS, "--messages", "31", *option]
    with os.fdopen(write_end, "w") as nobody:
        done = subprocess.run(arguments, stdout=nobody, stderr=subprocess.PIPE, check=False)
    assert done.stderr == b""


def test_help_tells_the_options_and_the_presets() -> None:
    told = " ".join(output("--help").split())
    for option in ("--policy NAME", "--all", "--messages", "--csv", "--start TIME", "--json"):
        assert option in told
    assert all(name in re.sub(r"- ", "-", told) for name in PRESETS)
