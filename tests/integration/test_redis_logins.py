"""A password that the server refuses, or a user who may not do all: said, nothing half done."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from rlm_testkit.redis_backends import (
    ANN,
    POLICY,
    Colour,
    colour_at,
    everything,
    letter,
    new_prefix,
    spare_server,
    text_of,
    used,
)
from rlm_testkit.servers import Server, command

from ratelimit_mail import (
    Action,
    Limiter,
)
from ratelimit_mail.exceptions import BackendError, BackendUnavailable

prefix = pytest.fixture(new_prefix)
colour = pytest.fixture(colour_at)
spare = pytest.fixture(spare_server)


# A login that the server refuses.

RIGHT, WRONG = "Hunter2", "Guess3"


@pytest.fixture
def locked(spare: Server) -> Server:
    """A server that wants a password."""
    with spare.client() as client:
        command(client, "CONFIG", "SET", "requirepass", RIGHT)
    return spare


@pytest.mark.parametrize("login", [f":{WRONG}@", f"ann:{WRONG}@", ""])
def test_a_wrong_password_is_told_of_and_not_shown(
    login: str, colour: Colour, locked: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    backend = colour.at(locked.url.replace("://", f"://{login}"))
    with pytest.raises(BackendError, match="password") as caught:
        Limiter(POLICY, backend).try_acquire(letter())
    assert str(locked.port) in str(caught.value)
    decision = Limiter(POLICY, backend, on_backend_error="deny").try_acquire(letter())
    assert (decision.action, decision.degraded) == (Action.DEFER, True)
    for text in (text_of(caught.value), repr(decision), repr(backend), caplog.text):
        assert WRONG not in text
    assert "password" in caplog.text


def test_the_right_password_is_taken(colour: Colour, locked: Server) -> None:
    limiter = Limiter(POLICY, colour.at(locked.url.replace("://", f"://:{RIGHT}@")))
    assert limiter.try_acquire(letter())


# A user who may not do everything.


@pytest.fixture
def user(server: Server) -> Iterator[Callable[[str], str]]:
    """`user(rules)` gives the URL for somebody who may do what these rules of an ACL say."""
    name = f"u{uuid.uuid4().hex[:8]}"

    def made(rules: str) -> str:
        with server.client() as client:
            command(client, "ACL", "DELUSER", name)
            command(client, "ACL", "SETUSER", name, "on", f">{RIGHT}", "&*", *rules.split())
        return server.url.replace("://", f"://{name}:{RIGHT}@")

    yield made
    with server.client() as client:
        command(client, "ACL", "DELUSER", name)


@pytest.mark.parametrize("rules", ["~* +@read", "~other:* +@all", "~* +@all -eval -evalsha"])
@pytest.mark.parametrize("instead", ["raise", "allow", "deny"])
def test_a_missing_permission_is_no_outage(
    rules: str, instead: Any, colour: Colour, user: Callable[[str], str], prefix: str
) -> None:
    backend = colour.at(user(rules), prefix=prefix)
    limiter = Limiter(POLICY, backend, on_backend_error=instead)
    for ask in (
        lambda: limiter.try_acquire(letter()),
        lambda: limiter.check(letter()),
        lambda: limiter.usage(ANN),
        lambda: limiter.reset(ANN),
    ):
        with pytest.raises(BackendError, match="does not permit this user") as caught:
            ask()
        assert not isinstance(caught.value, BackendUnavailable)
        assert RIGHT not in text_of(caught.value)


def test_who_has_what_the_error_asks_for_may_do_everything(
    colour: Colour, server: Server, user: Callable[[str], str], prefix: str
) -> None:
    backend = colour.at(user("~* +@connection"), prefix=prefix)
    with pytest.raises(BackendError, match="does not permit this user") as caught:
        backend.usage(*POLICY.plan(letter()).charges[0][:2])
    needed = str(caught.value).partition("It calls")[2]
    rules = [f"+{word.lower()}" for word in re.findall(r"\b[A-Z]{3,}\b", needed)]
    kinds = {"lists": "+@list", "strings": "+@string", "expiry": "+pexpire +pttl"}
    rules += [rule for kind, rule in kinds.items() if kind in needed]
    limiter = Limiter(POLICY, colour.at(user(f"~{prefix}* {' '.join(rules)}"), prefix=prefix))
    limiter.refund(limiter.try_acquire(letter(known_by="1")))
    limiter.reserve(letter()).cancel()
    limiter.reset(ANN)
    assert used(limiter) == [0, 0, 0]


def test_a_permission_that_is_missed_halfway_leaves_nothing_half_done(
    colour: Colour, server: Server, user: Callable[[str], str], prefix: str
) -> None:
    limiter = Limiter(POLICY, colour.at(user("~* +@all -pexpire"), prefix=prefix))
    with pytest.raises(BackendError, match="pexpire"):
        limiter.try_acquire(letter())
    with server.client() as client:
        assert everything(client, prefix) == {}


@pytest.mark.parametrize("missing", ["rpush", "time"])
def test_the_permission_that_a_script_misses_is_named(
    missing: str, colour: Colour, server: Server, user: Callable[[str], str], prefix: str
) -> None:
    limiter = Limiter(POLICY, colour.at(user(f"~* +@all -{missing}"), prefix=prefix))
    with pytest.raises(BackendError, match=missing) as caught:
        limiter.try_acquire(letter())
    assert not isinstance(caught.value, BackendUnavailable)
    with server.client() as client:
        assert everything(client, prefix) == {}


def test_a_command_that_is_not_permitted_is_not_taken_for_a_value_of_another_program(
    colour: Colour, user: Callable[[str], str], prefix: str
) -> None:
    limiter = Limiter(POLICY, colour.at(user("~* +@all -lindex"), prefix=prefix))
    with pytest.raises(BackendError, match="lindex"):
        limiter.try_acquire(letter())
