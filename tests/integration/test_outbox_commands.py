"""The commands `ratelimit-mail outbox …`, except what a real server is needed for."""

from __future__ import annotations

import json
import smtplib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from rlm_testkit.command_line import error_line, run_command, write_lines

from ratelimit_mail import Directory, Grant, Limiter, MailingList, MessageRateLimit, Policy
from ratelimit_mail.cli.outbox.command import outbox_commands
from ratelimit_mail.outbox import CallableTransport, Outbox, OutgoingMessage

LEEDS = ("--policy", "leeds-office365")
STORE = ("--store", "sqlite:///counts.db")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RATELIMIT_MAIL_STORE", raising=False)
    return tmp_path


def letter(number: int = 1, to: str = "bob@example.com") -> str:
    return f"From: ann@leeds.ac.uk\nTo: {to}\nSubject: Letter {number}\n\nHello\n"


def outbox(command: str, *arguments: str, text: str | bytes | None = None) -> Result:
    return run_command("outbox", command, "outbox.db", *arguments, text=text)


def as_json(command: str, *arguments: str, text: str | None = None) -> Any:
    result = outbox(command, "--json", *arguments, text=text)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def put(*arguments: str, text: str | None = None) -> Any:
    return as_json("put", *LEEDS, *arguments, text=letter() if text is None else text)


def run(*arguments: str) -> Result:
    return outbox("run", *arguments, *LEEDS, *STORE, "--maildir", "mail", "--until-empty")


def maildir_texts() -> list[str]:
    return sorted(path.read_text() for path in Path("mail/new").iterdir())


def test_what_is_put_is_sent_without_bcc_and_counted() -> None:
    result = outbox("put", *LEEDS, text=f"Bcc: dean@leeds.ac.uk\n{letter()}")
    assert result.exit_code == 0, result.output
    assert result.output == (
        "message 1: queued, from ann@leeds.ac.uk to bob@example.com, dean@leeds.ac.uk\n"
    )
    result = run()
    assert result.exit_code == 0, result.output
    assert result.stdout == "1 message sent, 0 failed, 0 uncertain; 0 queued\n"
    assert "0 sent; 1 message queued by 1 sender; all out at " in result.stderr
    [text] = maildir_texts()
    assert "Delivered-To: dean@leeds.ac.uk\n" in text
    assert "Bcc" not in text
    assert as_json("stats")["counts"]["sent"] == 1
    usage = run_command("plan", *LEEDS, *STORE, "--messages", "30", "--sender", "ann@leeds.ac.uk")
    assert "after 00:01" in usage.output or "after 00:00:5" in usage.output


def test_files_are_put_together_or_not_at_all() -> None:
    for number in range(3):
        Path(f"{number}.eml").write_text(letter(number))
    many = ", ".join(f"guest{number}@example.com" for number in range(101))
    Path("many.eml").write_text(letter(4, many))
    error = error_line(outbox("put", "0.eml", "many.eml", "1.eml", *LEEDS))
    assert error.startswith("many.eml: ")
    assert "at most 100 in one message" in error
    assert error.endswith("; no message was put")
    assert as_json("list") == []
    messages = put("0.eml", "1.eml", "2.eml")
    assert [each["id"] for each in messages] == [1, 2, 3]
    assert [each["id"] for each in as_json("list")] == [1, 2, 3]


def test_one_message_that_can_never_go_is_refused() -> None:
    many = ", ".join(f"guest{number}@example.com" for number in range(101))
    error = error_line(outbox("put", *LEEDS, text=letter(1, many)))
    assert error.startswith("the standard input: ")
    assert as_json("stats")["counts"]["queued"] == 0


def test_a_key_is_one_message() -> None:
    first = put("--key", "order 7")
    assert put("--key", "order 7") == first
    assert put("--key", "order 8")[0]["id"] == 2
    Path("a.eml").write_text(letter())
    error = error_line(outbox("put", "a.eml", "-", "--key", "order 9", *LEEDS))
    assert error == "--key is for one message, not for 2; put them one by one"


