"""The commands usage, top, reset, block, unblock, blocks and watch, on a store and on a server."""

from __future__ import annotations

import asyncio
import getpass
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rlm_testkit.command_line import error_line, run_command

from ratelimit_mail import AsyncLimiter, Client, Envelope, Limiter, Policy
from ratelimit_mail._util import system_log
from ratelimit_mail.backends import MemoryBackend, SQLiteBackend
from ratelimit_mail.cli.operate import audit
from ratelimit_mail.server.control import ControlServer

POLICY = """
name = "campus"
subaddress = "+"

[[limits]]
kind = "message rate limit"
rate = "10/hour"

[[limits]]
kind = "recipient rate limit"
rate = "100/hour"
enforce = false

[[limits]]
kind = "message rate limit"
rate = "50/hour"
scope = ["client"]
"""

HOSTILE = '"[red]x[/red]\u202e"@uwo.ca'


@pytest.fixture(autouse=True)
def no_system_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system_log, "SOCKETS", ())
    monkeypatch.delenv("RATELIMIT_MAIL_STORE", raising=False)


@pytest.fixture
def policy_file(tmp_path: Path) -> Path:
    path = tmp_path / "campus.toml"
    path.write_text(POLICY)
    return path


def fill(limiter: Limiter) -> None:
    client = Client(address="2001:db8::7")
    for sender, count in (("ann@uwo.ca", 5), ("eve@b\u00fccher.example", 9), ("bob@uwo.ca", 1)):
        for _ in range(count):
            assert limiter.try_acquire(Envelope(sender, ["x@example.com"], client=client))


@pytest.fixture
def on_store(policy_file: Path, tmp_path: Path) -> list[str]:
    url = f"sqlite:///{tmp_path / 'counts.db'}"
    fill(Limiter(Policy.load(policy_file), SQLiteBackend(tmp_path / "counts.db")))
    return ["--store", url, "--policy", str(policy_file)]


