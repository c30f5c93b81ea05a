"""`manage.py ratelimit_outbox`: sends what waits with a mailer's backend, and looks after it."""

from __future__ import annotations

import contextlib
import io
import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest
from rlm_testkit.builders import campus_policy, limiter_with_clock

from ratelimit_mail import Envelope, Limiter, MessageRateLimit, RecipientRateLimit
from ratelimit_mail.backends import from_url

pytest.importorskip("django")
pytest.importorskip("aiosmtpd")
pytest.importorskip("rlm_testkit.django_project.ready")

from django.core import mail
from django.core.mail.backends.base import BaseEmailBackend
from django.core.management import CommandError, call_command
from django.test import override_settings
from rlm_testkit.django_project import HAS_MAILERS, mail_settings, mailer
from rlm_testkit.smtp_servers import CLOSE, Sink, SMTPServerThread
from rlm_testkit.submission import ANN, BOB, EVE, new_sink, server_of_sink

from ratelimit_mail.adapters.django import get_limiter, get_outbox

KIM = "kim@uwo.ca"


sink = pytest.fixture(new_sink)
server = pytest.fixture(server_of_sink)


@pytest.fixture
def values(tmp_path: Path) -> dict[str, Any]:
    """A mailer of which only the first message goes at once; time has passed when it runs."""
    limiter, clock = limiter_with_clock(
        campus_policy(MessageRateLimit("1/minute"), RecipientRateLimit("99/day"))
    )
    values = {"LIMITER": limiter, "ON_EXCESS": "outbox", "OUTBOX": str(tmp_path / "outbox.db")}
    values["clock"] = clock
    return values


def run(*arguments: str) -> str:
    output = io.StringIO()
    call_command("ratelimit_outbox", *arguments, stdout=output)
    return output.getvalue()


def configured(values: dict[str, Any], port: int = 25) -> Any:
    return mailer({name: each for name, each in values.items() if name.isupper()}, port)


def put_one(values: dict[str, Any], message: mail.EmailMessage | None = None) -> None:
    """Use up the limit, and put a message into the outbox."""
    values["LIMITER"].try_acquire(Envelope(ANN, [BOB]))
    message = message or mail.EmailMessage("Hello", "Grüße", f"Ann <{ANN}>", [BOB], bcc=[EVE])
    assert message.send() == 1
    values["clock"].advance(61)
    get_outbox().close()


def test_what_waits_is_sent_with_the_backend_of_the_mailer(
    values: dict[str, Any], server: SMTPServerThread, sink: Sink
) -> None:
    with configured(values, server.port):
        put_one(values)
        assert "1 message sent, 0 failed, 0 uncertain; 0 queued" in run("run", "--until-empty")
        assert "sent" in run("list")
        stats = json.loads(run("stats", "--json"))
        get_outbox().close()
    assert (stats["counts"]["sent"], stats["counts"]["queued"]) == (1, 0)
    [arrival] = sink.arrivals
    assert (arrival.sender, arrival.recipients) == (ANN, (BOB, EVE))
    assert b"Subject: Hello\r\n" in arrival.text
    assert EVE.encode() not in arrival.text
    assert [each.used for each in values["LIMITER"].usage(ANN)] == [1, 3]


def test_a_recipient_that_the_server_refuses_has_failed_and_is_not_charged(
    values: dict[str, Any], server: SMTPServerThread, sink: Sink
) -> None:
    sink.replies["RCPT", EVE] = "550 5.1.1 no such user"
    with configured(values, server.port):
        put_one(values)
        with pytest.raises(SystemExit) as caught:
            run("run", "--until-empty", "--quiet")
        assert caught.value.code == 1
        [message] = json.loads(run("list", "--json"))
        get_outbox().close()
    assert [each["state"] for each in message["recipients"]] == ["sent", "failed"]
    assert [each.used for each in values["LIMITER"].usage(ANN)] == [1, 2]


def test_a_connection_cut_after_the_text_leaves_the_message_uncertain(
    values: dict[str, Any], server: SMTPServerThread, sink: Sink
) -> None:
    sink.replies["TEXT", ANN] = CLOSE
    with configured(values, server.port):
        put_one(values)
        with pytest.raises(SystemExit):
            run("run", "--until-empty", "--quiet")
        assert "uncertain" in run("list", "--state", "uncertain")
        assert "cancelled" in run("cancel", "1")
        get_outbox().close()


def test_a_message_that_django_never_takes_fails_and_stops_nothing(
    values: dict[str, Any], server: SMTPServerThread, sink: Sink
) -> None:
    with configured(values, server.port):
        envelope = Envelope(KIM, ["b\u00f6b@example.com"])
        get_outbox().put(b"Subject: x\r\n\r\nx", envelope=envelope)
        put_one(values)
        # Django 5.2 encodes such an address, as if it were the text of a header.
        with pytest.raises(SystemExit) if HAS_MAILERS else contextlib.nullcontext():
            run("run", "--until-empty", "--quiet")
        messages = json.loads(run("list", "--json"))
        get_outbox().close()
    assert [each["state"] for each in messages] == ["failed" if HAS_MAILERS else "sent", "sent"]
    assert ANN in [each.sender for each in sink.arrivals]


