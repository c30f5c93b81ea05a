"""Whatever a person, a sender or a file gives takes a time that grows with its size, no faster."""

from __future__ import annotations

import email
import importlib
import ipaddress
import pkgutil
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import product
from pathlib import Path
from time import process_time
from types import ModuleType
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from limits.util import parse_many
from rlm_testkit.growth import assert_grows_linearly, grows_linearly

import ratelimit_mail
from ratelimit_mail import (
    Client,
    Envelope,
    MessageRateLimit,
    Policy,
    RecipientLimit,
    RecipientRateLimit,
    Tier,
)
from ratelimit_mail.addresses import MOST_IN_ONE_MATCH, _matcher_of_folded
from ratelimit_mail.backends import RedisBackend
from ratelimit_mail.backends.base import refusal_numbers
from ratelimit_mail.conditions import InNetwork, any_of, has_tag, in_network
from ratelimit_mail.directory import Directory, MailingList
from ratelimit_mail.events.log_listener import _Names
from ratelimit_mail.overrides import Exemption, Override
from ratelimit_mail.policy.files.toml_text import MOST_DOTS, table_of
from ratelimit_mail.policy.reachability import _lie_within, _overlap, _ranges, first_unreachable
from ratelimit_mail.policy.tiers import check_tiers
from ratelimit_mail.rates import parse_rate

# Store URLs.

URLS: dict[str, Callable[[int], str]] = {
    "a host with a wrong character": lambda n: f"redis://{'a' * n}!/0",
    "a host of many labels with a wrong one": lambda n: f"redis://{'a.' * n}!/0",
    "a blank behind a service": lambda n: f"redis+sentinel://h:1/{'a' * n} ",
    "a blank behind a service and a database": lambda n: f"redis+sentinel://h:1/{'a' * n}/0 ",
    "many hosts with a wrong one": lambda n: f"redis+cluster://{'a,' * n}b c",
    "many options": lambda n: f"redis://h/0?{'&' * n}db=1&db=2",
    "a quoted password": lambda n: f"redis://u:{'%41' * n}@h!/0",
    "many colons": lambda n: f"redis://{'a:' * n}/0",
    "many brackets": lambda n: f"redis://{'[' * n}/0",
}


@pytest.mark.parametrize("name", URLS)
def test_store_urls(name: str) -> None:
    assert_grows_linearly(RedisBackend.from_url, URLS[name], 10_000)


# Rates.


