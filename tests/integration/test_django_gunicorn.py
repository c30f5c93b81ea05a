"""A Django project under Gunicorn's four workers, with one SQLite store and a real SMTP server."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest
from rlm_testkit.builders import campus_policy
from rlm_testkit.load import fullest_window
from rlm_testkit.servers import wait_until

from ratelimit_mail import Limiter, RecipientRateLimit
from ratelimit_mail.backends import from_url

pytest.importorskip("django")
pytest.importorskip("aiosmtpd")
pytest.importorskip("gunicorn", reason="no gunicorn")

from rlm_testkit.smtp_servers import Sink, SMTPServerThread

WORKERS: Final = 4
REQUESTS: Final = 60
LIMIT: Final = 25
SUPPORT: Final = Path(__file__).parents[1] / "support"


@contextlib.contextmanager
def gunicorn(folder: Path, values: dict[str, str], smtp_port: int) -> Iterator[int]:
    """Start Gunicorn with `--preload`, and return its port when the project is loaded."""
    inner = {"host": "127.0.0.1", "port": smtp_port, "timeout": 60}
    environment = {
        **os.environ,
        "MAILER": json.dumps({"values": values, "inner": inner}),
        "DATABASES_FOLDER": str(folder),
        "SEND_BEFORE_FORK": "1",
        "PYTHONPATH": os.pathsep.join([str(SUPPORT), *filter(None, sys.path)]),
        "PYTHONWARNINGS": "error::DeprecationWarning:ratelimit_mail",
    }
    loaded, log = folder / "gunicorn.pid", folder / "log"
    with socket.create_server(("127.0.0.1", 0), backlog=REQUESTS) as listener:
        number = listener.fileno()
        options = [
            *("--bind", f"fd://{number}", "--backlog", str(REQUESTS), "--pid", str(loaded)),
            *("--workers", str(WORKERS), "--threads", "4", "--preload", "--timeout", "100"),
            *("--no-control-socket", "--log-file", str(log), "--chdir", str(folder)),
        ]
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "gunicorn", *options),
                "rlm_testkit.django_project.wsgi:application",
            ],
            env=environment,
            pass_fds=[number],
            start_new_session=True,
        )
        try:
            wait_until(lambda: loaded.exists() or process.poll() is not None, 60)
            assert process.poll() is None, log.read_text()
            yield listener.getsockname()[1]
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, 9)
                process.wait()


def ask(port: int) -> tuple[str, str, str]:
    """Ask for one message; return the process, its limiter, and whether it was sent."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=90)
    with contextlib.closing(connection):
        connection.request("GET", "/send")
        response = connection.getresponse()
        assert response.status == 200
        process, limiter, answer = response.read().decode().split()
        return process, limiter, answer


def test_four_workers_never_exceed_the_limit_at_the_server_and_charge_what_arrived(
    tmp_path: Path,
) -> None:
    policy = campus_policy(RecipientRateLimit(f"{LIMIT}/hour", scope="global"))
    (tmp_path / "policy.toml").write_text(policy.dump())
    url = f"sqlite:///{tmp_path}/counts.db?timeout=60"
    values = {"POLICY": str(tmp_path / "policy.toml"), "STORE": url, "ON_EXCESS": "raise"}
    sink = Sink(clock=lambda: time.monotonic_ns() // 1_000_000)
    with (
        SMTPServerThread(sink) as server,
        gunicorn(tmp_path, values, server.port) as port,
        ThreadPoolExecutor(REQUESTS) as threads,
    ):
        answers = [*threads.map(ask, [port] * REQUESTS)]
    sent = [each for each in answers if each[2] == "yes"]
    assert len(sent) == LIMIT - 1  # the parent has sent one
    assert len(sink.arrivals) == LIMIT
    assert fullest_window(3_600_000, [each.moment for each in sink.arrivals]) == LIMIT
    limiters: dict[str, set[str]] = {}
    for process, limiter, _ in answers:
        limiters.setdefault(process, set()).add(limiter)
    assert all(len(each) == 1 for each in limiters.values()), "one limiter a process"
    backend = from_url(url)
    with contextlib.closing(backend):  # type: ignore[type-var]
        [usage] = Limiter(policy, backend).usage(scope="global")
    assert usage.used == LIMIT
