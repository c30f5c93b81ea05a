"""Hostile input: only documented errors, no call over a second, and no secret in any text.

The normal run tries a few inputs of each kind; `nox -s fuzz -- 10000` tries so many of each.
"""

from __future__ import annotations

import email
import email.policy
import gzip
import os
import traceback
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from time import process_time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rlm_testkit.command_line import run_replay
from rlm_testkit.redis_backends import unique_prefix, valkey_only
from rlm_testkit.servers import Server

from ratelimit_mail import (
    Client,
    Envelope,
    Limiter,
    MessageRateLimit,
    Policy,
    RecipientLimit,
    RecipientRateLimit,
    Tier,
)
from ratelimit_mail.backends import AsyncRedisBackend, MemoryBackend, RedisBackend
from ratelimit_mail.conditions import has_tag, in_network, protocol
from ratelimit_mail.directory import Directory, MailingList
from ratelimit_mail.exceptions import PolicyFileError, RateLimitMailError
from ratelimit_mail.overrides import Exemption, Grant, Override
from ratelimit_mail.rates import parse_length, parse_rate
from ratelimit_mail.smtp_errors import pushback_seconds

pytestmark = pytest.mark.fuzz

SECRET = "S3cr3tPw"
LONGEST = 1.0
"""Seconds on the processor that one call may take."""

fuzz = settings(
    max_examples=int(os.environ.get("FUZZ_INPUTS", "15")),
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)

HOSTILE = st.text(
    st.sampled_from("aZ0.@+-_ \"'\\<>()[]{},;:/%=!#?&*\r\n\t\0\x1b\x7f\u00e9\u0130\ud800")
)
NUMBERS = st.integers() | st.floats() | st.sampled_from([2**53, -(2**63), 10**400, 1e308])
ANYTHING = (
    st.none()
    | st.booleans()
    | NUMBERS
    | HOSTILE
    | st.text(max_size=50)
    | st.binary(max_size=20)
    | st.lists(HOSTILE, max_size=3)
    | st.dictionaries(HOSTILE, NUMBERS, max_size=2)
)
LONG = st.builds(lambda piece, n: piece * n, st.text(min_size=1, max_size=4), st.integers(1, 5000))
TEXTS = HOSTILE | st.text(max_size=60) | LONG
ADDRESSES = st.builds("{}@{}".format, TEXTS, TEXTS) | TEXTS

Errors = tuple[type[Exception], ...]


def attempt(use: Callable[[], object], errors: Errors = (ValueError, TypeError)) -> str:
    """Return the texts of the error that `use` raises, if any; fail if it is another, or slow."""
    texts = [""]

    def try_it() -> None:
        try:
            use()
        except errors as error:
            texts.append("\n".join([str(error), repr(error), *chained(error)]))

    check_time(try_it)
    return texts[-1]


def check_time(use: Callable[[], object]) -> None:
    """Fail if `use` takes long each time; once, it may be a pause of the garbage collector."""
    assert any(seconds(use) <= LONGEST for _ in range(3))


def seconds(use: Callable[[], object]) -> float:
    start = process_time()
    use()
    return process_time() - start


def chained(error: BaseException) -> Iterator[str]:
    """Yield the texts of an error and those that it was raised from, without source lines."""
    for each in traceback.TracebackException.from_exception(error).format(chain=True):
        yield "\n".join(line for line in each.splitlines() if not line.startswith("    "))


LOGINS = [
    "user:{}",
    "user:{}@",
    ":{}@",
    "u:{}:x@",
    "u@h:{}@",
    "h:1,u:{}@",
    "u:{}/",
    "u:{}?@",
    "u:{}#",
]
SCHEMES = ["redis", "rediss", "unix", "redis+sentinel", "redis+cluster", "http", "memory", ""]


@given(
    st.sampled_from(SCHEMES),
    st.sampled_from(LOGINS),
    st.sampled_from(["h", "h:1", "h:x", "[::1", "h,g:2", ""]) | TEXTS,
    st.sampled_from(["/0", "/x", "/mail/0", ""]) | TEXTS,
    st.sampled_from(["", "?socket_timeout=nan", "?password={}", "?db={}", "#{}", "?{}"]) | TEXTS,
    st.sampled_from([RedisBackend, AsyncRedisBackend]),
)
@fuzz
def test_store_urls(
    scheme: str, login: str, host: str, path: str, query: str, backend: Any
) -> None:
    url = f"{scheme}://{login}{host}{path}{query}".replace("{}", SECRET)
    shown = []
    text = attempt(lambda: shown.append(repr(backend.from_url(url))))
    assert SECRET not in text + "".join(shown)