def test_times_priority_and_the_client_are_stored() -> None:
    [message] = put(
        *("--not-before", "2099-01-01 08:00", "--expires", "2099-01-02T08:00Z"),
        *("--time-zone", "Europe/London", "--priority", "5", "--sender", "list@leeds.ac.uk"),
        *("--client", "192.0.2.1", "--protocol", "webmail", "--tag", "staff"),
    )
    assert message["next_at"] == "2099-01-01T08:00:00+00:00"
    assert message["expires_at"] == "2099-01-02T08:00:00+00:00"
    assert (message["priority"], message["sender"]) == (5, "list@leeds.ac.uk")
    assert message["client"]["address"] == "192.0.2.1"
    assert message["client"]["tags"] == ["staff"]
    late = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    error = error_line(outbox("put", "--expires", late, *LEEDS, text=letter()))
    assert error.startswith("the standard input: expires: ")


def test_put_takes_the_arguments_of_sendmail() -> None:
    [message] = put("-i", "-oi", "-f", "ed@leeds.ac.uk", "--", "eve@example.com")
    assert message["sender"] == "ed@leeds.ac.uk"
    assert [each["address"] for each in message["recipients"]] == ["eve@example.com"]
    [message] = put("-t", "eve@example.com")
    assert [each["address"] for each in message["recipients"]] == [
        "eve@example.com",
        "bob@example.com",
    ]


def test_an_argument_that_is_an_address_and_a_file_is_an_error() -> None:
    write_lines(Path("ann@example.com"), letter())
    error = error_line(outbox("put", "ann@example.com", *LEEDS, text=""))
    assert error == (
        "ann@example.com is an address and also a file; write ./ann@example.com for the file"
    )
    assert put("./ann@example.com")[0]["id"] == 1


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((), "--policy NAME is needed: the limits of the messages"),
        (("missing.eml", *LEEDS), "missing.eml: No such file or directory"),
        (("-", "-", *LEEDS), "- is there twice; the standard input is one message"),
        (("--policy", "leeds"), "there is no policy leeds; did you mean"),
        (("-f", "ann", *LEEDS), "the standard input: sender: the address 'ann' has no '@'"),
        (("--store", "http://x", *LEEDS), "--store: "),
    ],
)
def test_what_is_wrong_with_put_is_said_in_one_line(arguments: tuple[str, ...], error: str) -> None:
    assert error_line(outbox("put", *arguments, text=letter())).startswith(error)
    assert not Path("outbox.db").exists()


def test_messages_are_listed_by_state_sender_and_page() -> None:
    put()
    put("-f", "ed@leeds.ac.uk")
    put("-f", "ed@leeds.ac.uk")
    assert outbox("cancel", "2").output == (
        "message 2: cancelled, from ed@leeds.ac.uk to bob@example.com\n"
    )

    def ids(*options: str) -> list[int]:
        return [each["id"] for each in as_json("list", *options)]

    assert ids() == [1, 2, 3]
    assert ids("--state", "cancelled") == [2]
    assert ids("--sender", "ED@leeds.ac.uk") == [2, 3]
    assert ids("--limit", "1", "--after", "1") == [2]
    text = outbox("list", "--limit", "2").output
    assert text.endswith("There are more: --after 2\n")
    assert "more" not in outbox("list", "--limit", "3").output
    assert outbox("list", "--state", "failed").output == "No messages.\n"


def test_show_prints_the_text_in_words_and_exactly() -> None:
    put(text=letter() + "\x1b[2JCaf\u00e9\n")
    shown = outbox("show", "1", "--text").output
    assert "state            queued" in shown
    assert "Subject: Letter 1" in shown
    assert "\x1b" not in shown
    exact = outbox("show", "1", "--eml")
    assert exact.stdout_bytes.endswith(b"\r\n\r\nHello\r\n\x1b[2JCaf\xc3\xa9\r\n")
    table = as_json("show", "1", "--text")
    assert table["recipients"] == [{"address": "bob@example.com", "state": "queued", "reply": None}]
    assert table["text"].startswith("Date: ")


