"""Gunicorn with four workers, forked after the limiter was made and used (`--preload`)."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from rlm_testkit.load import SENDER, one_limit_policy
from rlm_testkit.redis_backends import spare_server
from rlm_testkit.servers import Server, wait_until

from ratelimit_mail import Limiter
from ratelimit_mail.backends import from_url

pytest.importorskip("gunicorn", reason="no gunicorn")

spare = pytest.fixture(spare_server)

WORKERS: Final = 4
REQUESTS: Final = 200
LIMIT: Final = 100

SUPPORT: Final = Path(__file__).parents[1] / "support"


class Answers(NamedTuple):
    """How many messages each worker admitted, and refused."""

    admitted: Counter[int]
    refused: Counter[int]


class Gunicorn:
    """A running server; `process_id` is that of the parent of the workers."""

    def __init__(self, process_id: int, port: int) -> None:
        self.process_id = process_id
        self._port = port

    def _ask(self, path: str) -> tuple[int, bool]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=90)
        with contextlib.closing(connection):
            connection.request("GET", path)
            response = connection.getresponse()
            assert response.status == 200
            worker, answer = response.read().decode().split()
            return int(worker), answer == "yes"

    def acquire(self) -> Answers:
        """Let each worker answer once, all at once, then send all other requests at once."""
        answers = Answers(Counter(), Counter())
        paths = ["/acquire"] * (REQUESTS - WORKERS)
        with ThreadPoolExecutor(REQUESTS) as pool:
            for each in (["/meet"] * WORKERS, paths):
                for worker, is_admitted in pool.map(self._ask, each):
                    answers[0 if is_admitted else 1][worker] += 1
        workers = answers.admitted | answers.refused
        assert len(workers) == WORKERS
        assert self.process_id not in workers
        return answers


@contextlib.contextmanager
def gunicorn(url: str, folder: Path, limit: int = LIMIT) -> Iterator[Gunicorn]:
    """Start Gunicorn, and wait until the application is loaded in the parent."""
    environment = {
        **os.environ,
        "COUNTS_URL": url,
        "LIMIT": str(limit),
        "WORKERS": str(WORKERS),
        "PYTHONPATH": os.pathsep.join([str(SUPPORT), *filter(None, sys.path)]),
    }
    loaded, log = folder / "gunicorn.pid", folder / "log"
    with socket.create_server(("127.0.0.1", 0), backlog=REQUESTS) as listener:
        number = listener.fileno()
        options = [
            *("--bind", f"fd://{number}", "--backlog", str(REQUESTS), "--pid", str(loaded)),
            *("--workers", str(WORKERS), "--preload", "--timeout", "100", "--no-control-socket"),
            *("--log-file", str(log), "--chdir", str(folder)),
        ]
        process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", *options, "rlm_testkit.prefork_app:application"],
            env=environment,
            pass_fds=[number],
            start_new_session=True,
        )
        try:
            wait_until(lambda: loaded.exists() or process.poll() is not None, 60)
            assert process.poll() is None, log.read_text()
            yield Gunicorn(process.pid, listener.getsockname()[1])
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, 9)
                process.wait()


def used(url: str) -> int:
    backend = from_url(url)
    with contextlib.closing(backend):  # type: ignore[type-var]
        return Limiter(one_limit_policy(LIMIT), backend).usage(SENDER)[0].used


def files_of(process_id: int, path: Path) -> int:
    """Return how often a process has opened a file."""
    descriptors = Path(f"/proc/{process_id}/fd")
    return sum(os.path.realpath(each) == str(path) for each in descriptors.iterdir())


def test_workers_share_the_counts_of_a_sqlite_file(tmp_path: Path) -> None:
    path = tmp_path.resolve() / "counts.db"
    url = f"sqlite:///{path}?timeout=60"
    with gunicorn(url, tmp_path) as server:
        answers = server.acquire()
        assert answers.admitted.total() == LIMIT - 1  # the parent has sent one
        if Path("/proc/self/fd").exists():
            workers = answers.admitted | answers.refused
            assert files_of(server.process_id, path) == 0
            assert [files_of(each, path) for each in workers] == [1] * WORKERS
    assert used(url) == LIMIT


def test_workers_share_the_counts_of_a_server_and_not_the_connection(
    spare: Server, tmp_path: Path
) -> None:
    with spare.client() as client:
        own = client.client_id()
        url = f"{spare.url}?socket_timeout=60&socket_connect_timeout=60"
        with gunicorn(url, tmp_path) as server:
            [before] = [each for each in client.client_list() if each["id"] != str(own)]
            assert server.acquire().admitted.total() == LIMIT - 1  # the parent has sent one
            connections = {each["id"]: each for each in client.client_list()}
            assert connections[before["id"]]["tot-net-in"] == before["tot-net-in"]
            assert len(connections) == 2 + WORKERS
    assert used(url) == LIMIT


def test_each_worker_counts_on_its_own_in_memory(tmp_path: Path) -> None:
    limit = 10
    with gunicorn("memory:", tmp_path, limit) as server:
        admitted, refused = server.acquire()
    for worker in admitted:
        requests = admitted[worker] + refused[worker]
        assert admitted[worker] == min(requests, limit - 1)  # a copy of what the parent has sent
