"""`ratelimit-mail serve` with real sockets: hostile clients, reloading, signals and systemd."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
import sys
import threading
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from rlm_testkit.command_line import error_line, run_command
from rlm_testkit.http_sink import HTTPSink
from rlm_testkit.policy_servers import PolicyClient, PolicyProcess, attributes
from rlm_testkit.servers import free_port

from ratelimit_mail import MessageRateLimit, Policy
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.monitoring import MonitoringSettings
from ratelimit_mail.server import control, systemd
from ratelimit_mail.server.daemon import Daemon, Settings
from ratelimit_mail.server.held_mail import HeldMail
from ratelimit_mail.server.listener import parse_address

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Postfix is not for Windows")

FILE = """
name = "campus"
[[limits]]
kind = "message rate limit"
name = "messages"
rate = "{rate}/day"
on_excess = "reject"
"""


def policy(rate: int = 3) -> Policy:
    limit = MessageRateLimit(f"{rate}/day", name="messages", on_excess="reject")
    return Policy(name="campus", limits=[limit])


@asynccontextmanager
async def running(**settings: Any) -> AsyncIterator[tuple[Daemon, tuple[str, int]]]:
    """Run a daemon in this event loop."""
    values: dict[str, Any] = {
        "load_policy": policy,
        "backend": MemoryBackend(),
        "addresses": [("127.0.0.1", 0)],
    }
    daemon = Daemon(Settings(**(values | settings)))
    ready: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(daemon.run(ready.set_result))
    await asyncio.wait([task, ready], return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        await task
    try:
        yield daemon, ready.result()[0]
    finally:
        daemon.stop()
        await task


async def in_thread(use: Callable[[], Any]) -> Any:
    return await asyncio.to_thread(use)


def one_message(address: Any, number: int = 0, sender: str = "ann@uwo.ca", **values: object) -> str:
    client = PolicyClient(address)
    try:
        return client.message(f"1.2.{number}", ["bob@example.com"], sender=sender, **values)
    finally:
        client.close()


async def eventually(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


async def test_messages_are_counted_over_inet_and_unix_sockets(tmp_path: Path) -> None:
    path = tmp_path / "policy.sock"
    async with running(addresses=[("127.0.0.1", 0), path], socket_mode=0o600) as (_, inet):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        for number, address in enumerate([inet, path, inet]):
            assert await in_thread(partial(one_message, address, number)) == "DUNNO"
        answer = await in_thread(lambda: one_message(path, 9))
        assert answer == "550 5.7.1 Message rate limit exceeded. Try again later."
    assert not path.exists()


async def test_several_requests_in_one_packet_and_half_ones_are_answered_in_order() -> None:
    async with running() as (_, address):

        def talk() -> list[str]:
            client = PolicyClient(address)
            texts = [
                "".join(f"{k}={v}\n" for k, v in each.items()) + "\n"
                for number in range(5)
                for each in (
                    attributes("RCPT", f"1.2.{number}", recipient="a@x.com"),
                    attributes(
                        "END-OF-MESSAGE", f"1.2.{number}", recipient="a@x.com", recipient_count=1
                    ),
                )
            ]
            data = "".join(texts).encode()
            client.send(data[:700])
            client.send(data[700:])
            actions = [client.read() for _ in texts]
            client.close()
            return actions

        actions = await in_thread(talk)
        assert actions[:6] == ["DUNNO"] * 6
        assert actions[6::2] == ["DUNNO"] * 2
        assert all(each.startswith("550 ") for each in actions[7::2])


async def test_a_malformed_request_is_deferred_and_the_connection_closed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running() as (daemon, address):

        def talk() -> tuple[str, str]:
            client = PolicyClient(address)
            client.send(b"GET / HTTP/1.0\r\n\r\n")
            actions = client.read(), client.read()
            client.close()
            return actions

        first, second = await in_thread(talk)
        assert first.startswith("DEFER_IF_PERMIT 4.3.0")
        assert second == ""
        assert "malformed request" in caplog.text
        assert daemon.service.stats["malformed"] == 1


async def test_a_client_that_never_reads_is_not_read_from_and_closed() -> None:
    async with running() as (daemon, address):
        request = "".join(f"{k}={v}\n" for k, v in attributes("VRFY", "1.2.3").items()) + "\n"
        hostile = socket.socket()
        hostile.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        hostile.connect(address)
        hostile.setblocking(False)
        data = memoryview(request.encode() * 1000)

        def is_stuck() -> bool:
            with suppress(BlockingIOError):
                hostile.send(data)
            return any(not each._is_writable for each in daemon.listener.connections)

        await eventually(is_stuck)
        for _ in range(200):
            is_stuck()
            await asyncio.sleep(0)
        [connection] = daemon.listener.connections
        assert len(connection._core._buffer) < 200_000
        now = daemon.listener.clock()
        daemon.listener.clock = lambda: now + 31
        daemon.listener.sweep()
        await eventually(lambda: not daemon.listener.connections)
        hostile.close()


async def test_half_a_request_and_silence_end_a_connection() -> None:
    async with running() as (daemon, address):
        half, silent = socket.create_connection(address), socket.create_connection(address)
        half.sendall(b"request=")
        await eventually(
            lambda: sum(c._core.is_within_request for c in daemon.listener.connections) == 1
        )
        await eventually(lambda: len(daemon.listener.connections) == 2)
        now = daemon.listener.clock()
        daemon.listener.clock = lambda: now + 31
        daemon.listener.sweep()
        await eventually(lambda: len(daemon.listener.connections) == 1)
        daemon.listener.clock = lambda: now + 601
        daemon.listener.sweep()
        await eventually(lambda: not daemon.listener.connections)
        half.close()
        silent.close()


async def test_above_the_most_connections_new_ones_are_closed() -> None:
    async with running(most_connections=2) as (daemon, address):
        held = [socket.create_connection(address) for _ in range(2)]
        await eventually(lambda: len(daemon.listener.connections) == 2)
        more = socket.create_connection(address)
        more.settimeout(30)
        assert await in_thread(lambda: _read_to_the_end(more)) == b""
        for each in (*held, more):
            each.close()


def _read_to_the_end(connection: socket.socket) -> bytes:
    try:
        return connection.recv(100)
    except ConnectionResetError:
        return b""


async def test_a_changed_policy_keeps_counts_and_connections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("ratelimit_mail.server.daemon.WATCH_SECONDS", 0.02)
    file = tmp_path / "policy.toml"
    file.write_text(FILE.format(rate=2))
    async with running(load_policy=lambda: Policy.load(file), files=[file]) as (daemon, address):
        client = await in_thread(lambda: PolicyClient(address))

        async def message(number: int) -> str:
            ask: Callable[[], str] = lambda: client.message(  # noqa: E731
                f"1.2.{number}", ["a@x.com"], sender="ann@uwo.ca"
            )
            action: str = await in_thread(ask)
            return action[:5]

        assert [await message(i) for i in range(3)] == ["DUNNO", "DUNNO", "550 5"]
        before = daemon.limiter
        file.write_text(FILE.format(rate=3))
        await eventually(lambda: daemon.limiter is not before)
        assert [await message(i) for i in range(4, 6)] == ["DUNNO", "550 5"]
        before = daemon.limiter
        file.write_text('name = "campus"\nlimit = 3\n')
        await eventually(lambda: "the old policy stays in force" in caplog.text)
        assert daemon.limiter is before
        assert "limit" in caplog.text
        assert await message(7) == "550 5"
        client.close()


async def test_a_policy_that_changes_while_it_is_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ratelimit_mail.server.daemon.WATCH_SECONDS", 0.02)
    file = tmp_path / "policy.toml"
    file.write_text(FILE.format(rate=2))

    def load() -> Policy:
        loaded = Policy.load(file)
        file.write_text(FILE.format(rate=30))
        return loaded

    async with running(load_policy=load, files=[file]) as (daemon, _):
        await eventually(lambda: str(daemon.limiter.policy.limits[0]).startswith("30 messages"))


async def test_a_server_that_stops_ends_what_it_was_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ratelimit_mail.server.daemon.WATCH_SECONDS", 0.02)
    file = tmp_path / "policy.toml"
    begun, go_on = threading.Event(), threading.Event()
    rates = iter([2, 30])

    def load() -> Policy:
        rate = next(rates)
        if rate == 30:
            begun.set()
            assert go_on.wait(60)
        return policy(rate)

    async with running(load_policy=load, files=[file]) as (daemon, _):
        file.touch()
        await in_thread(begun.wait)
        daemon.stop()
        asyncio.get_running_loop().call_later(0.05, go_on.set)
    assert str(daemon.limiter.policy.limits[0]).startswith("30 messages")


async def test_alerts_and_metrics_are_read_again_with_the_policy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("ratelimit_mail.server.daemon.WATCH_SECONDS", 0.02)
    file, port = tmp_path / "policy.toml", free_port()

    def write(alerts: str, rate: int = 1) -> None:
        metrics = f'[metrics]\nprometheus = "127.0.0.1:{port}"\n'
        file.write_text(FILE.format(rate=rate) + f"[alerts]\n{alerts}\n{metrics}")

    def scraped() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
            return str(answer.read())

    backend, numbers = MemoryBackend(), count()
    with HTTPSink() as first, HTTPSink() as second:
        write(f'webhook = "{first.url()}"')
        async with running(
            load_policy=lambda: Policy.load(file),
            load_monitoring=lambda: MonitoringSettings.load(file),
            backend=backend,
            alert_store=backend,
            files=[file],
        ) as (daemon, address):

            async def denied(sender: str) -> None:
                for _ in range(2):
                    number = next(numbers)
                    await in_thread(partial(one_message, address, number, f"{sender}@uwo.ca"))

            await denied("ann")
            await eventually(lambda: first.posts)
            before = daemon.limiter
            write(f'webhook = "{second.url()}"')
            await eventually(lambda: daemon.limiter is not before)
            await denied("kim")
            await eventually(lambda: second.posts)
            assert b"kim@uwo.ca" in second.posts[0].body
            before = daemon.limiter
            write('webhook = "no URL"', rate=5)
            await eventually(lambda: "alerts.webhook: it does not begin" in caplog.text)
            assert "the old policy stays in force" in caplog.text
            assert daemon.limiter is before
            await denied("eve")
            await eventually(lambda: len(second.posts) == 2)
            assert len(first.posts) == 1
            assert "ratelimit_mail_decisions_total" in await in_thread(scraped)
    assert "another program answers" not in caplog.text


async def test_the_control_socket_works_on_the_counts_of_the_running_server(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "control.sock"
    caplog.set_level("INFO", "ratelimit_mail")

    async def ask(op: str, **keys: Any) -> Any:
        return await in_thread(lambda: control.request(path, op, **keys))

    async with running(control=path) as (_, address):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        await in_thread(lambda: one_message(address))
        [usage] = await ask("usage", subject="ann@uwo.ca")
        assert (usage["name"], usage["used"], usage["remaining"]) == ("messages", 1, 2)
        block = await ask("block", subject="ann@uwo.ca", reason="stolen", by="kim")
        assert block["subject"] == "ann@uwo.ca"
        assert (await in_thread(lambda: one_message(address, 2))).startswith("550 5.7.1 Sending is")
        assert [each["reason"] for each in await ask("blocks")] == ["stolen"]
        assert await ask("unblock", subject="ann@uwo.ca", by="kim", reason="new password") is True
        await ask("reset", subject="ann@uwo.ca", by="kim")
        [usage] = await ask("usage", subject="ann@uwo.ca")
        assert usage["used"] == 0
        status = await ask("status")
        assert status["policy"] == "campus"
        with pytest.raises(control.ControlError, match="is not one of") as error:
            await ask("format-disk")
        assert error.value.kind == "request"
        with pytest.raises(control.ControlError, match="scope"):
            await ask("usage", subject="x", scope="nonsense")
        with pytest.raises(control.ControlError, match="holds no messages"):
            await ask("release")
    uid = os.getuid()
    assert f"kim (uid {uid}) blocked sender 'ann@uwo.ca' for ever: stolen" in caplog.text
    assert f"kim (uid {uid}) unblocked sender 'ann@uwo.ca': new password" in caplog.text
    assert f"kim (uid {uid}) reset the counts of sender 'ann@uwo.ca'" in caplog.text
    assert not path.exists()


async def test_a_server_ends_quietly_while_an_operator_is_connected(tmp_path: Path) -> None:
    errors: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
    path = tmp_path / "control.sock"
    async with running(control=path):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b'{"op": "status"}\n')
        await reader.readline()
    assert await reader.read() == b""
    writer.close()
    assert errors == []


async def test_two_servers_cannot_listen_at_one_path(tmp_path: Path) -> None:
    path = tmp_path / "policy.sock"
    async with running(addresses=[path]):
        with pytest.raises(OSError, match="a server listens there already"):
            async with running(addresses=[path]):
                pass
        assert path.exists()
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()
    async with running(addresses=[path]):
        assert await in_thread(lambda: one_message(path)) == "DUNNO"


async def test_systemd_is_notified_and_its_sockets_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notices.bind(str(tmp_path / "notify"))
    notices.settimeout(30)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "100000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    monkeypatch.setattr(systemd, "activated_sockets", lambda: [listening])
    async with running(addresses=[]) as (daemon, address):
        assert address == listening.getsockname()
        assert await in_thread(lambda: one_message(address)) == "DUNNO"
        await daemon.reload()
    notices.setblocking(False)
    texts = []
    try:
        while True:
            texts.append(notices.recv(1000).decode())
    except BlockingIOError:
        notices.close()
    assert texts[0] == "READY=1\nSTATUS=policy campus"
    assert "WATCHDOG=1" in texts
    [reloading] = [each for each in texts if each.startswith("RELOADING=1\nMONOTONIC_USEC=")]
    assert texts.index("READY=1") > texts.index(reloading)
    assert texts[-1] == "STOPPING=1"


def test_sockets_are_those_that_systemd_opened_for_this_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LISTEN_FDS", "1")
    monkeypatch.setenv("LISTEN_PID", str(os.getpid() + 1))
    assert systemd.activated_sockets() == []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        monkeypatch.setattr(systemd, "FIRST", listening.fileno())
        monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
        [same] = systemd.activated_sockets()
        assert same.getsockname() == listening.getsockname()
        assert systemd.activated_sockets() == []
        same.detach()


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PolicyProcess]:
    folder = tmp_path_factory.mktemp("serve")
    file = folder / "policy.toml"
    file.write_text(FILE.format(rate=2))
    process = PolicyProcess(
        str(file), "--store", f"sqlite:///{folder}/counts.db", "-v", control=folder / "c.sock"
    )
    process.file = file  # type: ignore[attr-defined]
    yield process
    if process.process.poll() is None:
        process.stop()


def test_a_server_keeps_its_counts_over_signals_and_kills(process: Any) -> None:
    address = "127.0.0.1", process.port
    now = int(time.time()) + 1000

    def message(number: int) -> str:
        client = PolicyClient(address)
        action = client.message(f"1.{now:x}.{number}", ["a@x.com"], sender="ann@uwo.ca")
        client.close()
        return action[:5]

    assert [message(1), message(2), message(3)] == ["DUNNO", "DUNNO", "550 5"]
    process.kill()
    process.start()
    assert message(4) == "550 5"
    # The same request again, after the server was killed before it could answer.
    assert message(2) == "DUNNO"
    process.file.write_text(FILE.format(rate=3))
    process.process.send_signal(signal.SIGHUP)
    process.wait_for_line("was read again")
    assert message(5) == "DUNNO"
    assert message(6) == "550 5"
    assert process.wait_for_line("answered 550 5.7.1")
    assert process.stop() == 0
    assert not process.control.exists()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["nonsense"], "there is no policy nonsense"),
        (["campus-relay", "--excess", "hold"], "--held FILE"),
        (["campus-relay", "--excess", "hold", "--held", "h.db"], "--control PATH"),
        (["campus-relay", "--held", "h.db"], "--held is for --excess hold"),
        (["campus-relay", "--node", "mx1"], "counts all servers together"),
        (["campus-relay", "--tag", "10.0.0.0/8"], "'10.0.0.0/8' is not TARGET=TAG"),
        (["campus-relay", "--tag", "10.0.0.1/8=x"], "host bits"),
        (["campus-relay", "--tags", "missing.txt"], "missing.txt: No such file"),
        (["campus-relay", "--store", "http://x"], "it does not begin as one of"),
        (["campus-relay"], "no address"),
    ],
)
def test_an_option_that_cannot_be_used_is_an_error_in_one_line(
    options: list[str], error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert error in error_line(run_command("serve", *options))


def test_an_address_that_is_none_is_an_error() -> None:
    for text in ("127.0.0.1:10040", "inet:10040", "inet:h:99999", "unix:", "inet:h:x", "tcp:h:1"):
        with pytest.raises(ValueError, match="is not inet:HOST:PORT or unix:PATH"):
            parse_address(text)
    assert parse_address("inet:[::1]:10040") == ("::1", 10040)
    assert parse_address("unix:/run/x.sock") == Path("/run/x.sock")


def test_main_cf_is_printed_and_a_policy_is_checked() -> None:
    result = run_command("serve", "campus-relay", "--listen", "unix:/run/x", "--print-main-cf")
    assert result.exit_code == 0
    assert "check_policy_service unix:/run/x" in result.stdout
    result = run_command("serve", "campus-relay", "--stages", "rcpt", "--check")
    assert result.exit_code == 0
    assert "note: at rcpt alone" in result.stdout


async def test_held_messages_are_released_by_postsuper(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ratelimit_mail.server.hold_queue.FINISH_SECONDS", 0.0)
    postsuper = tmp_path / "postsuper"
    postsuper.write_text(
        f"""#!/bin/sh
