"""Terminate TLS in front of a server: the Valkey and Redis of pip are built without it."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
from pathlib import Path
from typing import Final

import trustme

CHUNK_SIZE: Final = 65_536

TIMEOUT: Final = 30.0
"""Seconds after which a connection that waits for its other side is closed."""

HANDSHAKE: Final = b"\x16"
"""The first byte of a TLS connection."""


class CertificateFiles:
    """An authority, and files for clients.

    ca: the certificate of the authority. cert, key: those of a client, signed by it.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._authority = trustme.CA()
        self.ca = folder / "ca.pem"
        self.cert = folder / "client.pem"
        self.key = folder / "client.key"
        self._authority.cert_pem.write_to_path(str(self.ca))
        client = self._authority.issue_cert("client.example.org")
        client.private_key_pem.write_to_path(str(self.key))
        for each in client.cert_chain_pems:
            each.write_to_path(str(self.cert), append=True)

    def server_context(
        self,
        name: str = "127.0.0.1",
        *,
        needs_client_certificate: bool = False,
        newest: ssl.TLSVersion = ssl.TLSVersion.MAXIMUM_SUPPORTED,
    ) -> ssl.SSLContext:
        """Return the context of a server whose certificate is for `name`."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.maximum_version = newest
        self._authority.issue_cert(name).configure_cert(context)
        if needs_client_certificate:
            self._authority.configure_trust(context)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


class TLSProxy:
    """Accept TLS, and pass the bytes on to a server of this machine without it.

    server_port: of that server; may be set before the first connection.
    accepts_plain: whether to pass on a connection without TLS too, as a Sentinel makes it.
    versions: the TLS version of each connection so far.
    """

    def __init__(
        self, context: ssl.SSLContext, server_port: int = 0, *, accepts_plain: bool = False
    ) -> None:
        self.server_port = server_port
        self._accepts_plain = accepts_plain
        self.versions: list[str | None] = []
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def open(self) -> int:
        """Return how many clients are connected."""
        return len(self._open)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the listener is closed
            while True:
                client, _ = self._listener.accept()
                thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            client.settimeout(TIMEOUT)
            if self._accepts_plain and client.recv(1, socket.MSG_PEEK) != HANDSHAKE:
                self._pass_on(client)
                return
            with self._context.wrap_socket(client, server_side=True) as encrypted:
                self.versions.append(encrypted.version())
                self._pass_on(encrypted)

    def _pass_on(self, client: socket.socket) -> None:
        """Pass bytes on until a side closes its connection."""
        self._open.add(client)
        try:
            with socket.create_connection(("127.0.0.1", self.server_port), TIMEOUT) as server:
                while True:
                    is_pending = isinstance(client, ssl.SSLSocket) and client.pending()
                    ready = [client] if is_pending else select.select([client, server], [], [])[0]
                    for source in ready:
                        data = source.recv(CHUNK_SIZE)
                        if not data:
                            return
                        (server if source is client else client).sendall(data)
        finally:
            self._open.discard(client)

    def close(self) -> None:
        for each in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()
