"""`plan`: its tables and JSON, the three ways to describe a mailing, and invalid input."""

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
from click.testing import Result
from rich.console import Console
from rlm_testkit.command_line import error_line, run_command, write_lines

from ratelimit_mail import Envelope, Limiter
from ratelimit_mail.backends import SQLiteBackend
from ratelimit_mail.cli.plan import command as module
from ratelimit_mail.cli.plan.mailing import parse_start
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
    return run_command("plan", *arguments)


def output(*arguments: str) -> str:
    result = run(*arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


def lines(*arguments: str) -> list[str]:
    """Return the printed lines, with each run of spaces as one space."""
    return [" ".join(line.split()) for line in output(*arguments).splitlines()]


def report(*arguments: str) -> dict[str, Any]:
    printed: dict[str, Any] = json.loads(output(*arguments, "--json"))
    return printed


def last(*arguments: str) -> float:
    """Return how many seconds after the start the last message goes, under the one policy."""
    [plan] = report(*arguments)["plans"]
    return float(plan["last"]["after"])


def error(*arguments: str) -> str:
    """Return the error that is printed if there is no plan."""
    return error_line(run(*arguments))


def test_the_plan_of_one_policy_is_printed_in_full() -> None:
    printed = lines(*LEEDS, "--messages", "25000", *START)
    assert printed[:7] == [
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
        assert line in printed
    assert "Side by side" not in "\n".join(printed)


def test_several_policies_are_compared_after_the_plan_of_the_first() -> None:
    more = ("--policy", "western-office365", "--policy", "western-convergence")
    printed = lines(*LEEDS, *more, "--messages", "12000", *START)
    assert printed[0] == "Plan of 12,000 messages under leeds-office365"
    below = printed[printed.index("Side by side: when messages will have gone, after the start") :]
    expected = [
        "leeds-office365 00:00:00 03:19:00 1 d 01:06:00 10000 recipients",
        "western-office365 00:00:00 00:00:00 1 d 00:00:00 10000 recipients",
        "western-convergence 00:00:00 11 d 02:15:00 23 d 02:15:00 500 external",
    ]
    rows = [line for line in below if line.startswith(("leeds", "western"))]
    # Versions of rich wrap the name of the limit at different places.
    assert [row[: len(text)] for row, text in zip(rows, expected, strict=True)] == expected


def test_all_compares_every_preset() -> None:
    printed = output("--all", "--messages", "40")
    assert printed.startswith("Side by side")
    for name in PRESETS:
        assert f"\n{name} " in printed
    assert "Plan of 40 messages under leeds-office365" in output(
        "--all", *LEEDS, "--messages", "40"
    )


def test_a_policy_named_twice_is_listed_once() -> None:
    plan_json = report(*LEEDS, *LEEDS, "--all", "--messages", "1")
    names = [plan["policy"] for plan in plan_json["plans"]]
    assert names == ["leeds-office365", *(name for name in PRESETS if name != "leeds-office365")]


def test_a_mailing_that_can_never_finish_under_one_policy_may_finish_under_another() -> None:
    both = (*LEEDS, "--policy", "western-office365", "--recipients", "600", "--per-message", "200")
    printed = lines(*both)
    assert printed[0].startswith("Side by side")  # the first policy has no plan to print
    assert "leeds-office365 never" in printed
    assert "western-office365 00:00:00 00:00:00 00:00:00 nothing" in printed
    why = "message 1, with 200 recipients, can never go: at most 100 recipients per message"
    assert why in " ".join(printed)
    never, can = report(*both)["plans"]
    assert never == {"policy": "leeds-office365", "never": why}
    assert (can["never"], can["last"]["after"]) == (None, 0.0)


def test_a_mailing_that_can_never_finish_is_an_error_with_the_reasons() -> None:
    both = (*LEEDS, "--policy", "western-office365", "--recipients", "600", "--per-message", "600")
    result = run(*both)
    assert result.exit_code == 2
    assert "at most 100 recipients per message" in " ".join(result.stdout.split())
    assert "at most 500 recipients per message" in " ".join(result.stdout.split())
    assert result.stderr == "Error: under each of these policies some message can never go\n"
    failed = run(*both, "--json")
    assert failed.exit_code == 2
    assert [plan["policy"] for plan in json.loads(failed.stdout)["plans"]] == [
        "leeds-office365",
        "western-office365",
    ]


def test_a_mailing_that_fits_at_once_is_delayed_by_no_limit() -> None:
    printed = lines(*LEEDS, "--messages", "1", *START)
    assert printed[0] == "Plan of 1 message under leeds-office365"
    assert "No limit delays a message: all of them fit at once." in printed
    assert printed[-1] == "0 1 1"


def test_the_json_has_the_whole_plan() -> None:
    plan_json = report(*LEEDS, "--recipients", "6100", "--per-message", "100", *START)
    minute = "30 messages per minute per sender"

    def moment(after: float) -> dict[str, float]:
        return {"time": UNIX + after, "after": after}

    assert plan_json == {
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


def test_tables_fit_80_columns_and_have_no_escape_codes() -> None:
    printed = output("--all", *LEEDS, "--messages", "3000")
    assert max(map(len, printed.splitlines())) <= 80
    assert "\x1b" not in printed
    assert "…" not in printed


def test_a_long_schedule_is_cut_with_a_note() -> None:
    limit = MessageRateLimit("1/90 minutes")
    slow = plan_mailing(Policy(name="slow", limits=[limit]), [1] * 200)
    text = io.StringIO()
    print_plan(slow, Console(file=text, width=80))
    # 100 rows of hours with a message, and 99 rows of hours without one between them
    assert f"and {199 - MOST_ROWS} more rows; --json has all of them" in text.getvalue()


def test_fractions_of_a_second_are_rounded_up() -> None:
    quick = Policy(name="quick", limits=[MessageRateLimit("2/second")])
    text = io.StringIO()
    start = parse_start("1700000000.25")
    print_plan(plan_mailing(quick, [1, 1, 1], start=start), Console(file=text, width=80))
    assert "22:13:22 UTC, after 00:00:01" in text.getvalue()


def test_recipients_are_split_into_as_few_messages_as_possible() -> None:
    plan_json = report(*LEEDS, "--recipients", "4010", "--per-message", "80")
    assert (plan_json["messages"], plan_json["recipients"]) == (51, 4010)
    assert plan_json["plans"][0]["by_hour"][0]["recipients"] == 4010


def write(path: Path, *rows: str) -> str:
    return str(write_lines(path, *rows))


def test_the_recipients_column_has_addresses_or_numbers(tmp_path: Path) -> None:
    rows = ("Name, Recipients", "Ann,bob@x.org; kim@x.org  joe@x.org", "", "Bob,7", "Kim,eve@x.org")
    plan_json = report(*LEEDS, "--csv", write(tmp_path / "mail.csv", *rows))
    assert (plan_json["messages"], plan_json["recipients"]) == (3, 11)


@pytest.mark.parametrize("name", ["n_recipients", "count"])
def test_a_column_of_numbers_may_have_the_names_of_a_replay(tmp_path: Path, name: str) -> None:
    plan_json = report(*LEEDS, "--csv", write(tmp_path / "mail.csv", f"id,{name}", "1,2", "2,3"))
    assert (plan_json["messages"], plan_json["recipients"]) == (2, 5)


def test_a_csv_file_may_be_compressed(tmp_path: Path) -> None:
    file = tmp_path / "mail.csv.gz"
    file.write_bytes(gzip.compress(b"recipients\n1\n2\n"))
    assert report(*LEEDS, "--csv", str(file))["recipients"] == 3


def test_internal_addresses_in_a_file_do_not_count_under_a_limit_on_external_ones(
    tmp_path: Path,
) -> None:
    inside = " ".join(f"user{i}@uwo.ca" for i in range(60))
    outside = " ".join(f"user{i}@example.com" for i in range(30))
    file = write(tmp_path / "mail.csv", "recipients", inside, outside, inside, outside)
    assert last("--policy", "western-convergence", "--csv", file) == 900


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
def test_the_client_selects_the_tier(who: tuple[str, ...], seconds: float) -> None:
    assert last("--policy", "western-convergence", "--messages", "51", *who) == seconds


def test_a_sender_without_a_grant_is_refused_by_the_rule() -> None:
    assert error("--policy", "leeds-smtp", "--messages", "1") == (
        "under leeds-smtp, message 1, with 1 recipient, can never go: senders must be granted first"
    )


def test_granted_plans_as_if_the_sender_had_a_grant() -> None:
    assert last("--policy", "leeds-smtp", "--messages", "40", "--granted") == 0
    assert last(*LEEDS, "--messages", "31", "--granted") == 60


@pytest.mark.parametrize("text", ["2026-11-23T10:00:00+01:00", "1795424400", "2026-11-23 09:00Z"])
def test_the_start_is_iso_8601_or_unix_seconds(text: str) -> None:
    assert report(*LEEDS, "--messages", "1", "--start", text)["start"] == UNIX


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
        (("--recipients", "1"), "must be used together"),
        (("--messages", "1", "--per-message", "1"), "must be used together"),
        (("--messages", "1", "--start", "soon"), "--start: 'soon' is neither Unix seconds nor"),
        (("--messages", "1", "--start", "9999-06-01"), "start: 9999-06-01 00:00:00+00:00 is not"),
        (("--messages", "1", "--sender", "ann"), "sender: the address 'ann' has no '@'"),
        (("--messages", "1", "--client", "here"), "client address: 'here' is not an IP address"),
        (("--messages", "1", "--tag", ""), "client tags: '' is not a word"),
        (("--csv", "missing.csv"), "missing.csv: No such file or directory"),
    ],
)
def test_invalid_or_conflicting_options_are_an_error_in_one_line(
    arguments: tuple[str, ...], text: str
) -> None:
    assert text in error(*LEEDS, *arguments)


def test_a_missing_or_unknown_policy_is_an_error() -> None:
    assert error("--messages", "1") == (
        "a policy is needed: --policy NAME, or --all for all presets"
    )
    assert "did you mean leeds-office365" in error("--policy", "leeds-ofice365", "--messages", "1")


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
def test_a_number_out_of_range_is_an_error_with_the_option(
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
    b"recipients\n-3\n": "line 2: recipients: '-3' is not a number of recipients",
    b"recipients\n1000001\n": "line 2: recipients: 1,000,001 is more than 1,000,000",
    b"recipients\n1\nbob\n": "line 3: recipients: the address 'bob' has no '@'",
    b"id,recipients\n1,\n": "line 2: recipients: a message needs at least one",
    b"recipients\n1,2\n": "line 2: 2 columns where the header has 1",
    b'recipients\n1\n"a"b\n': "line 3: not CSV: ",
    b'recipients\n"a@x.org\nb@x.org"\nbob\n': "line 4: ",
    b"recipients\n\xff@\x1b[2J\n": "line 2: recipients: ",
    b"recipients\n1\n\x00\n": "line 3 has a NUL byte",
}


@pytest.mark.parametrize("content", BAD_FILES)
def test_a_file_that_cannot_be_read_is_an_error_with_its_line(
    tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "mail.csv"
    file.write_bytes(content)
    printed = error(*LEEDS, "--csv", str(file))
    assert printed.startswith(f"{file}: ")
    assert BAD_FILES[content] in printed
    assert "\x1b" not in printed


def test_names_with_escape_codes_are_escaped(tmp_path: Path) -> None:
    file = tmp_path / "a\x1b[31m.csv"
    assert "a\\x1b[31m.csv: No such file" in error(*LEEDS, "--csv", str(file))
    assert error("--policy", "\x1b[31m", "--messages", "1").startswith(
        "there is no policy \\x1b[31m"
    )


def test_a_directory_is_not_a_csv_file(tmp_path: Path) -> None:
    assert error(*LEEDS, "--csv", str(tmp_path)).endswith(": Is a directory")


def test_a_message_over_a_limit_is_an_error_in_one_line() -> None:
    assert error(*LEEDS, "--recipients", "101", "--per-message", "101") == (
        "under leeds-office365, message 1, with 101 recipients,"
        " can never go: at most 100 recipients per message"
    )


class Terminal(io.StringIO):
    """A stream that the progress bar takes for a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("most", "shown"), [(9, True), (10, False)])
def test_a_progress_bar_is_shown_for_long_plans_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, most: int, shown: bool
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(module, "PROGRESS_FROM", most)
    monkeypatch.setattr(
        module,
        "Console",
        lambda stderr=False: Console(file=terminal) if stderr else Console(file=io.StringIO()),
    )
    assert run(*LEEDS, "--messages", "10").exit_code == 0
    assert ("Planning for leeds-office365" in terminal.getvalue()) is shown


def test_ctrl_c_while_reading_exits_without_output(tmp_path: Path) -> None:
    pipe = tmp_path / "mail.csv"
    os.mkfifo(pipe)
    start = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from ratelimit_mail.cli import main; main()"
    )
    arguments = [sys.executable, "-c", start, "plan", *LEEDS, "--csv", str(pipe)]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with process, pipe.open("wb", buffering=0) as file:  # opens when the command reads it
        file.write(b"recipients\n")
        process.send_signal(signal.SIGINT)
        with suppress(BrokenPipeError):
            while True:  # Python handles the signal after the current read
                file.write(b"1\n" * 1000)
        assert process.communicate() == ("", "")
    assert process.returncode == 130


def test_ctrl_c_while_planning_exits_without_output(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "plan_mailing", interrupt)
    result = run(*LEEDS, "--messages", "1")
    assert (result.exit_code, result.output) == (130, "")


@pytest.mark.parametrize("option", [[], ["--json"]], ids=["tables", "json"])
def test_a_closed_output_pipe_causes_no_error_output(option: list[str]) -> None:
    read, write_end = os.pipe()
    os.close(read)
    arguments = [*SHELL, "plan", *LEEDS, "--messages", "31", *option]
    with os.fdopen(write_end, "w") as closed_pipe:
        done = subprocess.run(arguments, stdout=closed_pipe, stderr=subprocess.PIPE, check=False)
    assert done.stderr == b""


def test_the_help_lists_the_options_and_the_presets() -> None:
    printed = " ".join(output("--help").split())
    for option in ("--policy NAME", "--all", "--messages", "--csv", "--start TIME", "--json"):
        assert option in printed
    assert all(name in re.sub(r"- ", "-", printed) for name in PRESETS)


def test_a_store_takes_its_place_in_the_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path}/counts.db"
    backend = SQLiteBackend(tmp_path / "counts.db")
    limiter = Limiter(PRESETS["leeds-office365"](), backend)
    for _ in range(3):
        assert limiter.try_acquire(Envelope("ann@leeds.ac.uk", ["bob@example.com"]))
    options = (*LEEDS, "--messages", "30", "--sender", "ann@leeds.ac.uk")
    assert last(*options) == 0
    assert 0 < last(*options, "--store", url) <= 60
    assert last(*options[:-1], "eve@leeds.ac.uk", "--store", url) == 0
    monkeypatch.setenv("RATELIMIT_MAIL_STORE", url)
    assert 0 < last(*options) <= 60
    assert limiter.usage("ann@leeds.ac.uk")[0].used == 3
    backend.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--store", "counts.db"), "--store: url: it does not begin as one of"),
        (("--store", "redis://:secret@localhost:1/0"), "--store: "),
        (("--time-zone", "Mars/Base"), "--time-zone: Mars/Base is not a time zone"),
        (("--time-zone", "../../etc/passwd"), "is not a time zone"),
        (("--hours", "8 to 5"), "--hours: '8 to 5' is not a notation of hours"),
        (("--not-before", "soon"), "--not-before: "),
        (("--start", "2020-01-01", "--store", "memory:"), "start: "),
    ],
)
def test_a_wrong_option_of_the_plan_from_the_present_is_one_line(
    options: tuple[str, ...], message: str
) -> None:
    error = error_line(run(*LEEDS, "--messages", "1", *options))
    assert message in error
    assert "secret" not in error


def test_times_are_read_and_shown_in_a_time_zone() -> None:
    zone = ("--time-zone", "Europe/London")
    options = (*LEEDS, "--messages", "40", "--start", "2026-06-01T17:00", *zone)
    printed = lines(*options, "--hours", "mon-fri 08:00-17:01")
    assert "start 2026-06-01 17:00:00 BST" in printed
    assert "first 2026-06-01 17:00:00 BST, after 00:00:00" in printed
    assert "last 2026-06-02 08:00:00 BST, after 15:00:00" in printed
    assert any("working hours Mon to Fri 08:00 to 17:01" in line for line in printed)
    printed = lines(*options, "--not-before", "2026-06-02T09:00")
    assert "first 2026-06-02 09:00:00 BST, after 16:00:00" in printed
    [plan] = report(*options)["plans"]
    assert plan["first"]["time"] == 1_780_329_600
