"""A user who may not run one of the commands of the scripts leaves nothing half done."""

from __future__ import annotations

import contextlib
import re
import uuid
from collections.abc import Callable, Iterator
from importlib.resources import files
from typing import Any

import pytest
import redis
from rlm_testkit.redis_backends import (
    ANN,
    BackendFactory,
    dump_all,
    envelope_from,
    one_kind_per_server,
    unique_prefix,
)
from rlm_testkit.servers import Server, command

from ratelimit_mail import Limiter, MessageRateLimit, Policy, RecipientRateLimit
from ratelimit_mail.exceptions import BackendError
from ratelimit_mail.testing import ManualClock

prefix = pytest.fixture(unique_prefix)
backends = pytest.fixture(one_kind_per_server)

LUA = files("ratelimit_mail.backends.redis") / "lua"
COMMANDS = sorted(
    {
        name
        for script in LUA.iterdir()
        for name in re.findall(
            r"\b(?:p?call|fetch)\('([A-Z]+)'", re.sub(r"--.*", "", script.read_text())
        )
    }
)
"""Every command that the scripts call."""

POLICY = Policy(
    name="test",
    limits=[
        MessageRateLimit("6/10 seconds", denied="count"),
        RecipientRateLimit("9/minute", scope="sender_domain", resolution="1 second"),
        RecipientRateLimit("5/10 seconds", scope="global", on_oversize="spread"),
    ],
)

SECRET = "Hunter2"


class Scene:
    """The same history for each call: charges, bookings and ids."""

    def __init__(self, backend: Any, clock: ManualClock) -> None:
        self.clock = clock
        self.limiter = limiter = Limiter(POLICY, backend)
        self.sent = limiter.try_acquire(envelope_from(recipients=2))
        self.batch = limiter.try_acquire_many([envelope_from()] * 2)
        clock.advance(1)
        self.by_id = limiter.try_acquire(envelope_from(envelope_id="1"))
        limiter.try_acquire(envelope_from(recipients=9))
        self.at_once = limiter.reserve(envelope_from("bob@b.org"))
        self.booked = [limiter.reserve(envelope_from()) for _ in range(3)]
        self.booked_by_id = limiter.reserve(envelope_from(envelope_id="2"))
        for sender in ("cid@c.org", "dan@d.org"):
            limiter.block(sender, 30)


Step = Callable[[Scene], object]


def after(seconds: float) -> Step:
    return lambda scene: scene.clock.advance(seconds)


def after_a_charge(scene: Scene) -> None:
    scene.clock.advance(99)
    assert scene.limiter.try_acquire(envelope_from())


def after_settling(scene: Scene) -> None:
    scene.clock.advance(10)
    scene.limiter.settle(scene.by_id)
    scene.clock.advance(1)


def acquire(sender: str = ANN, envelope_id: str | None = None, recipients: int = 1) -> Step:
    envelope = envelope_from(sender, envelope_id, recipients)
    return lambda scene: scene.limiter.try_acquire(envelope)


NEW = "new@uwo.ca"

