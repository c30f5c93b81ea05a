"""Make a redis-py client from a URL: one server, Sentinel or Cluster, sync or async."""

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

__all__ = ["client_from_url", "is_cluster"]

SCHEMES: Final = (
    "redis://",
    "rediss://",
    "unix://",
    "redis+sentinel://",
    "rediss+sentinel://",
    "redis+cluster://",
    "rediss+cluster://",
)

MAX_CONNECTIONS: Final = 100_000

MAX_TIMEOUT: Final = 3600

_ADDRESS: Final = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::(.*))?")
_HOST: Final = re.compile(r"(?!\.)(?:\.?[A-Za-z0-9_-]+)+|\[[0-9A-Fa-f:.]+\]")


class _InvalidURL(ValueError):
    """What is wrong with a URL; `{}` in `problem` is replaced by the value."""

    def __init__(self, problem: str, value: str = "") -> None:
        super().__init__(problem)
        self._problem = problem
        self._value = value

    def message(self, url: str, scheme: str) -> str:
        """Return the error message for a URL; it quotes nothing that may be part of a password."""
        rest = url.removeprefix(scheme)
        is_number = _is_number(self._value, 0, 999_999)
        # An invalid port may be the password of a login without a host.
        has_login = (
            "@" in rest
            or rest.startswith(":")
            or (self._problem.startswith("the port") > is_number)
        )
        if has_login or "password" in rest.lower():
            value = f" {self._value}" if is_number else ""
            return f"url {scheme}***: {self._problem.format(value)}"
        return f"url {show(url)}: {self._problem.format(' ' + show(self._value))}"


def is_cluster(url: object) -> bool:
    """Return whether `url` is the URL of a cluster."""
    return isinstance(url, str) and url.partition("://")[0].endswith("+cluster")


def client_from_url(url: object, *, timeout: float, is_async: bool, options: dict[str, Any]) -> Any:
    """Return the client of a URL.

    timeout: the most seconds to wait for a connection, and for an answer.
    options: more arguments for the redis-py client.

    Raises ValueError that says what is wrong with the URL, without its password.
    """
    if not isinstance(url, str):
        raise TypeError(f"url: a string is needed, not {show(type(url))}")
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise TypeError(f"timeout: seconds are needed, not {show(timeout)}")
    if not 0 < timeout < MAX_TIMEOUT:
        raise ValueError(
            f"timeout: {show(timeout)} is not a number of seconds above 0 and below 3600"
        )
    scheme = next((each for each in SCHEMES if url.startswith(each)), None)
    if scheme is None:
        raise ValueError(f"url: it does not begin with one of {', '.join(SCHEMES)}")
    # A repeated command could charge a message twice.
    retry = (redis.asyncio.retry if is_async else redis.retry).Retry(NoBackoff(), 0)
    settings = {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "retry": retry,
        "protocol": 2,  # servers before Redis 6 support no other
    }
    if not is_async and not is_cluster(url):
        # One connection per thread: with the limit of redis-py some threads would get an error.
        settings["max_connections"] = MAX_CONNECTIONS
    try:
        split = _split(url)
        settings |= {**_login(split), **_options(split)}
        if scheme.startswith("rediss"):
            settings["ssl"] = True
        module = redis.asyncio if is_async else redis
        return _CLIENT_MAKERS[split.scheme](split, module, {**settings, **options})
    except _InvalidURL as error:
        raise ValueError(error.message(url, scheme)) from None


def _split(url: str) -> SplitResult:
    try:
        split = urlsplit(url)
    except ValueError:
        split = None
    if split is None or split.fragment or "@" in split.path + split.query or "#" in url:
        raise _InvalidURL(
            "special characters in a user name, a password or a path must be quoted,"
            " as urllib.parse.quote(..., safe='') does"
        )
    return split


def _single(split: SplitResult, module: ModuleType, settings: dict[str, Any]) -> Any:
    hosts = _hosts(split, 6379)
    if len(hosts) > 1:
        raise _InvalidURL(
            "several hosts are only possible with redis+sentinel:// and redis+cluster://"
        )
    ((host, port),) = hosts
    path = split.path.strip("/")
    if path:
        if settings.get("db", _database(path)) != _database(path):
            raise _InvalidURL("the path and the option db name two databases")
        settings["db"] = _database(path)
    return module.Redis(host=host, port=port, **settings)


