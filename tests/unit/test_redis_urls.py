"""From a URL to a client of redis-py: what it makes, and how long that waits."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
import redis
import redis.asyncio
from hypothesis import example, given
from hypothesis import strategies as st

from ratelimit_mail.backends import AsyncRedisBackend, RedisBackend
from ratelimit_mail.backends.redis.urls import client_from

COLOURS = [RedisBackend, AsyncRedisBackend]

each_colour = pytest.mark.parametrize("is_async", [False, True], ids=["blocking", "awaited"])


def made(url: str, is_async: bool, timeout: float = 1.0, **options: Any) -> Any:
    return client_from(url, timeout=timeout, is_async=is_async, options=options)


def settings(client: Any) -> dict[str, Any]:
    """What a client opens its connections with."""
    found: dict[str, Any] = client.connection_pool.connection_kwargs
    return found


def sentinels(client: Any) -> list[dict[str, Any]]:
    """What a client opens its connections to each Sentinel with."""
    return [settings(each) for each in client.connection_pool.sentinel_manager.sentinels]


def in_cluster(url: str, **options: Any) -> Any:
    """The client to be awaited: only its blocking twin connects when it is made."""
    return made(url, True, **options)


# What a URL makes.


@each_colour
def test_a_plain_url_makes_a_client_of_one_server(is_async: bool) -> None:
    client = made("redis://mail.example:7000/3", is_async)
    assert type(client) is (redis.asyncio.Redis if is_async else redis.Redis)
    told = settings(client)
    assert (told["host"], told["port"], told["db"]) == ("mail.example", 7000, 3)
    assert not client.connection_pool.connection_class.__name__.startswith("SSL")


@each_colour
@pytest.mark.parametrize("url", ["redis://mail.example", "redis://mail.example/"])
def test_a_url_may_leave_port_and_database_out(url: str, is_async: bool) -> None:
    told = settings(made(url, is_async))
    assert (told.get("port", 6379), told.get("db", 0)) == (6379, 0)


@each_colour
@pytest.mark.parametrize("scheme", ["redis", "rediss"])
def test_a_host_may_be_an_ipv6_address(scheme: str, is_async: bool) -> None:
    told = settings(made(f"{scheme}://[::1]:7000/0", is_async))
    assert (told["host"], told["port"]) == ("::1", 7000)


@each_colour
def test_two_s_mean_tls(is_async: bool) -> None:
    client = made("rediss://mail.example:7000/3?ssl_ca_certs=/etc/ca.pem", is_async)
    assert client.connection_pool.connection_class.__name__ == "SSLConnection"
    told = settings(client)
    assert (told["host"], told["port"], told["db"]) == ("mail.example", 7000, 3)
    assert told["ssl_ca_certs"] == "/etc/ca.pem"


@each_colour
def test_a_socket_of_the_machine(is_async: bool) -> None:
    client = made("unix://ann:word@/run/redis.sock?db=2", is_async)
    assert client.connection_pool.connection_class.__name__ == "UnixDomainSocketConnection"
    told = settings(client)
    assert (told["path"], told["db"]) == ("/run/redis.sock", 2)
    assert (told["username"], told["password"]) == ("ann", "word")


@each_colour
def test_the_master_of_a_service_by_its_sentinels(is_async: bool) -> None:
    client = made("redis+sentinel://one:26000,two,[::1]:26001/mail/4", is_async)
    assert type(client) is (redis.asyncio.Redis if is_async else redis.Redis)
    pool: Any = client.connection_pool
    assert pool.service_name == "mail"
    assert pool.is_master
    assert settings(client)["db"] == 4
    places = [(told["host"], told["port"]) for told in sentinels(client)]
    assert places == [("one", 26000), ("two", 26379), ("::1", 26001)]


@each_colour
@pytest.mark.parametrize("url", ["redis+sentinel://one/mail", "redis+sentinel://one/mail/"])
def test_a_service_may_leave_the_database_out(url: str, is_async: bool) -> None:
    client = made(url, is_async)
    assert (client.connection_pool.service_name, settings(client).get("db", 0)) == ("mail", 0)


@each_colour
def test_a_service_and_its_sentinels_by_tls(is_async: bool) -> None:
    client = made("rediss+sentinel://one/mail", is_async)
    manager = client.connection_pool.sentinel_manager
    assert "SSL" in client.connection_pool.connection_class.__name__
    assert ["SSL" in each.connection_pool.connection_class.__name__ for each in manager.sentinels]


@each_colour
def test_servers_and_sentinels_may_have_logins_of_their_own(is_async: bool) -> None:
    client = made(
        "redis+sentinel://ann:word@one,two/mail?sentinel_username=eve&sentinel_password=other",
        is_async,
    )
    assert (settings(client)["username"], settings(client)["password"]) == ("ann", "word")
    for told in sentinels(client):
        assert (told["username"], told["password"]) == ("eve", "other")


@each_colour
def test_sentinels_are_not_told_the_password_of_the_servers(is_async: bool) -> None:
    for told in sentinels(made("redis+sentinel://ann:word@one/mail", is_async)):
        assert (told.get("username"), told.get("password")) == (None, None)


@pytest.mark.parametrize("path", ["", "/", "/0"])
def test_a_cluster_by_several_of_its_nodes(path: str) -> None:
    client = in_cluster(f"redis+cluster://ann:word@one:7000,two,[::1]:7001{path}")
    assert type(client) is redis.asyncio.RedisCluster
    nodes = client.nodes_manager.startup_nodes.values()
    assert {(node.host, node.port) for node in nodes} == {
        ("one", 7000),
        ("two", 6379),
        ("::1", 7001),
    }
    told = client.connection_kwargs
    assert (told["username"], told["password"]) == ("ann", "word")


def test_a_cluster_by_tls() -> None:
    client = in_cluster("rediss+cluster://one")
    assert client.connection_kwargs["connection_class"].__name__ == "SSLConnection"


@pytest.mark.parametrize("colour", COLOURS)
def test_a_backend_on_a_cluster_is_made_without_asking_it(colour: Any) -> None:
    assert "Cluster" in repr(colour.from_url("redis+cluster://cluster.invalid:7000"))


@each_colour
@pytest.mark.parametrize(
    "url", ["redis://{}one/0", "rediss://{}one", "unix://{}/run/r", "redis+sentinel://{}one/mail"]
)
@given(user=st.text(min_size=1), password=st.text(min_size=1))
@example(user="a@b", password="p/s?s#w:o@r%d")
def test_a_login_may_have_any_character_percent_encoded(
    url: str, is_async: bool, user: str, password: str
) -> None:
    login = f"{quote(user, safe='')}:{quote(password, safe='')}@"
    told = settings(made(url.format(login), is_async))
    assert (told["username"], told["password"]) == (user, password)


@given(password=st.text(min_size=1))
@example(password="p/s?s#w:o@r%d&e=f+g")
def test_a_password_may_stand_among_the_options(password: str) -> None:
    word = quote(password, safe="")
    for is_async in (False, True):
        assert settings(made(f"redis://one/0?password={word}", is_async))["password"] == password
        told = sentinels(made(f"redis+sentinel://one/mail?sentinel_password={word}", is_async))
        assert told[0]["password"] == password


@given(password=st.text(min_size=1))
def test_a_cluster_has_the_password_of_its_url(password: str) -> None:
    client = in_cluster(f"redis+cluster://:{quote(password, safe='')}@one")
    assert client.connection_kwargs["password"] == password


# How long a client waits, and how often it asks.

EVERYWHERE = ["redis://one", "rediss://one", "unix:///run/r", "redis+sentinel://one/mail"]


@each_colour
@pytest.mark.parametrize("url", EVERYWHERE)
def test_a_client_waits_a_bounded_time(url: str, is_async: bool) -> None:
    for timeout in (1.0, 0.25):
        client = made(url, is_async, timeout)
        for told in (settings(client), *(sentinels(client) if "sentinel" in url else ())):
            assert told["socket_timeout"] == timeout
        if "unix" not in url:  # redis-py has no such argument there
            assert settings(client)["socket_connect_timeout"] == timeout


@pytest.mark.parametrize("colour", COLOURS)
def test_a_backend_bounds_the_time_by_default(colour: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def noted(url: str, **others: Any) -> Any:
        asked.update(others)
        return client_from(url, **others)

    monkeypatch.setattr(f"{colour.__module__}.client_from", noted)
    colour.from_url("redis://one")
    assert 0 < asked["timeout"] <= 1


def test_a_client_of_a_cluster_waits_a_bounded_time() -> None:
    told = in_cluster("redis+cluster://one", timeout=0.25).connection_kwargs
    assert (told["socket_timeout"], told["socket_connect_timeout"]) == (0.25, 0.25)


@each_colour
@pytest.mark.parametrize("url", EVERYWHERE)
def test_a_client_does_not_repeat_a_command(url: str, is_async: bool) -> None:
    client = made(url, is_async)
    for told in (settings(client), *(sentinels(client) if "sentinel" in url else ())):
        assert told["retry"].get_retries() == 0
        assert not told.get("retry_on_timeout")
        assert not told.get("retry_on_error")


def test_a_client_of_a_cluster_does_not_repeat_a_command() -> None:
    assert in_cluster("redis+cluster://one").retry.get_retries() == 0


@each_colour
@pytest.mark.parametrize("url", ["redis://one/0", "redis+sentinel://one/mail"])
def test_options_in_the_query_reach_the_client(url: str, is_async: bool) -> None:
    query = "?socket_timeout=0.5&socket_connect_timeout=0.25&protocol=2&client_name=mailer"
    told = settings(made(url + query, is_async))
    assert (told["socket_timeout"], told["socket_connect_timeout"]) == (0.5, 0.25)
    assert (int(told["protocol"]), told["client_name"]) == (2, "mailer")


def test_options_in_the_query_reach_the_client_of_a_cluster() -> None:
    told = in_cluster("redis+cluster://one?socket_timeout=0.5&client_name=mailer").connection_kwargs
    assert (told["socket_timeout"], told["client_name"]) == (0.5, "mailer")


@each_colour
@pytest.mark.parametrize("url", ["redis://one/0", "redis+sentinel://one/mail"])
def test_more_arguments_reach_the_client(url: str, is_async: bool) -> None:
    told = settings(made(url, is_async, client_name="mailer", socket_keepalive=True))
    assert (told["client_name"], told["socket_keepalive"]) == ("mailer", True)
