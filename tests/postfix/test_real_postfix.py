"""A real Postfix asks `ratelimit-mail serve`, and its own log is counted independently.

`nox -s postfix` runs these; they need root and an installed Postfix. POSTFIX_MESSAGES sets how many
messages the first test sends (10,000).
"""

from __future__ import annotations

import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from rlm_testkit.policy_servers import PolicyProcess
from rlm_testkit.postfix_instance import (
    Accepted,
    Postfix,
    PostfixPort,
    connect,
    running_postfix,
    send,
    smtpd_ports,
    why_not,
)
from rlm_testkit.servers import Server, valkey

from ratelimit_mail import Limiter, Policy
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.cli.readers import open_mail_files
from ratelimit_mail.cli.readers.postfix import REFUSED
from ratelimit_mail.cli.replay.mail_records import MailRecord, MailRecords
from ratelimit_mail.testing import ManualClock

REASON = why_not()

pytestmark = [
    pytest.mark.drill,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
]

MESSAGES = int(os.environ.get("POSTFIX_MESSAGES", "10000"))
TEXT = "Recipient rate limit exceeded. Try again later."
CAMPUS, WIRELESS, OUTSIDE = "129.100.4", "129.100.200", "203.0.113"

POLICY = f"""
name = "campus"
internal_domains = ["uwo.ca", ".uwo.ca"]
subaddress = "+"

[[tiers]]
name = "tier 2"
when = {{ any_of = [{{ tag = "wireless" }}, {{ not = {{ network = ["129.100.0.0/16"] }} }}] }}
[[tiers.limits]]
kind = "recipient rate limit"
name = "burst"
rate = "20/2 hours"
count = "external"
scope = "submitter"
on_excess = "reject"
reply = "{TEXT}"
[[tiers.limits]]
kind = "recipient rate limit"
name = "day"
rate = "50/day"
count = "external"
scope = "submitter"
on_excess = "reject"
reply = "{TEXT}"

[[tiers]]
name = "tier 1"
[[tiers.limits]]
kind = "recipient rate limit"
name = "day"
rate = "50/day"
count = "external"
scope = "submitter"
on_excess = "reject"
reply = "{TEXT}"
"""
LIMIT = {"tier 1": 50, "tier 2": 20}


@pytest.fixture
def folder() -> Iterator[Path]:
    """Yield a folder that the user postfix may enter, as those of pytest may not be."""
    with tempfile.TemporaryDirectory(prefix="ratelimit-mail-postfix-") as name:
        yield Path(name)


@contextmanager
def served(folder: Path, *options: str, policy: str = POLICY) -> Iterator[PolicyProcess]:
    file = folder / f"policy-{random.randrange(10**9)}.toml"
    file.write_text(policy)
    process = PolicyProcess(str(file), *options, "-v", control=file.with_suffix(".sock"))
    try:
        yield process
    finally:
        if process.process.poll() is None:
            process.stop()


def parameters(service: str, *stages: str) -> dict[str, str]:
    names = {
        "rcpt": "smtpd_recipient_restrictions",
        "data": "smtpd_data_restrictions",
        "end-of-message": "smtpd_end_of_data_restrictions",
    }
    return {names[stage]: service for stage in stages}


def external(recipients: tuple[str, ...] | list[str]) -> set[str]:
    folded = {each.strip("<>").lower() for each in recipients}
    return {each for each in folded if not each.endswith("uwo.ca")}


Relay = Callable[..., tuple[Postfix, int, PolicyProcess]]
"""Starts a Postfix with one server; returns both, and the port of smtpd."""


class Sender(NamedTuple):
    user: str
    address: str
    tier: str
    port: int


class Attempt(NamedTuple):
    recipients: list[str]
    code: int
    text: str


def some_recipients(choose: random.Random, *kinds: str) -> list[str]:
    """Return one to six recipients, inside and outside, and of further kinds."""
    all_kinds = ["r{}@example.com", "R{}@Example.ORG", "in{}@uwo.ca", *kinds]
    number = choose.choice([1, 1, 1, 2, 3, 6])
    return [choose.choice(all_kinds).format(choose.randrange(1000)) for _ in range(number)]


def used_by(accepted: dict[str, Accepted]) -> Counter[str]:
    """Return how many external recipients each submitter reached, by Postfix's log."""
    counted: Counter[str] = Counter()
    for each in accepted.values():
        counted[each.user or each.sender.lower()] += len(external(each.recipients))
    return counted


