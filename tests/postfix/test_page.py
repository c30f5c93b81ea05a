"""docs/postfix.md: its commands, files and main.cf on a real Postfix."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rlm_testkit.policy_servers import PolicyProcess
from rlm_testkit.postfix_instance import (
    PostfixPort,
    connect,
    running_postfix,
    send,
    smtpd_ports,
    why_not,
)

REASON = why_not()
PAGE = Path(__file__).parents[2] / "docs" / "postfix.md"
UNITS = PAGE.parent / "examples"

pytestmark = [
    pytest.mark.drill,
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
]

CONSOLE = re.compile(r"```console\n(.*?)```", re.DOTALL)
FILE = re.compile(r'```text title="(.*?)"\n(.*?)```', re.DOTALL)

OF_THE_SYSTEM = (
    "apt-get ",
    "python3 -m venv ",
    "/opt/ratelimit-mail/bin/pip ",
    "ln ",
    "useradd ",
    "systemctl ",
)
"""Commands that change the system, which the session has done in its own manner."""


@pytest.fixture
def root() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ratelimit-mail-postfix-") as name:
        yield Path(name)


def test_the_commands_of_the_page_lead_to_a_relay_that_counts(root: Path) -> None:
    text = PAGE.read_text()
    files = dict(FILE.findall(text))
    etc = root / "etc"
    etc.mkdir()
    (etc / "tags").write_text(files["/etc/ratelimit-mail/tags"])
    [policy_port, smtp_port] = smtpd_ports(2)
    program = root / "bin"
    program.mkdir()
    (program / "ratelimit-mail").write_text(
        f'#!/bin/sh\nexec {sys.executable} -m ratelimit_mail.cli "$@"\n'
    )
    (program / "ratelimit-mail").chmod(0o755)
    (program / "python3").symlink_to(sys.executable)
    state = root / "state"
    state.mkdir()
    control = state / "control.sock"
    place = root / "postfix"
    place.mkdir()

    def here(words: str) -> str:
        for there, path in (
            ("/etc/ratelimit-mail", etc),
            ("/etc/postfix", place / "config"),
            ("/run/ratelimit-mail/control.sock", control),
            ("/var/lib/ratelimit-mail", state),
        ):
            words = words.replace(there, str(path))
        words = re.sub("^postfix ", f"postfix -c {place / 'config'} ", words)
        return words.replace("127.0.0.1:10040", f"127.0.0.1:{policy_port}")

    process: PolicyProcess | None = None
    with running_postfix(place, [PostfixPort(smtp_port, {})]) as postfix:
        try:
            for block in CONSOLE.findall(text):
                lines = block.splitlines()
                for number, line in enumerate(lines):
                    if not line.startswith("# "):
                        continue
                    command = line.removeprefix("# ")
                    if command.startswith("systemctl enable"):
                        process = start(here, policy_port)
                    if command.startswith(OF_THE_SYSTEM):
                        continue
                    done = subprocess.run(
                        here(command),
                        shell=True,
                        capture_output=True,
                        text=True,
                        timeout=120,
                        check=False,
                        env={
                            "PATH": f"{program}:/usr/bin:/bin:/usr/sbin:/sbin",
                            "PYTHONPATH": ":".join(sys.path),
                        },
                    )
                    assert done.returncode == 0, (command, done.stderr)
                    expected = []
                    for answer in lines[number + 1 :]:
                        if answer.startswith("# "):
                            break
                        expected.append(answer)
                    if expected:
                        assert done.stdout.splitlines() == expected, command
            assert process is not None
            configured = (place / "config" / "main.cf").read_text()
            for name in re.findall("^(smtpd_\\w+) =", files["main.cf"], re.MULTILINE):
                assert f"{name} =" in configured
            with connect(smtp_port, "198.51.100.9", "thief@students.example.edu") as session:
                outsiders = [f"r{i}@example.com" for i in range(51)]
                sender = "ann@example.edu"
                assert send(session, sender, outsiders[:50])[0] == 250
                assert send(session, sender, outsiders[50:])[0] == 550
                assert send(session, sender, ["kim@example.edu"])[0] == 250
            with connect(smtp_port, "192.0.2.9", "kim@example.edu") as session:
                assert send(session, "kim@example.edu", outsiders)[0] == 250
            postfix.wait_until_sent(3)
        finally:
            if process is not None:
                process.stop()


def start(here: Callable[[str], str], port: int) -> PolicyProcess:
    """Run what the unit runs, on the port of the socket's unit."""
    unit = (UNITS / "ratelimit-mail.service").read_text().replace("\\\n", " ")
    [line] = re.findall("^ExecStart=(.*)$", unit, re.MULTILINE)
    words = here(line).split()
    assert words[1] == "serve"
    assert "ListenStream=127.0.0.1:10040" in (UNITS / "ratelimit-mail.socket").read_text()
    return PolicyProcess(*words[2:], port=port)
