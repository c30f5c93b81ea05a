"""Errors and reprs never show the password of a Redis URL, whatever is wrong with the URL."""

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

BACKEND_TYPES = [RedisBackend, AsyncRedisBackend]

SECRET = "Hunter2"
DIGITS = "40404"
"""A part of a password that could be taken for a port."""


@contextlib.contextmanager
def all_logged() -> Iterator[io.StringIO]:
    """Collect all log messages; pytest's fixture cannot be used with hypothesis."""
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


def all_text(backend_type: Any, url: str, **options: Any) -> str:
    """Return all text that is shown or logged when a backend is created from a URL, or fails."""
    with all_logged() as logged:
        try:
            backend = backend_type.from_url(url, **options)
        except ValueError as error:
            texts = [str(error), repr(error), *traceback.format_exception(error)]
        else:
            texts = [str(backend), repr(backend), f"{backend}"]
    return "\n".join([*texts, logged.getvalue()])


def shown_secrets(text: str) -> list[str]:
    """Return which secrets of these tests a text contains."""
    return [secret for secret in (SECRET, DIGITS) if secret.lower() in text.lower()]


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
"""URLs, most of which are invalid."""

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
).map(lambda middle: "".join([SECRET, *middle, SECRET]))


@given(st.sampled_from(FRAMES), st.sampled_from(SCHEMES), passwords, st.sampled_from(BACKEND_TYPES))
def test_a_password_that_is_percent_encoded_is_never_shown(
    frame: str, scheme: str, password: str, backend_type: Any
) -> None:
    word = quote(password, safe="")
    for user in ("", "ann"):
        for option in (f"password={word}", f"sentinel_password={word}"):
            url = frame.format(scheme=scheme, login=f"{user}:{word}@", option=option)
            assert not shown_secrets(all_text(backend_type, url))


@given(st.sampled_from(FRAMES), st.sampled_from(SCHEMES), passwords, st.sampled_from(BACKEND_TYPES))
@example(FRAMES[0], "redis", f"{SECRET}/x", RedisBackend)
@example(FRAMES[0], "redis+sentinel", f"{SECRET}#x", AsyncRedisBackend)
@example(FRAMES[0], "redis", f"{DIGITS}/{SECRET}", RedisBackend)
def test_a_password_that_should_have_been_percent_encoded_is_not_shown(
    frame: str, scheme: str, password: str, backend_type: Any
) -> None:
    for user in ("", "ann"):
        url = frame.format(scheme=scheme, login=f"{user}:{password}@", option="y=z")
        assert not shown_secrets(all_text(backend_type, url))


FORGOTTEN_HOSTS = [
    "{scheme}://{user}:{password}",
    "{scheme}://{user}:{password}/0",
    "{scheme}://{user}:{password}/x",
    "{scheme}://{user}:{password}/mail/x",
    "{scheme}://{user}:{password}/0?socket_timeout=nan",
    "{scheme}://{user}:{password}?db=x",
    "{scheme}://{user}:{password}?max_connections=0&speed=1",
    "{scheme}://{user}:{password}/0?speed=1",
    "{scheme}://{user}:{password},one/0",
    "{scheme}://one:6379,{user}:{password}/mail/x",
    "{scheme}://{user}:{password}/0#",
    "{scheme}://{user}%3A{password}%40one/0",
    "{scheme}://{user}\uff1a{password}/0",
]
"""Invalid URLs with a login, but without the @ behind it."""


@given(
    st.sampled_from(FORGOTTEN_HOSTS),
    st.sampled_from(SCHEMES),
    st.one_of(passwords, st.sampled_from([SECRET, DIGITS, DIGITS * 3, f"6379{SECRET}"])),
    st.booleans(),
    st.sampled_from(BACKEND_TYPES),
)
@example("{scheme}://{user}:{password}/0?socket_timeout=nan", "redis", SECRET, True, RedisBackend)
@example("{scheme}://{user}:{password}/x", "redis", DIGITS, True, AsyncRedisBackend)
def test_a_password_is_not_shown_if_the_host_is_missing(
    frame: str, scheme: str, password: str, is_quoted: bool, backend_type: Any
) -> None:
    word = quote(password, safe="") if is_quoted else password
    for user in ("", "ann"):
        with all_logged() as logged:
            try:
                backend_type.from_url(frame.format(scheme=scheme, user=user, password=word))
            except ValueError as error:
                texts = [str(error), repr(error), *traceback.format_exception(error)]
            else:
                return  # a valid URL: a host and a port
        assert not shown_secrets("\n".join([*texts, logged.getvalue()]))