CALLS: dict[str, tuple[Step, Step]] = {
    "charge": (after(30), acquire(NEW)),
    "charge in the same slot": (after_a_charge, acquire()),
    "charge later": (after(30), acquire()),
    "charge after a day": (after(86_400), acquire()),
    "refused": (after(0), acquire(recipients=3)),
    "spread": (after(86_400), acquire(recipients=7)),
    "check": (after(0), lambda scene: scene.limiter.check(envelope_from())),
    "batch": (
        after(30),
        lambda scene: scene.limiter.try_acquire_many(
            [envelope_from(NEW), envelope_from(), envelope_from(envelope_id="3")]
        ),
    ),
    "batch of equals": (
        after(99),
        lambda scene: scene.limiter.try_acquire_many([envelope_from()] * 3),
    ),
    "by id": (after(30), acquire(envelope_id="3")),
    "by id again": (after(0), acquire(envelope_id="1")),
    "reserve": (after(0), lambda scene: scene.limiter.reserve(envelope_from())),
    "reserve by id": (
        after(0),
        lambda scene: scene.limiter.reserve(envelope_from(envelope_id="3")),
    ),
    "refund": (after(0), lambda scene: scene.limiter.refund(scene.sent)),
    "refund of a batch": (after(0), lambda scene: scene.limiter.refund(scene.batch[0])),
    "refund by id": (after(0), lambda scene: scene.limiter.refund(scene.by_id)),
    "settle": (after(1), lambda scene: scene.limiter.settle(scene.sent)),
    "settle by id": (after(1), lambda scene: scene.limiter.settle(scene.by_id)),
    "settle a booking": (
        after(1),
        lambda scene: scene.limiter.settle(scene.booked[1].decision),
    ),
    "cancel": (after(0), lambda scene: scene.booked[1].cancel()),
    "cancel by id": (after(0), lambda scene: scene.booked_by_id.cancel()),
    "redeem early": (after(0), lambda scene: scene.booked[1].redeem()),
    "redeem": (after(60), lambda scene: scene.booked[0].redeem()),
    "redeem without room": (after_settling, lambda scene: scene.booked[0].redeem()),
    "redeem by id": (after(90), lambda scene: scene.booked_by_id.redeem()),
    "redeem at once": (after(0), lambda scene: scene.at_once.redeem()),
    "usage": (after(0), lambda scene: scene.limiter.usage(ANN)),
    "reset": (after(0), lambda scene: scene.limiter.reset(ANN)),
    "block": (after(31), lambda scene: scene.limiter.block("eva@e.org", 60)),
    "unblock": (after(0), lambda scene: scene.limiter.unblock("cid@c.org")),
}
"""What happens before each call, and the call."""


def readings(scene: Scene) -> list[object]:
    """Return what the limits hold, and what is blocked."""
    limiter = scene.limiter
    usages = [
        *limiter.usage(ANN),
        *limiter.usage(NEW),
        *limiter.usage("uwo.ca", scope="sender_domain"),
        *limiter.usage(scope="global"),
    ]
    return [
        *((usage.used, usage.remaining, usage.resets_in) for usage in usages),
        sorted(str(block.subject) for block in limiter.blocks()),
        limiter.check(envelope_from()).retry_after,
    ]


class User:
    """A user of the server who may run everything, but for a while not one command."""

    def __init__(self, server: Server, client: redis.Redis) -> None:
        self._client = client
        self._name = f"u{uuid.uuid4().hex[:8]}"
        self._set("on", f">{SECRET}", "~*", "&*", "+@all")
        self.url = server.url.replace("://", f"://{self._name}:{SECRET}@")

    def _set(self, *rules: str) -> None:
        command(self._client, "ACL", "SETUSER", self._name, *rules)

    @contextlib.contextmanager
    def without(self, name: str) -> Iterator[None]:
        self._set(f"-{name.lower()}")
        try:
            yield
        finally:
            self._set("+@all")

    def delete(self) -> None:
        command(self._client, "ACL", "DELUSER", self._name)


@pytest.fixture
def client(server: Server) -> Iterator[redis.Redis]:
    with server.client() as client:
        yield client


@pytest.fixture
def user(server: Server, client: redis.Redis) -> Iterator[User]:
    user = User(server, client)
    yield user
    user.delete()


def test_the_commands_of_the_scripts_are_known() -> None:
    assert {"RPUSH", "LSET", "LTRIM", "HSET", "HDEL", "SET", "PEXPIRE", "TIME"} <= set(COMMANDS)


@pytest.mark.parametrize("name", CALLS)
def test_without_one_command_a_call_does_everything_or_nothing(
    name: str, backends: BackendFactory, user: User, client: redis.Redis, prefix: str
) -> None:
    prepare, call = CALLS[name]

    def scene_of(own: str) -> Scene:
        clock = ManualClock()
        scene = Scene(backends.from_url(user.url, prefix=own, clock=clock), clock)
        prepare(scene)
        return scene

    usual = scene_of(f"{prefix}usual:")
    call(usual)
    refused = 0
    for missing in COMMANDS:
        scene = scene_of(f"{prefix}{missing}:")
        before, readings_before = dump_all(client, f"{prefix}{missing}:"), readings(scene)
        with user.without(missing), contextlib.suppress(BackendError):
            call(scene)
            before = {}
        if before:  # refused: then it may be called again
            # A batch takes several calls; those before the error are refunded.
            if not name.startswith("batch"):
                assert dump_all(client, f"{prefix}{missing}:") == before, missing
            assert readings(scene) == readings_before, missing
            refused += 1
            call(scene)
        assert readings(scene) == readings(usual), missing
    assert refused
