"""TLS to Valkey and Redis, sync and async, and what an error says if the other side is refused.

The servers of pip are built without TLS, so a proxy in front of them accepts it.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from rlm_testkit.load import ENVELOPE, SENDER, one_limit_policy, used_on_server
from rlm_testkit.redis_backends import (
    KINDS,
    BackendFactory,
    both_kinds,
    text_of,
    unique_prefix,
    valkey_only,
)
from rlm_testkit.servers import Server, command, valkey, wait_until
from rlm_testkit.tls import CertificateFiles, TLSProxy

from ratelimit_mail import Action, AsyncLimiter, Limiter
from ratelimit_mail.backends import AsyncRedisBackend
from ratelimit_mail.exceptions import BackendUnavailable

prefix = pytest.fixture(unique_prefix)
backends = pytest.fixture(both_kinds, params=KINDS)

POLICY = one_limit_policy(3)

PASSWORD = "Hunter2"

Serve = Callable[..., TLSProxy]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> CertificateFiles:
    return CertificateFiles(tmp_path_factory.mktemp("tls") / "own")


@pytest.fixture(scope="module")
def other_files(tmp_path_factory: pytest.TempPathFactory) -> CertificateFiles:
    """Return the files of an authority that has not signed the server's certificate."""
    return CertificateFiles(tmp_path_factory.mktemp("tls") / "other")


@pytest.fixture
def serve(server: Server, files: CertificateFiles) -> Iterator[Serve]:
    """Start a proxy that accepts TLS in front of the server."""
    proxies = []

    def start(**options: Any) -> TLSProxy:
        proxies.append(TLSProxy(files.server_context(**options), server.port))
        return proxies[-1]

    yield start
    for proxy in proxies:
        proxy.close()


def url_of(proxy: TLSProxy, **options: Path | str) -> str:
    query = "&".join(f"{name}={quote(str(value), safe='')}" for name, value in options.items())
    return f"rediss://:{PASSWORD}@127.0.0.1:{proxy.port}/0?{query}"


def open_url_of(proxy: TLSProxy, **options: Path | str) -> str:
    """Return a URL without a password, for a server that requires none."""
    return url_of(proxy, **options).replace(f":{PASSWORD}@", "")


def refusal(backend: Any, caplog: pytest.LogCaptureFixture) -> BackendUnavailable:
    """Return the error of a call, once no text of it shows the password."""
    caplog.set_level("DEBUG")
    with pytest.raises(BackendUnavailable) as caught:
        Limiter(POLICY, backend).try_acquire(ENVELOPE)
    decision = Limiter(POLICY, backend, on_backend_error="deny").try_acquire(ENVELOPE)
    assert (decision.action, decision.degraded) == (Action.DEFER, True)
    for text in (text_of(caught.value), repr(decision), repr(backend), caplog.text):
        assert PASSWORD not in text
    return caught.value


def test_counts_are_shared_between_tls_and_an_unencrypted_connection(
    backends: BackendFactory, server: Server, serve: Serve, files: CertificateFiles, prefix: str
) -> None:
    proxy = serve()
    limiter = Limiter(
        POLICY, backends.from_url(open_url_of(proxy, ssl_ca_certs=files.ca), prefix=prefix)
    )
    admitted = [bool(limiter.try_acquire(ENVELOPE)) for _ in range(4)]
    assert admitted == [True, True, True, False]
    assert set(proxy.versions) == {"TLSv1.3"}
    assert used_on_server(server.url, POLICY, prefix) == 3


@valkey_only
def test_a_login_goes_over_tls(
    backends: BackendFactory, server: Server, serve: Serve, files: CertificateFiles, prefix: str
) -> None:
    name = prefix.strip(":")
    with server.client() as client:
        command(client, "ACL", "SETUSER", name, "on", f">{PASSWORD}", "~*", "+@all")
    url = url_of(serve(), ssl_ca_certs=files.ca).replace("://", f"://{name}")
    assert Limiter(POLICY, backends.from_url(url, prefix=prefix)).try_acquire(ENVELOPE)
    with server.client() as client:
        command(client, "ACL", "DELUSER", name)