class RunningServer:
    """A control socket on the counts in memory, as a server has it."""

    def __init__(self, policy: Policy, path: Path) -> None:
        backend = MemoryBackend()
        fill(Limiter(policy, backend))
        self.limiter = AsyncLimiter(policy, backend)
        self.store = backend
        self.path = path
        self._loop = asyncio.new_event_loop()
        self._server = ControlServer(self, {"status": self._status})
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._wait(self._server.open(path))

    async def _status(self, _: Any) -> dict[str, Any]:
        return {
            "policy": "campus",
            "shadow": True,
            "uptime": 93.5,
            "requests": {"requests": 1200},
            "held": 3,
        }

    def _wait(self, call: Any) -> None:
        asyncio.run_coroutine_threadsafe(call, self._loop).result(30)

    def close(self) -> None:
        self._wait(self._server.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture
def on_server(policy_file: Path, tmp_path: Path) -> Iterator[list[str]]:
    server = RunningServer(Policy.load(policy_file), tmp_path / "control.sock")
    try:
        yield ["--store", f"control:{tmp_path / 'control.sock'}"]
    finally:
        server.close()


@pytest.fixture(params=["store", "server"])
def place(request: pytest.FixtureRequest) -> list[str]:
    options: list[str] = request.getfixturevalue(f"on_{request.param}")
    return options


def as_json(*arguments: str) -> Any:
    result = run_command(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_top_lists_the_heaviest_first(place: list[str]) -> None:
    rows = as_json("top", "-n", "2", *place)
    assert [row["subject"] for row in rows] == ["eve@xn--bcher-kva.example", "ann@uwo.ca"]
    assert [row["share"] for row in rows] == [0.9, 0.5]
    assert [each["enforce"] for each in rows[0]["usages"]] == [True, False]
    table = run_command("top", *place).stdout
    assert table.index("eve@xn--bcher") < table.index("ann@uwo.ca") < table.index("bob@uwo.ca")
    assert "90%" in table
    assert "9 of 10 messages" in " ".join(table.split())
    assert [row["subject"] for row in as_json("top", "--scope", "client", *place)] == [
        "2001:db8::/64"
    ]


RELAY = """
name = "relay"

[[tiers]]
name = "server"
when = { tag = "server" }

[[tiers.limits]]
kind = "message rate limit"
rate = "100/hour"
scope = "client"

[[tiers]]
name = "others"

[[tiers.limits]]
kind = "message rate limit"
rate = "10/hour"
scope = "submitter"
"""


@pytest.fixture(params=["store", "server"])
def relay(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[str]]:
    """Where a policy that counts nothing per sender has its counts."""
    path = tmp_path / "relay.toml"
    path.write_text(RELAY)
    policy = Policy.load(path)
    if request.param == "server":
        server = RunningServer(policy, tmp_path / "control.sock")
        try:
            yield ["--control", str(tmp_path / "control.sock")]
        finally:
            server.close()
    else:
        fill(Limiter(policy, SQLiteBackend(tmp_path / "counts.db")))
        yield ["--store", f"sqlite:///{tmp_path / 'counts.db'}", "--policy", str(path)]


def test_the_scope_is_that_of_the_policy_if_it_counts_nothing_per_sender(relay: list[str]) -> None:
    rows = as_json("top", "-n", "1", *relay)
    assert [(row["scope"], row["share"]) for row in rows] == [(["submitter"], 0.9)]
    assert [row["scope"] for row in as_json("top", "--tag", "server", *relay)] == [["client"]]
    shown = " ".join(run_command("top", *relay).stdout.split())
    assert "the tier others, for clients of which nothing is known" in shown
    assert "tier" not in run_command("top", "--tag", "server", *relay).stdout
    screen = run_command("watch", "--once", *relay).stdout
    assert "Heaviest per submitter, by the limits of the tier others" in screen


def test_a_submitter_needs_no_scope(relay: list[str]) -> None:
    [usage] = as_json("usage", "sender:ann@uwo.ca", *relay)
    assert usage["used"] == 5
    block = as_json("block", "user:ann", "--reason", "stolen", *relay)
    assert block["scope"] == ["submitter"]
    assert as_json("unblock", "user:ann", "--reason", "found", *relay) == {"was_blocked": True}
    run_command("reset", "sender:ann@uwo.ca", "--reason", "new password", *relay)
    [usage] = as_json("usage", "sender:ann@uwo.ca", *relay)
    assert usage["used"] == 0


def test_a_scope_without_limits_is_answered_with_those_that_have_some(relay: list[str]) -> None:
    for arguments in (["usage", "ann@uwo.ca"], ["top", "--scope", "sender"]):
        assert "counted per submitter" in run_command(*arguments, *relay).stdout


def test_usage_takes_a_subject_as_the_limits_compare_it(place: list[str]) -> None:
    for spelling in ("Ann+shop@UWO.ca", "ann@uwo.ca"):
        first, shadow = as_json("usage", spelling, *place)
        assert (first["used"], first["remaining"]) == (5, 5)
        assert (shadow["used"], shadow["enforce"]) == (5, False)
    [bucher, _] = as_json("usage", "eve@B\u00dcCHER.example", *place)
    assert bucher["used"] == 9
    [client] = as_json("usage", "2001:db8::99", "--scope", "client", *place)
    assert client["used"] == 15
    table = run_command("usage", "ann@uwo.ca", *place).stdout
    assert "only reported" in " ".join(table.split())


def test_a_block_is_in_force_and_says_who_and_why(place: list[str]) -> None:
    result = run_command(
        "block", "eve@bücher.example", "--reason", "account stolen", "--by", "dana", *place
    )
    assert result.exit_code == 0, result.output
    assert "eve@bücher.example is blocked until it is unblocked" in result.stdout
    assert "dana: block sender 'eve@bücher.example': account stolen" in result.stderr
    [block] = as_json("blocks", *place)
    assert block["reason"] == "account stolen (by dana)"
    assert "account stolen (by" in run_command("blocks", *place).stdout
    assert "blocked" in run_command("top", *place).stdout
    lifted = run_command(
        "unblock", "EVE@bücher.example", "--reason", "new password", "--by", "dana", *place
    )
    assert (lifted.exit_code, "may send again" in lifted.stdout) == (0, True)
    again = run_command("unblock", "eve@bücher.example", "--reason", "again", *place)
    assert again.exit_code == 1
    assert "was not blocked" in again.stderr
    assert as_json("blocks", *place) == []


def test_a_reset_empties_the_counts(place: list[str]) -> None:
    result = run_command("reset", "ann@uwo.ca", "--reason", "her own mailing", *place)
    assert result.exit_code == 0, result.output
    assert "reset sender 'ann@uwo.ca': her own mailing" in result.stderr
    assert [each["used"] for each in as_json("usage", "ann@uwo.ca", *place)] == [0, 0]


def test_a_store_remembers_what_operators_changed(on_store: list[str]) -> None:
    for number in range(3):
        run_command("reset", f"s{number}@uwo.ca", "--reason", "x", "--by", "dana", *on_store)
    run_command("block", "ann@uwo.ca", "--for", "2h", "--reason", HOSTILE[:10], *on_store)
    log = as_json("blocks", "--log", *on_store)
    assert [row["operation"] for row in log] == ["reset", "reset", "reset", "block"]
    assert (log[0]["by"], log[0]["subject"], log[3]["reason"]) == (
        "dana",
        "s0@uwo.ca",
        HOSTILE[:10],
    )
    assert "dana" in run_command("blocks", "--log", *on_store).stdout


def test_a_server_has_the_operations_in_its_log(
    on_server: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        run_command("block", "ann@uwo.ca", "--reason", "stolen", "--by", "dana", *on_server)
    assert "dana (uid" in caplog.text
    [row] = as_json("blocks", "--log", *on_server)
    assert row["by"].startswith("dana (uid")
    assert (row["operation"], row["subject"], row["reason"]) == ("block", "ann@uwo.ca", "stolen")


def test_watch_renders_one_frame(place: list[str]) -> None:
    run_command("block", "bob@uwo.ca", "--reason", "stolen", *place)
    text = run_command("watch", "--once", *place).stdout
    assert "policy campus" in text
    assert text.index("eve@xn--bcher") < text.index("ann@uwo.ca") < text.index("Blocks")
    assert "stolen" in text
    if place[1].startswith("control:"):
        assert "only reporting · up 1 min 34 s · 3 held · 1,200 requests" in " ".join(text.split())


def test_hostile_subjects_are_escaped_in_tables(on_store: list[str], policy_file: Path) -> None:
    path = on_store[1].removeprefix("sqlite:///")
    limiter = Limiter(Policy.load(policy_file), SQLiteBackend(path))
    for _ in range(10):
        assert limiter.try_acquire(Envelope(HOSTILE, ["x@example.com"]))
    limiter.block(HOSTILE, reason="[bold]x")
    for command in (["top"], ["blocks"], ["watch", "--once"]):
        output = run_command(*command, *on_store, color=True).stdout
        assert "\u202e" not in output
        assert "[red]x" in output
    assert as_json("top", *on_store)[0]["subject"] == HOSTILE


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["usage", "ann@uwo.ca"], "where are the counts?"),
        (["usage", "ann@uwo.ca", "--store", "memory:"], "--control PATH"),
        (["usage", "ann@uwo.ca", "--store", "sqlite:///x.db"], "--policy NAME is needed"),
        (["top", "--control", "/nowhere", "--policy", "x"], "leave --policy"),
        (["top", "--control", "/nowhere"], "is the server running"),
        (["top", "--store", "control:"], "the path of the control socket is missing"),
    ],
)
def test_errors_name_the_next_step(arguments: list[str], words: str) -> None:
    assert words in error_line(run_command(*arguments))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["usage"], "write SENDER"),
        (["usage", "ann"], "'ann'"),
        (["usage", "a@b.c", "--scope", "sender+client"], "write SENDER CLIENT"),
        (["usage", "x", "--scope", "color"], "not one of sender"),
        (["usage", "x", "--scope", "global"], "leave SUBJECT out"),
        (["block", "a@b.c", "--reason", "two\nlines"], "is not a line"),
        (["block", "x@uwo.ca", "--scope", "recipient", "--reason", "x"], "recipients cannot"),
        (["unblock", "a@b.c", "--reason", "x", "--by", ""], "--by"),
    ],
)
def test_errors_of_subjects_say_what_is_wrong(
    on_store: list[str], arguments: list[str], words: str
) -> None:
    assert words in error_line(run_command(*arguments, *on_store))