def _by_socket(split: SplitResult, module: ModuleType, settings: dict[str, Any]) -> Any:
    if split.netloc.rpartition("@")[2]:
        raise _InvalidURL("a socket has a path and no host, as in unix:///run/redis.sock")
    if len(split.path) < 2:
        raise _InvalidURL("the path of the socket is missing, as in unix:///run/redis.sock")
    return module.Redis(unix_socket_path=unquote(split.path), **settings)


def _by_sentinel(split: SplitResult, module: ModuleType, settings: dict[str, Any]) -> Any:
    service, _, database = split.path.strip("/").partition("/")
    if not service:
        raise _InvalidURL("the name of the service is missing: redis+sentinel://host:port/service")
    sentinel_settings = {name: settings[name] for name in ("socket_timeout", "retry", "protocol")}
    for name in ("username", "password"):
        if (value := settings.pop(f"sentinel_{name}", None)) is not None:
            sentinel_settings[name] = value
    if "ssl" in settings:
        sentinel_settings["ssl"] = True
    if database:
        settings["db"] = _database(database)
    sentinel = module.sentinel.Sentinel(
        _hosts(split, 26379), sentinel_kwargs=sentinel_settings, **settings
    )
    return sentinel.master_for(unquote(service))


def _cluster(split: SplitResult, module: ModuleType, settings: dict[str, Any]) -> Any:
    if split.path.strip("/") not in ("", "0") or settings.pop("db", 0):
        raise _InvalidURL("a cluster has only the database 0")
    node = module.cluster.ClusterNode
    nodes = [node(host, port) for host, port in _hosts(split, 6379)]
    return module.RedisCluster(startup_nodes=nodes, **settings)


_CLIENT_MAKERS: Final = {
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
    addresses = split.netloc.rpartition("@")[2].split(",")
    for address in addresses:
        match = _ADDRESS.fullmatch(address)
        host, port = match.groups() if match else (address, None)
        if not (_HOST.fullmatch(host) if host else len(addresses) == 1):
            raise _InvalidURL(
                "the host{} is neither a name such as redis.example.org nor an address,"
                " IPv6 in brackets",
                host,
            )
        if port is not None and not _is_number(port, 1, 65535):
            raise _InvalidURL("the port{} is not a number from 1 to 65535", port)
        hosts.append((host.strip("[]") or "localhost", int(port or default_port)))
    return hosts


def _database(text: str) -> int:
    if not _is_number(text, 0, 999_999):
        raise _InvalidURL("the database{} is not a number such as 0", text)
    return int(text)


def _login(split: SplitResult) -> dict[str, str]:
    login = split.netloc.rpartition("@")[0]
    name, _, password = login.partition(":")
    settings = {"username": unquote(name), "password": unquote(password)}
    return {key: value for key, value in settings.items() if value}


_TEXT_OPTIONS: Final = ("username", "password", "client_name")
_SENTINEL_OPTIONS: Final = ("sentinel_username", "sentinel_password")
_TLS_OPTIONS: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_TIMEOUT_OPTIONS: Final = ("socket_timeout", "socket_connect_timeout")


def _options(split: SplitResult) -> dict[str, Any]:
    """Return the options in the query of a URL."""
    known = [*_TIMEOUT_OPTIONS, "protocol", "db", *_TEXT_OPTIONS]
    if split.scheme.endswith("+sentinel"):
        known += _SENTINEL_OPTIONS
    if split.scheme.startswith("rediss"):
        known += _TLS_OPTIONS
    options: dict[str, Any] = {}
    for name, value in parse_qsl(split.query, keep_blank_values=True):
        if name not in known:
            raise _InvalidURL(f"the option{{}} is not one of {', '.join(known)}", name)
        if name in _TIMEOUT_OPTIONS:
            options[name] = _seconds(name, value)
        elif name == "protocol":
            if value not in ("2", "3"):
                raise _InvalidURL("protocol:{} is neither 2 nor 3", value)
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
    if not 0 < seconds < MAX_TIMEOUT:
        raise _InvalidURL(f"{name}:{{}} is not a number of seconds above 0 and below 3600", text)
    return seconds


def _is_number(text: str, minimum: int, maximum: int) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 8 and minimum <= int(text) <= maximum
