"""A proxy before a server that loses answers, keeps them back, stalls, or cuts everybody off."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Final

CHUNK: Final = 65_536
MOMENT: Final = 0.005


class Proxy:
    """Passes bytes on, as long as nothing is wrong.

    lose_answers: so many of the next answers are thrown away, and their connections cut.
    spare_answers: but not so many before those.
    only: the bytes that a request holds whose answer may be lost; a connection's greeting has none.
    lost, lost_at: how many answers have been thrown away, and when the last was.
    connections: how many there have been.
    stalled: nothing is passed on any more.
    held: requests are passed on, answers are not.
    """

    def __init__(self, port: int, *, only: bytes = b"") -> None:
        self.lose_answers = 0
        self.spare_answers = 0
        self.only = only
        self.lost = 0
        self.lost_at = 0.0
        self.connections = 0
        self.stalled = threading.Event()
        self.held = threading.Event()
        self._away = threading.Event()
        self._server = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._closed = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def open(self) -> int:
        """How many clients are connected."""
        return len(self._open) // 2

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Whoever is connected is cut off, and whoever comes is turned away."""
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
        """Be there again."""
        self._away.clear()

    def _accept(self) -> None:
        while not self._closed.is_set():
            with contextlib.suppress(OSError):
                near, _ = self._listener.accept()
                self.connections += 1
                self._connect(near)

    def _connect(self, near: socket.socket) -> None:
        try:
            if self._away.is_set():
                raise ConnectionRefusedError
            far = socket.create_connection(("127.0.0.1", self._server))
        except OSError:
            near.close()
            return
        self._open |= {near, far}
        asked = _Asked()
        for source, sink, answers in ((near, far, False), (far, near, True)):
            threading.Thread(
                target=self._pass_on, args=(source, sink, asked, answers), daemon=True
            ).start()

    def _pass_on(
        self, source: socket.socket, sink: socket.socket, asked: _Asked, answers: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK):
                while self._keeps(answers) and not self._closed.wait(MOMENT):
                    pass
                if not answers:
                    asked.last = data
                elif self._loses(asked.last):
                    break
                sink.sendall(data)
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
            self._open.discard(each)

    def _keeps(self, answers: bool) -> bool:
        return self.stalled.is_set() or (answers and self.held.is_set())

    def _loses(self, asked: bytes) -> bool:
        with self._lock:
            if self.lose_answers == 0 or self.only not in asked:
                return False
            loses = self.spare_answers == 0
            self.spare_answers -= not loses
            self.lose_answers -= loses
            if loses:
                self.lost_at = time.monotonic()
            self.lost += loses
            return loses

    def _cut(self) -> None:
        for each in list(self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._closed.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # or `accept` would not notice
        self._listener.close()
        self._cut()


class _Asked:
    """The last request of a connection, which one thread sees and another must know of."""

    def __init__(self) -> None:
        self.last = b""
