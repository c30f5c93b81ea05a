"""`replay`: how files are opened, what CSV files are like, and what the user says about them."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rlm_testkit.command_line import error_line, replay_json, run_replay

from ratelimit_mail.cli.readers import open_mail_files
from ratelimit_mail.cli.readers.base import ReadOptions
from ratelimit_mail.cli.replay.mail_records import MailRecord

POLICY = "leeds-office365"

ROWS = "time,sender,recipients\n1700000000,ann@x.org,bob@x.com\n1700000030,kim@x.org,2\n"
BOX = "From x\nFrom: ann@x.org\nTo: bob@x.com\nDate: Tue, 14 Nov 2023 22:13:20 +0000\n\nHi\n\n"


def zstd(data: bytes) -> bytes:
    zstandard = pytest.importorskip("zstandard")
    packed: bytes = zstandard.ZstdCompressor().compress(data)
    return packed


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstd,
}


def read(tmp_path: Path, text: str | bytes, name: str = "mail.csv", **options: Any) -> list[Any]:
    file = tmp_path / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return list(open_mail_files([file], ReadOptions(**options)))


def times(items: list[Any]) -> list[float]:
    return [each.time / 1000 for each in items if isinstance(each, MailRecord)]


# Compressed files and standard input.


@pytest.mark.parametrize("kind", PACKERS)
@pytest.mark.parametrize("name", ["mail", "mail.gz"])
def test_a_compressed_file_is_recognized_by_its_contents(
    tmp_path: Path, kind: str, name: str
) -> None:
    packed = PACKERS[kind](ROWS.encode())
    assert len(read(tmp_path, packed, name)) == 2
    assert len(read(tmp_path, PACKERS[kind](BOX.encode() * 2), name)) == 2
    # Files that were joined are one file.
    assert len(read(tmp_path, packed + PACKERS[kind](ROWS.encode()), name)) == 4


@pytest.mark.parametrize("kind", PACKERS)
def test_a_truncated_or_damaged_file_is_an_error_that_says_so(tmp_path: Path, kind: str) -> None:
    rows = "".join(f"{1_700_000_000 + i * i},s{i * 7919}@x.org,{i + 1}\n" for i in range(9000))
    packed = PACKERS[kind]((ROWS + rows).encode())
    file = tmp_path / "mail.csv"
    file.write_bytes(packed[: len(packed) * 2 // 3])
    assert f"the {kind} file is truncated after " in error_line(run_replay(file, POLICY))
    if kind in ("bzip2", "zstd"):  # they find damage only after they have returned some of it
        return
    middle = len(packed) // 2
    file.write_bytes(packed[:middle] + b"\xa5" * 64 + packed[middle + 64 :])
    result = run_replay(file, POLICY)
    assert result.exit_code == 2
    assert f"{kind} file is damaged after line" in result.stderr.splitlines()[-1]


def test_a_file_of_zstd_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if sys.version_info >= (3, 14):
        pytest.skip("this Python reads zstd itself")
    (tmp_path / "mail.csv").write_bytes(zstd(ROWS.encode()))
    monkeypatch.setitem(sys.modules, "zstandard", None)
    line = error_line(run_replay(tmp_path / "mail.csv", POLICY))
    assert line.endswith("python -m pip install 'ratelimit-mail[zstd]'")


@pytest.mark.parametrize(
    "data",
    [ROWS.encode(), gzip.compress(ROWS.encode()), BOX.encode() * 2],
    ids=["rows", "gzip", "mbox"],
)
def test_a_hyphen_reads_standard_input(data: bytes) -> None:
    command = [sys.executable, "-m", "ratelimit_mail.cli", "replay", "-", "--policy", POLICY]
    done = subprocess.run([*command, "--json"], input=data, capture_output=True, check=True)
    assert json.loads(done.stdout)["rows"]["messages"] == 2


def test_several_files_are_replayed_together(tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv"):
        (tmp_path / name).write_text(ROWS)
    report = replay_json(tmp_path / "b.csv", POLICY, str(tmp_path / "a.csv"))
    assert report["rows"]["messages"] == 4
    (tmp_path / "box").write_text(BOX)
    line = error_line(run_replay(tmp_path / "b.csv", POLICY, str(tmp_path / "box")))
    assert line.endswith("the files have several formats: csv, mbox")


def test_a_format_that_is_named_is_not_recognized(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("Hello\n")
    line = error_line(run_replay(tmp_path / "notes", POLICY, "--format", "csv"))
    assert "no column for the time" in line


def test_a_message_in_a_cell_does_not_make_a_csv_file_a_mailbox(tmp_path: Path) -> None:
    text = f'time,sender,recipients,text\n5,a@x.y,b@x.y,"see\n\n{BOX}"\n'
    assert len(read(tmp_path, text, "export")) == 1


# CSV.


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("before", ["", "\ufeff", "sep={0}\n", "\n\n", "#TYPE System.Object\n"])
def test_the_separator_and_what_stands_before_the_header_are_recognized(
    tmp_path: Path, separator: str, before: str
) -> None:
    text = before.format(separator) + ROWS.replace(",", separator)
    assert times(read(tmp_path, text)) == [1_700_000_000, 1_700_000_030]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig"])
def test_the_encoding_is_recognized(tmp_path: Path, encoding: str) -> None:
    text = ROWS.replace("ann@x.org", "j\u00f6rg@x.org")
    items = read(tmp_path, text.encode(encoding))
    assert items[0].sender == "j\u00f6rg@x.org"


@pytest.mark.parametrize(
    "cell",
    [
        "1700000000",
        "1700000000000",
        "1700000000000000",
        "2023-11-14T22:13:20Z",
        "2023-11-14 23:13:20 +0100",
        "Tue, 14 Nov 2023 22:13:20 +0000",
        "14 Nov 2023 22:13:20",
        "11/14/2023 10:13:20 PM",
        "14.11.2023 22:13:20",
        "14/11/2023, 22:13:20",
        "2023/11/14 22:13:20 UTC",
        "14-11-2023 22:13:20.000",
    ],
)
def test_times_are_read_as_people_and_programs_write_them(tmp_path: Path, cell: str) -> None:
    assert times(read(tmp_path, f'time,sender,recipients\n"{cell}",ann@x.org,1\n')) == [
        1_700_000_000
    ]


HEADER = "time,sender,recipients\n"


def test_a_date_with_day_and_month_in_an_unknown_order_is_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "mail.csv"
    file.write_text(HEADER + "03/04/2025 10:00,ann@x.org,1\n" * 2)
    line = error_line(run_replay(file, POLICY))
    assert "'03/04/2025 10:00' may be a day or a month first; --date-order dmy or mdy" in line
    march = replay_json(file, POLICY, "--date-order", "mdy")["span"]["first"]
    april = replay_json(file, POLICY, "--date-order", "dmy")["span"]["first"]
    assert (april - march) / 86_400 == 30


@pytest.mark.parametrize(
    ("row", "day"), [("25/04/2025 10:00", 3), ("04/25/2025 10:00", 4), ("4/5/2025 1:00 AM", 4)]
)
def test_another_row_shows_the_order_of_day_and_month(tmp_path: Path, row: str, day: int) -> None:
    items = read(tmp_path, f"{HEADER}03/04/2025 10:00,a@x.y,1\n" + f"{row},a@x.y,1\n")
    expected = 1_743_674_400 if day == 3 else 1_741_082_400
    assert times(items)[0] == expected


def test_dates_that_contradict_each_other_are_asked_for(tmp_path: Path) -> None:
    rows = "25/04/2025,a@x.y,1\n04/25/2025,a@x.y,1\n03/04/2025,a@x.y,1\n"
    (tmp_path / "mail.csv").write_text(HEADER + rows)
    assert "--date-order" in error_line(run_replay(tmp_path / "mail.csv", POLICY))


def test_times_without_a_zone_are_in_the_zone_that_is_named(tmp_path: Path) -> None:
    file = tmp_path / "mail.csv"
    file.write_text(HEADER + "2023-07-14 12:00,a@x.y,1\n")
    utc = replay_json(file, POLICY)["span"]["first"]
    there = replay_json(file, POLICY, "--timezone", "Europe/London")["span"]["first"]
    assert utc - there == 3600
    line = error_line(run_replay(file, POLICY, "--timezone", "Nowhere"))
    assert "is not a time zone" in line


def test_columns_are_guessed_and_the_user_sees_how(tmp_path: Path) -> None:
    text = 'Sent,From,To,Cc\n2023-11-14T22:13:20,Ann <ann@x.org>,bob@x.com,"a@x.com, b@x.com"\n'
    [record] = read(tmp_path, text)
    assert record.sender == "ann@x.org"
    assert record.recipients == ("bob@x.com", "a@x.com", "b@x.com")
    result = run_replay(tmp_path / "mail.csv", POLICY)
    assert result.stderr == (
        "note: columns, guessed by their names: time=Sent, sender=From, recipients=To, cc=Cc;"
        " --columns says others\n"
    )


def test_two_columns_that_may_be_meant_are_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "mail.csv"
    file.write_text("Sent,Received,sender,count\n1700000000,1700000009,ann@x.org,1\n")
    line = error_line(run_replay(file, POLICY))
    assert "the columns 'Sent' and 'Received' may both be the time: --columns time=NAME" in line
    assert replay_json(file, POLICY, "--columns", "time=Received")["span"]["first"] == 1_700_000_009
    assert replay_json(file, POLICY, "--columns", "time=1")["span"]["first"] == 1_700_000_000


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("time", "is not a field and a column"),
        ("subject=Title", "'subject' is not one of time, sender"),
        ("time=time,time=x", "time is there twice"),
        ("time=when", "no column 'when'; the header has 'time'"),
    ],
)
def test_a_wrong_column_is_an_error(tmp_path: Path, option: str, reason: str) -> None:
    (tmp_path / "mail.csv").write_text(ROWS)
    assert reason in error_line(run_replay(tmp_path / "mail.csv", POLICY, "--columns", option))


def test_a_file_without_a_header_has_its_columns_by_number(tmp_path: Path) -> None:
    file = tmp_path / "mail.csv"
    file.write_text("ann@x.org;3;1700000000\nkim@x.org;4;1700000001\n")
    columns = "sender=1,recipients=2,time=3"
    assert replay_json(file, POLICY, "--columns", columns)["rows"]["messages"] == 2


def test_rows_with_one_id_are_joined_if_the_id_is_named(tmp_path: Path) -> None:
    text = (
        "time,sender,recipients,mid\n5,a@x.y,b@x.y,1\n5,a@x.y,c@x.y,1\n6,a@x.y,b@x.y,2\n"
        "7,a@x.y,b@x.y,\n"
    )
    joined = read(tmp_path, text, columns={"id": "mid"})
    assert [getattr(each, "recipients", None) for each in joined] == [
        None,
        ("b@x.y", "c@x.y"),
        ("b@x.y",),
    ]
    assert len(read(tmp_path, text)) == 4


def test_a_date_and_a_time_of_day_in_two_columns_are_one_time(tmp_path: Path) -> None:
    text = "date,time,sender,count\n2023-11-14,22:13:20,a@x.y,1\n"
    assert times(read(tmp_path, text)) == [1_700_000_000]


def test_a_header_that_comes_again_is_not_a_row(tmp_path: Path) -> None:
    assert len(read(tmp_path, ROWS * 2)) == 4


# Clients.


def test_options_say_what_is_known_of_clients(tmp_path: Path) -> None:
    file = tmp_path / "mail.csv"
    file.write_text(
        "time,sender,recipients,From IP,Kind,Net\n"
        "5,a@x.y,b@x.y,129.100.1.1,ESMTPSA,\n6,a@x.y,b@x.y,129.100.64.1,,\n"
        "7,a@x.y,b@x.y,129.100.1.1,,wireless\n8,a@x.y,b@x.y,,webmail,\n"
    )
    networks = tmp_path / "networks.txt"
    networks.write_text("129.100.64.0/18 wireless\n")
    policy = tmp_path / "policy.toml"
    policy.write_text(
        'name = "x"\n[[tiers]]\nname = "open"\nwhen = { tag = "wireless" }\n'
        '[[tiers]]\nname = "web"\nwhen = { protocol = "webmail" }\n'
        '[[tiers]]\nname = "rest"\n[[tiers.limits]]\nkind = "recipient limit"\nlimit = 9\n'
    )
    options = ["--client", "column:From IP", "--protocol", "column:Kind", "--tag", "column:Net"]
    report = replay_json(file, str(policy), *options, "--networks", str(networks))
    seen = {each["tier"]: each["messages"]["seen"] for each in report["by_tier"]}
    assert seen == {"open": 2, "web": 1, "rest": 1}
    assert [each["clients"]["seen"] for each in report["by_tier"]] == [2, 0, 1]
    report = replay_json(file, str(policy), "--tag", "wireless", "--client", "10.0.0.1")
    assert [each["messages"]["seen"] for each in report["by_tier"]] == [4, 0, 0]
    assert "Clients and senders by tier" in run_replay(file, str(policy)).stdout


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--client", "pc"], "--client: 'pc' is not an IP address, or a column such as column:"),
        (["--protocol", "telnet"], "--protocol: 'telnet' is not one of smtp, webmail, api"),
        (["--networks", "none.txt"], "--networks none.txt: No such file"),
        (["--tag", "column:a", "--tag", "column:b"], "only one column can have the tags"),
        (["--client", "column:a", "--columns", "client=b"], "client is there, and in an option"),
        (["--only-from", "x y"], "x y"),
    ],
)
def test_wrong_options_about_clients_are_errors(
    tmp_path: Path, options: list[str], reason: str
) -> None:
    (tmp_path / "mail.csv").write_text(ROWS)
    assert reason in error_line(run_replay(tmp_path / "mail.csv", POLICY, *options))


def test_only_mail_of_some_domains_may_be_replayed(tmp_path: Path) -> None:
    file = tmp_path / "mail.csv"
    file.write_text(ROWS + "1700000040,eve@sub.x.org,1\n1700000050,eve@y.z,1\n1700000060,<>,1\n")
    result = run_replay(file, POLICY, "--only-from", "x.org", "--only-from", ".x.org", "--json")
    assert json.loads(result.stdout)["rows"]["messages"] == 3
    assert result.stderr == "note: messages of senders in other domains are not replayed (2)\n"
