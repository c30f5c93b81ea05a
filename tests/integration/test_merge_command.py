"""The command `merge`: it checks, plans, previews, and puts each letter once."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import Result
from rlm_testkit.command_line import error_line, run_command

from ratelimit_mail import Envelope, Limiter, MessageRateLimit, Policy, presets
from ratelimit_mail.backends import SQLiteBackend
from ratelimit_mail.outbox import Outbox

LETTER = "TO: {{ name }} <{{ email }}>\nSUBJECT: Hi\nFROM: ed@leeds.ac.uk\n\nDear {{ name }},\n"
PEOPLE = "email,name,id\nann@example.com,Ann,1\nbob@example.com,Bob,2\n"
LEEDS = ("--policy", "leeds-office365")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RATELIMIT_MAIL_STORE", raising=False)
    Path("people.csv").write_text(PEOPLE)
    Path("letter.txt").write_text(LETTER)
    return tmp_path


def merge(*options: str) -> Result:
    return run_command("merge", "people.csv", "letter.txt", *options)


def recipients() -> list[str]:
    with Outbox("outbox.db", Limiter(presets.leeds_office365())) as outbox:
        return [each.address for message in outbox.list() for each in message.recipients]


def test_each_person_gets_one_letter_however_often_the_command_runs(folder: Path) -> None:
    result = merge("--outbox", "outbox.db", *LEEDS)
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0] == "2 letters, each checked"
    assert lines[1].split() == ["recipients", "2", "in", "all"]
    assert lines[-1] == "2 letters put into outbox.db"
    Path("people.csv").write_text(PEOPLE + "cy@example.com,Cy,3\n")
    result = merge("--outbox", "outbox.db", *LEEDS)
    assert "3 letters, each checked; 2 of them in the outbox already" in result.output
    assert "1 letter put into outbox.db" in result.output
    assert recipients() == ["ann@example.com", "bob@example.com", "cy@example.com"]


def test_wrong_rows_are_named_and_nothing_is_put(folder: Path) -> None:
    Path("people.csv").write_text(PEOPLE + "cy,Cy,3\nANN@example.com,\x1b[2JAnn,4\n")
    result = merge("--outbox", "outbox.db", *LEEDS)
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        "row 3 (line 4): To: 'cy' is not an address such as 'bob@example.com'",
        r"row 4 (line 5): To: '\x1b[2JAnn' has a line break or another control character",
        "Error: 2 problems; no letter was put into an outbox",
    ]
    assert not Path("outbox.db").exists()


def test_previews_are_written_and_nothing_is_put(folder: Path) -> None:
    result = merge("--preview", "1", "--outbox", "outbox.db", *LEEDS)
    assert "Nothing was put into an outbox." in result.output
    assert [path.name for path in Path("preview").iterdir()] == ["000001.eml"]
    assert b"To: Ann <ann@example.com>\r\n" in Path("preview/000001.eml").read_bytes()
    assert recipients() == []


def test_a_dry_run_prints_the_first_letter_or_as_many_as_the_limit_says(folder: Path) -> None:
    printed = merge("--dry-run").output
    assert "row 1 (line 2)" in printed
    assert "Dear Ann," in printed
    assert "Dear Bob," not in printed
    assert "Dear Bob," in merge("--dry-run", "--no-limit").output
    assert "Dear Bob," in merge("--dry-run", "--limit", "1", "--resume", "2").output
    assert "Content-Type: text/plain" in merge("--dry-run", "--output-format", "raw").output


def test_a_test_sends_the_first_letter_to_the_address_each_time(folder: Path) -> None:
    for _ in range(2):
        merge("--outbox", "outbox.db", *LEEDS, "--test-to", "me@leeds.ac.uk")
    merge("--outbox", "outbox.db", *LEEDS, "--test-to", "me@leeds.ac.uk", "--no-limit")
    assert recipients() == ["me@leeds.ac.uk"] * 4
    merge("--outbox", "outbox.db", *LEEDS)
    assert recipients()[4:] == ["ann@example.com", "bob@example.com"]


def test_the_store_may_be_named_by_the_environment(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = Policy(name="one", limits=[MessageRateLimit("1/day")])
    Path("one.toml").write_text(policy.dump())
    backend = SQLiteBackend("counts.db")
    Limiter(policy, backend).try_acquire(Envelope("ed@leeds.ac.uk", ["eve@example.com"]))
    backend.close()
    options = ("--outbox", "outbox.db", "--policy", "one.toml", "--dry-run")
    assert "after 00:00:00" in merge(*options).output
    monkeypatch.setenv("RATELIMIT_MAIL_STORE", "sqlite:///counts.db")
    assert "after 00:00:00" not in merge(*options).output


def test_the_plan_begins_after_what_was_sent_and_what_is_queued(folder: Path) -> None:
    backend = SQLiteBackend("counts.db")
    limiter = Limiter(presets.leeds_office365(), backend)
    for _ in range(20):
        limiter.try_acquire(Envelope("ed@leeds.ac.uk", ["eve@example.com"]))
    backend.close()
    rows = "".join(f"user{i}@example.com,U,{i}\n" for i in range(9))
    Path("people.csv").write_text("email,name,id\n" + rows)
    options = ("--outbox", "outbox.db", *LEEDS, "--store", "sqlite:///counts.db")

    def last_line() -> str:
        [line] = [each for each in merge(*options).output.splitlines() if each.startswith("last")]
        return line

    assert "after 00:00:00" in last_line()
    Path("people.csv").write_text("email,name,id\nann@example.com,Ann,1\nbob@example.com,Bob,2\n")
    line = last_line()  # 20 were sent, 9 are queued, and the minute holds 30
    assert "after 00:00:00" not in line
    assert "after 00:0" in line


def test_a_letter_that_can_never_go_is_named_by_its_row(folder: Path) -> None:
    many = "; ".join(f"user{i}@example.com" for i in range(101))
    Path("people.csv").write_text(f'email,name\nann@example.com,Ann\n"{many}",\n')
    Path("letter.txt").write_text("TO: {{ email }}\nFROM: ed@leeds.ac.uk\n\nDear {{ name }}")
    error = error_line_of(merge("--outbox", "outbox.db", *LEEDS, "--delimiter", ","))
    assert error.startswith(
        "Error: row 2 (line 3): under leeds-office365, it can never go: at most"
    )
    assert recipients() == []


def error_line_of(result: Result) -> str:
    assert result.exit_code == 2
    return result.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "one of --outbox FILE, --preview N and --dry-run is needed"),
        (("--outbox", "outbox.db"), "--policy NAME is needed"),
        (("--dry-run", "--key", "nr"), "key: there is no column 'nr'"),
        (("--dry-run", "--html", "no.html"), "no.html: No such file or directory"),
        (("--dry-run", "--test-to", "me"), "has no '@'"),
        (("--dry-run", "--not-before", "soon"), "--not-before: "),
        (("--dry-run", "--client", "home"), "home"),
        (("--dry-run", "--delimiter", "ab"), "delimiter"),
        (("--outbox", "people.csv", *LEEDS), "the outbox"),
        (("--outbox", "outbox.db", *LEEDS, "--store", "counts.db"), "--store: url: "),
    ],
)
def test_an_error_is_one_line(folder: Path, options: tuple[str, ...], message: str) -> None:
    assert message in error_line_of(merge(*options))


def test_a_missing_file_is_named(folder: Path) -> None:
    error = error_line(run_command("merge", "no.csv", "letter.txt", "--dry-run"))
    assert error == "no.csv: No such file or directory"


def test_an_attachment_outside_the_folder_needs_permission(folder: Path) -> None:
    folder.joinpath("sub").mkdir()
    Path("sub/people.csv").write_text(PEOPLE)
    Path("flyer.pdf").write_bytes(b"%PDF")
    Path("letter.txt").write_text(LETTER.replace("\n\n", "\nATTACHMENT: ../flyer.pdf\n\n"))
    arguments = ("merge", "sub/people.csv", "letter.txt", "--dry-run")
    result = run_command(*arguments)
    assert result.exit_code == 2
    assert "'../flyer.pdf' is outside the folder of the CSV file" in result.stderr
    assert "--attach-from" in result.stderr
    result = run_command(*arguments, "--attach-from", ".")
    assert "[attachment flyer.pdf, 4 bytes]" in result.output


def test_the_sample_can_be_merged_and_replaces_no_file(tmp_path: Path) -> None:
    files = (str(tmp_path / "people.csv"), str(tmp_path / "letter.txt"))
    assert run_command("merge", *files, "--sample").exit_code == 0
    result = run_command("merge", *files, "--dry-run", "--no-limit")
    assert 'To: "Jones, Eve" <eve@example.com>' in result.output
    assert "File exists" in error_line(run_command("merge", *files, "--sample"))
