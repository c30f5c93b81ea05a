"""Whatever is wrong with a URL of a Redis server, no password is shown."""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import traceback
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rlm_testkit.servers import free_port

from ratelimit_mail import Envelope, MessageRateLimit, Policy
from ratelimit_mail.backends import AsyncRedisBackend, RedisBackend
from ratelimit_mail.exceptions import BackendUnavailable

COLOURS = [RedisBackend, AsyncRedisBackend]

SECRET = "Hunter2"
DIGITS = "40404"
"""A part of a password that could be taken for a port."""


@contextlib.contextmanager
def all_logged() -> Iterator[io.StringIO]:
    """Whatever is logged, by whomever; pytest's own fixture does not go with hypothesis."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    root, level = logging.getLogger(), logging.getLogger().level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield text
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


def all_told(colour: Any, url: str, **options: Any) -> str:
    """All that anybody can read where a backend is made of a URL, or is not."""
    with all_logged() as logged:
        try:
            backend = colour.from_url(url, **options)
        except ValueError as error:
            told = [str(error), repr(error), *traceback.format_exception(error)]
        else:
            told = [str(backend), repr(backend), f"{backend}"]
    return "\n".join([*told, logged.getvalue()])


def shows(text: str) -> list[str]:
    """Which parts of the passwords of these tests stand in a text."""
    return [part for part in (SECRET, DIGITS) if part.lower() in text.lower()]


FRAMES = [
    "{scheme}://{login}one/0",
    "{scheme}://{login}one:x/0",
    "{scheme}://{login}one:6379/x",
    "{scheme}://{login}one/mail/x?y=z",
    "{scheme}://{login}[::1",
    "{scheme}://{login}one/0?socket_timeout=x",
    "{scheme}://{login}one/mail?{option}",
    "{scheme}://one:x/mail?{option}",
    "{scheme}://one/mail/0?db=x&{option}&y=z",
    "{scheme}://{login}one,two:x/mail?{option}",
]
"""URLs with something wrong, most of them."""

SCHEMES = [
    "redis",
    "rediss",
    "unix",
    "redis+sentinel",
    "rediss+sentinel",
    "redis+cluster",
    "rediss+cluster",
    "http",
    "redis+nothing",
]

passwords = st.lists(
    st.sampled_from([SECRET, DIGITS, *"@/#?:%&=[],;+ \\\"'\n\t\0.", "%40", "%zz", "\u00e9", "://"]),
    min_size=1,
    max_size=6,
).map(lambda parts: "".join([SECRET, *parts, SECRET]))


@given(st.sampled_from(FRAMES), st.sampled_from(SCHEMES), passwords, st.sampled_from(COLOURS))
def test_a_password_that_is_percent_encoded_is_never_shown(
    frame: str, scheme: str, password: str, colour: Any
) -> None:
    word = quote(password, safe="")
    for user in ("", "ann"):
        for option in (f"password={word}", f"sentinel_password={word}"):
            url = frame.format(scheme=scheme, login=f"{user}:{word}@", option=option)
            assert not shows(all_told(colour, url))


@given(st.sampled_from(FRAMES), st.sampled_from(SCHEMES), passwords, st.sampled_from(COLOURS))
@example(FRAMES[0], "redis", f"{SECRET}/x", RedisBackend)
@example(FRAMES[0], "redis+sentinel", f"{SECRET}#x", AsyncRedisBackend)
@example(FRAMES[0], "redis", f"{DIGITS}/{SECRET}", RedisBackend)
def test_a_password_that_should_have_been_percent_encoded_is_not_shown(
    frame: str, scheme: str, password: str, colour: Any
) -> None:
    for user in ("", "ann"):
        url = frame.format(scheme=scheme, login=f"{user}:{password}@", option="y=z")
        assert not shows(all_told(colour, url))


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("sign", ["/", "?", "#"])
@pytest.mark.parametrize("user", ["", "ann"])
def test_a_password_that_looks_like_a_port_is_neither_taken_for_one_nor_shown(
    colour: Any, sign: str, user: str
) -> None:
    url = f"redis://{user}:{DIGITS}{sign}{SECRET}@one/0"
    assert not shows(all_told(colour, url))
    with pytest.raises(ValueError, match=r"^url redis://\*\*\*: "):
        colour.from_url(url)


@given(st.sampled_from(FRAMES), st.sampled_from(SCHEMES), passwords, st.sampled_from(COLOURS))
@example(FRAMES[6], "http", f"{SECRET}@{SECRET}", RedisBackend)
@example(FRAMES[7], "redis", f"{SECRET}@{DIGITS}", AsyncRedisBackend)
def test_a_password_among_the_options_that_should_have_been_percent_encoded_is_not_shown(
    frame: str, scheme: str, password: str, colour: Any
) -> None:
    password = password.replace("&", "")  # behind which there is another option
    for option in (f"password={password}", f"sentinel_password={password}"):
        url = frame.format(scheme=scheme, login="", option=option)
        assert not shows(all_told(colour, url))


@given(st.sampled_from(FRAMES), st.sampled_from(SCHEMES), passwords, st.sampled_from(COLOURS))
def test_a_password_that_is_handed_in_is_not_shown(
    frame: str, scheme: str, password: str, colour: Any
) -> None:
    url = frame.format(scheme=scheme, login="", option="y=z")
    assert not shows(all_told(colour, url, password=password))


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize(
    "url",
    [
        f"redis://ann:{SECRET}@127.0.0.1:{{}}/0",
        f"redis://:{SECRET}@127.0.0.1:{{}}/0",
        f"redis://127.0.0.1:{{}}/0?password={SECRET}",
        f"rediss://ann:{SECRET}@127.0.0.1:{{}}/0",
        f"unix://ann:{SECRET}@/nowhere/{{}}",
        f"redis+sentinel://:{SECRET}@127.0.0.1:{{}}/mail?sentinel_password={SECRET}{DIGITS}",
        f"redis+cluster://ann:{SECRET}@127.0.0.1:{{}}",
    ],
)
def test_a_server_that_is_not_there_is_told_of_without_the_password(colour: Any, url: str) -> None:
    url = url.format(free_port())
    with all_logged() as logged:
        error = outage_of(colour, url)
    told = [str(error), repr(error), *traceback.format_exception(error), logged.getvalue()]
    assert not shows("\n".join(told))
    assert "is away" in str(error)


def outage_of(colour: Any, url: str) -> BackendUnavailable:
    """What a backend raises that no server answers."""
    plan = Policy(name="test", limits=[MessageRateLimit("1/minute")]).plan(
        Envelope("ann@uwo.ca", ["bob@example.com"])
    )

    def ask() -> None:
        with contextlib.closing(RedisBackend.from_url(url)) as backend:
            backend.apply(plan.charges)

    async def ask_awaited() -> None:
        async with contextlib.aclosing(AsyncRedisBackend.from_url(url)) as backend:
            await backend.apply(plan.charges)

    with pytest.raises(BackendUnavailable) as caught:
        ask() if colour is RedisBackend else asyncio.run(ask_awaited())
    return caught.value
