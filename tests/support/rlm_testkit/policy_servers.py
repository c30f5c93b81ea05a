"""Run `ratelimit-mail serve` in a process of its own, and ask it as Postfix does."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from ratelimit_mail.server.control import request
from rlm_testkit.servers import free_port

__all__ = ["PolicyClient", "PolicyProcess", "attributes"]


def attributes(state: str, instance: str, **values: object) -> dict[str, str]:
    """Return the attributes of a request."""
    fixed = {"request": "smtpd_access_policy", "protocol_state": state, "instance": instance}
    return fixed | {name: str(value) for name, value in values.items()}


class PolicyClient:
    """One connection of a mail server."""

    def __init__(self, address: tuple[str, int] | Path, timeout: float = 30.0) -> None:
        if isinstance(address, Path):
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(timeout)
            self.socket.connect(str(address))
        else:
            self.socket = socket.create_connection(address, timeout)
        self._file = self.socket.makefile("rb")

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self.socket.sendall(data)

    def ask(self, values: dict[str, str]) -> str:
        """Send a request, and return the action."""
        self.send("".join(f"{k}={v}\n" for k, v in values.items()).encode() + b"\n")
        return self.read()

    def read(self) -> str:
        """Return the action of the next reply; empty if the server has closed the connection."""
        line = self._file.readline().decode().rstrip("\n")
        assert not line or self._file.readline() == b"\n"
        return line.removeprefix("action=")

    def message(self, instance: str, recipients: list[str], **values: object) -> str:
        """Ask about a message at RCPT and END-OF-MESSAGE; return the last action."""
        for each in recipients:
            action = self.ask(attributes("RCPT", instance, recipient=each, **values))
            assert action == "DUNNO", action
        alone = recipients[0] if len(recipients) == 1 else ""
        return self.ask(
            attributes(
                "END-OF-MESSAGE",
                instance,
                recipient=alone,
                recipient_count=len(recipients),
                **values,
            )
        )

    def close(self) -> None:
        """Close the connection."""
        self._file.close()
        self.socket.close()


class PolicyProcess:
    """A server, which may be killed and started again on the same port."""

    def __init__(
        self, policy: str, *options: str, control: Path | None = None, port: int | None = None
    ) -> None:
        self.port = free_port() if port is None else port
        self.control = control
        self._words = [policy, "--listen", f"inet:127.0.0.1:{self.port}", *options]
        if control is not None:
            self._words += ["--control", str(control)]
        self.lines: list[str] = []
        self.start()

    @property
    def service(self) -> str:
        """Where it listens, as main.cf has it."""
        return f"check_policy_service inet:127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it listens."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ratelimit_mail.cli", "serve", *self._words],
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        ready = threading.Event()

        def read(stream: Any) -> None:
            for line in stream:
                self.lines.append(line.rstrip("\n"))
                if line.startswith("Serving "):
                    ready.set()
            ready.set()

        self._reader = threading.Thread(target=read, args=(self.process.stderr,), daemon=True)
        self._reader.start()
        assert ready.wait(60), self.lines
        assert self.process.poll() is None, self.lines

    def ask(self, op: str, **keys: Any) -> Any:
        """Ask its control socket."""
        assert self.control is not None
        return request(self.control, op, **keys)

    def kill(self) -> None:
        """Kill it without a warning."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """End it as systemd does; return its exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        code = self.process.wait(30)
        self._reader.join(10)
        assert self.process.stderr is not None
        self.process.stderr.close()
        return code

    def wait_for_line(self, text: str, seconds: float = 30.0) -> str:
        """Return the first line of its log with this text, once it is there."""
        deadline = time.monotonic() + seconds
        while True:
            for line in self.lines:
                if text in line:
                    return line
            assert time.monotonic() < deadline, self.lines
            time.sleep(0.05)
