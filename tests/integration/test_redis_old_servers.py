"""Simulated old servers: one that is too old is an error, one without HELLO is accepted."""

from __future__ import annotations

import contextlib
import select
import socket
import socketserver
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from rlm_testkit.redis_backends import (
    KINDS,
    POLICY,
    BackendFactory,
    both_kinds,
    envelope_from,
    unique_prefix,
    valkey_only,
)
from rlm_testkit.servers import Server

from ratelimit_mail import (
    Limiter,
)
from ratelimit_mail.exceptions import BackendError, BackendUnavailable

prefix = pytest.fixture(unique_prefix)
backends = pytest.fixture(both_kinds, params=KINDS)

TOO_OLD = (
    b"ERR Error running script (call to f_b8b80d40c0f90fb84d3f02ca60f916634195a519):"
    b" @user_script:684: @user_script: 684: Write commands not allowed after non deterministic"
    b" commands. Call redis.replicate_commands() at the start of your script in order to switch"
    b" to single commands replication mode."
)


class Redis4(socketserver.StreamRequestHandler):
    """Answer as Redis 4 does."""

    ANSWERS = {  # noqa: RUF012 - never changed
        b"PING": b"+PONG",
        b"CLIENT": b"-ERR Unknown subcommand or wrong number of arguments",
        b"EVALSHA": b"-NOSCRIPT No matching script. Please use EVAL.",
        b"EVAL": b"-" + TOO_OLD,
    }

    def handle(self) -> None:
        while line := self.rfile.readline():
            words = []
            for _ in range(int(line[1:])):
                size = int(self.rfile.readline()[1:])
                words.append(self.rfile.read(size + 2)[:-2])
            word = words[0].upper()
            answer = self.ANSWERS.get(word, b"-ERR unknown command '" + word + b"'")
            self.wfile.write(answer + b"\r\n")


@contextlib.contextmanager
def answering(handler: type[socketserver.BaseRequestHandler]) -> Iterator[str]:
    """Run a server with this handler, and return its URL."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        server.block_on_close = False
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"redis://127.0.0.1:{server.server_address[1]}/0"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("instead", ["raise", "allow", "deny"])
def test_the_error_for_a_server_that_is_too_old_says_which_version_is_needed_and_why(
    instead: Any, backends: BackendFactory
) -> None:
    with answering(Redis4) as url:
        limiter = Limiter(POLICY, backends.from_url(url), on_backend_error=instead)
        with pytest.raises(BackendError, match=r"too old.*Redis 5\.0 or newer.*because") as caught:
            limiter.try_acquire(envelope_from())
    assert not isinstance(caught.value, BackendUnavailable)
    assert "clock" in str(caught.value)


class Redis5(socketserver.BaseRequestHandler):
    """Pass bytes on to a server, but do not support HELLO, as Redis 5 does not."""

    server_port = 0

    def handle(self) -> None:
        request = self.request.recv(65_536)
        with socket.create_connection(("127.0.0.1", self.server_port)) as server:
            if b"HELLO" in request:
                self.request.sendall(
                    b"-ERR unknown command `HELLO`, with args beginning with: \r\n"
                )
            else:
                server.sendall(request)
            other = {self.request: server, server: self.request}
            while True:
                for each in select.select([*other], [], [])[0]:
                    if not (data := each.recv(65_536)):
                        return
                    other[each].sendall(data)


@valkey_only
def test_a_server_without_hello_is_accepted(
    backends: BackendFactory, server: Server, prefix: str
) -> None:
    handler = type("BehindRedis5", (Redis5,), {"server_port": server.port})
    with answering(handler) as url:
        assert Limiter(POLICY, backends.from_url(url, prefix=prefix)).try_acquire(envelope_from())
