"""Invalid Redis URLs: the error says what is wrong."""

from __future__ import annotations

import math
import re
import time
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
        ("redis://one/mail", "database 'mail' is not a number"),
        ("redis://one/-1", "database '-1' is not a number"),
        ("redis://one/1/2", "database '1/2' is not a number"),
        ("rediss://one/\N{ARABIC-INDIC DIGIT ONE}", "is not a number"),
        ("redis+sentinel://one/mail/x", "database 'x' is not a number"),
        ("redis+sentinel://one/mail/0/1", "database '0/1' is not a number"),
        ("redis+cluster://one/1", "a cluster has only the database 0"),
        ("redis+sentinel://one", "service is missing"),
        ("redis+sentinel://one,,two/mail", "the host '' is neither a name"),
        ("redis+sentinel://one,/mail", "the host '' is neither a name"),
        ("redis+cluster://,one", "the host '' is neither a name"),
        ("redis://one..two/0", "the host 'one..two' is neither a name"),
        ("redis://one,two/0", r"several hosts are only possible with redis\+sentinel:// and"),
        ("unix://", "the path of the socket is missing"),
        ("redis://one/0?speed=1", "option 'speed' is not one of db, .*socket_timeout, "),
        ("unix:///run/r?speed=1", "option 'speed' is not one of"),
        ("redis+sentinel://one/mail?speed=1", "option 'speed' is not one of"),
        ("redis+cluster://one?speed=1", "option 'speed' is not one of"),
        ("redis://one?sentinel_username=eve", "option 'sentinel_username' is not one of"),
        ("redis://one?ssl_ca_certs=/etc/ca.pem", "option 'ssl_ca_certs' is not one of"),
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
        ("redis://one/0?db=x", "db: 'x' is not a whole number from 0 to 999999"),
        ("redis://one/0?db=-1", "db: '-1' is not a whole number from 0 to 999999"),
        ("unix:///run/r?db=x", "db: 'x' is not a whole number from 0 to 999999"),
        ("redis+cluster://one?db=1", "a cluster has only the database 0"),
        ("unix://run/redis.sock", "a socket has a path and no host"),
        ("redis://one/1?db=2", "two databases"),
        ("redis+sentinel://one/mail/1?db=2", "two databases"),
        ("redis://one?db=1&db=1", "option db stands there twice"),
        ("redis://one?max_connections=0", "max_connections: '0' is not a whole number from 1 to"),
        ("redis+cluster://one?max_connections=many", "max_connections: 'many' is not a whole"),
        ("redis://one?health_check_interval=-1", "health_check_interval: '-1' is not a whole"),
        ("redis://one?health_check_interval=1.5", "health_check_interval: '1.5' is not a whole"),
        ("redis://one?socket_keepalive=maybe", "socket_keepalive: 'maybe' is neither yes nor no"),
        ("redis://one?socket_keepalive=", "socket_keepalive: '' is neither yes nor no"),
        ("unix:///run/r?socket_keepalive=1", "option 'socket_keepalive' is not one of"),
        ("redis://one?decode_responses=off", "decode_responses: 'off' is neither yes nor no"),
        ("redis://one?retry_on_timeout=1", "option retry_on_timeout is not taken: each call is"),
        ("redis+cluster://one?retry_on_error=x", "option retry_on_error is not taken: each call"),
        ("redis://one?timeout=1", "option timeout is not taken: use socket_timeout and"),
        ("rediss://one?ssl_speed=1", "option 'ssl_speed' is not one of .*ssl_cert_reqs"),
        ("redis://one?ssl_cert_reqs=none", "option 'ssl_cert_reqs' is not one of"),
        ("rediss://one?ssl_cert_reqs=no", "ssl_cert_reqs: 'no' is not one of none, optional, req"),
        ("rediss://one?ssl_check_hostname=x", "ssl_check_hostname: 'x' is neither yes nor no"),
        ("rediss://one?ssl_min_version=1.2", "ssl_min_version: '1.2' is not .* 771 for TLS 1.2"),
    ],
)
def test_the_error_says_what_is_wrong_with_a_url(backend_type: Any, url: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        backend_type.from_url(url)
    before_query, question_mark, _ = url.partition("?")
    shown = f"{before_query}?***" if question_mark else url
    assert str(caught.value).startswith(f"url {shown!r}: ")


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
        "redis://one:0",
        "redis://one:65536",
        "redis+cluster://one:7000,two:99999",
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
        ("redis+sentinel://one:26379/", "the name of the service is missing"),
        ("redis://one two/0", "the host is neither a name"),
        ("redis://one:6379,two/0", "several hosts are only possible with"),
        ("redis://[::1", "special characters in a user name, a password or a path must be quoted"),
        ("redis+sentinel://one/mail#x", "special characters in a user name, a password or a path"),
        ("redis://one:6379/mail", "the database is not a number such as 0"),
        ("redis://one:6379/0?socket_timeout=nan", "socket_timeout: is not a number of seconds"),
        ("redis://one:6379/0?speed=1", "the option 'speed' is not one of db, "),
        ("redis://ann:word@one:6379/0?speed=1", "the option 'speed' is not one of db, "),
        ("redis://one/0?speed=1&password=word", "the option 'speed' is not one of db, "),
        ("redis://one/0?password=word&speed=1", "the option is not one of db, "),
    ],
)
def test_a_url_that_may_contain_a_password_is_not_quoted(
    backend_type: Any, url: str, says: str
) -> None:
    scheme = url.partition("://")[0]
    with pytest.raises(ValueError, match=re.escape(f"url {scheme}://***: {says}")):
        backend_type.from_url(url)


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
        (
            "redis+sentinel://Xone/m?sentinel_password=Xword&db=X",
            "url redis+sentinel://***: db: is",
        ),
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


def test_the_time_to_refuse_a_url_grows_with_its_length_at_most() -> None:
    def seconds(beginning: str, repeated: str, end: str, number: int) -> float:
        url = beginning + repeated * number + end
        best = math.inf
        for _ in range(3):
            begin = time.process_time()
            with pytest.raises(ValueError, match=r"^url"):
                RedisBackend.from_url(url)
            best = min(best, time.process_time() - begin)
        return best

    for beginning, repeated, end in [
        ("redis://", "a", "!"),
        ("redis://", "a.", "!"),
        ("redis://", "-_", " "),
        ("redis://[", ":", "!]"),
        ("redis+sentinel://", "a,", "!"),
        ("redis+cluster://one:", "1", ""),
        ("redis://one/", "1", ""),
        ("redis://one/", "%41", ""),
        ("redis+sentinel://one two/", "mail", ""),
        ("redis://one?", "x", "=1"),
        ("redis://one?socket_timeout=", "1", ""),
        ("redis://one?speed=", "1&a=", ""),
        ("rediss://one?ssl_include_verify_flags=", "VERIFY_DEFAULT,", "x"),
    ]:
        # A time that doubles with each character is far above this after 30 of them.
        short = seconds(beginning, repeated, end, 10_000)
        long = seconds(beginning, repeated, end, 160_000)
        assert long < 64 * short + 0.1, (beginning, repeated, end)
