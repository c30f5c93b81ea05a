"""Hostile requests to the policy server: no exception, no growth, and never an open limit.

The normal run tries a few; `nox -s fuzz` ten times as many as of other inputs: 100,000.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ratelimit_mail import AsyncLimiter, MessageRateLimit, Policy
from ratelimit_mail.server.policy_service import PolicyService
from ratelimit_mail.server.postfix import (
    LONGEST_REQUEST,
    Malformed,
    PolicyConnection,
    Request,
    Stage,
)

pytestmark = pytest.mark.fuzz

fuzz = settings(
    max_examples=10 * int(os.environ.get("FUZZ_INPUTS", "3")),
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)

LIMIT = 3
POLICY = Policy(name="fuzz", limits=[MessageRateLimit(f"{LIMIT}/day", scope="global")])

STATES = st.sampled_from(["RCPT", "DATA", "BDAT", "END-OF-MESSAGE", "VRFY", "", "rcpt", "MAIL"])
VALUES = st.sampled_from(
    ["a@x.com", "", "<>", "postmaster", "0", "1", "2", "-1", "9" * 12, "\0", "%s"]
) | st.text(max_size=12)
NAMES = st.sampled_from(
    [
        "request",
        "protocol_state",
        "instance",
        "sender",
        "recipient",
        "recipient_count",
        "queue_id",
        "sasl_username",
        "client_address",
        "ccert_subject",
        "size",
        "",
        "x" * 9000,
    ]
)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Return a request that is right but for some attributes."""
    values = {
        "request": "smtpd_access_policy",
        "protocol_state": draw(STATES),
        "instance": draw(st.sampled_from(["1.6b09b13b.1.0", "1.6b09b13b.2.0", "x", "", "1 2"])),
        "recipient": draw(VALUES),
        "recipient_count": draw(st.sampled_from(["0", "1", "2", "40", "x"])),
    }
    values.update(draw(st.dictionaries(NAMES, VALUES, max_size=3)))
    lines = [f"{name}={value}\n" for name, value in values.items()]
    end = draw(st.sampled_from(["\n", "\n", "\n", "", "\r\n", "\n\n"]))
    return ("".join(lines) + end).encode("utf-8", "surrogatepass")


STREAMS = st.lists(requests() | st.binary(max_size=40), max_size=6).map(b"".join)


@pytest.fixture(scope="module", autouse=True)
def quiet() -> Iterator[None]:
    logger = logging.getLogger("ratelimit_mail")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(level)


def received(pieces: list[bytes]) -> list[Request | Malformed]:
    connection = PolicyConnection()
    events = []
    for piece in pieces:
        connection.receive_data(piece)
        while (event := connection.next_event()) is not None:
            events.append(event)
        assert len(connection._buffer) + connection._size <= LONGEST_REQUEST
    return events


@fuzz
@given(stream=STREAMS, cuts=st.lists(st.integers(0, 500), max_size=8))
def test_a_stream_is_the_same_however_it_is_split(stream: bytes, cuts: list[int]) -> None:
    whole = received([stream])
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    assert received([stream[a:b] for a, b in pairwise(edges)]) == whole
    if len(stream) < 400:
        assert received([stream[i : i + 1] for i in range(len(stream))]) == whole


@fuzz
@given(stream=STREAMS)
def test_no_stream_opens_a_limit(stream: bytes) -> None:
    async def answers() -> None:
        service = PolicyService(AsyncLimiter(POLICY), wall_clock=lambda: 1.0)
        accepted = 0
        for event in received([stream]):
            if isinstance(event, Malformed):
                action = service.answer_malformed(event, "a peer")
                assert action.startswith("DEFER")
                continue
            action = await service.answer(event, 1)
            assert action.isascii()
            assert action.isprintable()
            if event.stage is Stage.END_OF_MESSAGE and action == "DUNNO":
                accepted += 1
        await service.close()
        assert accepted <= LIMIT
        assert len(service.collector) <= 1
        assert service.stats["unavailable"] == 0

    asyncio.run(answers())
