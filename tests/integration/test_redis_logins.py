"""A refused password and missing permissions: the error says so, and nothing is left half done."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from rlm_testkit.redis_backends import (
    ANN,
    POLICY,
    BackendFactory,
    dump_all,
    envelope_from,
    one_kind_per_server,
    spare_server,
    text_of,
    unique_prefix,
    used,
)
from rlm_testkit.servers import Server, command

from ratelimit_mail import (
    Action,
    Limiter,
)
from ratelimit_mail.exceptions import BackendError, BackendUnavailable

prefix = pytest.fixture(unique_prefix)
backends = pytest.fixture(one_kind_per_server)
spare = pytest.fixture(spare_server)


# A refused login.

RIGHT, WRONG = "Hunter2", "Guess3"


@pytest.fixture
def locked(spare: Server) -> Server:
    """Return a server that requires a password."""
    with spare.client() as client:
        command(client, "CONFIG", "SET", "requirepass", RIGHT)
    return spare


@pytest.mark.parametrize("login", [f":{WRONG}@", f"ann:{WRONG}@", ""])
def test_a_wrong_password_is_reported_and_not_shown(
    login: str, backends: BackendFactory, locked: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    backend = backends.from_url(locked.url.replace("://", f"://{login}"))
    with pytest.raises(BackendError, match="password") as caught:
        Limiter(POLICY, backend).try_acquire(envelope_from())
    assert str(locked.port) in str(caught.value)
    decision = Limiter(POLICY, backend, on_backend_error="deny").try_acquire(envelope_from())
    assert (decision.action, decision.degraded) == (Action.DEFER, True)
    for text in (text_of(caught.value), repr(decision), repr(backend), caplog.text):
        assert WRONG not in text
    assert "password" in caplog.text


def test_the_right_password_is_accepted(backends: BackendFactory, locked: Server) -> None:
    limiter = Limiter(POLICY, backends.from_url(locked.url.replace("://", f"://:{RIGHT}@")))
    assert limiter.try_acquire(envelope_from())


# Missing permissions.


@pytest.fixture
def user(server: Server) -> Iterator[Callable[[str], str]]:
    """Return a function from ACL rules to the URL of a user who has only these permissions."""
    name = f"u{uuid.uuid4().hex[:8]}"

    def url_with(rules: str) -> str:
        with server.client() as client:
            command(client, "ACL", "DELUSER", name)
            command(client, "ACL", "SETUSER", name, "on", f">{RIGHT}", "&*", *rules.split())
        return server.url.replace("://", f"://{name}:{RIGHT}@")

    yield url_with
    with server.client() as client:
        command(client, "ACL", "DELUSER", name)


@pytest.mark.parametrize("rules", ["~* +@read", "~other:* +@all", "~* +@all -eval -evalsha"])
@pytest.mark.parametrize("instead", ["raise", "allow", "deny"])
def test_a_missing_permission_is_not_an_outage(
    rules: str, instead: Any, backends: BackendFactory, user: Callable[[str], str], prefix: str
) -> None:
    backend = backends.from_url(user(rules), prefix=prefix)
    limiter = Limiter(POLICY, backend, on_backend_error=instead)
    for call in (
        lambda: limiter.try_acquire(envelope_from()),
        lambda: limiter.check(envelope_from()),
        lambda: limiter.usage(ANN),
        lambda: limiter.reset(ANN),
    ):
        with pytest.raises(BackendError, match="does not permit this user") as caught:
            call()
        assert not isinstance(caught.value, BackendUnavailable)
        assert RIGHT not in text_of(caught.value)


def test_the_permissions_that_the_error_lists_are_sufficient(
    backends: BackendFactory, server: Server, user: Callable[[str], str], prefix: str
) -> None:
    backend = backends.from_url(user("~* +@connection"), prefix=prefix)
    with pytest.raises(BackendError, match="does not permit this user") as caught:
        backend.usage(*POLICY.plan(envelope_from()).charges[0][:2])
    needed = str(caught.value).partition("It calls")[2]
    rules = [f"+{word.lower()}" for word in re.findall(r"\b[A-Z]{3,}\b", needed)]
    rules_by_word = {
        "lists": "+@list",
        "strings": "+@string",
        "hashes": "+@hash",
        "sorted sets": "+@sortedset",
        "expiry": "+pexpire +pttl",
    }
    rules += [rule for word, rule in rules_by_word.items() if word in needed]
    limiter = Limiter(
        POLICY, backends.from_url(user(f"~{prefix}* {' '.join(rules)}"), prefix=prefix)
    )
    limiter.refund(limiter.try_acquire(envelope_from(envelope_id="1")))
    limiter.reserve(envelope_from()).cancel()
    limiter.settle(limiter.try_acquire(envelope_from(envelope_id="2")))
    assert limiter.reserve(envelope_from()).redeem()
    limiter.block(ANN, 60)
    limiter.unblock(ANN)
    limiter.reset(ANN)
    assert used(limiter)[0] == 0


def test_a_permission_that_is_missing_halfway_leaves_nothing_half_done(
    backends: BackendFactory, server: Server, user: Callable[[str], str], prefix: str
) -> None:
    limiter = Limiter(POLICY, backends.from_url(user("~* +@all -pexpire"), prefix=prefix))
    with pytest.raises(BackendError, match="pexpire"):
        limiter.try_acquire(envelope_from())
    with server.client() as client:
        assert dump_all(client, prefix) == {}


@pytest.mark.parametrize("missing", ["rpush", "time"])
def test_the_permission_that_a_script_needs_is_named(
    missing: str, backends: BackendFactory, server: Server, user: Callable[[str], str], prefix: str
) -> None:
    limiter = Limiter(POLICY, backends.from_url(user(f"~* +@all -{missing}"), prefix=prefix))
    with pytest.raises(BackendError, match=missing) as caught:
        limiter.try_acquire(envelope_from())
    assert not isinstance(caught.value, BackendUnavailable)
    with server.client() as client:
        assert dump_all(client, prefix) == {}


def test_a_missing_permission_is_not_reported_as_a_value_of_another_program(
    backends: BackendFactory, user: Callable[[str], str], prefix: str
) -> None:
    limiter = Limiter(POLICY, backends.from_url(user("~* +@all -lindex"), prefix=prefix))
    with pytest.raises(BackendError, match="lindex"):
        limiter.try_acquire(envelope_from())