@given(ADDRESSES, st.lists(ADDRESSES, max_size=4), ANYTHING, st.sampled_from(["", "inbound"]))
@fuzz
def test_envelopes(sender: str, recipients: list[str], key: Any, direction: Any) -> None:
    attempt(lambda: Envelope(sender, recipients, id=key, direction=direction or "outbound"))
    attempt(lambda: Envelope(sender, recipients))


@given(ADDRESSES, st.lists(ADDRESSES, min_size=1, max_size=4))
@fuzz
def test_envelopes_that_a_server_let_pass_are_always_read(
    sender: str, recipients: list[str]
) -> None:
    envelope = Envelope.from_smtp(sender, recipients)
    again = Envelope.from_smtp(envelope.sender, envelope.recipients)
    assert again == envelope
    assert all(len(each) <= 320 for each in (envelope.sender, *envelope.recipients))
    check_time(lambda: LIMITER.try_acquire(envelope))


LIMITER = Limiter(
    Policy(
        name="fuzz",
        subaddress="+",
        internal_domains=["x.y", ".x.y"],
        limits=[
            MessageRateLimit("5/minute", denied="count"),
            RecipientRateLimit("9/day", scope="recipient", count="external", on_excess="reject"),
            RecipientRateLimit("9/hour", scope=["sender_domain", "recipient_domain"]),
            RecipientRateLimit("1/second", scope="submitter", on_oversize="spread"),
        ],
    ),
    MemoryBackend(),
)


@given(ADDRESSES, TEXTS | st.lists(ADDRESSES, max_size=5).map(", ".join), st.booleans())
@fuzz
def test_messages(sender: str, header: str, is_modern: bool) -> None:
    raw = f"From: {sender}\nTo: {header}\n\n".encode("utf-8", "surrogatepass")
    policy: Any = email.policy.default if is_modern else email.policy.compat32
    message = email.message_from_bytes(raw, policy=policy)
    attempt(lambda: Envelope.from_message(message))


WORDS = [
    "name",
    "limits",
    "tiers",
    "rate",
    "kind",
    "when",
    "any_of",
    "not",
    "overrides",
    "directory",
]
VALUES = [
    '"x"',
    '"recipient limit"',
    '"5/day"',
    "1",
    "-1",
    "nan",
    "[]",
    "{}",
    "[{}]",
    "1979-05-27",
    "'",
]
LINES = st.one_of(
    st.builds("{} = {}".format, st.sampled_from(WORDS), st.sampled_from(VALUES) | TEXTS),
    st.builds("[{}]".format, st.sampled_from(WORDS)),
    st.builds("[[{}]]".format, st.sampled_from(WORDS)),
    st.builds("{0}.{1} = {2}".format, *[st.sampled_from(WORDS)] * 2, st.sampled_from(VALUES)),
    TEXTS,
)


@given(st.lists(LINES, max_size=8))
@fuzz
def test_policy_files(lines: list[str]) -> None:
    text = "\n".join(['name = "fuzz"', *lines])
    policies: list[Policy] = []
    attempt(lambda: policies.append(Policy.loads(text)), (PolicyFileError, TypeError))
    for policy in policies:
        assert Policy.loads(policy.dump()) == policy


CELLS = st.sampled_from(["1", "a@x.y", "2020-01-01", "time", "sender", "recipients"]) | TEXTS


@given(st.lists(st.lists(CELLS, max_size=4), max_size=5), st.booleans(), st.booleans())
@fuzz
def test_csv_files(rows: list[list[str]], has_header: bool, is_packed: bool) -> None:
    lines = ["time,sender,recipients"] * has_header + [",".join(row) for row in rows]
    data = "\n".join(lines).encode("utf-8", "surrogatepass")
    name = f"log-{os.getpid()}.csv"
    replay(data if not is_packed else gzip.compress(data), f"{name}.gz" if is_packed else name)


@given(st.lists(TEXTS | st.just("\nFrom a@b.c Tue Nov 14 22:13:20 2023\nTo: a@b.c"), max_size=5))
@fuzz
def test_mailboxes(texts: list[str]) -> None:
    data = "\n".join(["From a@b.c Tue Nov 14 22:13:20 2023", "From: a@b.c", *texts])
    replay(data.encode("utf-8", "surrogatepass"), f"box-{os.getpid()}.mbox")


def replay(data: bytes, name: str) -> None:
    file = FOLDER[0] / name
    file.write_bytes(data)

    def run() -> None:
        result = run_replay(file, "leeds-office365", "--json")
        assert result.exit_code in (0, 2), result.exception
        assert result.exception is None or isinstance(result.exception, SystemExit)

    check_time(run)
    file.unlink()


