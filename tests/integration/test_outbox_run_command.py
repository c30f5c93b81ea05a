"""`ratelimit-mail outbox run` against a real mail server: logins, refusals, and signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import AuthResult, LoginPassword
from click.testing import Result
from rlm_testkit.command_line import run_command
from rlm_testkit.outbox import Sink
from rlm_testkit.servers import TIMEOUT

from ratelimit_mail.testing import ManualClock

LEEDS = ("--policy", "leeds-office365")
STORE = ("--store", "sqlite:///counts.db")
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
SECRET = "correct horse battery staple"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def sink() -> Iterator[Sink]:
    sink = Sink(ManualClock())
    yield sink
    sink.close()


def put(number: int) -> None:
    for each in range(number):
        text = f"From: ann@leeds.ac.uk\nTo: user{each}@example.com\n\nHello\n"
        result = run_command("outbox", "put", "outbox.db", *LEEDS, text=text)
        assert result.exit_code == 0, result.output


def options(sink: Sink, *more: str, user: str = "") -> tuple[str, ...]:
    url = f"smtp://{user}127.0.0.1:{sink.port}"
    return ("outbox", "run", "outbox.db", *LEEDS, *STORE, "--smtp", url, "--tls", "none", *more)


def run(sink: Sink, *more: str, user: str = "") -> Result:
    return run_command(*options(sink, "--until-empty", *more, user=user))


def states() -> list[str]:
    listed = run_command("outbox", "list", "outbox.db", "--json")
    return [each["state"] for each in json.loads(listed.stdout)]


class Program:
    """The command in a process of its own, whose stderr is read line by line."""

    def __init__(self, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ratelimit_mail.cli", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
        )

    def line_with(self, text: str) -> str:
        """Wait for a line on stderr that has a text, and return it."""
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if text in line:
                return line
        raise AssertionError(f"no line with {text!r}")

    def send(self, number: int) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def wait(self) -> tuple[int, str]:
        """Return the exit code and the rest of stdout."""
        stdout, _ = self._process.communicate(timeout=TIMEOUT)
        return self._process.returncode, stdout

    def end(self) -> None:
        """End it if it still runs."""
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def programs() -> Iterator[list[Program]]:
    programs: list[Program] = []
    yield programs
    for each in programs:
        each.end()


class Hold:
    """Holds the server's reply to the first message back until it is released."""

    def __init__(self, sink: Sink) -> None:
        self.has_text = threading.Event()
        self.released = threading.Event()
        sink.answers["TEXT"] = self._answer

    def _answer(self, text: bytes) -> None:
        if not self.has_text.is_set():
            self.has_text.set()
            self.released.wait(TIMEOUT)


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize(
    ("number", "more", "code"),
    [
        (signal.SIGTERM, (), 0),
        (signal.SIGINT, (), 0),
        (signal.SIGTERM, ("--until-empty",), 143),
        (signal.SIGINT, ("--until-empty",), 130),
    ],
)
def test_a_signal_finishes_the_message_in_hand_and_nothing_is_sent_twice(
    sink: Sink, programs: list[Program], number: int, more: tuple[str, ...], code: int
) -> None:
    put(3)
    hold = Hold(sink)
    program = Program(*options(sink, *more))
    programs.append(program)
    assert hold.has_text.wait(TIMEOUT)
    program.send(number)
    program.line_with("finishing the message in hand")
    assert sink.received == []
    hold.released.set()
    assert program.wait() == (code, "1 message sent, 0 failed, 0 uncertain; 2 queued\n")
    assert len(sink.received) == 1
    assert states() == ["sent", "queued", "queued"]

    result = run(sink)
    assert (result.exit_code, result.stdout) == (
        0,
        "2 messages sent, 0 failed, 0 uncertain; 0 queued\n",
    )
    assert states() == ["sent"] * 3
    assert len(sink.received) == 3
    assert set(sink.counts().values()) == {1}


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_second_signal_ends_at_once_and_the_message_is_uncertain(
    sink: Sink, programs: list[Program]
) -> None:
    put(2)
    hold = Hold(sink)
    program = Program(*options(sink))
    programs.append(program)
    assert hold.has_text.wait(TIMEOUT)
    program.send(signal.SIGINT)
    program.line_with("finishing the message in hand")
    program.send(signal.SIGINT)
    assert program.wait() == (130, "")
    hold.released.set()

    result = run(sink)
    assert result.exit_code == 1
    assert result.stdout == "1 message sent, 0 failed, 1 uncertain; 0 queued\n"
    assert "message 1 of the outbox may have been sent" in result.stderr
    assert states() == ["uncertain", "sent"]
    assert max(sink.counts().values()) == 1


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_an_outbox_that_does_not_exist_yet_is_created_with_a_notice(sink: Sink) -> None:
    notice = "outbox.db: there is no outbox yet; a new one is created"
    first = run(sink)
    assert (first.exit_code, notice in first.stderr) == (0, True)
    assert "created" not in run(sink).stderr
    Path("outbox.db").unlink()
    assert run(sink, "--quiet").stderr == ""


