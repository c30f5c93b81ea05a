"""Putting a message into an outbox: durable, once a key, in the caller's transaction."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.message import EmailMessage, Message
from pathlib import Path
from typing import Any

import pytest
from rlm_testkit.outbox import ANN, Scene, letter

from ratelimit_mail import (
    AsyncLimiter,
    Client,
    Envelope,
    Limiter,
    RateLimitExceeded,
    presets,
)
from ratelimit_mail.outbox import (
    CallableTransport,
    Outbox,
    OutboxError,
    OutgoingMessage,
    State,
)
from ratelimit_mail.testing import ManualClock

POLICY = presets.leeds_office365()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.db"


@pytest.fixture
def outbox(path: Path) -> Outbox:
    return Scene(path, POLICY).outbox


def sent_by(path: Path, **options: Any) -> list[OutgoingMessage]:
    """Send everything in an outbox, and return it."""
    sent: list[OutgoingMessage] = []
    Scene(path, POLICY, CallableTransport(sent.append), **options).run()
    return sent


def test_a_message_is_there_after_the_program_that_put_it_has_ended(path: Path) -> None:
    code = (
        "import os, sys; from ratelimit_mail import Limiter, presets;"
        "from ratelimit_mail.outbox import Outbox; from rlm_testkit.outbox import letter;"
        f"Outbox({str(path)!r}, Limiter(presets.leeds_office365())).put(letter(4711));"
        "os._exit(0)"
    )
    support = Path(__file__).parents[1] / "support"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(support), *sys.path])}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    (message,) = Scene(path, POLICY).outbox.list()
    assert message.state == State.QUEUED
    assert [each.address for each in message.recipients] == ["student4711@example.com"]


def test_what_put_returns_describes_the_message(outbox: Outbox) -> None:
    message = outbox.put(letter(1), key="job 1", priority=2)
    assert (message.id, message.key, message.state) == (1, "job 1", State.QUEUED)
    assert (message.sender, message.priority, message.attempts) == (ANN, 2, 0)
    assert message.recipients[0].state == State.QUEUED
    assert outbox.show(message.id) == message


def test_the_same_key_is_one_message(outbox: Outbox) -> None:
    first = outbox.put(letter(1), key="job 1")
    assert outbox.put(letter(2), key="job 1") == first
    assert outbox.put(letter(1), key="job 2").id != first.id
    assert len({outbox.put(letter(1)).id for _ in range(3)}) == 3
    assert len(outbox.list()) == 5


def test_the_same_key_from_two_programs_is_one_message(path: Path) -> None:
    first, second = Scene(path, POLICY).outbox, Scene(path, POLICY).outbox
    assert first.put(letter(1), key="job 1").id == second.put(letter(1), key="job 1").id


def test_a_key_is_remembered_when_its_message_was_sent(path: Path) -> None:
    Scene(path, POLICY).outbox.put(letter(1), key="job 1")
    assert len(sent_by(path)) == 1
    again = Scene(path, POLICY).outbox.put(letter(1), key="job 1")
    assert again.state == State.SENT
    assert sent_by(path) == []


@pytest.mark.parametrize("key", ["", "a\nb", "x" * 513])
def test_a_key_that_is_not_one_is_an_error(outbox: Outbox, key: str) -> None:
    with pytest.raises(ValueError, match="key: "):
        outbox.put(letter(1), key=key)
    assert outbox.list() == ()


def test_a_message_over_the_cap_is_refused_and_not_put(outbox: Outbox) -> None:
    many = letter(to=", ".join(f"s{i}@example.com" for i in range(101)))
    with pytest.raises(RateLimitExceeded) as caught:
        outbox.put(many)
    assert str(caught.value.decision.reply).startswith("550 5.5.3 Too many recipients: at most 100")
    assert outbox.list() == ()


def test_putting_does_not_ask_the_backend(path: Path) -> None:
    scene = Scene(path, POLICY)
    scene.outbox.put(letter(1))
    assert scene.backend.size() == 0


# What is stored, and what is not.


def test_bcc_is_a_recipient_and_is_not_in_the_text(path: Path) -> None:
    message = letter(1, Bcc="dean@leeds.ac.uk", **{"Resent-Bcc": "x@example.com"})
    Scene(path, POLICY).outbox.put(message)
    assert message["Bcc"] == "dean@leeds.ac.uk"
    (sent,) = sent_by(path)
    assert sent.recipients == ("student1@example.com", "dean@leeds.ac.uk")
    assert b"dean" not in sent.content
    assert b"x@example.com" not in sent.content
    assert b"dean" not in Path(path).read_bytes().replace(b"dean@leeds.ac.uk", b"")


def test_resent_headers_make_the_envelope_as_in_smtplib(path: Path) -> None:
    resent = {
        "Resent-Date": "Thu, 26 Nov 2026 12:00:00 +0000",
        "Resent-From": "kim@leeds.ac.uk",
        "Resent-To": "lee@example.com",
    }
    Scene(path, POLICY).outbox.put(letter(1, **resent))
    (sent,) = sent_by(path)
    assert (sent.sender, sent.recipients) == ("kim@leeds.ac.uk", ("lee@example.com",))


def test_a_missing_message_id_and_date_are_added_to_the_text_alone(path: Path) -> None:
    message = letter(1)
    put = Scene(path, POLICY).outbox.put(message)
    assert "Message-ID" not in message
    (sent,) = sent_by(path)
    parsed = sent.parsed()
    assert parsed["Message-ID"] == put.message_id == sent.message_id
    assert parsed["Message-ID"].endswith("@leeds.ac.uk>")
    assert parsed["Date"] == "Sun, 09 Sep 2001 01:46:40 +0000"


def test_a_message_id_of_the_program_stays(path: Path) -> None:
    put = Scene(path, POLICY).outbox.put(letter(1, **{"Message-ID": "<4711@leeds.ac.uk>"}))
    assert put.message_id == "<4711@leeds.ac.uk>"
    (sent,) = sent_by(path)
    assert sent.content.lower().count(b"message-id") == 1


def test_lines_end_in_crlf_and_nothing_else_changes(path: Path) -> None:
    Scene(path, POLICY).outbox.put(letter(1))
    (sent,) = sent_by(path)
    assert b"\r\n.\r\n..\r\n" in sent.content
    assert sent.content.count(b"\n") == sent.content.count(b"\r\n") == sent.content.count(b"\r")


@pytest.mark.parametrize("ending", [b"\n", b"\r", b"\r\n"])
def test_bytes_are_put_with_an_envelope(path: Path, ending: bytes) -> None:
    text = ending.join([b"Subject: Hi", b"Message-ID: <1@x.org>", b"Date: now", b"", b"Hello", b""])
    envelope = Envelope(ANN, ["bob@example.com"])
    Scene(path, POLICY).outbox.put(text, envelope=envelope)
    (sent,) = sent_by(path)
    assert sent.content == b"Subject: Hi\r\nMessage-ID: <1@x.org>\r\nDate: now\r\n\r\nHello\r\n"
    assert sent.message_id == "<1@x.org>"


def test_bytes_without_a_message_id_get_one(path: Path) -> None:
    Scene(path, POLICY).outbox.put(b"Subject: Hi\n\nHello", envelope=Envelope(ANN, ["b@c.org"]))
    (sent,) = sent_by(path)
    parsed = message_from_bytes(sent.content)
    assert parsed["Message-ID"] == sent.message_id
    assert parsed["Subject"] == "Hi"


def test_the_client_is_that_of_the_envelope_in_the_limiter(path: Path) -> None:
    policy = presets.western_convergence(campus_networks=["10.0.0.0/8"])
    scene = Scene(path, policy, CallableTransport(lambda _: None))
    client = Client(address="10.1.2.3", user="kim", protocol="smtp", tags={"x"})
    scene.outbox.put(letter(1), client=client)
    scene.run()
    usage = scene.limiter.usage("user:kim", scope="submitter", client=client)
    assert [each.used for each in usage] == [1]


@pytest.mark.parametrize(
    "value", ["a\nBcc: eve@example.com", "a\r\nBcc: eve@example.com", "a\n\n b"]
)
def test_a_header_that_contains_another_one_is_refused(outbox: Outbox, value: str) -> None:
    message: Message[str, str] = Message()
    message["From"], message["To"] = ANN, "bob@example.com"
    message["Subject"] = value
    with pytest.raises(ValueError, match=r"header Subject: .* contains a line break"):
        outbox.put(message)
    assert outbox.list() == ()


def test_a_folded_header_is_allowed(outbox: Outbox) -> None:
    message: Message[str, str] = Message()
    message["From"], message["To"], message["Subject"] = ANN, "bob@example.com", "a\n b"
    assert outbox.put(message).state == State.QUEUED


def test_addresses_that_a_server_let_pass_are_refused(outbox: Outbox) -> None:
    odd = Envelope.from_smtp("ann b@leeds.ac.uk", ["x\r\nDATA@example.com"])
    with pytest.raises(ValueError, match="is not one bare address"):
        outbox.put(b"Subject: Hi\n\n", envelope=odd)


def test_a_large_attachment_goes_through_whole(path: Path) -> None:
    data = os.urandom(25 * 1024 * 1024)
    message = letter(1)
    message.add_attachment(data, maintype="application", subtype="octet-stream", filename="a.bin")
    put = Scene(path, POLICY).outbox.put(message)
    assert put.size > 25 * 1024 * 1024
    (sent,) = sent_by(path)
    (attachment,) = sent.parsed().iter_attachments()
    assert attachment.get_content() == data


# Wrong calls.


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (("text",), TypeError, "EmailMessage is needed"),
        ((b"text",), TypeError, "EmailMessage is needed"),
        ((EmailMessage(),), ValueError, "neither Sender nor From"),
    ],
)
def test_what_is_not_a_message_is_an_error(
    outbox: Outbox, arguments: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        outbox.put(*arguments)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"envelope": "x"}, TypeError, "an Envelope is needed"),
        ({"envelope": Envelope(ANN, ["b@c.org"]), "client": Client()}, TypeError, "client: "),
        ({"envelope": Envelope(ANN, ["b@c.org"], direction="inbound")}, ValueError, "outbound"),
        ({"priority": "high"}, TypeError, "priority: a whole number"),
        ({"priority": 1001}, ValueError, "priority: 1001"),
        ({"not_before": 5}, TypeError, "not_before: a datetime is needed"),
        ({"expires": datetime(2030, 1, 1)}, ValueError, "expires: .* has no time zone"),
        ({"expires": datetime(2000, 1, 1, tzinfo=UTC)}, ValueError, "expires: .* is over"),
        (
            {
                "not_before": datetime(2030, 1, 2, tzinfo=UTC),
                "expires": datetime(2030, 1, 1, tzinfo=UTC),
            },
            ValueError,
            "is over before",
        ),
        ({"connection": "x"}, TypeError, "connection: a sqlite3.Connection"),
    ],
)
def test_an_option_that_is_wrong_is_named(
    outbox: Outbox, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        outbox.put(letter(1), **options)
    assert outbox.list() == ()


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"limiter": AsyncLimiter(POLICY)}, TypeError, "limiter: a Limiter is needed"),
        ({"transport": "smtp"}, TypeError, "transport: a transport such as SMTPTransport"),
        ({"on_uncertain": "ignore"}, ValueError, "on_uncertain: 'ignore' is not one of"),
        ({"retry": 5}, TypeError, "retry: a RetrySchedule"),
        ({"notices": "x@y.org"}, TypeError, "notices: Notices"),
        ({"keep": -1}, ValueError, "keep: -1"),
        ({"hold_for": "5 days"}, TypeError, "hold_for: a number of seconds"),
        ({"poll_interval": 0}, ValueError, "poll_interval: 0"),
    ],
)
def test_an_argument_of_an_outbox_that_is_wrong_is_named(
    path: Path, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    arguments = {"limiter": Limiter(POLICY), **options}
    with pytest.raises(error, match=words):
        Outbox(path, **arguments)
    assert not path.exists()


def test_an_outbox_without_a_transport_cannot_run(outbox: Outbox) -> None:
    with pytest.raises(TypeError, match="transport: an Outbox without one"):
        outbox.run()


def test_a_message_that_does_not_exist_is_a_key_error(outbox: Outbox) -> None:
    for method in (outbox.show, outbox.cancel, outbox.retry, outbox.approve, outbox.reject):
        with pytest.raises(KeyError):
            method(7)


@pytest.mark.parametrize("number", [2**63, 10**30, -(2**63) - 1])
def test_a_number_that_no_file_can_hold_is_a_message_that_does_not_exist(
    outbox: Outbox, number: int
) -> None:
    for method in (
        *(outbox.show, outbox.text, outbox.cancel),
        *(outbox.retry, outbox.approve, outbox.reject),
    ):
        with pytest.raises(KeyError):
            method(number)


def test_after_and_limit_may_be_any_numbers(outbox: Outbox) -> None:
    put = outbox.put(letter(1))
    assert outbox.list(limit=10**30) == outbox.list(after=-(10**30)) == (put,)
    assert outbox.list(after=10**30) == ()


# The file.


def test_only_the_owner_can_read_the_file(path: Path, outbox: Outbox) -> None:
    outbox.put(letter(1))
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_the_file_says_what_it_is(path: Path, outbox: Outbox) -> None:
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA application_id").fetchone() == (0x524C4D4F,)
    assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_a_file_of_a_later_version_is_refused(path: Path, outbox: Outbox) -> None:
    outbox.close()
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("UPDATE outbox_meta SET value = 2")
    connection.close()
    with pytest.raises(OutboxError, match="has version 2; this library reads 1"):
        Scene(path, POLICY)


def test_a_file_of_another_program_is_refused_and_left_as_it_is(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE customers (name TEXT)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(ValueError, match="has tables of another program"):
        Scene(path, POLICY)
    assert path.read_bytes() == before


def test_a_file_that_is_not_a_database_is_refused(path: Path) -> None:
    path.write_text("Dear students, " * 100)
    with pytest.raises(OutboxError, match="cannot be opened: file is not a database: restore it"):
        Scene(path, POLICY)


def test_a_folder_that_is_missing_is_an_error(path: Path) -> None:
    with pytest.raises(OutboxError, match="cannot be created"):
        Scene(path.parent / "missing" / "outbox.db", POLICY)


def test_a_closed_outbox_opens_again(path: Path) -> None:
    with Scene(path, POLICY).outbox as outbox:
        outbox.put(letter(1))
    assert len(outbox.list()) == 1


# In the caller's transaction.


@pytest.fixture
def shop(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE orders (number INTEGER)")
    connection.commit()
    return connection


def test_a_message_is_put_if_and_when_the_caller_commits(
    path: Path, shop: sqlite3.Connection
) -> None:
    outbox = Scene(path, POLICY, shared=True).outbox
    shop.execute("INSERT INTO orders VALUES (4711)")
    message = outbox.put(letter(1), connection=shop)
    assert message.state == State.QUEUED
    assert outbox.list() == ()
    shop.rollback()
    assert outbox.list() == ()
    assert shop.execute("SELECT count(*) FROM orders").fetchone() == (0,)
    with shop:
        shop.execute("INSERT INTO orders VALUES (4712)")
        outbox.put(letter(2), connection=shop)
    assert [each.recipients[0].address for each in outbox.list()] == ["student2@example.com"]
    assert len(sent_by(path, shared=True)) == 1
    shop.close()


def test_put_begins_a_transaction_where_the_connection_would(
    path: Path, shop: sqlite3.Connection
) -> None:
    outbox = Scene(path, POLICY, shared=True).outbox
    outbox.put(letter(1), connection=shop)
    assert shop.in_transaction
    shop.rollback()
    assert outbox.list() == ()
    shop.close()


def test_a_put_that_fails_leaves_the_transaction_as_it_was(
    path: Path, shop: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = Scene(path, POLICY, shared=True).outbox
    shop.execute("INSERT INTO orders VALUES (4711)")
    shop.execute("DROP TABLE outbox_holds")
    with pytest.raises(sqlite3.OperationalError):
        outbox.put(letter(1), connection=shop)
    assert shop.execute("SELECT count(*) FROM orders").fetchone() == (1,)
    assert shop.execute("SELECT count(*) FROM outbox_messages").fetchone() == (0,)
    shop.close()


def test_a_connection_that_commits_each_statement_must_begin_first(path: Path) -> None:
    outbox = Scene(path, POLICY).outbox
    connection = sqlite3.connect(path, isolation_level=None)
    with pytest.raises(ValueError, match="execute BEGIN first"):
        outbox.put(letter(1), connection=connection)
    connection.execute("BEGIN")
    outbox.put(letter(1), connection=connection)
    connection.execute("COMMIT")
    assert len(outbox.list()) == 1
    connection.close()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="has no autocommit")
def test_a_connection_with_autocommit_is_understood(path: Path) -> None:
    outbox = Scene(path, POLICY).outbox
    options: Any = {"autocommit": True}
    connection = sqlite3.connect(path, **options)
    with pytest.raises(ValueError, match="execute BEGIN first"):
        outbox.put(letter(1), connection=connection)
    connection.close()
    options = {"autocommit": False}
    connection = sqlite3.connect(path, **options)
    outbox.put(letter(1), connection=connection)
    connection.rollback()
    assert outbox.list() == ()
    outbox.put(letter(1), connection=connection)
    connection.commit()
    assert len(outbox.list()) == 1
    connection.close()


def test_a_connection_to_another_file_is_refused(path: Path, tmp_path: Path) -> None:
    outbox = Scene(path, POLICY).outbox
    connection = sqlite3.connect(tmp_path / "other.db")
    with pytest.raises(ValueError, match="it has not opened the file of the outbox"):
        outbox.put(letter(1), connection=connection)
    connection.close()


def test_the_outbox_may_be_attached_to_the_callers_database(path: Path, tmp_path: Path) -> None:
    outbox = Scene(path, POLICY).outbox
    connection = sqlite3.connect(tmp_path / "shop.db")
    connection.execute("ATTACH ? AS 'the \"outbox\"'", (str(path),))
    with connection:
        outbox.put(letter(1), connection=connection, key="1")
        assert outbox.put(letter(1), connection=connection, key="1").id == 1
    assert len(outbox.list()) == 1
    connection.close()


def test_the_row_factory_of_the_caller_stays(path: Path) -> None:
    outbox = Scene(path, POLICY).outbox
    connection = sqlite3.connect(path)
    connection.row_factory = lambda _, row: [*row]
    with connection:
        outbox.put(letter(1), connection=connection)
    assert connection.execute("SELECT 1").fetchone() == [1]
    connection.close()


# Many programs.


def test_many_programs_put_at_the_same_time(path: Path) -> None:
    code = (
        "import sys; from ratelimit_mail import Limiter, presets;"
        "from ratelimit_mail.outbox import Outbox; from rlm_testkit.outbox import letter\n"
        f"outbox = Outbox({str(path)!r}, Limiter(presets.leeds_office365()))\n"
        "for i in range(15): outbox.put(letter(i), key=f'{sys.argv[1]} {i}')\n"
        "for i in range(5): outbox.put(letter(i), key=f'shared {i}')\n"
    )
    support = Path(__file__).parents[1] / "support"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(support), *sys.path])}
    programs = [
        subprocess.Popen([sys.executable, "-c", code, str(i)], env=environment) for i in range(4)
    ]
    assert [each.wait() for each in programs] == [0] * 4
    messages = Scene(path, POLICY).outbox.list()
    assert len(messages) == 4 * 15 + 5


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_process_opens_a_connection_of_its_own(path: Path) -> None:
    outbox = Scene(path, POLICY).outbox
    outbox.put(letter(1), key="parent")
    child = os.fork()
    if not child:
        try:
            outbox.put(letter(2), key="child")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    outbox.put(letter(3), key="parent again")
    assert {each.key for each in outbox.list()} == {"parent", "child", "parent again"}


# Lists.


def test_messages_are_listed_by_state_and_sender_a_page_at_a_time(path: Path) -> None:
    outbox = Scene(path, POLICY).outbox
    for i in range(5):
        outbox.put(letter(i, "kim@leeds.ac.uk" if i % 2 else ANN))
    outbox.cancel(1)
    assert [each.id for each in outbox.list()] == [1, 2, 3, 4, 5]
    assert [each.id for each in outbox.list(after=2, limit=2)] == [3, 4]
    assert [each.id for each in outbox.list(state="queued", sender="ANN@LEEDS.AC.UK")] == [3, 5]
    assert [each.id for each in outbox.list(state=State.CANCELLED)] == [1]
    with pytest.raises(ValueError, match="state: 'lost' is not one of queued, held"):
        outbox.list(state="lost")


def test_stats_count_by_state_and_say_how_old_the_queue_is(path: Path) -> None:
    scene = Scene(path, POLICY)
    stats = scene.outbox.stats()
    assert (stats.oldest, stats.senders, stats.workers) == (None, 0, 0)
    scene.outbox.put(letter(1))
    scene.clock.advance(60)
    scene.outbox.put(letter(2, "kim@leeds.ac.uk"))
    scene.outbox.cancel(scene.outbox.put(letter(3)).id)
    stats = scene.outbox.stats()
    assert stats.counts[State.QUEUED] == 2
    assert stats.counts[State.CANCELLED] == 1
    assert stats.counts[State.SENT] == 0
    assert stats.senders == 2
    assert stats.oldest == datetime(2001, 9, 9, 1, 46, 40, tzinfo=UTC)


def test_a_message_shows_no_text_in_its_repr(path: Path) -> None:
    Scene(path, POLICY).outbox.put(letter(1, **{"X-Password": "hunter2"}))
    (sent,) = sent_by(path)
    assert b"hunter2" in sent.content
    assert "hunter2" not in repr(sent)
    assert repr(Scene(path, POLICY).outbox) == f"<Outbox {str(path)!r} of 'leeds-office365'>"


def test_a_time_to_go_and_a_time_to_end_are_shown(outbox: Outbox) -> None:
    go, end = datetime(2030, 1, 1, tzinfo=UTC), datetime(2030, 1, 2, tzinfo=UTC)
    message = outbox.put(letter(1), not_before=go, expires=end)
    assert (message.next_at, message.expires_at) == (go, end)
    assert end - go == timedelta(days=1)


def test_the_text_and_the_client_of_a_message_can_be_read(path: Path) -> None:
    outbox = Scene(path, POLICY, CallableTransport(lambda message: None)).outbox
    client = Client(address="192.0.2.1", user="ann", tags=["staff"])
    put = outbox.put(letter(1, Bcc="dean@leeds.ac.uk"), client=client)
    assert put.client == outbox.show(1).client == client
    text = outbox.text(1)
    assert (b"Subject: Letter 1\r\n" in text, b"Bcc" in text) == (True, False)
    assert sent_by(path)[0].content == text


def test_the_text_of_a_message_that_is_missing_cannot_be_read(path: Path) -> None:
    clock = ManualClock()
    outbox = Outbox(path, Limiter(POLICY), keep=0, clock=clock)
    with pytest.raises(KeyError):
        outbox.text(1)
    outbox.put(letter(1))
    outbox.cancel(1)
    clock.advance(1)
    outbox.purge()
    with pytest.raises(ValueError, match="message 1: its text is not stored any more"):
        outbox.text(1)


def test_a_full_file_is_an_error_with_a_next_step(outbox: Outbox) -> None:
    connection = outbox._store._connection
    assert connection is not None
    [pages] = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count={pages}").fetchone()
    put: list[int] = []

    def put_many() -> None:
        for number in range(1000):
            outbox.put(letter(number))
            put.append(number)

    with pytest.raises(OutboxError, match="full; free some space"):
        put_many()
    assert outbox.stats().counts[State.QUEUED] == len(put)