SECRET_OPTIONS = ("password", "ssl_password", "sentinel_password")
MISSPELT_OPTIONS = ("pasword", "auth", "pass", "sentinel_pass", "secret", "token", "PASSWORD")


@given(
    st.sampled_from(["redis", "rediss", "redis+sentinel", "rediss+sentinel", "rediss+cluster"]),
    st.sampled_from(["one", "one:6379", "ann:word@one"]),
    st.sampled_from([*SECRET_OPTIONS, *MISSPELT_OPTIONS]),
    passwords,
    st.sampled_from(["", "&speed=1", "&socket_timeout=nan", "&db=x", "&max_connections=-1"]),
    st.sampled_from(BACKEND_TYPES),
)
def test_a_password_in_any_option_is_not_shown(
    scheme: str, host: str, option: str, password: str, more: str, backend_type: Any
) -> None:
    url = f"{scheme}://{host}/mail/x?{option}={quote(password, safe='')}{more}"
    assert not shown_secrets(all_text(backend_type, url))


@pytest.mark.parametrize("option", [*SECRET_OPTIONS, "client_name"])
def test_a_password_that_should_have_been_quoted_does_not_become_the_name_of_an_option(
    option: str,
) -> None:
    for behind in (SECRET.lower(), f"{SECRET.lower()}=1", f"db={SECRET}", f"db={DIGITS}x"):
        url = f"rediss+sentinel://one/mail?{option}=word"
        if option != "client_name":
            assert not shown_secrets(all_text(RedisBackend, f"{url}&{behind}"))
        else:
            assert "Hunter2" not in all_text(RedisBackend, f"{url}&{SECRET}=1")


@pytest.mark.parametrize("backend_type", BACKEND_TYPES)
@pytest.mark.parametrize("sign", ["/", "?", "#"])
@pytest.mark.parametrize("user", ["", "ann"])
def test_a_password_that_looks_like_a_port_is_not_shown(
    backend_type: Any, sign: str, user: str
) -> None:
    url = f"redis://{user}:{DIGITS}{sign}{SECRET}@one/0"
    assert not shown_secrets(all_text(backend_type, url))
    with pytest.raises(ValueError, match=r"^url redis://\*\*\*: "):
        backend_type.from_url(url)


@given(st.sampled_from(FRAMES), st.sampled_from(SCHEMES), passwords, st.sampled_from(BACKEND_TYPES))
@example(FRAMES[6], "http", f"{SECRET}@{SECRET}", RedisBackend)
@example(FRAMES[7], "redis", f"{SECRET}@{DIGITS}", AsyncRedisBackend)
def test_a_password_among_the_options_that_should_have_been_percent_encoded_is_not_shown(
    frame: str, scheme: str, password: str, backend_type: Any
) -> None:
    password = password.replace("&", "")  # which would begin another option
    for option in (f"password={password}", f"sentinel_password={password}"):
        url = frame.format(scheme=scheme, login="", option=option)
        assert not shown_secrets(all_text(backend_type, url))


@given(st.sampled_from(FRAMES), st.sampled_from(SCHEMES), passwords, st.sampled_from(BACKEND_TYPES))
def test_a_password_that_is_an_argument_is_not_shown(
    frame: str, scheme: str, password: str, backend_type: Any
) -> None:
    url = frame.format(scheme=scheme, login="", option="y=z")
    assert not shown_secrets(all_text(backend_type, url, password=password))


@pytest.mark.parametrize("backend_type", BACKEND_TYPES)
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
def test_the_error_for_a_missing_server_does_not_show_the_password(
    backend_type: Any, url: str
) -> None:
    url = url.format(free_port())
    with all_logged() as logged:
        error = outage_of(backend_type, url)
    texts = [str(error), repr(error), *traceback.format_exception(error), logged.getvalue()]
    assert not shown_secrets("\n".join(texts))
    assert "is away" in str(error)


def outage_of(backend_type: Any, url: str) -> BackendUnavailable:
    """Return the error of a backend whose server does not answer."""
    plan = Policy(name="test", limits=[MessageRateLimit("1/minute")]).plan(
        Envelope("ann@uwo.ca", ["bob@example.com"])
    )

    def apply() -> None:
        with contextlib.closing(RedisBackend.from_url(url)) as backend:
            backend.apply(plan.charges)

    async def apply_async() -> None:
        async with contextlib.aclosing(AsyncRedisBackend.from_url(url)) as backend:
            await backend.apply(plan.charges)

    with pytest.raises(BackendUnavailable) as caught:
        apply() if backend_type is RedisBackend else asyncio.run(apply_async())
    return caught.value
