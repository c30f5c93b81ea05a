"""Redis URLs: which redis-py client they make, and how long that waits."""

from __future__ import annotations

import ssl
from typing import Any
from urllib.parse import quote

import pytest
import redis
import redis.asyncio
from hypothesis import example, given
from hypothesis import strategies as st
from redis.connection import URL_QUERY_ARGUMENT_PARSERS

from ratelimit_mail.backends import AsyncRedisBackend, RedisBackend
from ratelimit_mail.backends.redis.urls import client_from_url

BACKEND_TYPES = [RedisBackend, AsyncRedisBackend]

sync_and_async = pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])


def client_of(url: str, is_async: bool, timeout: float = 1.0, **options: Any) -> Any:
    return client_from_url(url, timeout=timeout, is_async=is_async, options=options)


def settings(client: Any) -> dict[str, Any]:
    """Return the settings of a client's connections."""
    kwargs: dict[str, Any] = client.connection_pool.connection_kwargs
    return kwargs


def sentinels(client: Any) -> list[dict[str, Any]]:
    """Return the settings of a client's connections to each Sentinel."""
    return [settings(each) for each in client.connection_pool.sentinel_manager.sentinels]


def cluster_client_of(url: str, **options: Any) -> Any:
    """Return the async client of a cluster; the sync one would connect when it is made."""
    return client_of(url, True, **options)


# The client of a URL.


@sync_and_async
def test_a_plain_url_makes_a_client_of_one_server(is_async: bool) -> None:
    client = client_of("redis://mail.example:7000/3", is_async)
    assert type(client) is (redis.asyncio.Redis if is_async else redis.Redis)
    kwargs = settings(client)
    assert (kwargs["host"], kwargs["port"], kwargs["db"]) == ("mail.example", 7000, 3)
    assert not client.connection_pool.connection_class.__name__.startswith("SSL")


@sync_and_async
@pytest.mark.parametrize("url", ["redis://mail.example", "redis://mail.example/"])
def test_a_url_may_leave_port_and_database_out(url: str, is_async: bool) -> None:
    kwargs = settings(client_of(url, is_async))
    assert (kwargs.get("port", 6379), kwargs.get("db", 0)) == (6379, 0)


@sync_and_async
@pytest.mark.parametrize("scheme", ["redis", "rediss"])
def test_a_host_may_be_an_ipv6_address(scheme: str, is_async: bool) -> None:
    kwargs = settings(client_of(f"{scheme}://[::1]:7000/0", is_async))
    assert (kwargs["host"], kwargs["port"]) == ("::1", 7000)


@sync_and_async
def test_the_scheme_rediss_uses_tls(is_async: bool) -> None:
    client = client_of("rediss://mail.example:7000/3?ssl_ca_certs=/etc/ca.pem", is_async)
    assert client.connection_pool.connection_class.__name__ == "SSLConnection"
    kwargs = settings(client)
    assert (kwargs["host"], kwargs["port"], kwargs["db"]) == ("mail.example", 7000, 3)
    assert kwargs["ssl_ca_certs"] == "/etc/ca.pem"


@sync_and_async
def test_a_url_of_a_unix_socket(is_async: bool) -> None:
    client = client_of("unix://ann:word@/run/redis.sock?db=2", is_async)
    assert client.connection_pool.connection_class.__name__ == "UnixDomainSocketConnection"
    kwargs = settings(client)
    assert (kwargs["path"], kwargs["db"]) == ("/run/redis.sock", 2)
    assert (kwargs["username"], kwargs["password"]) == ("ann", "word")


@sync_and_async
def test_the_master_of_a_service_by_its_sentinels(is_async: bool) -> None:
    client = client_of("redis+sentinel://one:26000,two,[::1]:26001/mail/4", is_async)
    assert type(client) is (redis.asyncio.Redis if is_async else redis.Redis)
    pool: Any = client.connection_pool
    assert pool.service_name == "mail"
    assert pool.is_master
    assert settings(client)["db"] == 4
    addresses = [(kwargs["host"], kwargs["port"]) for kwargs in sentinels(client)]
    assert addresses == [("one", 26000), ("two", 26379), ("::1", 26001)]