def test_no_limit_is_exceeded_and_nothing_is_refused_wrongly(folder: Path) -> None:
    server = Server(valkey())
    ways = {  # the stages, and whether Postfix refuses the message or single recipients
        "rcpt,end-of-message": 0.5,
        "rcpt,data,end-of-message": 0.2,
        "rcpt,data": 0.15,
        "rcpt": 0.15,
    }
    store = f"redis://localhost:{server.port}/0"
    with ExitStack() as stack:
        stack.callback(server.stop)
        ports, port_of = [], {}
        for way, number in zip(ways, smtpd_ports(len(ways)), strict=True):
            process = stack.enter_context(
                served(
                    folder,
                    "--store",
                    store,
                    "--stages",
                    way,
                    "--tag",
                    f"{WIRELESS}.0/24=wireless",
                )
            )
            ports.append(PostfixPort(number, parameters(process.service, *way.split(","))))
            port_of[way] = number
        postfix = stack.enter_context(running_postfix(folder, ports))
        generator = random.Random(4)
        senders: dict[str, list[Sender]] = defaultdict(list)
        each_sends = 25
        for way, share in ways.items():
            for i in range(max(1, int(MESSAGES * share / each_sends))):
                network, tier = [(CAMPUS, "tier 1"), (WIRELESS, "tier 2"), (OUTSIDE, "tier 2")][
                    i % 3
                ]
                user = f"user{len(senders[way])}.{way.replace(',', '-')}"
                address = f"{network}.{i % 250 + 1}"
                senders[way].append(Sender(user, address, tier, port_of[way]))
        attempts: dict[str, list[Attempt]] = {}

        def run(sender: Sender, seed: int) -> None:
            choose = random.Random(seed)
            attempts[sender.user] = []
            with connect(sender.port, sender.address, sender.user) as session:
                for _ in range(each_sends):
                    recipients = some_recipients(choose, "a{}@ece.uwo.ca")
                    name = f"{sender.user}@uwo.ca"
                    code, text = send(session, name, recipients)
                    attempts[sender.user].append(Attempt(recipients, code, text))

        everybody = [each for group in senders.values() for each in group]
        generator.shuffle(everybody)
        began = time.monotonic()
        with ThreadPoolExecutor(12) as pool:
            list(pool.map(run, everybody, range(len(everybody))))
        took = time.monotonic() - began
        expected = sum(1 for each in attempts.values() for attempt in each if attempt.code == 250)
        postfix.wait_until_sent(expected)
        used = used_by(postfix.accepted())
        over = {each.user for each in everybody if used[each.user] > LIMIT[each.tier]}
        wrongly, refused = [], 0
        for way, group in senders.items():
            for each in group:
                room = LIMIT[each.tier]
                for attempt in attempts[each.user]:
                    cost = len(external(attempt.recipients))
                    if way == "rcpt":  # recipients are refused one by one
                        room -= min(cost, room)
                        refused += attempt.code != 250
                        continue
                    if attempt.code == 250:
                        room -= cost
                        continue
                    refused += 1
                    assert attempt.code == 550, attempt
                    assert attempt.text.endswith(TEXT), attempt
                    if cost <= room:
                        wrongly.append((each, attempt))
                # What a sender had left is what its log leaves, for every way.
                assert used[each.user] == LIMIT[each.tier] - room, each
        total = sum(map(len, attempts.values()))
        print(
            f"\n{total:,} messages in {took:.0f} s: {expected:,} accepted, {refused:,} refused,"
            f" {len(over)} senders over a limit, {len(wrongly)} refused wrongly"
        )
        assert not over
        assert not wrongly
        assert refused > total / 20


@pytest.fixture
def relay(folder: Path) -> Iterator[Relay]:
    """Start a Postfix with one server."""
    with ExitStack() as stack:

        def start(
            *options: str,
            policy: str = POLICY,
            stages: str = "rcpt,end-of-message",
            before: str = "",
            behind: str = "",
            **more: str,
        ) -> tuple[Postfix, int, PolicyProcess]:
            process = stack.enter_context(
                served(folder, "--stages", stages, *options, policy=policy)
            )
            [port] = smtpd_ports(1)
            values = parameters(process.service, *stages.split(","))
            key = "smtpd_recipient_restrictions"
            values[key] = ", ".join(word for word in (before, values[key], behind) if word)
            place = folder / f"postfix{port}"
            place.mkdir()
            postfix = stack.enter_context(
                running_postfix(place, [PostfixPort(port, values)], main=more)
            )
            return postfix, port, process

        yield start