@pytest.mark.parametrize(
    "text",
    ["1/" + "1" * 90 + "x", "1/" + "1" * 90, "1 per" + " " * 90 + "x", "1/1" + " " * 90, "9" * 100],
)
def test_a_text_that_is_not_a_rate_never_reaches_the_parser_that_needs_exponential_time(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("limits.util.parse_many", pytest.fail)
    with pytest.raises(ValueError, match="is not one rate"):
        parse_rate(text)


PIECES = ["1", "30", "/", " per ", "per", " ", "\t", "5", "second", "minutes", "HOUR", "day", "s"]


@given(st.lists(st.sampled_from([*PIECES, ",", ";", "x", "month", "years", "0"]), max_size=7))
@example(["30", "/", "minutes"])
@example(["1", "/", "day", ";", "1", "/", "HOUR"])
@example(["30", "/", "5", "s"])
def test_what_is_one_rate_for_limits_is_one_here(pieces: list[str]) -> None:
    text = "".join(pieces)
    try:
        rates = parse_many(text)
    except ValueError:
        rates = []
    try:
        rate, error = parse_rate(text), ""
    except ValueError as raised:
        rate, error = None, str(raised)
    if len(rates) == 1 and "is not one rate" not in error:
        assert rate == rates[0] or error.startswith(("the rate", "the window of the rate"))
    elif text.rstrip().endswith("s") and "is not one rate" not in error:  # an abbreviation
        if rate is None:
            assert error.startswith(("the rate", "the window of the rate"))
        else:
            assert rate == parse_rate(f"{text.rstrip().removesuffix('s')}second")
    else:
        assert "is not one rate" in error
        assert len(rates) != 1


# Policy files.

FILES: dict[str, Callable[[int], str]] = {
    "a dotted key": lambda n: "a." * n + "b = 1",
    "a dotted key of quoted names": lambda n: '"a" . ' * n + "b = 1",
    "a dotted heading": lambda n: f"[{'a.' * n}b]",
    "a dotted heading of a list": lambda n: f"[[{'a.' * n}b]]",
    "a dotted key within a table": lambda n: f"x = {{ {'a.' * n}b = 1 }}",
    "a dotted key behind a string": lambda n: 'x = """a"""""\n' + "a." * n + "b = 1",
    "unknown keys": lambda n: "".join(f"k{i} = 1\n" for i in range(n)),
    "headings": lambda n: "".join(f"[k{i}]\n" for i in range(n)),
    "headings of lists": lambda n: "[[tiers]]\n" * n,
    "escapes": lambda n: f'name = "{chr(92) * 2 * n}"',
    "quotes": lambda n: f"name = {chr(34) * n}",
    "escaped quotes": lambda n: 'x = 1.5\nname = """' + '\\"""' * n,
    "a long list": lambda n: f"name = [{'1,' * n}]",
    "digits": lambda n: f"name = {'1' * n}",
    "wrong limits": lambda n: 'name = "x"\n' + '[[limits]]\nkind = "x"\n' * n,
}


@pytest.mark.parametrize("name", FILES)
def test_policy_files(name: str) -> None:
    assert_grows_linearly(Policy.loads, FILES[name], 500)


@pytest.mark.parametrize("text", [FILES[name](50) for name in FILES if "dotted" in name])
def test_a_key_with_very_many_dots_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=rf"line \d: a key has more than {MOST_DOTS} dots"):
        table_of(text)


@pytest.mark.parametrize(
    "value",
    [
        f'"{"a." * 50}"',
        f"'{'a.' * 50}'",
        f'"""\n{"a." * 50}"""""',
        f"'''\n{'a.' * 50}'''''",
        f"1 # {'a.' * 50}",
        f"[{'1.5,' * 50}]",
        f"[{'1.5, # it' * 1}\n{'1.5,' * 50}]",
    ],
)
def test_dots_elsewhere_than_in_a_key_are_not_counted(value: str) -> None:
    table_of(f"x = {value}\ny = {value}\n" + "a." * 20 + "b = 1")


# Policies.


def tiers(n: int) -> list[Tier]:
    limits = [MessageRateLimit("1/day")]
    return [Tier(f"t{i}", when=has_tag(f"w{i}"), limits=limits) for i in range(n)]


def named_limits(n: int) -> list[MessageRateLimit]:
    return [MessageRateLimit("1/day", name=f"n{i}") for i in range(n)]


def networks(n: int, start: int = 10 << 24) -> InNetwork:
    addresses = (ipaddress.ip_address(start + 512 * i) for i in range(n))
    condition = in_network(*(f"{address}/24" for address in addresses))
    assert isinstance(condition, InNetwork)
    return condition


POLICIES: dict[str, Callable[[int], dict[str, Any]]] = {
    "tiers": lambda n: {"tiers": tiers(n)},
    "tiers of few conditions": lambda n: {
        "tiers": [Tier(f"t{i}", when=has_tag(f"w{i % 10}")) for i in range(n)]
    },
    "limits": lambda n: {"limits": named_limits(n)},
    "overrides": lambda n: {
        "limits": named_limits(n),
        "overrides": [Override(senders=[f"a{i}@x.y"], limits={f"n{i}": 5}) for i in range(n)],
    },
    "overrides of one limit": lambda n: {
        "limits": named_limits(1),
        "overrides": [Override(senders=[f"a{i}@x.y"], limits={"n0": 5}) for i in range(n)],
    },
    "exemptions": lambda n: {
        "limits": named_limits(n),
        "exemptions": [Exemption(senders=[f"a{i}@x.y"], limits=[f"n{i}"]) for i in range(n)],
    },
    "internal domains": lambda n: {"internal_domains": [f"d{i}.example" for i in range(n)]},
}


