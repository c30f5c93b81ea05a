"""`replay`: errors for rows and files that cannot be read."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest
from click.testing import Result
from rlm_testkit.command_line import error_line, run_command, run_replay

from ratelimit_mail.cli.errors import InputError
from ratelimit_mail.cli.readers import open_mail_files
from ratelimit_mail.presets import PRESETS

GOOD = b"1700000000,ann@x.org,1\n"
HEADER = b"time,sender,recipients\n"


def run(file: Path, *options: str) -> Result:
    return run_replay(file, "leeds-office365", *options)


BAD_ROWS = {
    b"soon,ann@x.org,1": "time: 'soon' is neither Unix seconds nor ISO 8601",
    b"1,ann@@x.org,1": "sender: ",
    b"1,ann@x.org,": "recipients: a message needs at least one",
    b"1,ann@x.org": "2 columns where the header has 3",
    b"1,ann@x.org,1,2": "4 columns where the header has 3",
    b"1,ann@x.org,-1": "recipients: '-1' is not a number of recipients",
    b"1,ann@x.org,1000001": "recipients: 1,000,001 is more than 1,000,000",
    b"1,ann@x.org,bob": "recipients: the address 'bob' has no '@'",
    b'1,"ann"@x.org,1': "',' expected after '\"'",
    b"1,\xff\xfe@x.org,1": "the row is not UTF-8",
}


@pytest.mark.parametrize("row", BAD_ROWS)
def test_a_bad_row_is_reported_with_its_line_and_skipped(tmp_path: Path, row: bytes) -> None:
    file = tmp_path / "log.csv"
    file.write_bytes(HEADER + GOOD + b"\n" + row + b"\n" + GOOD)
    result = run(file, "--json")
    assert result.exit_code == 0
    [line] = result.stderr.splitlines()
    assert line.startswith("skipped line 4: ")
    assert BAD_ROWS[row] in line
    rows = json.loads(result.stdout)["rows"]
    assert (rows["messages"], rows["broken"]) == (2, 1)
    assert "skipped   1 that cannot be read" in run(file).stdout


def test_a_bad_row_of_several_lines_is_reported_with_its_first_line(tmp_path: Path) -> None:
    file = tmp_path / "log.csv"
    file.write_bytes(HEADER + GOOD + b'1,ann@x.org,"a@x.org\nb@x.org"\n1,"a\nb",1\n')
    result = run(file, "--json")
    assert json.loads(result.stdout)["rows"]["messages"] == 2
    assert result.stderr.startswith("skipped line 5: sender: ")


def test_the_first_ten_bad_rows_are_reported_and_the_rest_counted(tmp_path: Path) -> None:
    file = tmp_path / "log.csv"
    file.write_bytes(HEADER + b"soon,ann@x.org,1\n" * 1234 + GOOD)
    result = run(file, "--json")
    lines = result.stderr.splitlines()
    assert [line.split(":")[0] for line in lines[:10]] == [
        f"skipped line {number}" for number in range(2, 12)
    ]
    assert lines[10:] == [
        "skipped 1,224 more rows",
        "warning: 1,234 of 1,235 rows (99.9 %) cannot be read:",
        "warning: 1,234 of them: time: ... is neither Unix seconds nor ISO ...",
    ]
    assert json.loads(result.stdout)["rows"]["broken"] == 1234


def test_a_file_of_bad_rows_only_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "log.csv"
    file.write_bytes(HEADER + b"soon,ann@x.org,1\n" * 2)
    result = run(file)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].endswith(
        "has no messages, only rows that cannot be read: 2"
    )


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("To: bob@x.org\nDate: Tue, 14 Nov 2023 22:13:20 +0000", "neither Sender nor From"),
        ("From: ann@x.org\nDate: Tue, 14 Nov 2023 22:13:20 +0000", "at least one"),
        (
            "From: ann\nTo: bob@x.org\nDate: Tue, 14 Nov 2023 22:13:20 +0000",
            "From: 'ann' is not an address",
        ),
        ("From: ann@x.org\nTo: bob@x.org\nDate: soon", "no usable date"),
        (f"From: ann@x.org\nTo: {'(' * 50_000}", "has an unterminated comment"),
        ("From: ann@x.org\n" + "X: " + "y" * 1_100_000, "header is longer than 1,048,576 bytes"),
    ],
    ids=["no sender", "no recipient", "no domain", "no date", "nested", "endless"],
)
def test_a_bad_message_of_an_mbox_is_reported_with_its_number(
    tmp_path: Path, header: str, reason: str
) -> None:
    good = "From x\nFrom: ann@x.org\nTo: bob@x.org\nDate: Tue, 14 Nov 2023 22:13:20 +0000\n\nHi\n\n"
    file = tmp_path / "box"
    file.write_text(f"{good}From x\n{header}\n\nHi\n\n{good}")
    result = run(file, "--json")
    [line] = result.stderr.splitlines()
    assert line.startswith("skipped message 2: ")
    assert reason in line
    assert json.loads(result.stdout)["rows"]["messages"] == 2


def test_a_bad_message_of_a_maildir_is_reported_with_its_file(tmp_path: Path) -> None:
    for name in ("cur", "new", "tmp"):
        (tmp_path / "box" / name).mkdir(parents=True)
    good = "From: ann@x.org\nTo: bob@x.org\nDate: Tue, 14 Nov 2023 22:13:20 +0000\n\nHi\n"
    (tmp_path / "box" / "new" / "1.good").write_text(good)
    (tmp_path / "box" / "new" / "2.bad\x1b[31m").write_text("Hello\n")
    result = run(tmp_path / "box", "--json")
    assert result.stderr.startswith("skipped message '2.bad\\x1b[31m': ")
    assert json.loads(result.stdout)["messages"]["total"] == 1


def test_a_message_of_a_maildir_that_cannot_be_opened_is_reported(tmp_path: Path) -> None:
    for name in ("cur", "new", "tmp"):
        (tmp_path / name).mkdir()
    (tmp_path / "new" / "1.gone").symlink_to(tmp_path / "nowhere")
    lines = run(tmp_path).stderr.splitlines()
    assert lines[0].startswith("skipped message '1.gone': cannot be read: ")
    assert lines[1].endswith("has no messages, only rows that cannot be read: 1")


def test_a_file_deleted_before_reading_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "log.csv"
    file.write_bytes(HEADER + GOOD)
    source = open_mail_files([file])
    file.unlink()
    with pytest.raises(InputError, match="No such file"):
        list(source)


BAD_FILES = {
    ("empty.csv", b""): "is empty",
    ("blank.csv", b"\n\n\n"): "is empty",
    ("empty.csv.gz", gzip.compress(b"")): "is empty",
    ("empty.mbox", b""): "is empty",
    ("header.csv", HEADER): "has no messages",
    ("when.csv", b"when,sender,count\n" + GOOD): "no column for the time (time or unix_time or"
    " timestamp or date); the header has 'when', 'sender', 'count'",
    ("from.csv", b"time,writer,count\n" + GOOD): "no column for the sender (sender)",
    ("to.csv", b"time,sender,n_to\n" + GOOD): "no column for the recipients",
    ("utf-16.csv", HEADER.decode().encode("utf-16")): "has no messages",
    ("nul.csv", HEADER + GOOD + b"\0\0\0\n"): "line 3 has a NUL byte",
    ("long.csv", HEADER + b"1," + b"x" * 5_000_000): "line 2 is longer than 4,194,304",
    ("row.csv.gz", gzip.compress(HEADER + b'1,"' + b'ab\n","' * 2_000_000)): "line 2 is not closed"
    " correctly: a row has more than 8,388,608 characters",
    ("quote.csv", HEADER + b'1,"ann@x.org,1\n' + GOOD): "a quoted field that starts in line 2",
    ("quotes.csv", HEADER + b'1,"ann\n' + b"x\n" * 2_500_000): "field larger than field limit",
    ("header-quote.csv", b'"time"x,sender\n'): "the header in line 1 is not CSV",
    ("short.csv.gz", gzip.compress(HEADER + GOOD * 99)[:-20]): "the gzip file is truncated",
    ("crc.csv.gz", gzip.compress(HEADER + GOOD)[:-8] + b"\0" * 8): "CRC check failed",
    ("deflate.csv.gz", gzip.compress(HEADER)[:10] + b"\xff" * 50): "or is damaged",
    ("notes.txt", b"Hello\n"): "is not recognized as one of mbox, ses, postfix",
    ("notes.mbox", b"from ann\n"): "is not recognized as one of mbox, ses, postfix",
}


@pytest.mark.parametrize(("name", "content"), BAD_FILES, ids=[name for name, _ in BAD_FILES])
def test_a_file_that_cannot_be_read_is_an_error_in_one_line(
    tmp_path: Path, name: str, content: bytes
) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    line = error_line(run(file))
    assert str(file) in line
    assert BAD_FILES[name, content] in line


def test_a_truncated_gzip_file_is_an_error_with_the_last_line_read(tmp_path: Path) -> None:
    rows = b"".join(b"%d,s%d@x.org,1\n" % (i * 7919, i * i) for i in range(20_000))
    file = tmp_path / "short.csv.gz"
    file.write_bytes(gzip.compress(HEADER + rows)[:-30_000])
    line = error_line(run(file))
    number = int(line.rpartition("truncated after line ")[2])
    assert 1 < number < 20_000


def test_a_directory_that_is_not_a_maildir_is_an_error(tmp_path: Path) -> None:
    assert "is a directory, but not a Maildir" in error_line(run(tmp_path))


def test_an_empty_maildir_is_an_error(tmp_path: Path) -> None:
    for name in ("cur", "new", "tmp"):
        (tmp_path / name).mkdir()
    assert "has no messages" in error_line(run(tmp_path))


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    assert "No such file or directory" in error_line(run(tmp_path / "none.csv"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_named_pipe_is_an_error_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    assert "is neither a file nor a Maildir" in error_line(run(tmp_path / "pipe.csv"))


def test_an_unknown_policy_is_an_error_with_similar_names(tmp_path: Path) -> None:
    result = run_command("replay", "x.csv", "--policy", "western-office")
    line = error_line(result)
    assert "there is no policy western-office; did you mean western-office365" in line
    result = run_command("replay", "x.csv", "--policy", "\x1b[31mzzz")
    line = error_line(result)
    assert "\\x1b[31mzzz" in line
    assert f"use {', '.join(PRESETS)}" in line


def test_a_missing_policy_is_a_usage_error(tmp_path: Path) -> None:
    result = run_command("replay", "x.csv")
    assert result.exit_code == 2
    assert "--policy" in result.stderr


def maildir(path: Path, *messages: str) -> Path:
    for name in ("cur", "new", "tmp"):
        (path / name).mkdir(parents=True)
    for name in messages:
        text = "From: a@x.y\nTo: b@x.y\nDate: Tue, 14 Nov 2023 22:13:20 +0000\n\n"
        (path / "new" / name).write_text(text)
    return path


def test_what_is_not_a_regular_file_in_a_maildir_is_reported_and_skipped(tmp_path: Path) -> None:
    box = maildir(tmp_path / "box", "1.good", "9.good")
    os.mkfifo(box / "new" / "2.pipe")
    (box / "cur" / "3.device:2,S").symlink_to("/dev/zero")
    (box / "cur" / "4.missing").symlink_to("nothing")
    (box / "cur" / "5.folder").mkdir()
    (box / "cur" / "6.linked").symlink_to(box / "new" / "1.good")
    result = run(box, "--json")
    assert result.stderr.splitlines() == [
        "skipped message '2.pipe': cannot be read: not a regular file",
        "skipped message '3.device': cannot be read: not a regular file",
        "skipped message '4.missing': cannot be read: No such file or directory",
    ]
    assert json.loads(result.stdout)["rows"]["messages"] == 3


def test_a_pipe_in_place_of_a_mail_file_is_an_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "log.csv")
    assert error_line(run(tmp_path / "log.csv")).endswith(
        "is neither a file nor a Maildir directory"
    )


def test_a_pipe_that_a_policy_file_names_is_an_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "aliases.csv")
    policy = tmp_path / "policy.toml"
    policy.write_text('name = "x"\n[directory]\naliases_csv = "aliases.csv"\n')
    line = error_line(run_command("check-policy", str(policy)))
    assert line.endswith("directory.aliases_csv: 'aliases.csv' is not a regular file")