echo "$@" >> {tmp_path}/calls
for word; do test $word = -H || echo "postsuper: $word: released from hold" >&2; done
"""
    )
    postsuper.chmod(0o700)
    (tmp_path / "postqueue").symlink_to(postsuper)
    path = tmp_path / "control.sock"
    held = HeldMail(tmp_path / "held.db")
    limit = MessageRateLimit("1/second", name="messages")
    async with running(
        load_policy=lambda: Policy(name="queue", limits=[limit]),
        control=path,
        excess="hold",
        held=held,
    ) as (_, address):
        actions = [
            (await in_thread(partial(one_message, address, n, queue_id=f"AB0{n}D")))[:5]
            for n in range(3)
        ]
        assert actions == ["DUNNO", "HOLD ", "HOLD "]

        def release() -> Any:
            return run_command(
                "postfix-release", "--control", str(path), "--postsuper", str(postsuper)
            )

        released = 0
        async with asyncio.timeout(60):
            while released < 2:
                result = await in_thread(release)
                assert result.exit_code == 0, result.output
                released += int(result.stdout.split()[0])
    calls = (tmp_path / "calls").read_text().split()
    assert sorted(set(calls)) == ["-H", "-i", "AB01D", "AB02D"]
    held.close()
    error = error_line(run_command("postfix-release", "--control", str(path)))
    assert "No such file" in error


def test_limits_on_bytes_at_a_stage_without_the_size_are_an_error(tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text('name = "x"\n[[limits]]\nkind = "byte rate limit"\nrate = "1 MB/hour"\n')
    wrong = run_command("serve", str(policy), "--stages", "rcpt,data", "--check")
    assert "use rcpt,end-of-message" in error_line(wrong)
    assert run_command("serve", str(policy), "--check").exit_code == 0