def test_a_program_that_has_nothing_to_send_ends_at_a_signal(
    sink: Sink, programs: list[Program]
) -> None:
    program = Program(*options(sink))
    programs.append(program)
    program.line_with("nothing is queued")
    program.send(signal.SIGTERM)
    assert program.wait() == (0, "0 messages sent, 0 failed, 0 uncertain; 0 queued\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_log_that_cannot_be_written_does_not_stop_the_mail(sink: Sink) -> None:
    put(2)
    sink.answers["RCPT"] = lambda address: (
        "550 5.1.1 no such user" if address.startswith("user0") else None
    )
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [sys.executable, "-m", "ratelimit_mail.cli", *options(sink, "--until-empty")],
            stdout=subprocess.PIPE,
            stderr=full,
            text=True,
            env=ENVIRONMENT,
            check=False,
        )
    assert (result.returncode, result.stdout) == (
        1,
        "1 message sent, 1 failed, 0 uncertain; 0 queued\n",
    )
    assert states() == ["failed", "sent"]


def test_refusals_are_printed_escaped_and_end_with_exit_code_1(sink: Sink) -> None:
    put(2)
    sink.answers["RCPT"] = lambda address: (
        "550 5.1.1 no \x1b[2J such user" if address.startswith("user0") else None
    )
    result = run(sink)
    assert result.exit_code == 1
    assert "message 1 failed for user0@example.com: 550 5.1.1 no [2J such user\n" in result.stderr
    assert "\x1b" not in result.output
    assert states() == ["failed", "sent"]
    put(1)
    result = run(sink, "--json", "--notices-from", "postmaster@leeds.ac.uk")
    failed, end = map(json.loads, result.stdout.splitlines())
    assert (failed["event"], failed["message"], failed["recipients"]) == (
        "failed",
        3,
        ["user0@example.com"],
    )
    assert (end["event"], end["sent"], end["failed"]) == ("end", 1, 1)
    assert (sink.received[-1].sender, sink.received[-1].recipients) == ("<>", ["ann@leeds.ac.uk"])


def test_a_refused_message_is_tried_by_the_schedule_of_the_options(sink: Sink) -> None:
    put(1)
    replies: list[str | None] = ["451 4.3.0 busy", None]
    sink.answers["MAIL"] = lambda address: replies.pop(0)
    result = run(sink, "--retry-delays", "0.01")
    assert result.exit_code == 0, result.output
    assert states() == ["sent"]


@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")
class TestLogin:
    @pytest.fixture
    def sink(self) -> Iterator[Sink]:
        def check(server: Any, session: Any, envelope: Any, how: str, data: Any) -> AuthResult:
            assert isinstance(data, LoginPassword)
            is_right = (data.login, data.password) == (b"ann@leeds.ac.uk", SECRET.encode())
            return AuthResult(success=is_right, handled=False)

        sink = Sink(ManualClock(), authenticator=check, auth_required=True, auth_require_tls=False)
        yield sink
        sink.close()

    @pytest.mark.parametrize("user", ["ann@leeds.ac.uk@", "ann%40leeds.ac.uk@"])
    def test_the_password_is_in_a_file_or_in_the_environment(
        self, sink: Sink, user: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        password = Path("password")
        password.write_text(f"{SECRET}\n")
        password.chmod(0o600)
        monkeypatch.setenv("MAIL_PASSWORD", SECRET)
        for login in (("--password-file", "password"), ("--password-env", "MAIL_PASSWORD")):
            put(1)
            result = run(sink, *login, user=user)
            assert result.exit_code == 0, result.output
            assert SECRET not in result.output
        assert len(sink.received) == 2

    def test_a_wrong_password_is_not_shown(self, sink: Sink) -> None:
        put(1)
        Path("password").write_text("wrong but secret\n")
        Path("password").chmod(0o644)
        more = ("--password-file", "password", "--give-up", "0", "--reconnect", "0.01")
        result = run(sink, *more, user="ann@leeds.ac.uk@")
        assert result.exit_code == 1
        assert "refuses the login: '535 5.7.8" in result.stderr
        assert "every user of this host may read password; chmod o= password" in result.stderr
        assert "wrong but secret" not in result.output
        assert states() == ["failed"]
