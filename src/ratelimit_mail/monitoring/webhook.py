"""WebhookAlerts: posts each event as JSON to a URL, such as that of a chat."""

from __future__ import annotations

import http.client
import json
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from ratelimit_mail._util.text import show
from ratelimit_mail.events import Event
from ratelimit_mail.events.log_listener import line_of

__all__ = ["WebhookAlerts"]

RETRIES: Final = (1.0, 5.0)
"""Seconds before the second and the third attempt."""

LONGEST_ANSWER: Final = 65_536


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Refuses redirects: a POST must not become a GET, nor go elsewhere with its secret."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Return None, which is an error."""


class WebhookAlerts:
    """Posts events as JSON; a channel for Alerts, which queues them, and a listener.

    url: an https: or http: URL. It may hold a secret, so it is in no repr, log or error.
    token: a secret for the header `Authorization: Bearer`, or a function that returns it.
    timeout: seconds for connecting and for the answer.
    context: for TLS; by default one that checks the certificate.
    key: as for `log_events`: addresses are replaced by digits.
    wait: waits for a number of seconds before an attempt is repeated; for tests.

    The object has `text`, the event in one line, and the fields of `log_events`. After an answer of
    5xx or 429, or none, it is tried again twice; then the event is given up, and the error raised,
    which the dispatcher logs. Redirects are not followed.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | Callable[[], str] | None = None,
        timeout: float = 10.0,
        context: ssl.SSLContext | None = None,
        key: bytes | None = None,
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        if not isinstance(url, str):
            raise TypeError("url: a string is needed")
        try:
            pieces = urlsplit(url)
            self._host = pieces.hostname or ""
            _ = pieces.port  # which raises ValueError for what is not a port
        except ValueError:
            raise ValueError("url: it is not a URL") from None
        if pieces.scheme not in ("http", "https") or not self._host:
            raise ValueError("url: it does not begin with https:// or http:// and a host")
        # http.client refuses these for each event, with errors that show them.
        if not url.isascii() or not url.isprintable() or " " in url:
            raise ValueError("url: it has characters that a URL writes as %20 and the like")
        if "@" in pieces.netloc:
            raise ValueError("url: it has a login before the host; a secret is the token")
        self._url, self._token, self._timeout, self._key = url, token, timeout, key
        self._wait = wait
        self._opener = urllib.request.build_opener(
            _NoRedirects,
            urllib.request.HTTPSHandler(context=context or ssl.create_default_context()),
        )

    def __repr__(self) -> str:
        return f"<WebhookAlerts to {show(self._host)}>"

    def __call__(self, event: Event) -> None:
        """Post an event."""
        line, fields = line_of(event, self._key)
        body = json.dumps({"text": line, **fields}).encode()
        for number in range(len(RETRIES) + 1):
            try:
                self._post(body)
            except (OSError, ValueError, http.client.HTTPException) as error:
                is_final = isinstance(error, urllib.error.HTTPError) and not (
                    error.code >= 500 or error.code == 429
                )
                if is_final or number == len(RETRIES):
                    raise RuntimeError(f"{self} has not taken an event") from None
                self._wait(RETRIES[number])
            else:
                return

    def _post(self, body: bytes) -> None:
        headers: Mapping[str, str] = {"Content-Type": "application/json"}
        if self._token is not None:
            token = self._token() if callable(self._token) else self._token
            headers = {**headers, "Authorization": f"Bearer {token}"}
        request = urllib.request.Request(  # noqa: S310 - http and https only
            self._url, data=body, headers=dict(headers), method="POST"
        )
        try:
            with self._opener.open(request, timeout=self._timeout) as answer:
                answer.read(LONGEST_ANSWER)
        except urllib.error.HTTPError as error:
            error.close()
            raise