FOLDER: list[Path] = []


@pytest.fixture(autouse=True)
def _folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    if not FOLDER:
        FOLDER.append(tmp_path_factory.mktemp("fuzz"))


CALLS: list[Callable[[Any, Any], object]] = [
    lambda a, b: Client(address=a, user=b),
    lambda a, b: Client(protocol=a, tags=b),
    lambda a, b: RecipientLimit(a, name=b),
    lambda a, b: MessageRateLimit(a, scope=b),
    lambda a, b: MessageRateLimit("5/day", share=a, resolution=b),
    lambda a, b: RecipientRateLimit("5/day", count=a, reply=b),
    lambda a, b: Tier(a, limits=b),
    lambda a, b: Policy(name="x", limits=a, internal_domains=b),
    lambda a, b: Policy(name="x", tiers=a, subaddress=b),
    lambda a, b: Policy(name="x", ipv4_prefix=a, ipv6_prefix=b),
    lambda a, b: Policy(name=a, shard_by=b),
    lambda a, b: Override(senders=a, limits={"n": b}),
    lambda a, b: Override(senders=["a@b.c"], limits=a, expected_recipients=b),
    lambda a, b: Exemption(senders=a, limits=b),
    lambda a, b: Grant(senders=["a@b.c"], starts=a, ends=b),
    lambda a, b: MailingList(a, members=b),
    lambda a, b: MailingList("l@b.c", posting=a, posters=b),
    Directory,
    lambda a, b: Directory.from_dict({a: b}),
    in_network,
    lambda a, b: (has_tag(a), protocol(b)),
    lambda a, b: (parse_rate(a), parse_length(b)),
    lambda a, b: LIMITER.usage(a, scope=b),
    lambda a, b: LIMITER.reset(a, scope=b),
    lambda a, b: LIMITER.refund(a),
    lambda a, b: LIMITER.block(a, reason=b),
    lambda a, b: LIMITER.unblock(a, scope=b),
    lambda a, b: LIMITER.pushback(a, b),
    lambda a, b: pushback_seconds(a, 5.0),
    lambda a, b: RedisBackend.from_url("redis://h", prefix=a, timeout=b),
    lambda a, b: RedisBackend.from_url(a),
    lambda a, b: Limiter(a, b),
    lambda a, b: LIMITER.try_acquire(a),
]


@given(st.sampled_from(CALLS), ANYTHING, ANYTHING)
@fuzz
def test_arguments_of_public_calls(call: Callable[[Any, Any], object], a: Any, b: Any) -> None:
    text = attempt(lambda: call(a, b), (ValueError, TypeError, RateLimitMailError))
    assert len(text) < 20_000


@given(TEXTS | st.binary(max_size=50), st.integers(400, 560))
@fuzz
def test_replies_of_providers(text: Any, code: int) -> None:
    attempt(lambda: pushback_seconds((code, text), 5.0))
    attempt(lambda: pushback_seconds(text, 5.0))


@valkey_only
def test_the_scripts_of_the_store(server: Server) -> None:
    """Subjects, ids and numbers reach the Lua scripts as they are; the answer is memory's."""
    times = count(1_700_000_000_000, 250)
    now = [next(times)]
    backend = RedisBackend.from_url(
        server.url, prefix=unique_prefix(), clock=lambda: now[0], timeout=30
    )
    memory = MemoryBackend(lambda: now[0])
    names = HOSTILE | st.sampled_from(["a", "{", "}", "a{b}c", "{a}", "\0", "\u00e9" * 50])
    rates = st.sampled_from([1, 2, 10**12])

    @given(
        names,
        st.lists(names, min_size=1, max_size=3),
        names,
        rates,
        rates,
        st.sampled_from(["sender", "recipient", "submitter", "client"]),
        st.sampled_from(["reject", "spread"]),
        st.sampled_from(["ignore", "count"]),
    )
    @fuzz
    def run(
        sender: str,
        recipients: list[str],
        key: str,
        messages: int,
        most: int,
        scope: str,
        oversize: Any,
        denied: Any,
    ) -> None:
        now[0] = next(times)
        policy = Policy(
            name="fuzz",
            limits=[
                MessageRateLimit(f"{messages}/second", denied=denied),
                RecipientRateLimit(f"{most}/100 years", scope=scope, on_oversize=oversize),
            ],
        )
        usable_id = key if key and key.isprintable() else None
        envelope = Envelope.from_smtp(sender, recipients, id=usable_id)
        answers = [Limiter(policy, each).try_acquire(envelope) for each in (memory, backend)]
        first, second = ((each.action, each.retry_after, each.limit) for each in answers)
        assert first == second

    run()
    backend.close()
