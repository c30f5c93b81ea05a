"""From a URL to a client of redis-py: single server, Sentinel or Cluster, of either colour."""

from __future__ import annotations

import re
from types import ModuleType
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import redis
import redis.asyncio
import redis.asyncio.cluster
import redis.asyncio.retry
import redis.asyncio.sentinel
import redis.cluster
import redis.retry
import redis.sentinel
from redis.backoff import NoBackoff

from ratelimit_mail.showing import show

__all__ = ["client_from", "is_cluster"]

SCHEMES: Final = (
    "redis://",
    "rediss://",
    "unix://",
    "redis+sentinel://",
    "rediss+sentinel://",
    "redis+cluster://",
    "rediss+cluster://",
)

MOST_THREADS: Final = 100_000

_SECRET_OPTIONS: Final = re.compile(r"(password=)[^&]*", re.IGNORECASE)


def without_secrets(url: object) -> str:
    """`url` as an error may show it: whoever wrote it may have meant anything before an `@`."""
    text = str(url)
    if "@" in text:
        scheme = next((each for each in SCHEMES if text.startswith(each)), "")
        text = f"{scheme}***@{text.rpartition('@')[2]}"
    return show(_SECRET_OPTIONS.sub(r"\1***", text))


def is_cluster(url: object) -> bool:
    """Whether `url` is that of a cluster."""
    return isinstance(url, str) and url.partition("://")[0].endswith("+cluster")


def client_from(url: object, *, timeout: float, is_async: bool, options: dict[str, Any]) -> Any:
    """The client for `url`, that waits at most `timeout` seconds for a connection or an answer.

    options: more arguments for redis-py's client. Raises ValueError, without the password.
    """
    if not isinstance(url, str):
        raise TypeError(f"url: a string is needed, not {show(type(url))}")
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise TypeError(f"timeout: seconds are needed, not {show(timeout)}")
    if not 0 < timeout < 3600:
        raise ValueError(f"timeout: {show(timeout)} is no number of seconds above 0, below 3600")
    scheme = next((each for each in SCHEMES if url.startswith(each)), None)
    if scheme is None:
        raise ValueError(f"url: {without_secrets(url)} begins with none of {', '.join(SCHEMES)}")
    # A repeated command could charge twice, so only connecting is repeated, and by us.
    # One connection a thread: redis-py's own bound would turn threads away.
    most = {} if is_async or is_cluster(url) else {"max_connections": MOST_THREADS}
    retry = (redis.asyncio.retry if is_async else redis.retry).Retry(NoBackoff(), 0)
    settings = {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "retry": retry,
        **most,
        **options,
    }
    module = redis.asyncio if is_async else redis
    try:
        if scheme.endswith("+sentinel://"):
            return _by_sentinel(url, module, settings)
        if scheme.endswith("+cluster://"):
            return _cluster(url, module, settings)
        return _single(url, module, settings)
    except _Wrong as error:
        raise ValueError(f"url: {without_secrets(url)}: {error}") from None
    except ValueError:
        # What redis-py and urllib say may quote a part of the password.
        raise ValueError(f"url: {without_secrets(url)} is no URL of a Redis server") from None


class _Wrong(ValueError):
    """What is wrong with a URL."""


def _single(url: str, module: ModuleType, settings: dict[str, Any]) -> Any:
    split = urlsplit(url)
    if split.scheme != "unix":
        _hosts(split, 6379)
    if split.path.strip("/") and split.scheme != "unix":
        _database(split.path.strip("/"))
    return module.Redis.from_url(url, **settings)


def _by_sentinel(url: str, module: ModuleType, settings: dict[str, Any]) -> Any:
    split = urlsplit(url)
    service, _, database = split.path.strip("/").partition("/")
    if not service:
        raise _Wrong("the name of the service is missing: redis+sentinel://host:port/service")
    settings = {**settings, **_login(split), **_options(split)}
    own = {"socket_timeout": settings["socket_timeout"], "retry": settings["retry"]}
    for name in ("username", "password"):
        if (value := settings.pop(f"sentinel_{name}", None)) is not None:
            own[name] = value
    if split.scheme.startswith("rediss"):
        own["ssl"] = settings["ssl"] = True
    sentinel = module.sentinel.Sentinel(_hosts(split, 26379), sentinel_kwargs=own, **settings)
    return sentinel.master_for(unquote(service), db=_database(database) if database else 0)


def _cluster(url: str, module: ModuleType, settings: dict[str, Any]) -> Any:
    split = urlsplit(url)
    if split.path.strip("/") not in ("", "0"):
        raise _Wrong("a cluster has no database but 0")
    node = module.cluster.ClusterNode
    nodes = [node(host, port) for host, port in _hosts(split, 6379)]
    settings = {**settings, **_login(split), **_options(split)}
    if split.scheme.startswith("rediss"):
        settings["ssl"] = True
    return module.RedisCluster(startup_nodes=nodes, **settings)


def _hosts(split: SplitResult, default_port: int) -> list[tuple[str, int]]:
    hosts = []
    for place in split.netloc.rpartition("@")[2].split(","):
        found = re.fullmatch(r"(\[[0-9A-Fa-f:.%]+\]|[^:\[\]]*)(?::(.*))?", place)
        if not found or (not found[1] and "," in split.netloc):
            raise _Wrong(f"{show(place)} is no host:port")
        port = default_port if found[2] is None else found[2]
        if not str(port).isascii() or not str(port).isdigit() or not 0 < int(port) < 65536:
            raise _Wrong(f"the port {show(port)} is none of 1 to 65535")
        hosts.append((unquote(found[1].strip("[]")) or "localhost", int(port)))
    return hosts


def _database(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 6:
        raise _Wrong(f"the database {show(text)} is no number such as 0")
    return int(text)


def _login(split: SplitResult) -> dict[str, str]:
    login, found, _ = split.netloc.rpartition("@")
    if not found:
        return {}
    name, _, password = login.partition(":")
    given = {"username": unquote(name), "password": unquote(password)}
    return {key: value for key, value in given.items() if value}


_NUMBERS: Final = {"socket_timeout": float, "socket_connect_timeout": float, "protocol": int}
_WORDS: Final = ("sentinel_username", "sentinel_password", "client_name")
_FILES: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs")


def _options(split: SplitResult) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name, value in parse_qsl(split.query, keep_blank_values=True):
        if name in _NUMBERS:
            try:
                options[name] = _NUMBERS[name](value)
            except ValueError:
                raise _Wrong(f"{name}={show(value)} is no number") from None
        elif name in _WORDS or name in _FILES:
            options[name] = value
        else:
            raise _Wrong(
                f"the option {show(name)} is none of {', '.join((*_NUMBERS, *_WORDS, *_FILES))}"
            )
    return options
