"""Make a redis-py client from a URL: one server, Sentinel or Cluster, sync or async."""

from __future__ import annotations

import inspect
import math
import re
import ssl
from collections.abc import Callable
from functools import cache, partial
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
_HOST: Final = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*|\[[0-9A-Fa-f:.]+\]")
"""Each character can be matched in one way only, so the time grows with the length."""

_HARMLESS_HOSTS: Final = re.compile(r"[A-Za-z0-9._,-]*")
"""Without a colon, a quoted character or a login, these are not a user name and a password."""

_OPTION_NAME: Final = re.compile(r"[a-z_]{1,40}")


class _InvalidURL(ValueError):
    """What is wrong with a URL; `{}` in `problem` is replaced by the value, if it may be shown.

    value: None if it may be a part of a password.
    is_name: whether the value is the name of an option, which is always shown.
    """

    def __init__(self, problem: str, value: str | None = None, *, is_name: bool = False) -> None:
        super().__init__(problem)
        self._problem = problem
        self._value = value
        self._is_name = is_name

    def message(self, url: str, scheme: str) -> str:
        """Return the error message for a URL; it quotes nothing that may be part of a password."""
        before_query, question_mark, query = url.removeprefix(scheme).partition("?")
        hosts, _, path = before_query.partition("/")
        is_split = "#" not in url and "@" not in path + query
        has_password = "password" in url.lower()
        value = ""
        if is_split and not has_password and _HARMLESS_HOSTS.fullmatch(hosts):
            shown_url = show(scheme + before_query + (question_mark and "?***"))
            if self._value is not None:
                value = f" {show(self._value)}"
        else:
            shown_url = f"{scheme}***"
            # Without the @ of a login, even a number may be a password.
            has_login = is_split and ("@" in hosts or has_password)
            if self._value is not None and (
                self._is_name or (has_login and _is_number(self._value, 0, 999_999))
            ):
                value = f" {show(self._value) if self._is_name else self._value}"
        return f"url {shown_url}: {self._problem.format(value)}"


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
        hosts = _hosts(split)
        settings |= {**_login(split), **_options(split)}
        if scheme.startswith("rediss"):
            settings["ssl"] = True
        module = redis.asyncio if is_async else redis
        settings |= options
        if settings.get("ssl_cert_reqs") in ("none", ssl.CERT_NONE):
            # The first redis-py 6 would check the name in a certificate that it does not check.
            settings.setdefault("ssl_check_hostname", False)
        return _CLIENT_MAKERS[split.scheme](split, hosts, module, settings)
    except _InvalidURL as error:
        raise ValueError(error.message(url, scheme)) from None


def _split(url: str) -> SplitResult:
    try:
        split = urlsplit(url)
    except ValueError:
        split = None
    if split is None or "@" in split.path + split.query or "#" in url:
        raise _InvalidURL(
            "special characters in a user name, a password or a path must be quoted,"
            " as urllib.parse.quote(..., safe='') does"
        )
    return split


_Hosts = list[tuple[str, int]]


def _single(split: SplitResult, hosts: _Hosts, module: ModuleType, settings: dict[str, Any]) -> Any:
    if len(hosts) > 1:
        raise _InvalidURL(
            "several hosts are only possible with redis+sentinel:// and redis+cluster://"
        )
    ((host, port),) = hosts
    _set_database(settings, split.path.strip("/"))
    return module.Redis(host=host, port=port, **settings)


def _by_socket(split: SplitResult, _: _Hosts, module: ModuleType, settings: dict[str, Any]) -> Any:
    return module.Redis(unix_socket_path=unquote(split.path), **settings)


