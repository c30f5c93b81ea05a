"""A stolen account at a relay of two servers on one store: seen, blocked, alerted and measured."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import ExitStack
from email import message_from_bytes
from email.policy import default
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from rlm_testkit.command_line import run_command
from rlm_testkit.redis_backends import unique_prefix
from rlm_testkit.servers import Server, free_port, wait_until
from rlm_testkit.smtp_servers import Sink, SMTPServerThread

THIEF = "eve@uwo.ca"
USERS = [f"user{number}@uwo.ca" for number in range(20)]

_LABEL = re.compile(r'(\w+)="([^"]*)"')

POLICY = """
name = "relay"
internal_domains = ["uwo.ca"]

[[limits]]
kind = "recipient rate limit"
rate = "50/hour"
name = "recipients an hour"

[alerts]
mail_to = ["postmaster@uwo.ca"]
mail_from = "limits@uwo.ca"
smtp = "smtp://127.0.0.1:{port}"
"""


class PolicyServer:
    """`ratelimit-mail serve` in a process of its own, and a connection of Postfix to it."""

    def __init__(self, policy: Path, store: str, folder: Path) -> None:
        self.metrics_port = free_port()
        port = free_port()
        command = [
            *(sys.executable, "-m", "ratelimit_mail.cli", "serve", str(policy)),
            *("--listen", f"inet:127.0.0.1:{port}", "--store", store, "--stages", "rcpt"),
            *("--metrics", f"127.0.0.1:{self.metrics_port}"),
        ]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._log = folder / f"serve-{port}.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(command, stderr=log, env=environment)
        try:
            self._connection: socket.socket = wait_until(lambda: self._connect(port))
        except TimeoutError:
            self.stop()
            raise RuntimeError(self._log.read_text()) from None
        self._replies = self._connection.makefile("rb")

    @staticmethod
    def _connect(port: int) -> socket.socket:
        return socket.create_connection(("127.0.0.1", port), timeout=30)

    def ask(self, sender: str, recipient: str) -> str:
        """Return the action for one recipient, as Postfix asks for it."""
        instance = f"{time.monotonic_ns():x}"
        request = (
            "request=smtpd_access_policy\nprotocol_state=RCPT\nprotocol_name=ESMTP\n"
            f"sender={sender}\nrecipient={recipient}\nclient_address=10.0.0.7\n"
            f"instance={instance}\n\n"
        )
        self._connection.sendall(request.encode())
        action: bytes = self._replies.readline()
        self._replies.readline()
        return action.decode().strip()

    def scrape(self) -> str:
        url = f"http://127.0.0.1:{self.metrics_port}/metrics"
        with urllib.request.urlopen(url, timeout=30) as answer:
            text: bytes = answer.read()
        return text.decode()

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(30)
        if hasattr(self, "_connection"):
            self._replies.close()
            self._connection.close()


@pytest.fixture(params=["sqlite", "valkey"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'counts.db'}"
    server: Server = request.getfixturevalue("own_server")
    return f"{server.url}?prefix={unique_prefix()}"


def test_a_stolen_account_is_seen_blocked_alerted_and_measured(store: str, tmp_path: Path) -> None:
    sink = Sink()
    policy = tmp_path / "relay.toml"
    options = ["--store", store, "--policy", str(policy)]
    with ExitStack() as stack:
        relay = stack.enter_context(SMTPServerThread(sink))
        policy.write_text(POLICY.format(port=relay.port))
        servers = []
        for _ in range(2):
            servers.append(PolicyServer(policy, store, tmp_path))
            stack.callback(servers[-1].stop)
        for user in USERS:
            assert servers[0].ask(user, "bob@example.com") == "action=DUNNO"
        # The thief writes by both servers until they refuse, and goes on.
        refused = [
            not servers[number % 2].ask(THIEF, f"victim{number}@example.com").endswith("DUNNO")
            for number in range(80)
        ]
        assert refused == [False] * 50 + [True] * 30
        # It is first in `top`, and used all of its limit.
        top = run_command("top", "-n", "3", "--json", *options)
        assert top.exit_code == 0, top.output
        first = json.loads(top.stdout)[0]
        assert (first["subject"], first["share"]) == (THIEF, 1.0)
        # One alert of both servers arrives.
        wait_until(lambda: sink.arrivals)
        [arrival] = sink.arrivals
        message: Any = message_from_bytes(arrival.text, policy=default)
        assert message["Subject"].startswith("[ratelimit-mail] relay: ")
        lines = [line for line in message.get_content().splitlines() if "first denial" in line]
        assert len(lines) == 1
        assert THIEF in lines[0]
        # A block acts at the next message; another process knows it within a second.
        assert run_command("reset", THIEF, "--reason", "again", *options).exit_code == 0
        assert servers[0].ask(THIEF, "victim@example.com") == "action=DUNNO"
        block = run_command("block", THIEF, "--reason", "stolen", "--by", "dana", *options)
        assert block.exit_code == 0, block.output
        for server in servers:
            action = wait_until(partial(_refusal, server, THIEF))
            assert "5.7.1" in action
        assert servers[0].ask(USERS[0], "bob@example.com") == "action=DUNNO"
        # A scrape shows it, and no label has an address.
        text = servers[1].scrape()
        assert re.search(
            r"ratelimit_mail_decisions_total\{limit=\"recipients an hour\",mode=\"enforced\","
            r"policy=\"relay\",result=\"defer\"\} 15\.0",
            text,
        )
        assert 'limit="block"' in text
        assert 'ratelimit_mail_backend_seconds_count{operation="apply"}' in text
        values = [value for _, value in _LABEL.findall(text)]
        assert not [value for value in values if "@" in value or "10.0.0.7" in value]


def _refusal(server: PolicyServer, sender: str) -> str | None:
    action = server.ask(sender, "victim@example.com")
    return None if action == "action=DUNNO" else action