def test_output_is_escaped() -> None:
    [message] = put(
        "--key", "\u00e9[bold]x[/bold]", "-f", '"a\u202eb"@leeds.ac.uk', "--", "bob@example.com"
    )
    for arguments in (("list",), ("show", "1"), ("show", "1", "--text")):
        shown = outbox(*arguments).output
        assert "\u202e" not in shown
        assert r"\u202e" in shown
    assert "[bold]x[/bold]" in outbox("show", "1").output
    assert "\u202e" in message["sender"]


@pytest.mark.parametrize("command", ["show", "cancel", "retry", "approve", "reject"])
def test_a_message_or_an_outbox_that_is_missing_is_named_with_a_next_step(command: str) -> None:
    error = error_line(outbox(command, "7"))
    assert (
        error == "outbox.db: there is no such file; `ratelimit-mail outbox put` creates an outbox"
    )
    assert not Path("outbox.db").exists()
    put()
    assert error_line(outbox(command, "7")) == (
        "outbox.db has no message 7; `ratelimit-mail outbox list outbox.db` shows those that it has"
    )


def test_a_file_that_is_not_an_outbox_is_an_error() -> None:
    Path("outbox.db").write_text("some text that is long enough for a header of a database" * 9)
    for arguments in (("list",), ("stats",), ("show", "1"), ("put", *LEEDS)):
        command, *rest = arguments
        error = error_line(outbox(command, *rest, text=letter()))
        assert "cannot be opened: file is not a database: restore it from a copy" in error


def test_changes_by_hand_are_printed_and_what_cannot_be_changed_is_an_error() -> None:
    put()
    put()
    assert [each["state"] for each in as_json("cancel", "1", "2")] == ["cancelled", "cancelled"]
    assert outbox("retry", "1").output.startswith("message 1: queued")
    result = outbox("cancel", "1", "2")
    assert result.exit_code == 2
    assert result.stdout.startswith("message 1: cancelled")
    assert result.stderr == "Error: message 2 is cancelled: it cannot be cancelled\n"


def test_moderators_list_approve_and_reject(folder: Path) -> None:
    students = MailingList(
        "students@leeds.ac.uk", posting="moderated", moderators=["ed@leeds.ac.uk"]
    )
    policy = Policy(
        name="campus",
        limits=[MessageRateLimit("30/minute")],
        directory=Directory(lists=[students]),
    )
    (folder / "campus.toml").write_text(policy.dump())
    campus = ("--policy", "campus.toml")
    for _ in range(2):
        result = outbox("put", *campus, text=letter(1, "students@leeds.ac.uk"))
        assert "held for a moderator of students@leeds.ac.uk" in result.output
    by = ("--by", "ed@leeds.ac.uk")
    held = as_json("list", "--moderator", "ed@leeds.ac.uk", *campus)
    assert [each["id"] for each in held] == [1, 2]
    assert as_json("list", "--moderator", "ann@leeds.ac.uk", *campus) == []
    assert "--by needs --policy" in error_line(outbox("approve", "1", *by))
    assert "--moderator needs --policy" in error_line(
        outbox("list", "--moderator", "ed@leeds.ac.uk")
    )
    assert as_json("approve", "1", *by, *campus)[0]["state"] == "queued"
    error = error_line(outbox("approve", "2", "--by", "ann@leeds.ac.uk", *campus))
    assert "ann@leeds.ac.uk" in error
    [rejected] = as_json(
        "reject", "2", "--reason", "Too long", "--notices-from", "postmaster@leeds.ac.uk"
    )
    assert rejected["state"] == "failed"
    assert rejected["reply"].endswith("Too long")
    notice = as_json("show", "3", "--text")
    assert (notice["sender"], notice["recipients"][0]["address"]) == ("<>", "ann@leeds.ac.uk")
    assert "Too long" in notice["text"]


