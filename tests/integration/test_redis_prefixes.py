"""A prefix or a clock that will not do is refused; prefixes that look alike never meet."""

from __future__ import annotations

from typing import Any

import pytest
from rlm_testkit.redis_backends import (
    ANN,
    POLICY,
    Colour,
    colour_at,
    letter,
    new_prefix,
    used,
)
from rlm_testkit.servers import Server

from ratelimit_mail import (
    Limiter,
)
from ratelimit_mail.backends import AsyncRedisBackend, RedisBackend

prefix = pytest.fixture(new_prefix)
colour = pytest.fixture(colour_at)


@pytest.mark.parametrize("made", [RedisBackend, AsyncRedisBackend])
@pytest.mark.parametrize(
    ("prefix", "kind"),
    [
        ("", ValueError),
        ("mail{1}:", ValueError),
        ("mail{", ValueError),
        ("mail}", ValueError),
        ("my mail:", ValueError),
        ("mail:\n", ValueError),
        ("mail:\0", ValueError),
        ("mail:\ud800", ValueError),
        ("m" * 101, ValueError),
        (None, TypeError),
        (b"mail:", TypeError),
        (7, TypeError),
    ],
)
def test_a_prefix_that_will_not_do_is_refused(
    made: Any, prefix: Any, kind: type[Exception]
) -> None:
    for url in ("redis://127.0.0.1", "redis+cluster://127.0.0.1"):
        with pytest.raises(kind, match="prefix: ") as caught:
            made.from_url(url, prefix=prefix)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 250


@pytest.mark.parametrize("made", [RedisBackend, AsyncRedisBackend])
@pytest.mark.parametrize("clock", [7, "now"])
def test_a_clock_is_something_to_call(made: Any, clock: Any) -> None:
    with pytest.raises(TypeError, match="clock: something to call is needed, not"):
        made.from_url("redis://127.0.0.1", clock=clock)


def test_prefixes_that_look_alike_never_meet(colour: Colour, server: Server, prefix: str) -> None:
    looks = ["", ":", "%", "test:", ANN, "\u00e9", "e\u0301", "\N{SNOWMAN}", "*", "m" * 70]
    limiters = [Limiter(POLICY, colour.at(server.url, prefix=prefix + each)) for each in looks]
    for i, limiter in enumerate(limiters):
        for _ in range(i + 1):
            assert limiter.try_acquire(letter())
    assert [used(limiter)[0] for limiter in limiters] == [*range(1, len(looks) + 1)]
    limiters[0].reset(ANN)
    assert [used(limiter)[0] for limiter in limiters] == [0, *range(2, len(looks) + 1)]