@pytest.mark.parametrize(
    "header",
    [
        b"Cc: \t%:;>",
        b"Reply-To: utf-8''@[",
        b"Cc: \x00@",
        b"Message-ID: \r\n <;a\\\r\n ]",
        b"Content-Type: text/plain; charset=undefined",
        b"Content-Type: text/plain; charset=idna",
        b'Content-Type: text/plain; charset="a\x00b"',
        b'Content-Type: text/html; charset=\r\n "\x00 =?utf-8?b?<',
    ],
)
def test_a_header_that_python_cannot_parse_is_sent_as_it_is(
    values: dict[str, Any], server: SMTPServerThread, sink: Sink, header: bytes
) -> None:
    with configured(values, server.port):
        content = b"Subject: x\r\n" + header + b"\r\n\r\n\xff\r\n"
        get_outbox().put(content, envelope=Envelope(KIM, [BOB]))
        get_outbox().close()
        assert "1 message sent" in run("run", "--until-empty")
        get_outbox().close()
    [arrival] = sink.arrivals
    assert header.split(b"\r")[0] in arrival.text


class Recording(BaseEmailBackend):
    """Stands for a backend that sends through an API: it reads the fields of a message."""

    seen: ClassVar[list[Any]] = []

    def send_messages(self, email_messages: Any) -> int:
        self.seen.extend(email_messages)
        return len(email_messages)


def test_a_backend_that_sends_through_an_api_gets_the_fields_of_the_message(
    values: dict[str, Any],
) -> None:
    Recording.seen.clear()
    message = mail.EmailMultiAlternatives(
        "Grüße",
        "Hello",
        f"Ann <{ANN}>",
        [BOB],
        cc=[KIM],
        bcc=[EVE],
        reply_to=["help@example.org"],
        headers={"X-Tag": "news"},
    )
    message.attach_alternative("<p>Hello</p>", "text/html")
    message.attach("a.csv", "1,2\n", "text/csv")
    own = {**values, "BACKEND": f"{__name__}.Recording"}
    own.pop("clock")
    with override_settings(**mail_settings(own)):
        put_one(values, message)
        run("run", "--until-empty")
        get_outbox().close()
    [sent] = Recording.seen
    assert (sent.subject, sent.body.strip(), sent.from_email) == ("Grüße", "Hello", ANN)
    assert (sent.to, sent.cc, sent.bcc, sent.reply_to) == (
        [BOB],
        [KIM],
        [EVE],
        ["help@example.org"],
    )
    assert [(each[0].strip(), each[1]) for each in sent.alternatives] == [
        ("<p>Hello</p>", "text/html")
    ]
    [(name, content, kind)] = sent.attachments
    assert (name, content.replace(b"\r\n", b"\n"), kind) == ("a.csv", b"1,2\n", "text/csv")
    assert sent.extra_headers["X-Tag"] == "news"
    assert b"X-Tag: news" in sent.message().as_bytes(linesep="\r\n")


def test_the_commands_list_show_retry_and_cancel(values: dict[str, Any]) -> None:
    with configured(values):
        put_one(values)
        assert "message 1: cancelled" in run("cancel", "1")
        assert "message 1: queued" in run("retry", "1")
        assert "Subject: Hello" in run("show", "1", "--text")
        assert "1 message cancelled" in run("cancel", "--state", "queued")
        get_outbox().close()


def test_the_help_names_no_argument_that_the_project_has_set(
    values: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    with configured(values):
        assert run("run", "--help").startswith("Usage: manage.py ratelimit_outbox run [OPTIONS]\n")
        for name in ("list", "stats", "cancel", "run"):
            text = run(name, "--help")
            for each in ("  --policy", "  --store", "  --smtp", "  --password-env"):
                assert each not in text
        get_outbox().close()


def test_without_a_command_all_are_described(values: dict[str, Any]) -> None:
    with configured(values):
        text = run()
        get_outbox().close()
    assert text.startswith("Usage: manage.py ratelimit_outbox [OPTIONS] COMMAND")
    for words in ("run", "Send what is queued when the limits allow it", "stats", "Count the"):
        assert words in text


def test_the_statistics_say_that_nothing_is_sent_while_no_program_runs(
    values: dict[str, Any],
) -> None:
    with configured(values):
        put_one(values)
        assert "start `run`" in run("stats")
        get_outbox().close()
        with contextlib.closing(sqlite3.connect(values["OUTBOX"])) as database, database:
            # As a killed worker leaves it.
            database.execute("UPDATE outbox_messages SET state = 'sending', owner = 'dead'")
        assert "makes it\nuncertain, or sends it again" in run("stats")


def test_errors_are_those_of_manage_py(values: dict[str, Any], tmp_path: Path) -> None:
    with configured(values):
        with pytest.raises(CommandError, match="has no message 7") as caught:
            run("cancel", "7")
        assert caught.value.returncode == 2
        with pytest.raises(CommandError, match="No such command 'nosuch'"):
            run("nosuch")
        with pytest.raises(CommandError, match="no mailer 'nosuch' has limits"):
            run("--using", "nosuch", "list")
        get_outbox().close()
    with mailer({"POLICY": "gmail"}), pytest.raises(CommandError, match="OUTBOX is missing"):
        run("list")
    with mailer({"POLICY": "nosuch", "OUTBOX": "x"}), pytest.raises(CommandError, match="preset"):
        run("list")


def test_an_outbox_that_is_new_is_empty(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/counts.db"
    with mailer({"POLICY": "gmail", "STORE": url, "OUTBOX": tmp_path / "outbox.db"}):
        assert run("list") == "No messages.\n"
        get_outbox().close()
        assert isinstance(get_limiter(), Limiter)
    assert from_url(url)


def test_without_click_the_command_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['click'] = None\n"
        "import rlm_testkit.django_project.ready\n"
        "from django.core.management import CommandError, call_command\n"
        "try: call_command('ratelimit_outbox', 'list')\n"
        "except CommandError as error: print(error)\n"
    )
    support = str(Path(__file__).parents[1] / "support")
    result = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {support!r})\n{code}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "pip install 'ratelimit-mail[cli]'" in result.stdout, result.stderr