@pytest.mark.parametrize("name", POLICIES)
def test_making_a_policy(name: str) -> None:
    assert_grows_linearly(lambda fields: Policy(name="x", **fields), POLICIES[name], 250)


def test_finding_tiers_that_cannot_be_reached() -> None:
    assert_grows_linearly(check_tiers, tiers, 2_000)


def test_networks_of_tiers() -> None:
    def conditions(n: int) -> list[Any]:
        return [networks(n), networks(n, 11 << 24), networks(2 * n, (10 << 24) + 256)]

    assert_grows_linearly(first_unreachable, conditions, 500)


def test_planning_a_message_under_many_overrides_and_exemptions() -> None:
    def policy(n: int) -> Policy:
        names = [f"n{i}" for i in range(n)]
        return Policy(
            name="x",
            limits=named_limits(n),
            overrides=[Override(senders=["a@x.y"], limits={name: 5}) for name in names],
            exemptions=[Exemption(senders=["a@x.y"], limits=names[: n // 2])],
        )

    def plan(policy: Policy) -> None:
        for number in range(3):  # the selection is cached
            policy.evolve(node=None).plan(Envelope("a@x.y", [f"b{number}@x.y"]))

    assert_grows_linearly(plan, policy, 100)


def test_the_product_of_tiers_and_common_limits_is_bounded() -> None:
    with pytest.raises(ValueError, match=r"^tiers: 2,000 tiers with 1,000 common limits each"):
        Policy(name="x", limits=named_limits(1_000), tiers=tiers(2_000))


def test_how_often_overrides_change_limits_is_bounded() -> None:
    common = [RecipientLimit(5, name="n") for _ in range(1_001)]
    overrides = [Override(senders=[f"a{i}@x.y"], limits={"n": 5}) for i in range(1_000)]
    with pytest.raises(ValueError, match=r"^overrides: they change limits 1,001,000 times"):
        Policy(name="x", limits=common, overrides=overrides)


def test_an_error_names_only_some_of_the_tiers_and_limits() -> None:
    covered = [Tier(f"t{i}", when=has_tag(f"w{i}")) for i in range(9)]
    last = Tier("last", when=any_of(*(has_tag(f"w{i}") for i in range(9))))
    with pytest.raises(ValueError, match=r"'t5' and 3 more before it take every such client$"):
        Policy(name="x", tiers=[*covered, last])
    override = Override(senders=["a@x.y"], limits={"zzzzzzz": 1})
    with pytest.raises(ValueError, match=r"'n108' and 188 more$"):
        Policy(name="x", limits=named_limits(200), overrides=[override])


NETWORKS = st.builds(
    lambda base, bits: ipaddress.ip_network((base << 28 & -1 << 32 - bits & 0xFFFFFFFF, bits)),
    st.integers(0, 15),
    st.integers(0, 5),
) | st.sampled_from([ipaddress.ip_network("::/0"), ipaddress.ip_network("8000::/1")])


@given(st.lists(NETWORKS, min_size=1, max_size=6), st.lists(NETWORKS, min_size=1, max_size=6))
def test_ranges_overlap_and_lie_within_each_other_as_their_networks_do(
    one: list[Any], other: list[Any]
) -> None:
    a, b = _ranges(InNetwork(tuple(one))), _ranges(InNetwork(tuple(other)))
    assert _overlap(a, b) == any(x.overlaps(y) for x in one for y in other)
    assert _lie_within(a, b) == all(
        any(x.version == y.version and x.subnet_of(y) for y in other) for x in one
    )


# Directories.

DIRECTORIES: dict[str, Callable[[int], Any]] = {
    "nested lists": lambda n: [
        MailingList(f"l{i}@x.y", members=[f"l{i + 1}@x.y"]) for i in range(n)
    ],
    "a list that contains itself": lambda n: [
        MailingList(f"l{i}@x.y", members=[f"l{(i + 1) % n}@x.y"]) for i in range(n)
    ],
    "members": lambda n: [MailingList("l@x.y", members=[f"m{i}@x.y" for i in range(n)])],
}


@pytest.mark.parametrize("name", DIRECTORIES)
def test_directories(name: str) -> None:
    assert_grows_linearly(lambda lists: Directory(lists=lists), DIRECTORIES[name], 500)


# Envelopes and messages.

ADDRESSES: dict[str, Callable[[int], str]] = {
    "source routes": lambda n: "@a:" * n + "x@y",
    "a source route without an end": lambda n: "@a," * n + "x@y",
    "quoted words": lambda n: '"a".' * n + "x@y",
    "quotes": lambda n: '"' * n + "@y",
    "escapes": lambda n: '"' + "\\" * n + "@y",
    "words with a quote at the end": lambda n: "a." * n + '"@y',
    "marks": lambda n: "\u0345\u0301" * n + "@y",
    "labels": lambda n: "x@" + "a." * n,
    "labels that are not ASCII": lambda n: "x@" + "\u0345." * n,
    "at signs": lambda n: "@" * n,
    "blanks": lambda n: "<" + " " * n + "x",
}


@pytest.mark.parametrize("name", ADDRESSES)
def test_addresses_that_a_server_let_pass(name: str) -> None:
    def use(address: str) -> None:
        Envelope.from_smtp(address, [address])

    assert_grows_linearly(use, ADDRESSES[name], 5_000)


def test_many_recipients_that_a_server_let_pass() -> None:
    def use(recipients: list[str]) -> None:
        Envelope.from_smtp("a@x.y", recipients)

    assert_grows_linearly(use, lambda n: [f'"{i}@X' for i in range(n)], 200)


RECIPIENTS: dict[str, Callable[[int], list[str]]] = {
    "plain": lambda n: [f"r{i}@x.y" for i in range(n)],
    "one address": lambda n: ["r@x.y"] * n,
    "capital letters": lambda n: [f"R{i}@x.y" for i in range(n)],
    "a domain each": lambda n: [f"r@{i}.y" for i in range(n)],
    "a wrong one at the end": lambda n: [*(f"r{i}@x.y" for i in range(n)), "r@x.y\nr@x.y"],
}


@pytest.mark.parametrize("name", RECIPIENTS)
def test_many_recipients(name: str) -> None:
    def use(recipients: list[str]) -> None:
        Envelope("a@x.y", recipients)

    assert_grows_linearly(use, RECIPIENTS[name], 500)


HEADERS = [",", "(", ")", '"', "<", "@", "a b ", '"a" ', "(a)", "a:;", "a.", "\\", "=?a?q?x"]


@pytest.mark.parametrize("piece", [*HEADERS, '"a, b" <a@b.c>, ', 'a"b, c', "<a@b", "a@b.c ", ";"])
def test_headers(piece: str) -> None:
    def message(n: int) -> Any:
        return email.message_from_string(f"From: a@b.c\nTo: {piece * n}\n\n")

    assert_grows_linearly(Envelope.from_message, message, 2_000)


@pytest.mark.parametrize("piece", [":", "1.", "1:", "/", "%", "a"])
def test_addresses_of_clients_and_networks(piece: str) -> None:
    assert_grows_linearly(lambda text: Client(address=text), lambda n: piece * n, 10_000)
    assert_grows_linearly(in_network, lambda n: piece * n, 10_000)


def test_a_reason_whose_addresses_are_hashed() -> None:
    names = _Names(b"x" * 16)
    assert_grows_linearly(names.in_text, lambda n: "a" * n, 1_000)
    assert_grows_linearly(names.in_text, lambda n: "@" * n, 1_000)


def test_the_numbers_of_refused_counts() -> None:
    limits = [RecipientRateLimit("1/day", scope="recipient", count=c) for c in ("all", "external")]
    policy = Policy(name="x", limits=limits)

    def refused(n: int) -> tuple[Any, Any]:
        charges = policy.plan(Envelope("a@x.y", [f"r{i}@x.y" for i in range(n)])).charges
        refusals = [(ledger.counts[-1], 0, 0) for ledger, _, _ in charges]
        return refusals, charges

    assert_grows_linearly(lambda both: refusal_numbers(*both), refused, 500)


# Every regular expression of the library.

METHODS = ("fullmatch", "match", "search", "sub", "split", "finditer", "findall")


CALLERS: dict[str, Callable[[str], object]] = {
    # It is used on what another pattern has matched.
    "addresses.QUOTED.sub": lambda text: Envelope.from_smtp(text, [text]),
    # The loop ends at the first string without an end.
    "policy.files.toml_text._TOKEN.finditer": lambda text: table_of(f"# {'.' * 40}\n{text}"),
}
"""Uses that are linear only as they are called: the calls."""

MADE: dict[str, list[Callable[[str], object]]] = {
    "ratelimit_mail.addresses": [_matcher_of_folded(1), _matcher_of_folded(MOST_IN_ONE_MATCH)],
}
"""Uses of the patterns that a function makes, by the module: one function in each of these."""


def modules() -> Iterator[ModuleType]:
    with suppress(ModuleNotFoundError):  # the module of Django's admin needs its settings
        importlib.import_module("rlm_testkit.django_project.ready")
    names = pkgutil.walk_packages(ratelimit_mail.__path__, "ratelimit_mail.")
    for name in sorted(each.name for each in names if not each.name.endswith("__main__")):
        yield importlib.import_module(name)


def patterns() -> Iterator[tuple[str, Callable[[str], object]]]:
    """Yield each use of a pattern in the library: its name, and the function that uses it."""
    for module in modules():
        source = Path(str(module.__file__)).read_text(encoding="utf-8")
        compiled = re.findall(r"^(\w+)(?:: Final)? = re\.compile", source, re.MULTILINE)
        assert len(re.findall(r"\bre\.(?!compile|Match|Pattern|[A-Z])\w+\(", source)) == 0
        made = MADE.get(module.__name__, [])
        assert len(compiled) + bool(made) == source.count("re.compile("), module.__name__
        for i, use in enumerate(made):
            yield f"{module.__name__} {i}", use
        for name in compiled:
            value = getattr(module, name)
            if not isinstance(value, re.Pattern):  # a method of a pattern
                yield f"{module.__name__}.{name}", value
                continue
            used = set(re.findall(rf"\b{name}\.(\w+)", source)) & set(METHODS)
            for method in sorted(used):
                label = f"{module.__name__.removeprefix('ratelimit_mail.')}.{name}.{method}"
                yield label, CALLERS.get(label) or _use(value, method)


def _use(pattern: re.Pattern[Any], method: str) -> Callable[[str], object]:
    if isinstance(pattern.pattern, bytes):
        use_bytes = getattr(pattern, method)
        if method == "finditer":
            return lambda text: sum(1 for _ in use_bytes(text.encode()))
        arguments = (b"",) if method == "sub" else ()
        return lambda text: use_bytes(*arguments, text.encode())
    if method == "sub":
        return lambda text: pattern.sub("", text)
    if method == "finditer":
        return lambda text: sum(1 for _ in pattern.finditer(text))
    use: Callable[[str], object] = getattr(pattern, method)
    return use


CHARACTERS = ["a", "1", ".", "@", " ", '"', "\\", ",", "-", ":", "[", "\n", "(", "'", "\u00e9"]
PUMPS = [
    *CHARACTERS,
    "{{",
    "{%",
    "<img ",
    "<img src",
    *(a + b for a, b in product('a1.@ "\\,', repeat=2) if a != b),
]


@pytest.mark.parametrize("use", [pytest.param(use, id=name) for name, use in patterns()])
def test_regular_expressions(use: Callable[[str], object]) -> None:
    for start, pump, end in product(["", '"'], PUMPS, ["", "!"]):
        with suppress(ValueError):
            use(start + pump * 15 + end)  # exponential time would show here
        small, large = (start + pump * n + end for n in (1_000, 16_000))
        begin = process_time()
        with suppress(ValueError):
            use(large)
        if process_time() - begin > 0.02:  # quadratic time would be far longer
            assert grows_linearly(partial(use, small), partial(use, large)), (start, pump, end)
