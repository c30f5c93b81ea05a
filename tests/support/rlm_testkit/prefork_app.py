"""A WSGI application with one limiter, which is made and used before its server forks.

`/acquire` asks for one message. `/meet` does so once so many requests as there are workers are in
progress, so that each worker has answered. An answer is the worker's process id and "yes" or "no".
COUNTS_URL, LIMIT, WORKERS: environment variables.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable
from typing import Any

from ratelimit_mail import Limiter
from ratelimit_mail.backends import from_url
from rlm_testkit.load import ENVELOPE, one_limit_policy

limiter = Limiter(one_limit_policy(int(os.environ["LIMIT"])), from_url(os.environ["COUNTS_URL"]))
assert limiter.try_acquire(ENVELOPE)

barrier = multiprocessing.get_context("fork").Barrier(int(os.environ["WORKERS"]), timeout=60)


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer whether a message may be sent now."""
    if environ["PATH_INFO"] == "/meet":
        barrier.wait()
    is_admitted = bool(limiter.try_acquire(ENVELOPE))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getpid()} {'yes' if is_admitted else 'no'}".encode()]
