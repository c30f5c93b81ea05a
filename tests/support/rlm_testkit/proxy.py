"""A proxy in front of a server that loses or withholds answers, stalls, or cuts connections."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Final

CHUNK_SIZE: Final = 65_536
POLL_SECONDS: Final = 0.005


class Proxy:
    """Pass bytes on between clients and a server, until a test asks for a fault.

    lose_answers: how many of the next answers to drop, with their connections.
    spare_answers: how many answers to pass on before those.
    only: lose only answers to requests that contain these bytes; a new connection's greeting does
        not contain them.
    lost, lost_at: how many answers were dropped, and when the last was.
    connections: how many there were so far.
    requests: how many requests contained the bytes of `only` so far.
    stalled: if set, nothing is passed on.
    answers_withheld: if set, requests are passed on and answers are not.
    """

    def __init__(self, port: int, *, only: bytes = b"") -> None:
        self.lose_answers = 0
        self.spare_answers = 0
        self.only = only
        self.lost = 0
        self.lost_at = 0.0
        self.connections = 0
        self.requests = 0
        self.stalled = threading.Event()
        self.answers_withheld = threading.Event()
        self._away = threading.Event()
        self._server_port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._open_sockets: set[socket.socket] = set()
        self._closed = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def open(self) -> int:
        """Return how many clients are connected."""
        return len(self._open_sockets) // 2

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Cut all connections and refuse new ones."""
        self.leave()
        try:
            yield
        finally:
            self.come_back()

    def leave(self) -> None:
        """Be away from now on."""
        self._away.set()
        self._cut()

    def come_back(self) -> None:
        """End being away."""
        self._away.clear()

    def _accept(self) -> None:
        while not self._closed.is_set():
            with contextlib.suppress(OSError):
                client, _ = self._listener.accept()
                self.connections += 1
                self._connect(client)

    def _connect(self, client: socket.socket) -> None:
        try:
            if self._away.is_set():
                raise ConnectionRefusedError
            server = socket.create_connection(("127.0.0.1", self._server_port))
        except OSError:
            client.close()
            return
        self._open_sockets |= {client, server}
        last_request = _LastRequest()
        for source, sink, is_answers in ((client, server, False), (server, client, True)):
            threading.Thread(
                target=self._pass_on, args=(source, sink, last_request, is_answers), daemon=True
            ).start()

    def _pass_on(
        self,
        source: socket.socket,
        sink: socket.socket,
        last_request: _LastRequest,
        is_answers: bool,
    ) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK_SIZE):
                while self._is_withheld(is_answers) and not self._closed.wait(POLL_SECONDS):
                    pass
                if not is_answers:
                    last_request.data = data
                    self.requests += self.only in data
                elif self._loses_answer_to(last_request.data):
                    break
                sink.sendall(data)
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
            self._open_sockets.discard(each)

    def _is_withheld(self, is_answers: bool) -> bool:
        return self.stalled.is_set() or (is_answers and self.answers_withheld.is_set())

    def _loses_answer_to(self, request: bytes) -> bool:
        with self._lock:
            if self.lose_answers == 0 or self.only not in request:
                return False
            is_lost = self.spare_answers == 0
            self.spare_answers -= not is_lost
            self.lose_answers -= is_lost
            if is_lost:
                self.lost_at = time.monotonic()
            self.lost += is_lost
            return is_lost

    def _cut(self) -> None:
        for each in list(self._open_sockets):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._closed.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # or `accept` would not notice
        self._listener.close()
        self._cut()


class _LastRequest:
    """The last request on a connection, shared by the threads of both directions."""

    def __init__(self) -> None:
        self.data = b""
