"""From a URL to a client of redis-py: one server, Sentinel or Cluster, of either colour."""

from __future__ import annotations

import math
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

from ratelimit_mail._util.text import show

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

LONGEST_TIMEOUT: Final = 3600

_PLACE: Final = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::(.*))?")
_HOST: Final = re.compile(r"(?!\.)(?:\.?[A-Za-z0-9_-]+)+|\[[0-9A-Fa-f:.]+\]")


class _Wrong(ValueError):
    """What is wrong with a URL: `{}` in `what` stands for `value`."""

    def __init__(self, what: str, value: str = "") -> None:
        super().__init__(what)
        self._what = what
        self._value = value

    def about(self, url: str, scheme: str) -> str:
        """The text for a URL; nothing that could be a part of a password is quoted."""
        rest = url.removeprefix(scheme)
        number = _is_number(self._value, 0, 999_999)
        # What should be a port may be the password of a login that lacks its host.
        login = "@" in rest or rest.startswith(":") or (self._what.startswith("the port") > number)
        if login or "password" in rest.lower():
            value = f" {self._value}" if number else ""
            return f"url {scheme}***: {self._what.format(value)}"
        return f"url {show(url)}: {self._what.format(' ' + show(self._value))}"


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
    if not 0 < timeout < LONGEST_TIMEOUT:
        raise ValueError(f"timeout: {show(timeout)} is no number of seconds above 0, below 3600")
    scheme = next((each for each in SCHEMES if url.startswith(each)), None)
    if scheme is None:
        raise ValueError(f"url: it begins with none of {', '.join(SCHEMES)}")
    # A repeated command could charge twice, so only connecting is repeated, and by us.
    retry = (redis.asyncio.retry if is_async else redis.retry).Retry(NoBackoff(), 0)
    settings = {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "retry": retry,
        "protocol": 2,  # which servers before Redis 6 know as well
    }
    if not is_async and not is_cluster(url):
        # One connection a thread: redis-py's own bound would turn threads away.
        settings["max_connections"] = MOST_THREADS
    try:
        split = _split(url)
        settings |= {**_login(split), **_options(split)}
        if scheme.startswith("rediss"):
            settings["ssl"] = True
        module = redis.asyncio if is_async else redis
        return _makers[split.scheme](split, module, {**settings, **options})
    except _Wrong as error:
        raise ValueError(error.about(url, scheme)) from None


def _split(url: str) -> SplitResult:
    try:
        split = urlsplit(url)
    except ValueError:
        split = None
    if split is None or split.fragment or "@" in split.path + split.query or "#" in url:
        raise _Wrong(
            "what is special in a user name, a password or a path must be quoted,"
            " as urllib.parse.quote(..., safe='') does"
        )
    return split


def _single(split: SplitResult, module: ModuleType, settings: dict[str, Any]) -> Any:
    hosts = _hosts(split, 6379)
    if len(hosts) > 1:
        raise _Wrong("several hosts are for redis+sentinel:// and redis+cluster://")
    ((host, port),) = hosts
    path = split.path.strip("/")
    if path:
        if settings.get("db", _database(path)) != _database(path):
            raise _Wrong("it names two databases")
        settings["db"] = _database(path)
    return module.Redis(host=host, port=port, **settings)


def _by_socket(split: SplitResult, module: ModuleType, settings: dict[str, Any]) -> Any:
    if split.netloc.rpartition("@")[2]:
        raise _Wrong("a socket has no host but a path, as in unix:///run/redis.sock")
    if len(split.path) < 2:
        raise _Wrong("the path of the socket is missing: unix:///run/redis.sock")
    return module.Redis(unix_socket_path=unquote(split.path), **settings)


def _by_sentinel(split: SplitResult, module: ModuleType, settings: dict[str, Any]) -> Any:
    service, _, database = split.path.strip("/").partition("/")
    if not service:
        raise _Wrong("the name of the service is missing: redis+sentinel://host:port/service")
    own = {name: settings[name] for name in ("socket_timeout", "retry", "protocol")}
    for name in ("username", "password"):
        if (value := settings.pop(f"sentinel_{name}", None)) is not None:
            own[name] = value
    if "ssl" in settings:
        own["ssl"] = True
    if database:
        settings["db"] = _database(database)
    sentinel = module.sentinel.Sentinel(_hosts(split, 26379), sentinel_kwargs=own, **settings)
    return sentinel.master_for(unquote(service))


def _cluster(split: SplitResult, module: ModuleType, settings: dict[str, Any]) -> Any:
    if split.path.strip("/") not in ("", "0") or settings.pop("db", 0):
        raise _Wrong("a cluster has no database but 0")
    node = module.cluster.ClusterNode
    nodes = [node(host, port) for host, port in _hosts(split, 6379)]
    return module.RedisCluster(startup_nodes=nodes, **settings)


_makers: Final = {
    "redis": _single,
    "rediss": _single,
    "unix": _by_socket,
    "redis+sentinel": _by_sentinel,
    "rediss+sentinel": _by_sentinel,
    "redis+cluster": _cluster,
    "rediss+cluster": _cluster,
}


def _hosts(split: SplitResult, default_port: int) -> list[tuple[str, int]]:
    hosts = []
    places = split.netloc.rpartition("@")[2].split(",")
    for place in places:
        found = _PLACE.fullmatch(place)
        host, port = found.groups() if found else (place, None)
        if not (_HOST.fullmatch(host) if host else len(places) == 1):
            raise _Wrong(
                "the host{} is neither a name such as redis.example.org nor an address,"
                " IPv6 in brackets",
                host,
            )
        if port is not None and not _is_number(port, 1, 65535):
            raise _Wrong("the port{} is none of 1 to 65535", port)
        hosts.append((host.strip("[]") or "localhost", int(port or default_port)))
    return hosts


def _database(text: str) -> int:
    if not _is_number(text, 0, 999_999):
        raise _Wrong("the database{} is no number such as 0", text)
    return int(text)


def _login(split: SplitResult) -> dict[str, str]:
    login = split.netloc.rpartition("@")[0]
    name, _, password = login.partition(":")
    given = {"username": unquote(name), "password": unquote(password)}
    return {key: value for key, value in given.items() if value}


_WORDS: Final = ("username", "password", "client_name")
_SENTINEL_WORDS: Final = ("sentinel_username", "sentinel_password")
_FILES: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_TIMES: Final = ("socket_timeout", "socket_connect_timeout")


def _options(split: SplitResult) -> dict[str, Any]:
    """What the query of a URL says."""
    known = [*_TIMES, "protocol", "db", *_WORDS]
    if split.scheme.endswith("+sentinel"):
        known += _SENTINEL_WORDS
    if split.scheme.startswith("rediss"):
        known += _FILES
    options: dict[str, Any] = {}
    for name, value in parse_qsl(split.query, keep_blank_values=True):
        if name not in known:
            raise _Wrong(f"the option{{}} is none of {', '.join(known)}", name)
        if name in _TIMES:
            options[name] = _seconds(name, value)
        elif name == "protocol":
            if value not in ("2", "3"):
                raise _Wrong("protocol:{} is neither 2 nor 3", value)
            options[name] = int(value)
        elif name == "db":
            options[name] = _database(value)
        else:
            options[name] = value
    return options


def _seconds(name: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < LONGEST_TIMEOUT:
        raise _Wrong(f"{name}:{{}} is no number of seconds above 0, below 3600", text)
    return seconds


def _is_number(text: str, least: int, most: int) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 8 and least <= int(text) <= most