@sync_and_async
@pytest.mark.parametrize("url", ["redis+sentinel://one/mail", "redis+sentinel://one/mail/"])
def test_a_service_may_leave_the_database_out(url: str, is_async: bool) -> None:
    client = client_of(url, is_async)
    assert (client.connection_pool.service_name, settings(client).get("db", 0)) == ("mail", 0)


@sync_and_async
def test_a_service_and_its_sentinels_over_tls(is_async: bool) -> None:
    client = client_of("rediss+sentinel://one/mail", is_async)
    manager = client.connection_pool.sentinel_manager
    assert "SSL" in client.connection_pool.connection_class.__name__
    assert ["SSL" in each.connection_pool.connection_class.__name__ for each in manager.sentinels]


@sync_and_async
def test_servers_and_sentinels_may_have_different_logins(is_async: bool) -> None:
    client = client_of(
        "redis+sentinel://ann:word@one,two/mail?sentinel_username=eve&sentinel_password=other",
        is_async,
    )
    assert (settings(client)["username"], settings(client)["password"]) == ("ann", "word")
    for kwargs in sentinels(client):
        assert (kwargs["username"], kwargs["password"]) == ("eve", "other")


@sync_and_async
def test_sentinels_do_not_get_the_password_of_the_servers(is_async: bool) -> None:
    for kwargs in sentinels(client_of("redis+sentinel://ann:word@one/mail", is_async)):
        assert (kwargs.get("username"), kwargs.get("password")) == (None, None)


@pytest.mark.parametrize("path", ["", "/", "/0"])
def test_a_cluster_by_several_of_its_nodes(path: str) -> None:
    client = cluster_client_of(f"redis+cluster://ann:word@one:7000,two,[::1]:7001{path}")
    assert type(client) is redis.asyncio.RedisCluster
    nodes = client.nodes_manager.startup_nodes.values()
    assert {(node.host, node.port) for node in nodes} == {
        ("one", 7000),
        ("two", 6379),
        ("::1", 7001),
    }
    kwargs = client.connection_kwargs
    assert (kwargs["username"], kwargs["password"]) == ("ann", "word")


def test_a_cluster_over_tls() -> None:
    client = cluster_client_of("rediss+cluster://one")
    assert client.connection_kwargs["connection_class"].__name__ == "SSLConnection"


@pytest.mark.parametrize("backend_type", BACKEND_TYPES)
def test_a_backend_on_a_cluster_is_created_without_connecting(backend_type: Any) -> None:
    assert "Cluster" in repr(backend_type.from_url("redis+cluster://cluster.invalid:7000"))


@sync_and_async
@pytest.mark.parametrize(
    "url", ["redis://{}one/0", "rediss://{}one", "unix://{}/run/r", "redis+sentinel://{}one/mail"]
)
@given(user=st.text(min_size=1), password=st.text(min_size=1))
@example(user="a@b", password="p/s?s#w:o@r%d")
def test_a_login_may_have_any_character_percent_encoded(
    url: str, is_async: bool, user: str, password: str
) -> None:
    login = f"{quote(user, safe='')}:{quote(password, safe='')}@"
    kwargs = settings(client_of(url.format(login), is_async))
    assert (kwargs["username"], kwargs["password"]) == (user, password)


@given(password=st.text(min_size=1))
@example(password="p/s?s#w:o@r%d&e=f+g")
def test_a_password_may_stand_among_the_options(password: str) -> None:
    word = quote(password, safe="")
    for is_async in (False, True):
        assert (
            settings(client_of(f"redis://one/0?password={word}", is_async))["password"] == password
        )
        sentinel_kwargs = sentinels(
            client_of(f"redis+sentinel://one/mail?sentinel_password={word}", is_async)
        )
        assert sentinel_kwargs[0]["password"] == password


@given(password=st.text(min_size=1))
def test_a_cluster_client_has_the_password_of_its_url(password: str) -> None:
    client = cluster_client_of(f"redis+cluster://:{quote(password, safe='')}@one")
    assert client.connection_kwargs["password"] == password