def test_stats_say_when_all_will_be_out_after_what_was_sent() -> None:
    for number in range(30):
        put("--key", str(number))
    assert run().exit_code == 0
    assert as_json("stats", *LEEDS, *STORE)["all_out_at"] is None
    put()
    at = datetime.fromisoformat(as_json("stats", *LEEDS, *STORE)["all_out_at"])
    last = datetime.fromisoformat(as_json("show", "1")["changed_at"])
    # The 30 of the minute are settled when they are sent.
    assert at >= last + timedelta(seconds=55)
    text = outbox("stats", *LEEDS, *STORE).output
    assert "1 message queued by 1 sender; all out" in " ".join(text.split())
    result = outbox("put", *LEEDS, *STORE, text=letter())
    assert result.output.splitlines()[1].startswith("2 messages queued by 1 sender; all out at ")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((), "--policy NAME is needed: the limits of the messages"),
        (LEEDS, "--store URL is needed, such as sqlite:///counts.db"),
        ((*LEEDS, *STORE), "one of --smtp URL and --maildir DIR is needed"),
        (
            (*LEEDS, *STORE, "--smtp", "smtp://x", "--maildir", "m"),
            "one of --smtp URL and --maildir DIR is needed",
        ),
        (
            (*LEEDS, *STORE, "--maildir", "m", "--password-env", "SECRET"),
            "a password or a token needs --smtp",
        ),
        (
            (*LEEDS, *STORE, "--maildir", "m", "--delay-notice-after", "4h"),
            "--delay-notice-after needs --notices-from ADDRESS",
        ),
        (
            (*LEEDS, *STORE, "--maildir", "m", "--give-up", "9999999d"),
            "give_up: ",
        ),
        ((*LEEDS, *STORE, "--smtp", "smtp://h", "--password-env", "X"), "--password-env needs a"),
        ((*LEEDS, *STORE, "--smtp", "smtp://u@h"), "--smtp: a login with a user needs one of"),
        (
            (*LEEDS, *STORE, "--smtp", "smtp://u@h", "--password-env", "UNSET_ENV"),
            "--password-env: the environment variable UNSET_ENV is not set",
        ),
        (
            (*LEEDS, *STORE, "--smtp", "smtp://u@h", "--password-file", "missing"),
            "--password-file: missing: No such file or directory",
        ),
    ],
)
def test_what_is_wrong_with_run_is_said_in_one_line(arguments: tuple[str, ...], error: str) -> None:
    assert error_line(outbox("run", *arguments)).startswith(error)
    assert not Path("outbox.db").exists()


SECRET = "correct-horse-battery"


