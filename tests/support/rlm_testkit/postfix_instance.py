"""A real Postfix with its own configuration, queue and log in a folder, on free ports of loopback.

It needs root and an installed Postfix; `why_not` says what is missing. Mail that it accepts goes
to its `discard` transport, which logs each recipient.
"""

from __future__ import annotations

import os
import re
import shutil
import smtplib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from rlm_testkit.servers import free_port

__all__ = [
    "Accepted",
    "Postfix",
    "PostfixPort",
    "connect",
    "running_postfix",
    "send",
    "smtpd_ports",
    "why_not",
]

DAEMONS = Path("/usr/lib/postfix/sbin")

MAIN_CF = """\
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
command_directory = /usr/sbin
daemon_directory = {daemons}
maillog_file = {folder}/maillog
maillog_file_prefixes = {folder}
mail_owner = postfix
setgid_group = postdrop
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = relay.uwo.ca
mydomain = uwo.ca
myorigin = uwo.ca
mydestination = uwo.ca
local_recipient_maps =
alias_maps =
alias_database =
mynetworks = 0.0.0.0/0
local_transport = discard
default_transport = discard
relay_transport = discard
smtpd_authorized_xclient_hosts = 127.0.0.1
smtpd_client_connection_count_limit = 0
smtpd_peername_lookup = no
smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination
smtpd_policy_service_retry_delay = 1s
smtpd_delay_reject = yes
smtpd_timeout = 20s
enable_long_queue_ids = {long_ids}
in_flow_delay = 0
default_process_limit = 40
"""

MASTER_CF = """\
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
local unix - n n - - local
anvil unix - - n - 1 anvil
showq unix n - n - - showq
postlog unix-dgram n - n - 1 postlogd
"""

_FROM = re.compile(r"qmgr\[\d+\]: (\w+): from=<(.*?)>, size=\d+, nrcpt=(\d+)")
_TO = re.compile(
    r"^(\w+ +\d+ [\d:]+) .*discard\[\d+\]: (\w+): to=<(.*?)>(?:, orig_to=<(.*?)>)?, .*status=sent"
)
_CLIENT = re.compile(r"smtpd\[\d+\]: (\w+): client=\S*\[([^\]]*)\](?:.*?sasl_username=([^,\s]+))?")


class Accepted(NamedTuple):
    """A message that Postfix accepted and sent, by its own log."""

    queue_id: str
    sender: str
    address: str
    user: str
    recipients: tuple[str, ...]


class PostfixPort(NamedTuple):
    """A port on which smtpd listens, with parameters of its own."""

    port: int
    parameters: Mapping[str, str]


def why_not() -> str | None:
    """Return why no Postfix can be run here; None if it can."""
    if sys.platform != "linux":
        return "Postfix is run on Linux only"
    if os.geteuid() != 0:
        return "Postfix needs root"
    if shutil.which("postfix") is None or not DAEMONS.exists():
        return "Postfix is not installed; `nox -s postfix` installs it where apt is"
    return None


