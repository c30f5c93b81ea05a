"""`replay` of policies with limits on bytes: where the sizes of messages come from."""

from __future__ import annotations

from pathlib import Path

import pytest
from rlm_testkit.command_line import error_line, replay_json, run_replay

from ratelimit_mail.cli.readers import open_mail_files
from ratelimit_mail.cli.replay.mail_records import MailRecord

BYTES_POLICY = """
name = "bytes"
[[limits]]
kind = "message size limit"
limit = "5 kB"
name = "size"
[[limits]]
kind = "byte rate limit"
rate = "10 kB/hour"
name = "bytes an hour"
"""


@pytest.fixture
def policy(tmp_path: Path) -> str:
    file = tmp_path / "policy.toml"
    file.write_text(BYTES_POLICY)
    return str(file)


def sizes(file: Path) -> list[int | None]:
    return [each.size for each in open_mail_files([file]) if isinstance(each, MailRecord)]


def csv_file(tmp_path: Path, *cells: str) -> Path:
    file = tmp_path / "mail.csv"
    rows = "".join(f"{i},ann@x.org,bob@y.org,{cell}\n" for i, cell in enumerate(cells))
    file.write_text(f"time,sender,recipients,size\n{rows}")
    return file


def test_a_policy_with_limits_on_bytes_is_replayed_by_the_column_size(
    tmp_path: Path, policy: str
) -> None:
    file = csv_file(tmp_path, "5000", "5001", "5000", "1")
    report = replay_json(file, policy, "--suggest", "--touch", "50")
    counts = [report["messages"][kind]["messages"] for kind in ("accepted", "deferred", "rejected")]
    assert counts == [2, 1, 1]
    assert [each["number"] for each in report["suggested"]["limits"]] == [5001, 15_002]


def test_the_report_has_charts_for_limits_on_bytes(tmp_path: Path, policy: str) -> None:
    page = tmp_path / "page.html"
    result = run_replay(csv_file(tmp_path, "5001", "10"), policy, "--report", str(page))
    assert result.exit_code == 0, result.stderr
    text = page.read_text()
    assert "Largest message: 5,001 bytes" in text
    assert "Most in any hour of one sender: 5,011 bytes" in text


@pytest.mark.parametrize("cell", ["", "-", "12 kB", "9" * 13, "\u0663"])
def test_a_message_without_a_size_ends_a_replay_that_needs_it(
    tmp_path: Path, policy: str, cell: str
) -> None:
    file = csv_file(tmp_path, "5", cell)
    line = error_line(run_replay(file, policy))
    assert "1 of 2 messages have no size" in line
    assert "--columns size=NAME" in line
    assert run_replay(file, "leeds-office365").exit_code == 0
    both = run_replay(file, "leeds-office365", "--compare", policy)
    assert "have no size" in error_line(both)


def test_rows_that_are_joined_have_the_size_of_the_first(tmp_path: Path, policy: str) -> None:
    file = tmp_path / "mail.csv"
    file.write_text("time,sender,recipients,id,big\n1,a@x.y,b@x.y,7,30\n1,a@x.y,c@x.y,7,30\n")
    options = ["--columns", "id=id,size=big"]
    assert replay_json(file, policy, *options)["messages"]["accepted"]["messages"] == 1


def test_the_sizes_of_mailboxes_are_those_of_the_messages(tmp_path: Path) -> None:
    first = b"From: ann@x.org\nTo: bob@x.com\nDate: Tue, 14 Nov 2023 22:13:20 +0000\n\nHi\n"
    second = first + b"\nFrom here on it is text\n" * 9_000
    box = tmp_path / "box"
    for end in (b"", b"\n"):
        box.write_bytes(b"From x\n" + first + b"\nFrom x\n" + second + end)
        assert sizes(box) == [len(first) + 1, len(second + end)]
    maildir = tmp_path / "Maildir"
    for name in ("cur", "new", "tmp"):
        (maildir / name).mkdir(parents=True)
    (maildir / "new" / "1").write_bytes(first)
    (maildir / "cur" / "2").write_bytes(second)
    assert sizes(maildir) == [len(first), len(second)]


def test_the_size_in_the_log_of_postfix_cannot_be_forged_by_a_sender(tmp_path: Path) -> None:
    log = tmp_path / "mail.log"
    start = "2026-03-02T09:00:00Z mail postfix/"
    sender = "a>, size=1, nrcpt=1 (x)@x.org"
    log.write_text(
        f"{start}smtpd[1]: 4F1A2B3C4D: client=pc[192.0.2.1]\n"
        f"{start}qmgr[2]: 4F1A2B3C4D: from=<ann@x.org>, size=731, nrcpt=1 (queue active)\n"
        f"{start}smtp[3]: 4F1A2B3C4D: to=<bob@x.com>, relay=y, status=sent (250 ok)\n"
        f"{start}qmgr[2]: 4F1A2B3C4D: removed\n"
        f"{start}smtpd[1]: 5F1A2B3C4D: client=pc[192.0.2.1]\n"
        f"{start}qmgr[2]: 5F1A2B3C4D: from=<{sender}>, size=99, nrcpt=1 (queue active)\n"
        f"{start}qmgr[2]: 5F1A2B3C4D: removed\n"
    )
    assert sizes(log) == [731]


def test_the_size_in_the_log_of_exim_is_that_of_the_arrival(tmp_path: Path) -> None:
    log = tmp_path / "mainlog"
    log.write_text(
        "2026-03-02 09:00:00 1tABCD-000001-AB <= ann@x.org H=pc [192.0.2.1] P=esmtp S=1532"
        ' T="a S=9 b" for bob@x.com\n'
        "2026-03-02 09:00:01 1tABCD-000001-AB Completed\n"
    )
    assert sizes(log) == [1532]
