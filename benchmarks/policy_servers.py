"""Policy servers beside one another: requests a second and p99 with the same client, in one run.

    python -m benchmarks.policy_servers [--peers VENV] [--requests 5000]

VENV is a virtual environment with policyd-rate-limit and chapps, each of which is left out with the
reason where it cannot be run. Each server is asked at RCPT, where policyd-rate-limit counts, about
messages of 1,000 logins, over 1 and then over 20 connections; nothing is over a limit. The client
runs in a process of its own. One more server, which answers DUNNO to everything, is the floor.
chapps has its quotas in MariaDB and caches them in Redis; here the cache is filled beforehand, so
that it needs no MariaDB. With current versions of what it depends on, it does not start: VENV needs
`chapps 'pydantic<2' 'sqlmodel<0.0.9' 'fastapi<0.100' 'sqlalchemy<2'`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))

import redis
from rlm_testkit.policy_servers import PolicyProcess
from rlm_testkit.servers import Server, free_port, valkey

LOGINS = 1000
CONNECTIONS = (1, 20)

POLICY = """
name = "benchmark"
[[limits]]
kind = "message rate limit"
rate = "1000000/minute"
scope = "submitter"
[[limits]]
kind = "message rate limit"
rate = "10000000/day"
scope = "submitter"
"""

POLICYD = """
debug: False
user: "root"
group: "root"
pidfile: "{folder}/policyd.pid"
backend: 0
sqlite_config:
    database: "{folder}/policyd.sqlite3"
SOCKET: ["127.0.0.1", {port}]
limits:
    - [1000000, 60]
    - [10000000, 86400]
limits_by_id: {{}}
limit_by_sasl: True
limit_by_sender: False
limit_by_ip: False
limited_networks: []
success_action: "dunno"
fail_action: "defer_if_permit Rate limit reach, retry later"
db_error_action: "dunno"
count_mode: 0
sql_limits_by_id: ""
report: False
"""

Running = tuple[int, int]
"""The port of a server, and the number of its process."""

Measured = tuple[float, float, float]
"""Requests a second, the median and the 99th percentile in milliseconds."""


def request_of(number: int, run: int) -> bytes:
    """Return one request of Postfix's."""
    login = number % LOGINS
    now = int(time.time()) + 1
    return (
        "request=smtpd_access_policy\nprotocol_state=RCPT\nprotocol_name=ESMTP\n"
        f"helo_name=client\nqueue_id={0xA0000000 + number:X}\nsender=u{login}@uwo.ca\n"
        f"recipient=r{number}@example.com\nrecipient_count=1\nclient_address=10.1.2.3\n"
        "client_name=client.uwo.ca\nreverse_client_name=client.uwo.ca\n"
        f"instance={run:x}.{now:x}.{number:x}.0\nsasl_method=plain\nsasl_username=u{login}\n"
        "sasl_sender=\nsize=1000\nccert_subject=\nccert_issuer=\nccert_fingerprint=\n"
        "encryption_protocol=TLSv1.3\nencryption_cipher=X\nencryption_keysize=256\netrn_domain=\n"
        "stress=\nccert_pubkey_fingerprint=\nclient_port=1\npolicy_context=\n"
        "server_address=10.0.0.1\nserver_port=587\n\n"
    ).encode()