def _by_sentinel(
    split: SplitResult, hosts: _Hosts, module: ModuleType, settings: dict[str, Any]
) -> Any:
    service, _, database = split.path.strip("/").partition("/")
    if not service:
        raise _InvalidURL("the name of the service is missing: redis+sentinel://host:port/service")
    sentinel_settings = {
        name: value
        for name, value in settings.items()
        if name.startswith(("socket_", "ssl"))
        or name in ("health_check_interval", "protocol", "retry")
    }
    if "max_connections" in settings:  # each connection to the master asks a Sentinel
        sentinel_settings["max_connections"] = max(settings["max_connections"], MAX_CONNECTIONS)
    for name in ("username", "password"):
        if (value := settings.pop(f"sentinel_{name}", None)) is not None:
            sentinel_settings[name] = value
    _set_database(settings, database)
    sentinel = module.sentinel.Sentinel(hosts, sentinel_kwargs=sentinel_settings, **settings)
    return sentinel.master_for(unquote(service))


def _cluster(
    split: SplitResult, hosts: _Hosts, module: ModuleType, settings: dict[str, Any]
) -> Any:
    if split.path.strip("/") not in ("", "0") or settings.pop("db", 0):
        raise _InvalidURL("a cluster has only the database 0")
    node = module.cluster.ClusterNode
    nodes = [node(host, port) for host, port in hosts]
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


def _hosts(split: SplitResult) -> _Hosts:
    """Return the host and the port of each server in a URL; none for a Unix socket."""
    addresses = split.netloc.rpartition("@")[2]
    if split.scheme == "unix":
        if addresses:
            raise _InvalidURL("a socket has a path and no host, as in unix:///run/redis.sock")
        if len(split.path) < 2:
            raise _InvalidURL("the path of the socket is missing, as in unix:///run/redis.sock")
        return []
    default_port = 26379 if split.scheme.endswith("+sentinel") else 6379
    hosts = []
    for address in addresses.split(","):
        match = _ADDRESS.fullmatch(address)
        host, port = match.groups() if match else (address, None)
        if not (_HOST.fullmatch(host) if host else "," not in addresses):
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


def _set_database(settings: dict[str, Any], text: str) -> None:
    """Set the database that the path of a URL names, if it names one."""
    if text:
        if settings.get("db", _database(text)) != _database(text):
            raise _InvalidURL("the path and the option db name two databases")
        settings["db"] = _database(text)


def _login(split: SplitResult) -> dict[str, str]:
    login = split.netloc.rpartition("@")[0]
    name, _, password = login.partition(":")
    settings = {"username": unquote(name), "password": unquote(password)}
    return {key: value for key, value in settings.items() if value}


# The options in the query of a URL: how each is read, or what is wrong with its text.


class _InvalidOption(ValueError):
    """What the text of an option is not, such as "is not a number"."""


def _seconds(text: str) -> float:
    try:
        seconds = float(text) if len(text) < 40 else math.nan
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < MAX_TIMEOUT:
        raise _InvalidOption("is not a number of seconds above 0 and below 3600")
    return seconds


def _whole(text: str, minimum: int, maximum: int) -> int:
    if not _is_number(text, minimum, maximum):
        raise _InvalidOption(f"is not a whole number from {minimum} to {maximum}")
    return int(text)


_TRUTH_VALUES: Final = {
    **dict.fromkeys(("1", "true", "t", "yes", "y"), True),
    **dict.fromkeys(("0", "false", "f", "no", "n"), False),
}


def _yes_or_no(text: str) -> bool:
    value = _TRUTH_VALUES.get(text.lower())
    if value is None:
        raise _InvalidOption("is neither yes nor no")
    return value


def _protocol(text: str) -> int:
    if text not in ("2", "3"):
        raise _InvalidOption("is neither 2 nor 3")
    return int(text)


def _certificate_demand(text: str) -> str:
    if text not in ("none", "optional", "required"):
        raise _InvalidOption("is not one of none, optional, required")
    return text


def _tls_version(text: str) -> ssl.TLSVersion:
    versions = {str(int(each)): each for each in ssl.TLSVersion if each > ssl.TLSVersion.SSLv3}
    if text not in versions:
        raise _InvalidOption("is not the number of a TLS version: 771 for TLS 1.2, 772 for TLS 1.3")
    return versions[text]


def _verify_flags(text: str) -> list[ssl.VerifyFlags]:
    names = text.removeprefix("[").removesuffix("]").replace(",", " ").split()
    known = ssl.VerifyFlags.__members__
    if not names or not all(name in known for name in names):
        raise _InvalidOption(
            "is not a list of names of ssl.VerifyFlags, such as VERIFY_X509_STRICT"
        )
    return [known[name] for name in names]