def used(process: PolicyProcess, subject: str) -> int:
    usages = process.ask("usage", subject=subject, scope="submitter")
    return max(int(each["used"]) for each in usages)


def test_one_mailbox_is_one_recipient_and_one_sender_however_it_is_written(relay: Relay) -> None:
    _, port, process = relay()
    with connect(port, f"{CAMPUS}.1") as session:
        same = ["bob@example.com", "BOB@Example.Com", "bob+shop@example.com", '"bob"@example.com']
        assert send(session, "ann@uwo.ca", same)[0] == 250
        assert used(process, "sender:ann@uwo.ca") == 1
        assert send(session, "Ann+x@UWO.ca", ['"a b,c"@example.com'])[0] == 250
        assert used(process, "sender:ann@uwo.ca") == 2
        assert send(session, '"ann"@uwo.ca', ["postmaster"])[0] == 250
        assert send(session, "ann@uwo.ca", ["postmaster", "x@example.com", "kim@uwo.ca"])[0] == 250
        assert used(process, "sender:ann@uwo.ca") == 3


def test_the_null_sender_counts_for_its_client_or_login(relay: Relay) -> None:
    _, port, process = relay()
    with connect(port, f"{CAMPUS}.7") as session:
        assert send(session, "", ["a@example.com"])[0] == 250
    with connect(port, f"{CAMPUS}.7", "kim") as session:
        assert send(session, "", ["a@example.com", "b@example.com"])[0] == 250
    assert used(process, f"client:{CAMPUS}.7") == 1
    assert used(process, "user:kim") == 2


def test_the_text_of_the_refusal_arrives_word_for_word(relay: Relay) -> None:
    postfix, port, _ = relay()
    outsiders = [f"r{i}@example.com" for i in range(21)]
    with connect(port, f"{OUTSIDE}.1", "thief") as session:
        assert send(session, "ann@uwo.ca", outsiders[:20])[0] == 250
        code, text = send(session, "ann@uwo.ca", outsiders[20:])
        assert (code, text.partition(" ")[0]) == (550, "5.7.1")
        assert text == f"5.7.1 <END-OF-MESSAGE>: End-of-data rejected: {TEXT}"
        assert send(session, "ann@uwo.ca", ["kim@uwo.ca"])[0] == 250
    postfix.wait_until_sent(2)
    assert any(TEXT in line for line in postfix.log_lines())


def test_a_transaction_that_was_reset_costs_nothing(relay: Relay) -> None:
    _, port, process = relay()
    with connect(port, f"{CAMPUS}.1") as session:
        for _ in range(3):
            session.docmd("MAIL", "FROM:<ann@uwo.ca>")
            session.docmd("RCPT", "TO:<a@example.com>")
            session.docmd("RSET")
        assert send(session, "ann@uwo.ca", ["b@example.com", "c@example.com"])[0] == 250
    assert used(process, "sender:ann@uwo.ca") == 2


def test_a_client_that_comes_again_without_a_reset_is_decided_on_again(relay: Relay) -> None:
    _, port, process = relay(stages="rcpt,data")
    with connect(port, f"{OUTSIDE}.1", "ann") as session:
        assert send(session, "ann@uwo.ca", [f"r{i}@example.com" for i in range(19)])[0] == 250
        session.docmd("MAIL", "FROM:<ann@uwo.ca>")
        for name in "ab":
            session.docmd("RCPT", f"TO:<{name}@example.com>")
        assert session.docmd("DATA")[0] == 550
        assert session.docmd("DATA")[0] == 550
        process.ask("reset", subject="user:ann", scope="submitter")
        assert session.docmd("DATA")[0] == 354
        session.send(b"Subject: x\r\n\r\n.\r\n")
        assert session.getreply()[0] == 250
    assert used(process, "user:ann") == 2