# Timeouts and retries.

EVERYWHERE = ["redis://one", "rediss://one", "unix:///run/r", "redis+sentinel://one/mail"]


@sync_and_async
@pytest.mark.parametrize("url", EVERYWHERE)
def test_a_client_has_the_timeout_of_the_backend(url: str, is_async: bool) -> None:
    for timeout in (1.0, 0.25):
        client = client_of(url, is_async, timeout)
        for kwargs in (settings(client), *(sentinels(client) if "sentinel" in url else ())):
            assert kwargs["socket_timeout"] == timeout
        if "unix" not in url:  # redis-py has no such argument there
            assert settings(client)["socket_connect_timeout"] == timeout


@pytest.mark.parametrize("backend_type", BACKEND_TYPES)
def test_a_backend_has_a_timeout_by_default(
    backend_type: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments: dict[str, Any] = {}

    def record(url: str, **others: Any) -> Any:
        arguments.update(others)
        return client_from_url(url, **others)

    monkeypatch.setattr(f"{backend_type.__module__}.client_from_url", record)
    backend_type.from_url("redis://one")
    assert 0 < arguments["timeout"] <= 1


def test_a_cluster_client_has_the_timeout_of_the_backend() -> None:
    kwargs = cluster_client_of("redis+cluster://one", timeout=0.25).connection_kwargs
    assert (kwargs["socket_timeout"], kwargs["socket_connect_timeout"]) == (0.25, 0.25)


@sync_and_async
@pytest.mark.parametrize("url", EVERYWHERE)
def test_a_client_does_not_retry_a_command(url: str, is_async: bool) -> None:
    client = client_of(url, is_async)
    for kwargs in (settings(client), *(sentinels(client) if "sentinel" in url else ())):
        assert kwargs["retry"].get_retries() == 0
        assert not kwargs.get("retry_on_timeout")
        assert not kwargs.get("retry_on_error")


def test_a_cluster_client_does_not_retry_a_command() -> None:
    assert cluster_client_of("redis+cluster://one").retry.get_retries() == 0


@sync_and_async
@pytest.mark.parametrize("url", ["redis://one/0", "redis+sentinel://one/mail"])
def test_options_in_the_query_reach_the_client(url: str, is_async: bool) -> None:
    query = "?socket_timeout=0.5&socket_connect_timeout=0.25&protocol=2&client_name=mailer"
    kwargs = settings(client_of(url + query, is_async))
    assert (kwargs["socket_timeout"], kwargs["socket_connect_timeout"]) == (0.5, 0.25)
    assert (int(kwargs["protocol"]), kwargs["client_name"]) == (2, "mailer")


def test_options_in_the_query_reach_the_cluster_client() -> None:
    kwargs = cluster_client_of(
        "redis+cluster://one?socket_timeout=0.5&client_name=mailer"
    ).connection_kwargs
    assert (kwargs["socket_timeout"], kwargs["client_name"]) == (0.5, "mailer")


@sync_and_async
@pytest.mark.parametrize("url", ["redis://one/0", "redis+sentinel://one/mail"])
def test_more_arguments_reach_the_client(url: str, is_async: bool) -> None:
    kwargs = settings(client_of(url, is_async, client_name="mailer", socket_keepalive=True))
    assert (kwargs["client_name"], kwargs["socket_keepalive"]) == ("mailer", True)


@sync_and_async
@pytest.mark.parametrize("url", ["redis://one/0", "redis+sentinel://one/mail"])
def test_options_of_redis_py_may_stand_in_the_url(url: str, is_async: bool) -> None:
    client = client_of(
        f"{url}?max_connections=20&health_check_interval=30&socket_keepalive=no"
        "&decode_responses=True",
        is_async,
    )
    assert client.connection_pool.max_connections == 20
    kwargs = settings(client)
    assert kwargs["health_check_interval"] == 30
    assert kwargs["socket_keepalive"] is False
    assert kwargs["decode_responses"] is True


@sync_and_async
def test_an_argument_replaces_an_option_of_the_url(is_async: bool) -> None:
    client = client_of("redis://one?max_connections=20", is_async, max_connections=30)
    assert client.connection_pool.max_connections == 30


@sync_and_async
@pytest.mark.parametrize("text", ["1", "true", "True", "YES", "y", "t"])
def test_an_option_may_be_switched_on_as_in_redis_py(text: str, is_async: bool) -> None:
    kwargs = settings(client_of(f"redis://one?socket_keepalive={text}", is_async))
    assert kwargs["socket_keepalive"] is True


TLS_OPTIONS = {
    "ssl_ca_certs": "/etc/ca.pem",
    "ssl_ca_data": "data",
    "ssl_certfile": "/etc/client.pem",
    "ssl_keyfile": "/etc/client.key",
    "ssl_ciphers": "HIGH",
}


@sync_and_async
@pytest.mark.parametrize("url", ["rediss://one/0", "rediss+sentinel://one/mail"])
def test_tls_options_reach_the_connections(url: str, is_async: bool) -> None:
    query = "&".join(f"{name}={quote(value, safe='')}" for name, value in TLS_OPTIONS.items())
    client = client_of(
        f"{url}?{query}&ssl_cert_reqs=optional&ssl_check_hostname=no&ssl_min_version=772",
        is_async,
    )
    for kwargs in (settings(client), *(sentinels(client) if "sentinel" in url else ())):
        assert TLS_OPTIONS.items() <= kwargs.items()
        assert kwargs["ssl_cert_reqs"] == "optional"
        assert kwargs["ssl_check_hostname"] is False
        assert kwargs["ssl_min_version"] == ssl.TLSVersion.TLSv1_3


@sync_and_async
@pytest.mark.parametrize("url", ["rediss://one/0", "rediss+sentinel://one/mail"])
@pytest.mark.parametrize("as_argument", [False, True])
def test_a_certificate_that_is_not_verified_is_not_compared_with_the_host(
    url: str, is_async: bool, as_argument: bool
) -> None:
    if as_argument:
        client = client_of(url, is_async, ssl_cert_reqs="none")
    else:
        client = client_of(f"{url}?ssl_cert_reqs=none", is_async)
    kwargs = settings(client)
    assert (kwargs["ssl_cert_reqs"], kwargs["ssl_check_hostname"]) == ("none", False)


def test_options_reach_the_cluster_client() -> None:
    client = cluster_client_of(
        "rediss+cluster://one?max_connections=20&socket_keepalive=1&ssl_cert_reqs=none"
    )
    kwargs = client.connection_kwargs
    assert kwargs["max_connections"] == 20
    assert kwargs["socket_keepalive"] is True
    assert "SSL" in kwargs["connection_class"].__name__


def test_a_sync_client_connects_to_sentinels_from_any_number_of_threads() -> None:
    client = client_of("redis+sentinel://one/mail?max_connections=2", is_async=False)
    (sentinel,) = client.connection_pool.sentinel_manager.sentinels
    assert sentinel.connection_pool.max_connections > 10_000


@sync_and_async
@pytest.mark.parametrize("name", sorted(URL_QUERY_ARGUMENT_PARSERS))
def test_every_option_that_redis_py_reads_is_taken_or_refused_by_name(
    name: str, is_async: bool
) -> None:
    values = {
        "ssl_min_version": "772",
        "ssl_include_verify_flags": "VERIFY_X509_STRICT",
        "ssl_exclude_verify_flags": "[VERIFY_X509_STRICT, VERIFY_X509_PARTIAL_CHAIN]",
        "protocol": "3",
    }
    url = f"rediss://one?{name}={values.get(name, '1')}"
    if name in ("timeout", "retry_on_timeout", "retry_on_error"):
        with pytest.raises(ValueError, match=f"option {name} is not taken"):
            client_of(url, is_async)
    else:
        ours = settings(client_of(url, is_async)).get(name)
        assert ours == settings(redis.Redis.from_url(url)).get(name)