def test_watch_runs_until_it_is_interrupted(
    on_store: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("ratelimit_mail.cli.operate.watch.time.sleep", wait)
    result = run_command("watch", "--every", "2s", *on_store)
    assert (result.exit_code, len(waits), min(waits) >= 2) == (0, 3, True)
    assert "ann@uwo.ca" in result.stdout


def test_the_counts_of_a_server_in_shadow_and_of_one_node_are_shown(
    on_store: list[str], policy_file: Path, tmp_path: Path
) -> None:
    assert as_json("usage", "ann@uwo.ca", *on_store)[0]["enforce"]
    rows = as_json("usage", "ann@uwo.ca", "--shadow", *on_store)
    assert [(row["used"], row["enforce"]) for row in rows] == [(0, False), (5, False)]
    assert "counts all servers together" in error_line(
        run_command("top", "--node", "mail1", *on_store)
    )
    policy_file.write_text("per_node = true" + POLICY)
    backend = SQLiteBackend(tmp_path / "counts.db")
    assert Limiter(Policy.load(policy_file), backend, node="mail1").try_acquire(
        Envelope("ann@uwo.ca", ["x@example.com"])
    )
    [row] = as_json("top", "--node", "mail1", *on_store)
    assert (row["subject"], row["usages"][0]["used"]) == ("ann@uwo.ca", 1)


def test_the_environment_names_the_store(
    on_store: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RATELIMIT_MAIL_STORE", on_store[1])
    assert as_json("top", "--policy", on_store[3])[0]["share"] == 0.9


def test_the_system_log_gets_the_trail(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import socket

    path = tmp_path / "log"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind(str(path))
        log.settimeout(30)
        monkeypatch.setattr(system_log, "SOCKETS", (str(tmp_path / "missing"), str(path)))
        audit.record("block", ("sender",), HOSTILE, "dana", "stolen")
        line = log.recv(4096)
    assert line.startswith(b"<38>ratelimit-mail[")
    assert b"dana: block sender" in line
    assert "\u202e".encode() not in line


def test_the_trail_names_a_long_subject_in_full(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(system_log, "SOCKETS", ())
    long = f"{'a' * 200}@uwo.ca"
    audit.record("block", ("sender",), long, "dana", "stolen")
    audit.record("block", ("sender", "user"), (long, "\u202e" * 9000), "dana", "stolen")
    first, second = capsys.readouterr().err.splitlines()
    assert first == f"ratelimit-mail: dana: block sender '{long}': stolen"
    assert long in second
    assert len(second) < 3000


def test_the_login_name_is_behind_sudo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "root")
    monkeypatch.delenv("SUDO_USER", raising=False)
    assert audit.login_name() == "root"
    monkeypatch.setenv("SUDO_USER", "dana")
    assert audit.login_name() == "dana as root"