def test_a_certificate_of_an_unknown_authority_is_refused(
    backends: BackendFactory,
    server: Server,
    serve: Serve,
    other_files: CertificateFiles,
    prefix: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    proxy = serve()
    backend = backends.from_url(url_of(proxy, ssl_ca_certs=other_files.ca), prefix=prefix)
    error = refusal(backend, caplog)
    assert "certificate verify failed" in str(error)
    assert f"127.0.0.1:{proxy.port}" in str(error)
    assert error.safe_to_repeat
    assert used_on_server(server.url, POLICY, prefix) == 0


@valkey_only
def test_a_certificate_of_an_unknown_authority_is_accepted_if_verification_is_off(
    backends: BackendFactory, serve: Serve, prefix: str
) -> None:
    url = open_url_of(serve(name="other.example.org"), ssl_cert_reqs="none")
    assert Limiter(POLICY, backends.from_url(url, prefix=prefix)).try_acquire(ENVELOPE)


@valkey_only
def test_the_system_s_authorities_are_asked_without_a_file(
    backends: BackendFactory, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    error = refusal(backends.from_url(url_of(serve())), caplog)
    assert "certificate verify failed" in str(error)


@valkey_only
def test_a_certificate_for_another_host_is_refused(
    backends: BackendFactory,
    serve: Serve,
    files: CertificateFiles,
    caplog: pytest.LogCaptureFixture,
) -> None:
    url = url_of(serve(name="other.example.org"), ssl_ca_certs=files.ca)
    error = refusal(backends.from_url(url), caplog)
    assert "certificate is not valid for '127.0.0.1'" in str(error)


def test_a_client_certificate_is_sent(
    backends: BackendFactory, serve: Serve, files: CertificateFiles, prefix: str
) -> None:
    url = open_url_of(
        serve(needs_client_certificate=True),
        ssl_ca_certs=files.ca,
        ssl_certfile=files.cert,
        ssl_keyfile=files.key,
    )
    assert Limiter(POLICY, backends.from_url(url, prefix=prefix)).try_acquire(ENVELOPE)


@valkey_only
@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("has_other", [False, True])
def test_a_client_without_a_certificate_of_the_authority_is_refused(
    newest: ssl.TLSVersion,
    has_other: bool,
    backends: BackendFactory,
    server: Server,
    serve: Serve,
    files: CertificateFiles,
    other_files: CertificateFiles,
    prefix: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    options = {"ssl_ca_certs": files.ca}
    if has_other:
        options |= {"ssl_certfile": other_files.cert, "ssl_keyfile": other_files.key}
    url = url_of(serve(needs_client_certificate=True, newest=newest), **options)
    error = refusal(backends.from_url(url, prefix=prefix), caplog)
    assert error.safe_to_repeat
    # With TLS 1.3, the connection may be closed before the client has read the reason.
    if newest is ssl.TLSVersion.TLSv1_2:
        assert "alert" in str(error)
    assert used_on_server(server.url, POLICY, prefix) == 0


@valkey_only
@pytest.mark.parametrize("options", [["ssl_ca_certs"], ["ssl_certfile", "ssl_keyfile"]])
def test_a_file_that_does_not_exist_is_reported(
    options: list[str],
    backends: BackendFactory,
    serve: Serve,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    url = url_of(serve(), **dict.fromkeys(options, tmp_path / "no.pem"))
    error = str(refusal(backends.from_url(url), caplog))
    assert "No such file" in error
    assert all(f"; {name}: '{tmp_path / 'no.pem'}'" in error for name in options)


@valkey_only
def test_a_server_without_tls_is_reported(
    backends: BackendFactory,
    server: Server,
    files: CertificateFiles,
    caplog: pytest.LogCaptureFixture,
) -> None:
    url = f"rediss://:{PASSWORD}@127.0.0.1:{server.port}?ssl_ca_certs={quote(str(files.ca))}"
    # The server waits for the end of a command.
    error = refusal(backends.from_url(url, timeout=0.1), caplog)
    assert f"127.0.0.1:{server.port}/0 is away: Timeout" in str(error)


@valkey_only
def test_a_client_without_tls_is_reported(
    backends: BackendFactory, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    url = open_url_of(serve()).replace("rediss", "redis")
    assert "is away: ConnectionError" in str(refusal(backends.from_url(url), caplog))


@valkey_only
def test_the_connections_of_an_event_loop_are_closed_at_its_end(
    server: Server, serve: Serve, files: CertificateFiles, prefix: str
) -> None:
    proxy = serve()
    url = open_url_of(proxy, ssl_ca_certs=files.ca)
    backend = AsyncRedisBackend.from_url(url, prefix=prefix, timeout=30)
    limiter = AsyncLimiter(POLICY, backend)

    async def send() -> bool:
        return bool(await limiter.try_acquire(ENVELOPE))

    assert [asyncio.run(send()) for _ in range(4)] == [True, True, True, False]
    assert len(proxy.versions) == 4
    wait_until(lambda: not proxy.open)


def test_a_cluster_is_reached_by_tls(
    backends: BackendFactory, files: CertificateFiles, prefix: str
) -> None:
    proxy = TLSProxy(files.server_context())
    announced = ("--cluster-announce-ip", "127.0.0.1", "--cluster-announce-port", str(proxy.port))
    node = Server(valkey(), "--cluster-enabled", "yes", *announced)
    proxy.server_port = node.port
    try:
        with node.client() as client:
            command(client, "CLUSTER ADDSLOTSRANGE", 0, 16383)
            wait_until(lambda: client.cluster("INFO")["cluster_state"] == "ok")
        url = open_url_of(proxy, ssl_ca_certs=files.ca).replace("rediss", "rediss+cluster")
        limiter = Limiter(POLICY, backends.from_url(url.replace("/0?", "?"), prefix=prefix))
        assert [bool(limiter.try_acquire(ENVELOPE)) for _ in range(4)] == [True, True, True, False]
        assert limiter.usage(SENDER)[0].used == 3
        assert set(proxy.versions) == {"TLSv1.3"}
    finally:
        node.stop()
        proxy.close()


@valkey_only
def test_a_master_and_its_sentinel_are_reached_by_tls(
    backends: BackendFactory, server: Server, files: CertificateFiles, prefix: str
) -> None:
    # The Sentinel asks the master without TLS, and names this port to its clients.
    master = TLSProxy(files.server_context(), server.port, accepts_plain=True)
    monitor = f"sentinel monitor mail 127.0.0.1 {master.port} 1\n"
    sentinel = Server(valkey(), sentinel=monitor)
    proxy = TLSProxy(files.server_context(), sentinel.port)
    try:
        url = open_url_of(proxy, ssl_ca_certs=files.ca)
        url = url.replace("rediss", "rediss+sentinel").replace("/0?", "/mail?")
        limiter = Limiter(POLICY, backends.from_url(url, prefix=prefix))
        assert [bool(limiter.try_acquire(ENVELOPE)) for _ in range(4)] == [True, True, True, False]
        assert used_on_server(server.url, POLICY, prefix) == 3
        assert set(master.versions) == set(proxy.versions) == {"TLSv1.3"}
    finally:
        sentinel.stop()
        proxy.close()
        master.close()
