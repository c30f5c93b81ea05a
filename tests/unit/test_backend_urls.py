"""`from_url` and `async_from_url` make the backend that a URL names."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ratelimit_mail import Envelope, Limiter, MessageRateLimit, Policy
from ratelimit_mail.backends import (
    AsyncRedisBackend,
    AsyncSQLiteBackend,
    MemoryBackend,
    RedisBackend,
    SQLiteBackend,
    async_from_url,
    from_url,
)
from ratelimit_mail.testing import ManualClock

BOTH = pytest.mark.parametrize("make", [from_url, async_from_url])

REDIS_URLS = [
    "redis://localhost:6379/0",
    "rediss://localhost",
    "unix:///run/redis.sock",
    "redis+sentinel://localhost:26379/mail",
    "rediss+sentinel://localhost:26379/mail",
    "redis+cluster://localhost:6379",
    "rediss+cluster://localhost:6379",
]


@BOTH
@pytest.mark.parametrize("url", ["memory:", "memory://"])
def test_memory_has_a_url(make: Any, url: str) -> None:
    assert isinstance(make(url), MemoryBackend)


@pytest.mark.parametrize("url", REDIS_URLS)
def test_every_scheme_of_redis_is_known(url: str) -> None:
    assert isinstance(from_url(url), RedisBackend)
    assert isinstance(async_from_url(url), AsyncRedisBackend)


def test_the_prefix_of_keys_is_an_option_of_a_redis_url() -> None:
    backend = from_url("redis://localhost/0?prefix=mail%3A&socket_timeout=3")
    assert "prefix 'mail:'" in repr(backend)
    assert "prefix 'x'" in repr(async_from_url("redis://localhost?prefix=x"))


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///counts.db", "counts.db"),
        ("sqlite:///mail/counts.db", "mail/counts.db"),
        ("sqlite:////var/lib/mail/counts.db", "/var/lib/mail/counts.db"),
        ("sqlite:///my%20counts%3F%23%25.db?timeout=1", "my counts?#%.db"),
        ("sqlite:////tmp/%C3%A9.db?durability=power&timeout=0.5", "/tmp/\u00e9.db"),
    ],
)
def test_a_sqlite_url_names_a_path(url: str, path: str) -> None:
    path = os.path.abspath(path)
    assert repr(from_url(url)) == f"<SQLiteBackend on {path!r}>"
    assert repr(async_from_url(url)) == f"<AsyncSQLiteBackend on {path!r}>"


def test_a_sqlite_url_counts_in_its_file(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/counts.db?durability=power"
    policy = Policy(name="test", limits=[MessageRateLimit("1/minute")])
    clock = ManualClock()
    envelope = Envelope("ann@uwo.ca", ["bob@example.com"])
    assert Limiter(policy, from_url(url, clock=clock)).try_acquire(envelope)
    assert not Limiter(policy, from_url(url, clock=clock)).try_acquire(envelope)
    assert (tmp_path / "counts.db").exists()


@BOTH
@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("counts.db", "does not begin as one of memory:, sqlite:///counts.db"),
        ("postgres://localhost/counts", "redis://localhost:6379/0"),
        ("Hunter2", "does not begin as one of"),
        ("", "does not begin as one of"),
        ("memory:counts", "memory: takes nothing after it"),
        ("sqlite:counts.db", "sqlite:///counts.db for a path"),
        ("sqlite://counts.db", "the path of a file and no host"),
        ("sqlite:///", "the path of a file is missing"),
        ("sqlite:///:memory:", "for memory write memory:"),
        ("sqlite:///a#b.db", "# is written %23"),
        ("sqlite:///a%00.db", "NUL"),
        ("sqlite:///a.db?mode=ro", "the option 'mode' is not one of durability, timeout"),
        ("sqlite:///a.db?durability=disk", "'disk' is neither process nor power"),
        ("sqlite:///a.db?timeout=-1", "'-1' is not a number of seconds"),
        ("sqlite:///a.db?timeout=nan", "'nan' is not a number of seconds"),
        ("sqlite:///a.db?timeout=1&timeout=2", "the option timeout stands there twice"),
        ("redis://localhost?prefix=a&prefix=b", "the option prefix stands there twice"),
        ("redis://localhost:port", "port"),
    ],
)
def test_a_wrong_url_is_refused(make: Any, url: str, problem: str) -> None:
    with pytest.raises(ValueError, match=r"url|path") as error:
        make(url)
    assert problem in str(error.value)
    assert "Hunter2" not in str(error.value)


@BOTH
def test_a_url_is_a_string(make: Any) -> None:
    with pytest.raises(TypeError, match="a string is needed"):
        make(None)


@BOTH
@pytest.mark.parametrize(
    "url",
    [
        "redis://ann:Hunter2@localhost:port/0?prefix=x",
        "redis://ann:Hunter2@localhost/0?prefix=x&nonsense=1",
        "redis://ann:Hunt#er2@localhost?prefix=x",
        "rediss+cluster://ann:Hunter2@localhost/5",
        "sqlite://ann:Hunter2@host/counts.db",
        "mysql://ann:Hunter2@host/db",
        "ann:Hunter2@host",
    ],
)
def test_a_password_is_never_shown(make: Any, url: str) -> None:
    with pytest.raises(ValueError, match="url") as error:
        make(url)
    assert "Hunter2" not in str(error.value)
    assert "er2" not in str(error.value)


def test_a_url_of_a_file_imports_no_redis_client() -> None:
    code = (
        "import sys; from ratelimit_mail.backends import from_url;"
        "from_url('sqlite:///counts.db'); from_url('memory:'); print('redis' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("kind", [SQLiteBackend, AsyncSQLiteBackend])
@pytest.mark.parametrize(
    ("path", "problem"),
    [
        (":memory:", "use MemoryBackend"),
        ("file::memory:?cache=shared", "use MemoryBackend"),
        ("", "does not name a file"),
        ("sqlite:///counts.db", "use from_url"),
        ("https://example.com/counts.db", "use from_url"),
        ("a\0b", "NUL"),
    ],
)
def test_what_does_not_name_a_file_is_refused(kind: Any, path: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        kind(path)


@pytest.mark.parametrize("kind", [SQLiteBackend, AsyncSQLiteBackend])
@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"durability": "disk"}, ValueError),
        ({"timeout": -1}, ValueError),
        ({"timeout": float("nan")}, ValueError),
        ({"timeout": "5"}, TypeError),
        ({"timeout": True}, TypeError),
    ],
)
def test_options_that_make_no_sense_are_refused(kind: Any, options: Any, error: Any) -> None:
    with pytest.raises(error, match=next(iter(options))):
        kind("counts.db", **options)


@pytest.mark.parametrize("path", [None, 5, b"counts.db"])
def test_a_path_is_text(path: Any) -> None:
    with pytest.raises(TypeError, match="path"):
        SQLiteBackend(path)