def test_a_recipient_that_a_later_rule_refuses_costs_nothing(relay: Relay, folder: Path) -> None:
    (folder / "access").write_text("refused@example.com 550 5.1.1 no\n")
    _, port, process = relay(
        behind=f"check_recipient_access texthash:{folder}/access", smtputf8_enable="no"
    )
    with connect(port, f"{CAMPUS}.1") as session:
        recipients = ["a@example.com", "refused@example.com", "kim@uwo.ca"]
        assert send(session, "ann@uwo.ca", recipients)[0] == 250
        assert used(process, "sender:ann@uwo.ca") <= 2
        assert send(session, "kim@uwo.ca", ["refused@example.com", "b@example.com"])[0] == 250
        assert used(process, "sender:kim@uwo.ca") == 1


def test_a_message_that_is_dropped_at_data_gives_back(relay: Relay) -> None:
    for stages in ("rcpt,end-of-message", "rcpt,data,end-of-message"):
        _, port, process = relay(stages=stages)
        with connect(port, f"{CAMPUS}.1") as session:
            assert send(session, "kim@uwo.ca", ["a@example.com"])[0] == 250
        session = connect(port, f"{CAMPUS}.1")
        session.docmd("MAIL", "FROM:<ann@uwo.ca>")
        session.docmd("RCPT", "TO:<a@example.com>")
        assert session.docmd("DATA")[0] == 354
        session.send(b"Subject: half")
        assert session.sock is not None
        session.sock.shutdown(socket.SHUT_RDWR)
        session.close()
        # The same smtpd process goes on with another message.
        deadline = time.monotonic() + 60
        number = 0
        while used(process, "sender:ann@uwo.ca"):
            with connect(port, f"{CAMPUS}.1") as session:
                send(session, f"other{number}@uwo.ca", ["a@example.com"])
            number += 1
            assert time.monotonic() < deadline
        assert used(process, "sender:kim@uwo.ca") == 1


def test_a_killed_server_defers_and_forgets_nothing(relay: Relay, folder: Path) -> None:
    postfix, port, process = relay("--store", f"sqlite:///{folder}/counts.db")
    with connect(port, f"{OUTSIDE}.1", "ann") as session:
        first = [f"r{i}@example.com" for i in range(15)]
        assert send(session, "ann@uwo.ca", first)[0] == 250
        session.docmd("MAIL", "FROM:<ann@uwo.ca>")
        for each in ("a@example.com", "b@example.com"):
            assert session.docmd("RCPT", f"TO:<{each}>")[0] == 250
        process.kill()
        # While it is away, Postfix asks clients to come again.
        with connect(port, f"{OUTSIDE}.2", "kim") as other:
            code, _ = send(other, "kim@uwo.ca", ["a@example.com"])
            assert 400 <= code < 500
        process.start()
        # In the middle of a transaction, the recipients are not known any more.
        assert session.docmd("DATA")[0] == 354
        session.send(b"Subject: x\r\n\r\n.\r\n")
        code, text = session.getreply()
        assert code == 451
        assert b"Try again later" in text
        session.docmd("RSET")
        assert send(session, "ann@uwo.ca", ["a@example.com", "b@example.com"])[0] == 250
        assert send(session, "ann@uwo.ca", [f"s{i}@example.com" for i in range(4)])[0] == 550
        assert send(session, "ann@uwo.ca", [f"s{i}@example.com" for i in range(3)])[0] == 250
    postfix.wait_until_sent(3)
    assert used_by(postfix.accepted())["ann"] == 20


def test_two_relays_on_one_store_count_together_and_alone_per_node(
    relay: Relay, folder: Path
) -> None:
    server = Server(valkey())
    try:
        for per_node, expected in ((False, 20), (True, 40)):
            store = f"redis://localhost:{server.port}/{int(per_node)}"
            ports = []
            for node in ("mx1", "mx2"):
                options = ["--store", store]
                policy = POLICY
                if per_node:
                    options += ["--node", node]
                    policy = POLICY.replace("subaddress", "per_node = true\nsubaddress", 1)
                ports.append(relay(*options, policy=policy)[1])
            accepted = 0
            sessions = [connect(port, f"{OUTSIDE}.1", "ann") for port in ports]
            for i in range(60):
                code, _ = send(sessions[i % 2], "ann@uwo.ca", [f"r{i}@example.com"])
                accepted += code == 250
            for session in sessions:
                session.close()
            assert accepted == expected
    finally:
        server.stop()


HOLDING = """
name = "queue"
[[limits]]
kind = "message rate limit"
name = "messages"
rate = "3/8 seconds"
"""


