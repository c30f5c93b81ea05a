"""Invalid Redis URLs: the error says what is wrong."""

from __future__ import annotations

import re
from typing import Any

import pytest

from ratelimit_mail.backends import AsyncRedisBackend, RedisBackend

BACKEND_TYPES = [RedisBackend, AsyncRedisBackend]


@pytest.mark.parametrize("backend_type", BACKEND_TYPES)
@pytest.mark.parametrize(
    "url", ["", "one:6379", "http://one", "redis+unknown://one", " redis://one", "redis:one"]
)
def test_a_url_with_an_unknown_scheme_is_refused(backend_type: Any, url: str) -> None:
    known = r"redis://, rediss://, unix://, redis\+sentinel://, rediss\+sentinel://, redis\+cluster"
    with pytest.raises(ValueError, match=f"^url: it does not begin with one of {known}"):
        backend_type.from_url(url)


@pytest.mark.parametrize("backend_type", BACKEND_TYPES)
@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis://one:0", "port '0' is not a number from 1 to 65535"),
        ("redis://one:65536", "port '65536' is not a number from 1 to 65535"),
        ("redis+cluster://one:7000,two:99999", "port '99999' is not a number from 1 to 65535"),
        ("redis://one/mail", "database 'mail' is not a number"),
        ("redis://one/-1", "database '-1' is not a number"),
        ("redis://one/1/2", "database '1/2' is not a number"),
        ("rediss://one/\N{ARABIC-INDIC DIGIT ONE}", "is not a number"),
        ("redis+sentinel://one/mail/x", "database 'x' is not a number"),
        ("redis+sentinel://one/mail/0/1", "database '0/1' is not a number"),
        ("redis+cluster://one/1", "a cluster has only the database 0"),
        ("redis+sentinel://one", "service is missing"),
        ("redis+sentinel://one:26379/", "service is missing"),
        ("redis+sentinel://one,,two/mail", "the host '' is neither a name"),
        ("redis+sentinel://one,/mail", "the host '' is neither a name"),
        ("redis+cluster://,one", "the host '' is neither a name"),
        ("redis://one two/0", "the host 'one two' is neither a name"),
        ("redis://one..two/0", "the host 'one..two' is neither a name"),
        ("redis://one:6379,two/0", r"several hosts are only possible with redis\+sentinel:// and"),
        ("redis://one,two/0", r"several hosts are only possible with redis\+sentinel:// and"),
        ("redis://[::1", r"must be quoted, as urllib\.parse\.quote"),
        ("redis+sentinel://one/mail#x", r"must be quoted, as urllib\.parse\.quote"),
        ("unix://", "the path of the socket is missing"),
        ("redis://one/0?speed=1", "option 'speed' is not one of socket_timeout, "),
        ("unix:///run/r?speed=1", "option 'speed' is not one of"),
        ("redis+sentinel://one/mail?speed=1", "option 'speed' is not one of"),
        ("redis+cluster://one?speed=1", "option 'speed' is not one of"),
        ("redis://one?sentinel_username=eve", "option 'sentinel_username' is not one of"),
        ("redis://one?ssl_ca_certs=/etc/ca.pem", "option 'ssl_ca_certs' is not one of"),
        (
            "rediss://one/0?ssl_cert_reqs=none",
            "option 'ssl_cert_reqs' is not one of .*ssl_ca_certs",
        ),
        ("redis://one/0?socket_timeout=long", "socket_timeout: 'long' is not a number of seconds"),
        ("redis+sentinel://one/mail?socket_timeout=0", "socket_timeout: '0' is not a number of"),
        (
            "redis+cluster://one?socket_timeout=-1",
            "socket_timeout: '-1' is not a number of seconds",
        ),
        (
            "redis+cluster://one?socket_connect_timeout=nan",
            "connect_timeout: 'nan' is not a number",
        ),
        ("redis://one/0?protocol=7", "protocol: '7' is neither 2 nor 3"),
        ("redis+sentinel://one/mail?protocol=", "protocol: '' is neither 2 nor 3"),
        ("redis+cluster://one?protocol=two", "protocol: 'two' is neither 2 nor 3"),
        ("redis://one/0?db=x", "database 'x' is not a number"),
        ("redis://one/0?db=-1", "database '-1' is not a number"),
        ("unix:///run/r?db=x", "database 'x' is not a number"),
        ("redis+cluster://one?db=1", "a cluster has only the database 0"),
        ("unix://run/redis.sock", "a socket has a path and no host"),
        ("redis://one/1?db=2", "two databases"),
    ],
)
def test_the_error_says_what_is_wrong_with_a_url(backend_type: Any, url: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        backend_type.from_url(url)
    assert str(caught.value).startswith(f"url {url!r}: ")


@pytest.mark.parametrize("backend_type", BACKEND_TYPES)
@pytest.mark.parametrize(
    "url",
    [
        "redis://one:-1",
        "redis://one:mail/0",
        "redis://one:/0",
        "rediss://one:\N{ARABIC-INDIC DIGIT ONE}",
        "redis+sentinel://one:26379,two:x/mail",
        "redis://one:[::1]",
    ],
)
def test_a_port_that_is_not_a_number_is_not_quoted_because_it_may_be_a_password(
    backend_type: Any, url: str
) -> None:
    scheme = url.partition("://")[0]
    with pytest.raises(ValueError, match="the port is not") as caught:
        backend_type.from_url(url)
    assert str(caught.value) == f"url {scheme}://***: the port is not a number from 1 to 65535"


@pytest.mark.parametrize("backend_type", BACKEND_TYPES)
@pytest.mark.parametrize(
    ("url", "says"),
    [
        (
            "redis://Xann:Xword@Xone:Xmail",
            "url redis://***: the port is not a number from 1 to 65535",
        ),
        (
            "redis://Xann:Xword@Xone:65536",
            "url redis://***: the port 65536 is not a number from 1 to 65535",
        ),
        ("redis://:Xword/Xmail", "url redis://***: the port is not a number from 1 to 65535"),
        ("rediss://Xann:Xword@Xone/Xmail", "url rediss://***: the database is not a number such"),
        ("redis+cluster://Xann:Xword@Xone,,Xtwo", "url redis+cluster://***: the host is neither"),
        ("redis+sentinel://Xone/m?sentinel_password=Xword&db=X", "url redis+sentinel://***: the"),
        ("unix://Xann:Xword@/X/run?X=1", "url unix://***: the option is not one of"),
    ],
)
def test_of_a_url_with_a_login_only_numbers_are_quoted(
    backend_type: Any, url: str, says: str
) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(says)}") as caught:
        backend_type.from_url(url)
    assert "X" not in str(caught.value)


@pytest.mark.parametrize("backend_type", BACKEND_TYPES)
@pytest.mark.parametrize("url", [None, 6379, b"redis://one", ["redis://one"]])
def test_a_url_that_is_not_a_string_is_refused(backend_type: Any, url: Any) -> None:
    with pytest.raises(TypeError, match=r"url: a string is needed, not <class"):
        backend_type.from_url(url)


@pytest.mark.parametrize("backend_type", BACKEND_TYPES)
@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), 3600])
def test_a_timeout_out_of_range_is_refused(backend_type: Any, timeout: float) -> None:
    with pytest.raises(
        ValueError, match=r"timeout: .* is not a number of seconds above 0 and below"
    ):
        backend_type.from_url("redis://one", timeout=timeout)


@pytest.mark.parametrize("backend_type", BACKEND_TYPES)
@pytest.mark.parametrize("timeout", [None, "1", True])
def test_a_timeout_that_is_not_a_number_is_refused(backend_type: Any, timeout: Any) -> None:
    with pytest.raises(TypeError, match="timeout: seconds are needed, not"):
        backend_type.from_url("redis://one", timeout=timeout)
