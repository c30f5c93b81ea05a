"""The readers of mail logs and exports: what is one message, and what is left out and why."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from time import process_time
from typing import Any

import pytest

from ratelimit_mail._util.epoch import milliseconds_of
from ratelimit_mail.cli.errors import RejectedRow
from ratelimit_mail.cli.readers import MailFiles, open_mail_files
from ratelimit_mail.cli.readers import open_messages as joined
from ratelimit_mail.cli.readers.base import ReadOptions
from ratelimit_mail.cli.readers.syslog import YearlessTimes
from ratelimit_mail.cli.replay.mail_records import MailRecord
from ratelimit_mail.envelope import Client

START = datetime(2026, 3, 2, 9, tzinfo=UTC)


def files_of(tmp_path: Path, *texts: str, **options: Any) -> MailFiles:
    paths = []
    for number, text in enumerate(texts):
        path = tmp_path / f"log.{number}"
        path.write_text(text)
        paths.append(path)
    return open_mail_files(paths, ReadOptions(**options))


def seconds(record: MailRecord) -> float:
    return (record.time - milliseconds_of(START)) / 1000


def summary(items: Iterable[object]) -> list[tuple[float, str, Sequence[str] | int]]:
    records = sorted((each for each in items if isinstance(each, MailRecord)), key=lambda x: x.time)
    return [(seconds(each), each.sender, each.recipients) for each in records]


def rejected(items: Iterable[object]) -> list[tuple[str, str]]:
    return [(each.where, each.reason) for each in items if isinstance(each, RejectedRow)]


# Postfix.

LINES = """\
smtpd[1]: 4F1A2B3C4D: client=pc.example[192.0.2.7], sasl_method=PLAIN, sasl_username=ann
cleanup[2]: 4F1A2B3C4D: message-id=<1@example.org>
qmgr[3]: 4F1A2B3C4D: from=<Ann@example.org>, size=500, nrcpt=3 (queue active)
smtp[4]: 4F1A2B3C4D: to=<bob@example.com>, relay=none, delay=1, status=deferred (timeout)
smtp[4]: 4F1A2B3C4D: to=<kim@x.example>, orig_to=<staff@example.org>, relay=a, status=sent
smtp[4]: 4F1A2B3C4D: to=<joe@x.example>, orig_to=<staff@example.org>, relay=a, status=sent
smtp[4]: 4F1A2B3C4D: to=<bob@example.com>, relay=a[1.2.3.4]:25, delay=9, status=sent (250 ok)
qmgr[3]: 4F1A2B3C4D: removed
""".splitlines()

MESSAGE = (0.0, "Ann@example.org", ("bob@example.com", "staff@example.org"))

FORMS = {
    "syslog": "Mar  2 09:00:{:02} mail postfix/{}",
    "ISO 8601": "2026-03-02T09:00:{:02}.000001+00:00 mail postfix/{}",
    "short-iso": "2026-03-02T10:00:{:02}+0100 mail postfix/{}",
    "short-full": "Mon 2026-03-02 09:00:{:02} UTC mail postfix/{}",
    "with a priority": "<22>Mar  2 09:00:{:02} mail postfix/submission/{}",
}


def log_of(form: str, lines: Sequence[str] = LINES) -> str:
    return "".join(form.format(number, line) + "\n" for number, line in enumerate(lines))


@pytest.mark.parametrize("form", FORMS)
def test_the_lines_of_a_message_in_postfix_are_joined(tmp_path: Path, form: str) -> None:
    files = files_of(tmp_path, log_of(FORMS[form]), year=2026)
    assert files.format == "postfix"
    [record] = list(files)
    assert isinstance(record, MailRecord)
    assert summary([record]) == [MESSAGE]
    assert record.client == Client(address="192.0.2.7", user="ann", protocol="smtp")


def test_the_journal_in_json_is_read(tmp_path: Path) -> None:
    lines = []
    for number, line in enumerate(LINES):
        program, _, text = line.partition("]: ")
        entry: dict[str, Any] = {
            "__REALTIME_TIMESTAMP": str((milliseconds_of(START) + number * 1000) * 1000),
            "SYSLOG_IDENTIFIER": "postfix/" + program.partition("[")[0],
            "_HOSTNAME": "mail",
            "MESSAGE": text if number else list(text.encode()),
        }
        lines.append(json.dumps(entry))
    files = files_of(tmp_path, "\n".join(["-- Boot 1 --", *lines]))
    assert files.format == "postfix"
    assert summary(files) == [MESSAGE]


def test_a_rotated_log_is_read_in_order_whatever_the_order_of_its_files(tmp_path: Path) -> None:
    lines = log_of(FORMS["ISO 8601"]).splitlines(keepends=True)
    files = files_of(tmp_path, "".join(lines[3:]), "".join(lines[:3]))
    items = list(files)
    assert summary(items) == [MESSAGE]
    assert not rejected(items)


def test_a_message_that_arrived_before_the_log_is_left_out_with_the_reason(tmp_path: Path) -> None:
    [(where, reason)] = rejected(files_of(tmp_path, log_of(FORMS["ISO 8601"], LINES[2:])))
    assert where == "line 1"
    assert "its arrival is not in the log" in reason


def test_a_message_that_is_still_in_the_queue_counts(tmp_path: Path) -> None:
    assert summary(files_of(tmp_path, log_of(FORMS["ISO 8601"], LINES[:-1]))) == [MESSAGE]


def test_other_programs_are_not_read_and_other_lines_are_reported(tmp_path: Path) -> None:
    log = "Mar  2 09:00:00 mail dovecot: imap-login: Login\n" + log_of(FORMS["syslog"])
    files = files_of(tmp_path, log + "what is this\n", year=2026)
    items = list(files)
    assert summary(items) == [MESSAGE]
    assert rejected(items) == [("line 10", "is not a line of syslog or the journal")]


def test_a_message_that_a_content_filter_hands_back_is_counted_once(tmp_path: Path) -> None:
    back = [
        "smtpd[9]: 5A5A5A5A5A: client=localhost[127.0.0.1]",
        "cleanup[9]: 5A5A5A5A5A: message-id=<1@example.org>",
        "qmgr[3]: 5A5A5A5A5A: from=<Ann@example.org>, size=600, nrcpt=2 (queue active)",
        "smtp[4]: 5A5A5A5A5A: to=<bob@example.com>, relay=a[1.2.3.4]:25, status=sent (250 ok)",
        "qmgr[3]: 5A5A5A5A5A: removed",
    ]
    files = files_of(tmp_path, log_of(FORMS["ISO 8601"], [*LINES[:3], *back, *LINES[3:]]))
    assert summary(files) == [MESSAGE]
    assert list(files.reading.texts()) == [
        "messages that a content filter handed back are counted once (1)"
    ]


def test_what_was_not_accepted_and_what_postfix_wrote_itself_is_counted_apart(
    tmp_path: Path,
) -> None:
    lines = [
        "smtpd[1]: NOQUEUE: reject: RCPT from a[192.0.2.9]: 550 5.1.1 <x@y>: no; from=<a@b>",
        "smtpd[1]: 111111AAAA: client=a[192.0.2.9]",
        "smtpd[1]: 222222AAAA: client=a[192.0.2.9]",
        "cleanup[2]: 222222AAAA: milter-reject: END-OF-MESSAGE from a[192.0.2.9]: 5.7.1 spam",
        "cleanup[2]: 333333AAAA: message-id=<2@mail>",
        "qmgr[3]: 333333AAAA: from=<>, size=9, nrcpt=1 (queue active)",
        "local[3]: 333333AAAA: to=<ann@mail>, relay=local, status=sent (delivered)",
        "qmgr[3]: 333333AAAA: removed",
    ]
    files = files_of(tmp_path, log_of(FORMS["ISO 8601"], [*LINES, *lines]))
    items = list(files)
    assert (summary(items), rejected(items)) == ([MESSAGE], [])
    notes = dict(files.reading.notes)
    assert sorted(notes.values()) == [1, 1, 2]


def test_a_queue_id_that_is_used_again_is_another_message(tmp_path: Path) -> None:
    assert len(list(files_of(tmp_path, log_of(FORMS["ISO 8601"], [*LINES, *LINES])))) == 2


def test_messages_of_one_second_are_in_the_order_in_which_they_arrived(tmp_path: Path) -> None:
    """The first one waits in the queue for longer."""
    ids = ["4F1A2B3C4D", "5F1A2B3C4D", "6F1A2B3C4D"]
    arrived = [
        line
        for number, each in enumerate(ids)
        for line in (
            f"smtpd[1]: {each}: client=pc.example[192.0.2.7]",
            f"qmgr[3]: {each}: from=<ann@example.org>, size=1, nrcpt=1 (queue active)",
            f"smtp[4]: {each}: to=<r{number}@example.com>, relay=a, status=sent",
        )
    ]
    left = [f"qmgr[3]: {each}: removed" for each in (ids[2], ids[1], ids[0])]
    for form, steps in (("Mar  2 09:00:00", 1), ("2026-03-02T09:00:00.5+00:00", 0)):
        text = "".join(f"{form} mail postfix/{line}\n" for line in arrived + left)
        [first, second, third] = summary(files_of(tmp_path, text, year=2026))
        assert [first[0] % 0.5, second[0] - first[0], third[0] - first[0]] == pytest.approx(
            [0, 0.001 * steps, 0.002 * steps]
        )
        recipients = [each[2] for each in (first, second, third)]
        if steps:
            assert recipients == [("r0@example.com",), ("r1@example.com",), ("r2@example.com",)]


def test_mail_of_sendmail_has_no_client(tmp_path: Path) -> None:
    lines = [
        "pickup[1]: 4F1A2B3C4D: uid=0 from=<root>",
        "qmgr[3]: 4F1A2B3C4D: from=<root@mail.example>, size=9, nrcpt=1 (queue active)",
        "smtp[4]: 4F1A2B3C4D: to=<postmaster>, orig_to=<root>, relay=a, status=sent",
    ]
    [record] = list(files_of(tmp_path, log_of(FORMS["ISO 8601"], lines)))
    assert isinstance(record, MailRecord)
    assert (record.sender, record.client) == ("root@mail.example", Client())
    assert record.recipients == ("postmaster@replay.invalid",)


def test_the_number_of_open_messages_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joined, "MOST_OPEN", 2)
    lines = [line.replace("4F1A2B3C4D", f"4F1A2B3C4{i}") for line in LINES[:5] for i in range(4)]
    files = files_of(tmp_path, log_of("2026-03-02T09:00:00Z mail postfix/{1}", lines))
    items = list(files)
    assert rejected(items) == [(f"line {number}", joined.TOO_LONG) for number in (1, 2)]
    assert summary(items) == [
        (time, "Ann@example.org", ("bob@example.com", "staff@example.org"))
        for time in (0.002, 0.003)
    ]


def test_ids_are_forgotten_in_linear_time() -> None:
    def seconds_of(most: int) -> float:
        ids = joined.RecentIds(most)
        for i in range(most):
            assert ids.is_new(str(i))
        start = process_time()
        for i in range(most, most + 70_000):
            assert ids.is_new(str(i))
        length = process_time() - start
        assert str(i - most) not in ids
        assert str(i - most + 1) in ids
        return length

    # It took 80 times as long when what is oldest had to be found.
    assert seconds_of(100_000) < 20 * seconds_of(100)


def test_a_message_with_endless_recipients_takes_bounded_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joined, "MOST_RECIPIENTS", 5)
    more = [LINES[3].replace("bob@", f"bob{i}@") for i in range(50)]
    files = files_of(
        tmp_path,
        log_of("2026-03-02T09:00:00Z mail postfix/{1}", [*LINES[:4], *more, *LINES[4:]]),
    )
    [item] = rejected(list(files))
    assert item == ("line 1", joined.TOO_MANY)


def test_the_year_of_syslog_grows_in_january_and_comes_from_the_file_or_the_option(
    tmp_path: Path,
) -> None:
    times = YearlessTimes(2025, UTC)
    texts = [(12, 31, "23:59:59"), (1, 1, "00:00:00"), (12, 31, "23:59:59"), (1, 1, "00:00:01")]
    values = [times.parse(*each) for each in texts]
    new_year = milliseconds_of(datetime(2026, 1, 1, tzinfo=UTC))
    assert values == [new_year - 1000, new_year, new_year - 1000, new_year + 1000]
    files = files_of(tmp_path, log_of(FORMS["syslog"]))
    [record] = list(files)
    assert isinstance(record, MailRecord)
    [note] = files.reading.texts()
    year = datetime.fromtimestamp(record.time / 1000, UTC).year
    assert note.startswith(f"the times have no year: {year} is assumed")
    files = files_of(tmp_path, log_of(FORMS["syslog"]).replace("Mar  2", "Feb 29"), year=2026)
    assert "2026 has no day 02-29" in rejected(files)[0][1]


# Exim.

EXIM = """\
2026-03-02 09:00:00 1abcDE-000123-AB <= ann@example.org H=pc (helo) [192.0.2.7]:5 P=esmtpsa \
A=plain:ann S=500 id=1@x T="Hello \\" for all"
2026-03-02 09:00:01 1abcDE-000123-AB == bob@example.com R=dnslookup T=remote_smtp defer (110)
2026-03-02 09:00:01 1abcDE-000123-AB => kim <staff@example.org> R=local T=local_delivery
2026-03-02 09:00:02 1abcDE-000123-AB -> joe <staff@example.org> R=local T=local_delivery
2026-03-02 09:09:00 1abcDE-000123-AB ** bob@example.com R=dnslookup T=remote_smtp: 550 no
2026-03-02 09:09:00 1abcDE-000124-AB <= <> R=1abcDE-000123-AB U=exim P=local S=900
2026-03-02 09:09:00 1abcDE-000124-AB => ann@example.org R=local T=local_delivery
2026-03-02 09:09:00 1abcDE-000123-AB Completed
2026-03-02 09:09:01 1abcDE-000124-AB Completed
2026-03-02 09:09:02 H=a [192.0.2.9] F=<a@b.c> rejected RCPT <x@y.z>: relay not permitted
2026-03-02 09:10:00 [99] 1abcDE-00000000125-ABCD <= root@x.org U=root P=local S=9 for b@x.y c@x.y
2026-03-02 09:10:00 [99] 1abcDE-00000000125-ABCD => d@x.y <b@x.y> R=dnslookup T=remote_smtp
"""


def test_the_lines_of_a_message_in_exim_are_joined(tmp_path: Path) -> None:
    files = files_of(tmp_path, EXIM)
    assert files.format == "exim"
    items = list(files)
    assert summary(items) == [
        (0.0, "ann@example.org", ("bob@example.com", "staff@example.org")),
        (600.0, "root@x.org", ("b@x.y", "c@x.y")),
    ]
    clients = [each.client for each in items if isinstance(each, MailRecord)]
    assert clients == [
        Client(address="192.0.2.7", user="ann", protocol="smtp"),
        Client(user="root"),
    ]
    assert sorted(files.reading.notes.values()) == [1, 1]


def test_exim_in_another_zone_and_without_the_arrival(tmp_path: Path) -> None:
    lines = EXIM.splitlines(keepends=True)
    files = files_of(tmp_path, "".join(lines[1:5]), "x\n" + lines[0].replace(":00 ", ":00 +0100 "))
    items = list(files)
    assert summary(items) == [(-3600.0, "ann@example.org", MESSAGE[2])]
    assert len(rejected(items)) == 1


# Exchange, Google and SES.

TRACE = """\
#TYPE Something
"Received","SenderAddress","RecipientAddress","Status","MessageTraceId","MessageId","FromIP"
"{0} 9:00:30 {1}","ann@x.org","a@x.com","Delivered","t1","<1@x>","192.0.2.7"
"{0} 9:00:30 {1}","ann@x.org","b@x.com","Failed","t1","<1@x>","192.0.2.7"
"{0} 9:00:00 {1}","kim@x.org","a@x.com","Delivered","t2","<2@x>","2001:db8::7"
"""

MESSAGES = [(0.0, "kim@x.org", ("a@x.com",)), (30.0, "ann@x.org", ("a@x.com", "b@x.com"))]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_the_rows_of_a_message_trace_are_joined(
    tmp_path: Path, encoding: str, separator: str
) -> None:
    path = tmp_path / "trace.csv"
    path.write_bytes(TRACE.format("3/2/2026", "AM").replace(",", separator).encode(encoding))
    files = open_mail_files([path])
    assert files.format == "exchange-trace"
    items = list(files)
    assert summary(items) == MESSAGES
    assert isinstance(items[0], MailRecord)
    assert items[0].client.address == "192.0.2.7"


def test_a_report_of_the_admin_centre_has_a_row_for_each_message(tmp_path: Path) -> None:
    files = files_of(
        tmp_path,
        "origin_timestamp_utc,sender_address,recipient_status,message_id,original_client_ip\n"
        "2026-03-02T09:00:30.0000000Z,ann@x.org,a@x.com##Receive,<1@x>,192.0.2.7\n"
        '2026-03-02T09:00:00Z,kim@x.org,"a@x.com##Receive, Deliver;b@x.com##Fail",<2@x>,\n',
    )
    assert files.format == "exchange-trace"
    assert summary(files) == [
        (0.0, "kim@x.org", ("a@x.com", "b@x.com")),
        (30.0, "ann@x.org", ("a@x.com",)),
    ]


TRACKING = """\
#Software: Microsoft Exchange Server
#Fields: date-time,client-ip,event-id,network-message-id,recipient-address,sender-address
2026-03-02T09:00:00.000Z,10.0.0.7,RECEIVE,n1,list@x.org;b@x.com,ann@x.org
2026-03-02T09:00:01.000Z,,EXPAND,n1,m1@x.org;m2@x.org,ann@x.org
2026-03-02T09:00:02.000Z,,SEND,n1,b@x.com,ann@x.org
2026-03-02T09:00:03.000Z,,SUBMIT,n2,,kim@x.org
2026-03-02T09:00:04.000Z,,SEND,n2,a@x.com,kim@x.org
2026-03-02T09:00:04.000Z,,DELIVER,n2,b@x.org,kim@x.org
2026-03-02T09:00:05.000Z,,SEND,n3,,
#Software: Microsoft Exchange Server
#Fields: date-time,client-ip,event-id,network-message-id,recipient-address,sender-address
2026-03-02T09:00:06.000Z,10.0.0.7,RECEIVE,n1,list@x.org;b@x.com,ann@x.org
what,is,this,,x@y.z,x@y.z
"""


def test_the_events_of_a_message_tracking_log_are_joined(tmp_path: Path) -> None:
    files = files_of(tmp_path, TRACKING)
    assert files.format == "exchange-tracking"
    items = list(files)
    assert summary(items) == [
        (0.0, "ann@x.org", ("list@x.org", "b@x.com")),
        (3.0, "kim@x.org", ("a@x.com", "b@x.org")),
    ]
    assert [where for where, _ in rejected(items)] == ["line 13", "line 9"]


GOOGLE = """\
Message ID,Start date,End date,Sender,Message size,Subject,Direction,Recipient address,Event target
<1@x>,2026/03/02 09:00:30 UTC,2026/03/02 09:00:31 UTC,ann@x.org,9,Hi,Sent,a@x.com,SMTP_OUT
<1@x>,2026/03/02 09:00:30 UTC,2026/03/02 09:00:31 UTC,ann@x.org,9,Hi,Sent,b@x.com,SMTP_OUT
<1@x>,2026/03/02 09:00:30 UTC,2026/03/02 09:00:32 UTC,ann@x.org,9,Hi,Sent,b@x.com,GMAIL_INBOX
<9@y>,2026/03/02 09:00:30 UTC,2026/03/02 09:00:31 UTC,eve@y.z,9,Hi,Received,a@x.org,SMTP_IN
<2@x>,2026/03/02 09:00:00 UTC,2026/03/02 09:00:01 UTC,kim@x.org,9,Hi,Mixed,a@x.com,SMTP_OUT
"""


def test_the_rows_of_an_email_log_search_are_joined(tmp_path: Path) -> None:
    files = files_of(tmp_path, GOOGLE)
    assert files.format == "google"
    assert summary(files) == MESSAGES
    assert list(files.reading.texts()) == [
        "rows of received messages are not replayed: they were sent elsewhere (1)"
    ]


def event(kind: str, number: int, *to: str, time: str = "2026-03-02T09:00:00.000Z") -> Any:
    mail = {
        "timestamp": time,
        "source": "Ann <ann@x.org>",
        "messageId": f"m{number}",
        "destination": to,
        "tags": {"ses:source-ip": ["192.0.2.7"], "ses:caller-identity": ["web"]},
    }
    return {"eventType": kind, "mail": mail}


def test_each_message_of_the_events_of_ses_is_read_once(tmp_path: Path) -> None:
    send = event("Send", 1, "a@x.com", "B <b@x.com>")
    late = event("Bounce", 2, "a@x.com", time="2026-03-02T09:00:30Z")
    lines = [
        json.dumps(send) + json.dumps(event("Delivery", 1, "a@x.com", "b@x.com")),
        json.dumps({"Type": "Notification", "Message": json.dumps(late)}),
        json.dumps({"detail-type": "Email Bounced", "detail": late}),
        json.dumps(event("Rendering Failure", 3, "a@x.com")),
        json.dumps({"notificationType": "AmazonSnsSubscriptionSucceeded"}),
        "{",
        '"text"',
        json.dumps(event("Send", 4)),
    ]
    files = files_of(tmp_path, "\n".join(lines))
    assert files.format == "ses"
    items = list(files)
    assert summary(items) == [
        (0.0, "ann@x.org", ("a@x.com", "b@x.com")),
        (30.0, "ann@x.org", ("a@x.com",)),
    ]
    assert isinstance(items[0], MailRecord)
    assert items[0].client == Client(address="192.0.2.7", user="web")
    assert [where for where, _ in rejected(items)] == ["line 6", "line 7", "line 8"]
    assert sorted(files.reading.notes.values()) == [1, 1]