_OPTIONS: Final[dict[str, Callable[[str], Any]]] = {
    "db": partial(_whole, minimum=0, maximum=999_999),
    "username": str,
    "password": str,
    "client_name": str,
    "socket_timeout": _seconds,
    "socket_connect_timeout": _seconds,
    "socket_keepalive": _yes_or_no,
    "socket_read_size": partial(_whole, minimum=1, maximum=9_999_999),
    "max_connections": partial(_whole, minimum=1, maximum=MAX_CONNECTIONS),
    "health_check_interval": partial(_whole, minimum=0, maximum=9_999_999),
    "protocol": _protocol,
    "decode_responses": _yes_or_no,
    "legacy_responses": _yes_or_no,
}

_SENTINEL_OPTIONS: Final[dict[str, Callable[[str], Any]]] = {
    "sentinel_username": str,
    "sentinel_password": str,
}

_TLS_OPTIONS: Final[dict[str, Callable[[str], Any]]] = {
    "ssl_ca_certs": str,
    "ssl_ca_path": str,
    "ssl_ca_data": str,
    "ssl_certfile": str,
    "ssl_keyfile": str,
    "ssl_password": str,
    "ssl_cert_reqs": _certificate_demand,
    "ssl_check_hostname": _yes_or_no,
    "ssl_ciphers": str,
    "ssl_min_version": _tls_version,
    "ssl_include_verify_flags": _verify_flags,
    "ssl_exclude_verify_flags": _verify_flags,
}

_SENT_ONCE: Final = "each call is sent once, because a repeated call could charge a message twice"
_REFUSED_OPTIONS: Final = {
    "retry_on_error": _SENT_ONCE,
    "retry_on_timeout": _SENT_ONCE,
    "timeout": "use socket_timeout and socket_connect_timeout",
}
"""Options of redis-py that would change what a backend does."""


@cache
def _known_options(scheme: str) -> dict[str, Callable[[str], Any]]:
    """Return the options of URLs with a scheme: those that both the sync and the async client of
    the installed redis-py take."""
    if scheme.endswith("+cluster"):
        taken = _parameters(redis.asyncio.RedisCluster) & set(redis.cluster.REDIS_ALLOWED_KEYS)
    else:
        taken = _parameters(redis.asyncio.Redis) & _parameters(redis.Redis)
    if scheme == "unix":
        taken.discard("socket_keepalive")
    options = dict(_OPTIONS)
    if scheme.startswith("rediss"):
        options |= _TLS_OPTIONS
    known = {name: read for name, read in options.items() if name in taken}
    if scheme.endswith("+sentinel"):
        known |= _SENTINEL_OPTIONS
    return known


def _parameters(client_type: type) -> set[str]:
    return set(inspect.signature(client_type).parameters)


def _options(split: SplitResult) -> dict[str, Any]:
    """Return the options in the query of a URL."""
    known = _known_options(split.scheme)
    options: dict[str, Any] = {}
    for name, text in parse_qsl(split.query, keep_blank_values=True):
        # What follows a password may be a part of it that should have been quoted.
        is_password_behind = any(before.endswith("password") for before in options)
        shown_name = name if _OPTION_NAME.fullmatch(name) and not is_password_behind else None
        if name in _REFUSED_OPTIONS:
            raise _InvalidURL(f"the option {name} is not taken: {_REFUSED_OPTIONS[name]}")
        if name not in known:
            raise _InvalidURL(
                f"the option{{}} is not one of {', '.join(known)}", shown_name, is_name=True
            )
        if name in options:
            raise _InvalidURL(f"the option {name} stands there twice")
        try:
            options[name] = known[name](text)
        except _InvalidOption as error:
            raise _InvalidURL(
                f"{name}:{{}} {error}", None if is_password_behind else text
            ) from None
    return options


def _is_number(text: str, minimum: int, maximum: int) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 8 and minimum <= int(text) <= maximum