@pytest.mark.parametrize(
    "options",
    [
        ("--smtp", f"smtp://ann:{SECRET}@example.com"),
        ("--smtp", f"smtp://ann:{SECRET}/x@example.com"),
        ("--smtp", f"smtp://ann:{SECRET}#x@example.com:587"),
        ("--smtp", f"http://ann:{SECRET}@example.com"),
        ("--smtp", "smtp://ann@example.com", "--password-env", f"{SECRET}"),
        ("--smtp", "smtp://ann@example.com", "--password-file", "lines"),
        ("--smtp", "smtp://ann@example.com", "--password-env", "LINES_OF_IT"),
        ("--smtp", "smtp://ann@example.com", "--password-env", "A", "--tls", "none"),
    ],
)
def test_an_error_does_not_show_a_password(
    options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("lines").write_text(f"{SECRET}\n{SECRET}\n")
    monkeypatch.setenv("LINES_OF_IT", f"{SECRET}\n{SECRET}")
    monkeypatch.setenv("A", SECRET)
    result = outbox("run", *LEEDS, *STORE, *options)
    error_line(result)
    assert SECRET not in result.output


def test_times_of_a_retry_schedule_have_units() -> None:
    result = run("--retry-delays", "30m,2h", "--give-up", "5d", "--reconnect", "1.5s,30")
    assert result.exit_code == 0, result.output
    result = run("--retry-delays", "soon")
    assert result.exit_code == 2
    assert "soon is not a time such as 90s, 30m, 2h or 5d" in result.stderr


def test_a_quiet_run_prints_nothing_if_all_goes_well() -> None:
    put()
    result = run("--quiet")
    assert (result.exit_code, result.output) == (0, "")
    assert len(maildir_texts()) == 1


def test_a_run_as_json_ends_with_its_numbers() -> None:
    put()
    result = run("--json", "--quiet")
    assert json.loads(result.stdout) == {
        "event": "end",
        "sent": 1,
        "failed": 0,
        "uncertain": 0,
        "queued": 0,
        "stopped": False,
    }


def test_the_store_may_be_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATELIMIT_MAIL_STORE", "sqlite:///counts.db")
    put()
    result = outbox("run", *LEEDS, "--maildir", "mail", "--until-empty")
    assert result.exit_code == 0, result.output
    assert Path("counts.db").exists()


def test_the_forecast_leaves_out_messages_that_cannot_go_as_things_are() -> None:
    put()
    put("-f", "ed@leeds.ac.uk")
    policy = Policy(
        name="strict",
        limits=[MessageRateLimit("1/minute")],
        grants=[Grant(senders=["ann@leeds.ac.uk"])],
    )
    Path("strict.toml").write_text(policy.dump())
    text = " ".join(outbox("stats", "--policy", "strict.toml").output.split())
    assert "2 messages queued by 2 senders; all out at " in text
    assert text.endswith("; of 1, the time is not known")


def test_all_messages_in_a_state_are_cancelled_and_tried_again() -> None:
    for number in range(3):
        put(text=letter(number))
    put(text=letter(3).replace("ann@", "ed@"))
    result = outbox("cancel", "--state", "queued", "--sender", "ann@leeds.ac.uk")
    assert (result.exit_code, result.output) == (0, "3 messages cancelled\n")
    assert as_json("stats")["counts"]["queued"] == 1
    again = as_json("retry", "--state", "cancelled")
    assert [(each["id"], each["state"]) for each in again] == [
        (1, "queued"),
        (2, "queued"),
        (3, "queued"),
    ]
    assert as_json("cancel", "--state", "held") == []
    assert outbox("cancel", "--state", "queued").output == "4 messages cancelled\n"


def test_a_message_whose_text_is_gone_is_skipped_when_all_are_tried_again() -> None:
    for number in range(2):
        put(text=letter(number))
        outbox("cancel", str(number + 1))
        if number == 0:
            assert run("--keep", "0.001s").exit_code == 0
    result = outbox("retry", "--state", "cancelled")
    assert result.stdout == "1 message queued again\n"
    assert result.stderr.startswith("1 message skipped: ")


@pytest.mark.parametrize("command", ["cancel", "retry"])
def test_messages_are_chosen_by_their_numbers_or_by_their_state(command: str) -> None:
    put()
    needed = "either IDs or --state STATE is needed: which messages"
    assert error_line(outbox(command)) == needed
    assert error_line(outbox(command, "1", "--state", "queued")) == needed
    sender = ("--sender", "ann@leeds.ac.uk")
    assert error_line(outbox(command, "1", *sender)) == "--sender needs --state STATE"


def test_a_list_of_failed_messages_has_the_replies() -> None:
    def refuse(message: OutgoingMessage) -> None:
        raise smtplib.SMTPDataError(550, b"5.1.1 unknown")

    put()
    put(text=letter(2))
    assert " reply" not in outbox("list").output
    limiter = Limiter(Policy(name="none", limits=[]))
    with Outbox("outbox.db", limiter, CallableTransport(refuse)) as opened:
        opened.run(until_empty=True)
    table = outbox("list", "--state", "failed").output
    assert "reply" in table.splitlines()[0]
    assert "next (UTC)" not in table
    assert "5.1.1" in table


def test_the_page_of_the_outbox_names_every_command() -> None:
    page = (Path(__file__).parents[2] / "docs/outbox.md").read_text(encoding="utf-8")
    for name in outbox_commands.commands:
        assert f"`{name} OUTBOX" in page
