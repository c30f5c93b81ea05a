"""What the replay says of broken rows and of files it cannot read."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ratelimit_mail.cli.command import command
from ratelimit_mail.cli.errors import InputError
from ratelimit_mail.cli.readers import open_source
from ratelimit_mail.presets import PRESETS

GOOD = b"1700000000,ann@x.org,1\n"
HEADER = b"time,sender,recipients\n"


def run(file: Path, *options: str) -> Result:
    arguments = ["replay", str(file), "--policy", "leeds-office365", *options]
    return CliRunner(env={"COLUMNS": "80"}).invoke(command, arguments)


def complaint(result: Result) -> str:
    """The one line that is printed where there is nothing to replay."""
    assert result.exit_code == 2
    assert result.stdout == ""
    [line] = result.stderr.splitlines()
    assert line.startswith("Error: ")
    return line


BROKEN_ROWS = {
    b"soon,ann@x.org,1": "time: 'soon' is neither Unix seconds nor ISO 8601",
    b"1,ann@@x.org,1": "sender: ",
    b"1,ann@x.org,": "recipients: a message needs at least one",
    b"1,ann@x.org": "2 columns where the header has 3",
    b"1,ann@x.org,1,2": "4 columns where the header has 3",
    b"1,ann@x.org,-1": "recipients: '-1' is no number of recipients",
    b"1,ann@x.org,1000001": "recipients: 1,000,001 are more than 1,000,000",
    b"1,ann@x.org,bob": "recipients: the address 'bob' has no '@'",
    b'1,"ann"@x.org,1': "',' expected after '\"'",
    b"1,\xff\xfe@x.org,1": "the row is not UTF-8",
}


@pytest.mark.parametrize("row", BROKEN_ROWS)
def test_a_broken_row_is_told_with_its_line_and_the_rest_goes_on(
    tmp_path: Path, row: bytes
) -> None:
    file = tmp_path / "log.csv"
    file.write_bytes(HEADER + GOOD + b"\n" + row + b"\n" + GOOD)
    result = run(file, "--json")
    assert result.exit_code == 0
    [line] = result.stderr.splitlines()
    assert line.startswith("left out, line 4: ")
    assert BROKEN_ROWS[row] in line
    rows = json.loads(result.stdout)["rows"]
    assert (rows["messages"], rows["broken"]) == (2, 1)
    assert "broken    1 left out" in run(file).stdout


def test_a_row_over_several_lines_is_told_by_its_first(tmp_path: Path) -> None:
    file = tmp_path / "log.csv"
    file.write_bytes(HEADER + GOOD + b'1,ann@x.org,"a@x.org\nb@x.org"\n1,"a\nb",1\n')
    result = run(file, "--json")
    assert json.loads(result.stdout)["rows"]["messages"] == 2
    assert result.stderr.startswith("left out, line 5: sender: ")


def test_the_first_ten_broken_rows_are_told_and_the_rest_counted(tmp_path: Path) -> None:
    file = tmp_path / "log.csv"
    file.write_bytes(HEADER + b"soon,ann@x.org,1\n" * 1234 + GOOD)
    result = run(file, "--json")
    lines = result.stderr.splitlines()
    assert [line.split(":")[0] for line in lines[:10]] == [
        f"left out, line {number}" for number in range(2, 12)
    ]
    assert lines[10:] == ["left out, 1,224 more broken rows"]
    assert json.loads(result.stdout)["rows"]["broken"] == 1234


def test_a_file_of_broken_rows_only_is_no_success(tmp_path: Path) -> None:
    file = tmp_path / "log.csv"
    file.write_bytes(HEADER + b"soon,ann@x.org,1\n" * 2)
    result = run(file)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].endswith("has no messages, only broken rows: 2")


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
def test_a_broken_message_of_an_mbox_is_told_by_its_number(
    tmp_path: Path, header: str, reason: str
) -> None:
    good = "From x\nFrom: ann@x.org\nTo: bob@x.org\nDate: Tue, 14 Nov 2023 22:13:20 +0000\n\nHi\n\n"
    file = tmp_path / "box"
    file.write_text(f"{good}From x\n{header}\n\nHi\n\n{good}")
    result = run(file, "--json")
    [line] = result.stderr.splitlines()
    assert line.startswith("left out, message 2: ")
    assert reason in line
    assert json.loads(result.stdout)["rows"]["messages"] == 2


def test_a_broken_message_of_a_maildir_is_told_by_its_file(tmp_path: Path) -> None:
    for name in ("cur", "new", "tmp"):
        (tmp_path / "box" / name).mkdir(parents=True)
    good = "From: ann@x.org\nTo: bob@x.org\nDate: Tue, 14 Nov 2023 22:13:20 +0000\n\nHi\n"
    (tmp_path / "box" / "new" / "1.good").write_text(good)
    (tmp_path / "box" / "new" / "2.bad\x1b[31m").write_text("Hello\n")
    result = run(tmp_path / "box", "--json")
    assert result.stderr.startswith("left out, message '2.bad\\x1b[31m': ")
    assert json.loads(result.stdout)["messages"]["total"] == 1


def test_a_message_of_a_maildir_that_cannot_be_opened_is_told(tmp_path: Path) -> None:
    for name in ("cur", "new", "tmp"):
        (tmp_path / name).mkdir()
    (tmp_path / "new" / "1.gone").symlink_to(tmp_path / "nowhere")
    lines = run(tmp_path).stderr.splitlines()
    assert lines[0].startswith("left out, message '1.gone': cannot be read: ")
    assert lines[1].endswith("has no messages, only broken rows: 1")


def test_a_file_that_goes_away_is_told(tmp_path: Path) -> None:
    file = tmp_path / "log.csv"
    file.write_bytes(HEADER + GOOD)
    source = open_source(file)
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
    ("from.csv", b"time,from,count\n" + GOOD): "no column for the sender (sender)",
    ("to.csv", b"time,sender,n_to\n" + GOOD): "no column for the recipients",
    ("utf-16.csv", HEADER.decode().encode("utf-16")): "line 1 has a NUL byte",
    ("nul.csv", HEADER + GOOD + b"\0\0\0\n"): "line 3 has a NUL byte",
    ("long.csv", HEADER + b"1," + b"x" * 5_000_000): "line 2 is longer than 4,194,304",
    ("quote.csv", HEADER + b'1,"ann@x.org,1\n' + GOOD): "a quoted field that starts in line 2",
    ("quotes.csv", HEADER + b'1,"ann\n' + b"x\n" * 2_500_000): "field larger than field limit",
    ("header-quote.csv", b'"time"x,sender\n'): "the header in line 1 is no CSV",
    ("plain.csv.gz", HEADER + GOOD): "is no gzip file, or a damaged one",
    ("short.csv.gz", gzip.compress(HEADER + GOOD * 99)[:-20]): "the gzip file is cut short",
    ("crc.csv.gz", gzip.compress(HEADER + GOOD)[:-8] + b"\0" * 8): "CRC check failed",
    ("deflate.csv.gz", gzip.compress(HEADER)[:10] + b"\xff" * 50): "or a damaged one",
    ("notes.txt", b"Hello\n"): "is no .csv or .csv.gz file, no mbox",
    ("notes.mbox", b"from ann\n"): "is no .csv or .csv.gz file, no mbox",
}


@pytest.mark.parametrize(("name", "content"), BAD_FILES, ids=[name for name, _ in BAD_FILES])
def test_a_file_that_cannot_be_read_is_told_in_one_line(
    tmp_path: Path, name: str, content: bytes
) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    line = complaint(run(file))
    assert str(file) in line
    assert BAD_FILES[name, content] in line


def test_a_gzip_cut_short_is_told_with_the_line_it_was_read_to(tmp_path: Path) -> None:
    rows = b"".join(b"%d,s%d@x.org,1\n" % (i * 7919, i * i) for i in range(20_000))
    file = tmp_path / "short.csv.gz"
    file.write_bytes(gzip.compress(HEADER + rows)[:-30_000])
    line = complaint(run(file))
    number = int(line.rpartition("cut short, after line ")[2])
    assert 1 < number < 20_000


def test_a_directory_that_is_no_maildir_is_told(tmp_path: Path) -> None:
    assert "is a directory, but no Maildir" in complaint(run(tmp_path))


def test_an_empty_maildir_is_told(tmp_path: Path) -> None:
    for name in ("cur", "new", "tmp"):
        (tmp_path / name).mkdir()
    assert "has no messages" in complaint(run(tmp_path))


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    assert "No such file or directory" in complaint(run(tmp_path / "none.csv"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_is_told_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    assert "is neither a file nor a Maildir" in complaint(run(tmp_path / "pipe.csv"))


def test_an_unknown_policy_is_told_with_the_nearest_names(tmp_path: Path) -> None:
    result = CliRunner().invoke(command, ["replay", "x.csv", "--policy", "western-office"])
    line = complaint(result)
    assert "there is no policy western-office; did you mean western-office365" in line
    result = CliRunner().invoke(command, ["replay", "x.csv", "--policy", "\x1b[31mzzz"])
    line = complaint(result)
    assert "\\x1b[31mzzz" in line
    assert f"there are {', '.join(PRESETS)}" in line


def test_a_missing_policy_is_a_usage_error(tmp_path: Path) -> None:
    result = CliRunner().invoke(command, ["replay", "x.csv"])
    assert result.exit_code == 2
    assert "--policy" in result.stderr