@contextmanager
def releasing(postfix: Postfix, process: PolicyProcess) -> Iterator[None]:
    """Run the program that releases held mail."""
    words = ["--control", str(process.control), "--config-directory", str(postfix.config)]
    release = subprocess.Popen(
        [sys.executable, "-m", "ratelimit_mail.cli", "postfix-release", "--every", "0.2s", *words]
    )
    try:
        yield
    finally:
        release.terminate()
        release.wait(30)


def test_a_message_that_is_held_at_data_and_complete_after_its_time_is_released(
    relay: Relay, folder: Path
) -> None:
    postfix, port, process = relay(
        "--excess",
        "hold",
        "--held",
        str(folder / "held.db"),
        policy=HOLDING.replace("3/8 seconds", "1/2 seconds"),
        stages="rcpt,data",
    )
    with connect(port, f"{CAMPUS}.1", "ann") as session, releasing(postfix, process):
        assert send(session, "ann@uwo.ca", ["a@example.com"])[0] == 250
        session.docmd("MAIL", "FROM:<ann@uwo.ca>")
        session.docmd("RCPT", "TO:<b@example.com>")
        assert session.docmd("DATA")[0] == 354
        session.send(b"Subject: slow\r\n\r\n")
        assert len(process.ask("held")) == 1
        for _ in range(14):  # longer than it is booked for, and than Postfix needs at its end
            time.sleep(1)
            session.send(b"A line.\r\n")
        session.send(b".\r\n")
        assert session.getreply()[0] == 250
        postfix.wait_until_sent(2, 60)
        deadline = time.monotonic() + 30
        while process.ask("held") != []:
            assert time.monotonic() < deadline
            time.sleep(0.2)


@pytest.mark.parametrize("long_ids", ["no", "yes"])
def test_held_mail_leaves_in_permitted_batches(relay: Relay, folder: Path, long_ids: str) -> None:
    postfix, port, process = relay(
        "--excess",
        "hold",
        "--held",
        str(folder / "held.db"),
        "--store",
        f"sqlite:///{folder}/counts.db",
        policy=HOLDING,
        enable_long_queue_ids=long_ids,
    )
    with connect(port, f"{CAMPUS}.1", "ann") as session:
        for i in range(10):
            assert send(session, "ann@uwo.ca", [f"r{i}@example.com"])[0] == 250
    postfix.wait_until_sent(3)
    assert len(postfix.queue()) == 7
    assert len(process.ask("held")) == 7
    process.kill()  # bookings and the list outlive it
    process.start()
    with releasing(postfix, process):
        postfix.wait_until_sent(10, 120)
    assert postfix.queue() == []
    assert process.ask("held") == []
    times = sorted(at for _, at in postfix.sent_at())
    # The log has whole seconds, and Postfix needs a moment to send what was released.
    for first, fourth in zip(times, times[3:], strict=False):
        assert fourth - first >= 8 - 3, times


def test_a_program_that_uses_sendmail_is_limited_through_a_content_filter(
    relay: Relay, folder: Path
) -> None:
    # postdrop is set-group-id, and then reads only the main.cf of the default instance.
    programs = folder / "bin"
    programs.mkdir()
    for each in Path("/usr/sbin").glob("post*"):
        if each.name != "postdrop":
            (programs / each.name).symlink_to(each)
    shutil.copyfile("/usr/sbin/postdrop", programs / "postdrop")
    (programs / "postdrop").chmod(0o755)
    postfix, port, process = relay(command_directory=str(programs))
    # As docs/postfix.md says: pickup passes local mail through smtpd.
    text = (postfix.config / "master.cf").read_text()
    filtered = text.replace(
        "pickup unix n - n 60 1 pickup",
        f"pickup unix n - n 60 1 pickup\n  -o content_filter=smtp:[127.0.0.1]:{port}",
    )
    assert filtered != text
    (postfix.config / "master.cf").write_text(filtered)
    assert postfix.command("postfix", "reload")[0] == 0
    done = subprocess.run(
        ["/usr/sbin/sendmail", "-C", str(postfix.config), "-f", "cron@uwo.ca", "a@example.com"],
        input=b"Subject: x\n\nHello\n",
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    deadline = time.monotonic() + 90
    while used(process, "sender:cron@uwo.ca") != 1:
        assert time.monotonic() < deadline, postfix.log_lines()[-20:]
        time.sleep(0.2)


class Submission(NamedTuple):
    """A message that a client tried to send, and the code of the last reply."""

    sender: str
    recipients: list[str]
    code: int


def submitted(port: int, clients: int, each_sends: int) -> list[Submission]:
    """Let clients send at the same time, on campus and elsewhere; return all that they tried."""
    submissions: list[Submission] = []

    def send_all(number: int) -> None:
        choose = random.Random(number)
        address = f"{[CAMPUS, OUTSIDE][number % 2]}.{number % 250 + 1}"
        sender, user = f"user{number}@uwo.ca", f"user{number}" if number % 3 else ""
        with connect(port, address, user) as session:
            for _ in range(each_sends):
                recipients = some_recipients(choose, "s{}+x@example.com")
                code, _ = send(session, sender, recipients)
                submissions.append(Submission(sender, recipients, code))

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(send_all, range(clients)))
    return submissions


