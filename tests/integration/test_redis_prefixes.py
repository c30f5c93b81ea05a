"""Invalid prefixes and clocks are refused; the counts of similar prefixes are separate."""

from __future__ import annotations

from typing import Any

import pytest
from rlm_testkit.redis_backends import (
    ANN,
    POLICY,
    BackendFactory,
    envelope_from,
    one_kind_per_server,
    unique_prefix,
    used,
)
from rlm_testkit.servers import Server

from ratelimit_mail import (
    Limiter,
)
from ratelimit_mail.backends import AsyncRedisBackend, RedisBackend

prefix = pytest.fixture(unique_prefix)
backends = pytest.fixture(one_kind_per_server)


@pytest.mark.parametrize("backend_type", [RedisBackend, AsyncRedisBackend])
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
def test_an_invalid_prefix_is_refused(
    backend_type: Any, prefix: Any, kind: type[Exception]
) -> None:
    for url in ("redis://127.0.0.1", "redis+cluster://127.0.0.1"):
        with pytest.raises(kind, match="prefix: ") as caught:
            backend_type.from_url(url, prefix=prefix)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 250


@pytest.mark.parametrize("backend_type", [RedisBackend, AsyncRedisBackend])
@pytest.mark.parametrize("clock", [7, "now"])
def test_a_clock_that_is_not_callable_is_refused(backend_type: Any, clock: Any) -> None:
    with pytest.raises(TypeError, match="clock: something to call is needed, not"):
        backend_type.from_url("redis://127.0.0.1", clock=clock)


def test_the_counts_of_similar_prefixes_are_separate(
    backends: BackendFactory, server: Server, prefix: str
) -> None:
    endings = ["", ":", "%", "test:", ANN, "\u00e9", "e\u0301", "\N{SNOWMAN}", "*", "m" * 70]
    limiters = [
        Limiter(POLICY, backends.from_url(server.url, prefix=prefix + each)) for each in endings
    ]
    for i, limiter in enumerate(limiters):
        for _ in range(i + 1):
            assert limiter.try_acquire(envelope_from())
    assert [used(limiter)[0] for limiter in limiters] == [*range(1, len(endings) + 1)]
    limiters[0].reset(ANN)
    assert [used(limiter)[0] for limiter in limiters] == [0, *range(2, len(endings) + 1)]