class Postfix:
    """One instance."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "config"
        self.log = folder / "maillog"

    def command(self, *words: str, text: str | None = None) -> tuple[int, str]:
        """Run a command of Postfix's on this instance."""
        name, *rest = words
        # Not pipes: the master process that `postfix start` leaves behind would hold them open.
        with tempfile.TemporaryFile("w+") as output:
            done = subprocess.run(
                [name, "-c", str(self.config), *rest],
                input=text or "",
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=60,
                check=False,
            )
            output.seek(0)
            return done.returncode, output.read()

    def log_lines(self) -> list[str]:
        """Return the lines of its log so far."""
        return self.log.read_text("utf-8", "replace").splitlines() if self.log.exists() else []

    def accepted(self) -> dict[str, Accepted]:
        """Return the messages that it sent, by queue id: an independent count."""
        clients: dict[str, tuple[str, str]] = {}
        senders: dict[str, str] = {}
        recipients: dict[str, list[str]] = {}
        for line in self.log_lines():
            if match := _CLIENT.search(line):
                clients[match[1]] = match[2], match[3] or ""
            elif match := _FROM.search(line):
                senders[match[1]] = match[2]
            elif match := _TO.search(line):
                recipients.setdefault(match[2], []).append(match[4] or match[3])
        return {
            each: Accepted(each, senders[each], *clients.get(each, ("", "")), tuple(to))
            for each, to in recipients.items()
        }

    def sent_at(self) -> list[tuple[str, float]]:
        """Return the queue id of each delivery and its time of day in seconds."""
        times = []
        for line in self.log_lines():
            if match := _TO.search(line):
                hours, minutes, seconds = match[1].split()[-1].split(":")
                times.append((match[2], int(hours) * 3600 + int(minutes) * 60 + float(seconds)))
        return times

    def queue(self) -> list[str]:
        """Return the names of the files in the hold queue."""
        return [file.name for file in (self.folder / "queue" / "hold").rglob("*") if file.is_file()]

    def wait_until_sent(self, number: int, seconds: float = 60.0) -> None:
        """Wait until so many messages are in the log as sent, and raise AssertionError if not."""
        deadline = time.monotonic() + seconds
        while len(self.accepted()) < number:
            assert time.monotonic() < deadline, (number, len(self.accepted()))
            time.sleep(0.2)


@contextmanager
def running_postfix(
    folder: Path,
    ports: Sequence[PostfixPort],
    *,
    main: Mapping[str, str] | None = None,
    master: str = "",
    long_ids: bool = True,
) -> Iterator[Postfix]:
    """Run a Postfix in an empty folder.

    long_ids: whether queue ids are long. A short one comes again among thousands of messages, and
        the log then counts two as one.
    """
    postfix = Postfix(folder)
    folder.chmod(0o755)
    for parent in folder.parents:
        if parent == Path("/"):
            break
        parent.chmod(parent.stat().st_mode | 0o011)
    postfix.config.mkdir(mode=0o755)
    (folder / "queue").mkdir(mode=0o755)
    (folder / "data").mkdir(mode=0o700)
    shutil.chown(folder / "data", "postfix")
    text = MAIN_CF.format(folder=folder, daemons=DAEMONS, long_ids="yes" if long_ids else "no")
    text += "".join(f"{name} = {value}\n" for name, value in (main or {}).items())
    (postfix.config / "main.cf").write_text(text)
    lines = MASTER_CF + master
    for port, parameters in ports:
        lines += f"127.0.0.1:{port} inet n - n - - smtpd\n"
        for name, value in parameters.items():
            lines += f"  -o {{ {name} = {value} }}\n"
    (postfix.config / "master.cf").write_text(lines)
    code, output = postfix.command("postfix", "start")
    assert code == 0, output + "\n".join(postfix.log_lines())
    try:
        yield postfix
    finally:
        postfix.command("postfix", "stop")


def smtpd_ports(count: int) -> list[int]:
    """Return free ports."""
    return [free_port() for _ in range(count)]


def connect(port: int, address: str, user: str = "") -> smtplib.SMTP:
    """Return a session in which Postfix takes the client for another one."""
    session = smtplib.SMTP("127.0.0.1", port, local_hostname="client", timeout=60)
    session.ehlo()
    words = f"NAME=[UNAVAILABLE] ADDR={address}" + (f" LOGIN={user}" if user else "")
    assert session.docmd("XCLIENT", words)[0] == 220
    session.ehlo()
    return session


def send(session: smtplib.SMTP, sender: str, recipients: list[str]) -> tuple[int, str]:
    """Send a message, and return the last reply; refused recipients do not stop it."""
    code, text = session.docmd("MAIL", f"FROM:<{sender}>")
    assert code == 250, text
    accepted = 0
    for each in recipients:
        code, text = session.docmd("RCPT", f"TO:<{each}>")
        accepted += code == 250
    if accepted:
        code, text = session.docmd("DATA")
        if code == 354:
            session.send(b"Subject: test\r\n\r\nHello\r\n.\r\n")
            code, text = session.getreply()
    if code != 250:
        session.docmd("RSET")
    return code, text.decode()