async def measure(port: int, requests: int, connections: int, run: int) -> Measured:
    """Ask over several connections, and return what it took."""
    times: list[float] = []
    numbers = iter(range(requests))

    async def work() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in numbers:
            data = request_of(number, run)
            start = time.perf_counter()
            writer.write(data)
            answer = await reader.readuntil(b"\n\n")
            times.append(time.perf_counter() - start)
            if b"dunno" not in answer.lower():
                raise RuntimeError(f"an unexpected answer: {answer!r}")
        writer.close()

    start = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(connections)))
    took = time.perf_counter() - start
    times.sort()
    return requests / took, times[len(times) // 2] * 1000, times[int(len(times) * 0.99)] * 1000


@contextlib.contextmanager
def started(port: int, words: Sequence[object], **options: Any) -> Iterator[Running]:
    """Run a program that listens at a port."""
    process = subprocess.Popen([str(word) for word in words], **options)
    try:
        wait_for(port)
        yield port, process.pid
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def floor(_: Path) -> Iterator[Running]:
    """Run a server that does nothing but read a request and answer DUNNO."""
    port = free_port()
    text = (
        "import asyncio\n"
        "class P(asyncio.Protocol):\n"
        "    def connection_made(s, t): s.t = t; s.b = b''\n"
        "    def data_received(s, d):\n"
        "        s.b += d\n"
        "        while b'\\n\\n' in s.b:\n"
        "            s.b = s.b.partition(b'\\n\\n')[2]; s.t.write(b'action=DUNNO\\n\\n')\n"
        "async def main():\n"
        f"    s = await asyncio.get_running_loop().create_server(P, '127.0.0.1', {port})\n"
        "    await s.serve_forever()\n"
        "asyncio.run(main())\n"
    )
    with started(port, [sys.executable, "-c", text]) as running:
        yield running


def ours(store: Callable[[Path], str]) -> Callable[[Path], AbstractContextManager[Running]]:
    """Return how to run `ratelimit-mail serve` on a store."""

    @contextlib.contextmanager
    def run(folder: Path) -> Iterator[Running]:
        file = folder / "policy.toml"
        file.write_text(POLICY)
        process = PolicyProcess(str(file), "--stages", "rcpt", "--store", store(folder))
        try:
            yield process.port, process.process.pid
        finally:
            process.stop()

    return run


def policyd(venv: Path) -> Callable[[Path], AbstractContextManager[Running]]:
    """Return how to run policyd-rate-limit."""

    @contextlib.contextmanager
    def run(folder: Path) -> Iterator[Running]:
        port = free_port()
        file = folder / "policyd.yaml"
        file.write_text(POLICYD.format(folder=folder, port=port))
        words = [venv / "bin" / "policyd-rate-limit", "--file", file]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with started(port, words, **quiet) as running:
            yield running

    return run


CHAPPS = """
[CHAPPS]
payload_encoding = utf-8
user_key = sasl_username
require_user_key = True
no_user_key_response = REJECT no login
[PolicyConfigAdapter]
adapter = mariadb
db_host = localhost
db_port = 3306
db_name = chapps
db_user = chapps
db_pass = chapps
[Redis]
sentinel_servers =
sentinel_dataset =
server = localhost
port = {redis}
[OutboundQuotaPolicy]
listen_address = 127.0.0.1
listen_port = {port}
rejection_message = REJECT quota
acceptance_message = DUNNO
null_sender_ok = False
counting_recipients = False
min_delta = 0
"""


WITHOUT_SYSLOG = (
    "import logging.handlers as h, runpy, sys\n"
    "h.SysLogHandler.emit = lambda *_: None\n"
    "runpy.run_path(sys.argv[1], run_name='__main__')"
)
"""Without a syslog daemon, it would write a traceback for each request."""


def chapps(venv: Path, redis_port: int) -> Callable[[Path], AbstractContextManager[Running]]:
    """Return how to run chapps' outbound quota service on a Redis of its own database."""

    @contextlib.contextmanager
    def run(folder: Path) -> Iterator[Running]:
        client = redis.Redis(port=redis_port)
        for login in range(LOGINS):
            client.set(f"oqp:u{login}:limit", 1_000_000)
            client.set(f"oqp:u{login}:margin", 0)
        port = free_port()
        file = folder / "chapps.ini"
        file.write_text(CHAPPS.format(redis=redis_port, port=port))
        program = venv / "bin" / "chapps_outbound_quota.py"
        words = [venv / "bin" / "python", "-c", WITHOUT_SYSLOG, program]
        environment = {**os.environ, "CHAPPS_CONFIG": str(file), "PYTHONPATH": ""}
        with (
            (folder / "chapps.log").open("w") as log,
            started(port, words, env=environment, stdout=log, stderr=log) as running,
        ):
            yield running

    return run


def processor_seconds(pid: int) -> float:
    """Return how long a process was on a processor, which other programs do not change much."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def wait_for(port: int) -> None:
    """Wait until a server listens. Raises RuntimeError if none does within 15 seconds."""
    import socket

    deadline = time.monotonic() + 15
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise RuntimeError("it does not listen") from None
            time.sleep(0.05)
        else:
            return


def main() -> None:
    """Measure all of them, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", type=Path)
    parser.add_argument("--requests", type=int, default=5000)
    options = parser.parse_args()
    server = Server(valkey())
    servers: dict[str, Callable[[Path], AbstractContextManager[Running]]] = {
        "floor: answers DUNNO": floor,
        "serve, memory": ours(lambda _: "memory:"),
        "serve, SQLite": ours(lambda folder: f"sqlite:///{folder}/counts.db"),
        "serve, Valkey": ours(lambda _: f"redis://localhost:{server.port}/0"),
    }
    if options.peers is not None and (options.peers / "bin" / "policyd-rate-limit").exists():
        servers["policyd-rate-limit, SQLite"] = policyd(options.peers)
    if options.peers is not None and (options.peers / "bin" / "chapps_outbound_quota.py").exists():
        servers["chapps, Valkey"] = chapps(options.peers, server.port)
    print(f"{options.requests:,} requests each, {os.cpu_count()} processors\n")
    print("| server | connections | requests/s | p50 ms | p99 ms | processor ms a request |")
    print("|---|---|---|---|---|---|")
    try:
        for name, run in servers.items():
            for number in CONNECTIONS:
                with tempfile.TemporaryDirectory() as folder:
                    try:
                        with run(Path(folder)) as (port, pid):
                            before = processor_seconds(pid)
                            rate, median, p99 = asyncio.run(
                                measure(port, options.requests, number, os.getpid())
                            )
                            used = (processor_seconds(pid) - before) / options.requests * 1000
                    except (OSError, RuntimeError, asyncio.IncompleteReadError) as error:
                        print(f"| {name} | {number} | cannot be run: {error} | | | |")
                        continue
                print(
                    f"| {name} | {number} | {rate:,.0f} | {median:.2f} | {p99:.2f} | {used:.3f} |",
                    flush=True,
                )
    finally:
        server.stop()


if __name__ == "__main__":
    main()