class Replayed(NamedTuple):
    """The log of a Postfix, replayed: messages of each sender, and the limiter afterwards."""

    accepted: Counter[str]
    refused: Counter[str]
    notes: Counter[str]
    limiter: Limiter


def replayed(log: Path, policy: Policy) -> Replayed:
    files = open_mail_files([log])
    records = MailRecords()
    for item in files:
        assert isinstance(item, MailRecord), item
        records.append(item)
    clock = ManualClock(0)
    result = Replayed(
        Counter(), Counter(), files.reading.notes, Limiter(policy, MemoryBackend(clock))
    )
    for moment, envelope in records.by_time():
        clock.set(moment)
        decision = result.limiter.try_acquire(envelope)
        (result.accepted if decision else result.refused)[envelope.sender] += 1
    return result


def usage_of(limiter: Limiter, subject: str) -> int:
    return max((each.used for each in limiter.usage(subject, scope="submitter")), default=0)


def test_the_log_replayed_gives_the_counts_that_the_server_gave(relay: Relay) -> None:
    postfix, port, process = relay()
    submissions = submitted(port, clients=max(6, MESSAGES // 100), each_sends=25)
    accepted = Counter(each.sender for each in submissions if each.code == 250)
    refused = Counter(each.sender for each in submissions if each.code != 250)
    postfix.wait_until_sent(accepted.total())
    policy = Policy.loads(POLICY)
    result = replayed(postfix.log, policy)
    print(
        f"\nenforced: {len(submissions):,} messages, live {accepted.total():,} accepted and"
        f" {refused.total():,} refused; replayed {result.accepted.total():,} and"
        f" {result.refused.total():,}; {result.notes[REFUSED]:,} refusals noted"
    )
    assert refused.total() > len(submissions) / 20
    assert result.accepted == accepted
    assert not result.refused
    assert result.notes == {REFUSED: refused.total()}
    for subject in subjects_of(submissions):
        assert used(process, subject) == usage_of(result.limiter, subject), subject


def subjects_of(submissions: list[Submission]) -> set[str]:
    """Return the submitters: the login, or without one the sender."""
    return {
        f"user:{name}" if int(name.removeprefix("user")) % 3 else f"sender:{name}@uwo.ca"
        for name in (each.sender.partition("@")[0] for each in submissions)
    }


def test_the_log_of_a_server_that_only_reports_replayed_refuses_what_it_reported(
    relay: Relay,
) -> None:
    postfix, port, process = relay("--shadow")
    submissions = submitted(port, clients=max(6, MESSAGES // 100), each_sends=25)
    assert {each.code for each in submissions} == {250}
    postfix.wait_until_sent(len(submissions))
    reported = Counter(
        match[1]
        for line in process.lines
        if (
            match := re.search(
                r"would answer 550 .* from '?([^' ]+@uwo\.ca)'? (?:by|without)", line
            )
        )
    )
    result = replayed(postfix.log, Policy.loads(POLICY))
    print(
        f"\nin shadow: {len(submissions):,} messages, live {reported.total():,} reported; replayed"
        f" {result.accepted.total():,} accepted and {result.refused.total():,} refused"
    )
    assert reported.total() > len(submissions) / 20
    assert result.refused == reported
    assert result.accepted == Counter(each.sender for each in submissions) - reported
    assert not result.notes
    for subject in subjects_of(submissions):
        assert used(process, subject) == usage_of(result.limiter, subject), subject
