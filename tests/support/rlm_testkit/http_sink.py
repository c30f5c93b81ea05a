"""An HTTP server for tests that records what is posted to it, and answers as it is asked to."""

from __future__ import annotations

import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

__all__ = ["HTTPSink", "Post"]


class Post(NamedTuple):
    """A request: its path, its headers and its body."""

    path: str
    headers: dict[str, str]
    body: bytes


class HTTPSink:
    """A running server.

    codes: the codes of the next answers; then it answers 200. context: for TLS.
    """

    def __init__(self, *codes: int, context: ssl.SSLContext | None = None) -> None:
        self.posts: list[Post] = []
        self._codes = list(codes)
        sink = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                sink.posts.append(Post(self.path, dict(self.headers), body))
                code = sink._codes.pop(0) if sink._codes else 200
                self.send_response(code)
                if 300 <= code < 400:
                    self.send_header("Location", sink.url("/elsewhere"))
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._scheme = "http" if context is None else "https"
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def url(self, path: str = "/hook") -> str:
        return f"{self._scheme}://127.0.0.1:{self._server.server_address[1]}{path}"

    def __enter__(self) -> HTTPSink:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
