"""Policy files: any policy that can be written is read back unchanged."""

from __future__ import annotations

import tomllib
from datetime import UTC, date, timedelta, timezone
from pathlib import Path
from typing import Any

import tomli_w
from hypothesis import assume, given
from hypothesis import strategies as st
from limits import RateLimitItemPerMonth, RateLimitItemPerSecond

from ratelimit_mail import MessageRateLimit, Policy, RecipientLimit, RecipientRateLimit, Tier
from ratelimit_mail.conditions import all_of, any_of, has_tag, in_network, not_, protocol
from ratelimit_mail.directory import Directory, MailingList
from ratelimit_mail.exceptions import PolicyFileError
from ratelimit_mail.limits import RateLimit
from ratelimit_mail.overrides import Exemption, Grant, Override
from ratelimit_mail.scopes import SCOPES

EXAMPLE = Path(__file__).parents[2] / "examples" / "campus.toml"
NAMES = ["recipients a message", "messages a minute", "3.5_x-Y", "a"]
DOMAINS = ["uwo.ca", ".uwo.ca", "bücher.example", ".xn--p1ai", "LEEDS.ac.uk", "straße.de"]
LOCALS = ["ann", "a.smith", '"a b\\"c"', "jürgen", "o'neil", "a=b", "#1", "日本"]

# Any text without surrogates, which UTF-8 cannot hold.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
names = st.none() | st.sampled_from(NAMES)
domains = st.sampled_from(DOMAINS)
addresses = st.builds(
    lambda local, domain: f"{local}@{domain.lstrip('.')}", st.sampled_from(LOCALS), domains
)
replies = st.none() | st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1)
amounts = st.integers(1, 10**12)
units = st.sampled_from(["second", "minute", "hour", "day", "month", "year"])
rates = (
    st.builds("{}/{} {}".format, amounts, st.integers(1, 90), units)
    | st.builds("{} per {}".format, amounts, units)
    | st.builds(RateLimitItemPerMonth, amounts, st.integers(1, 9))
    | st.builds(RateLimitItemPerSecond, amounts, st.integers(1, 10**6), st.just("ours"))
)


def options(**strategies: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Return a strategy for some of these keywords."""
    return st.fixed_dictionaries({}, optional=strategies)


recipient_limits = st.builds(
    lambda limit, fields: RecipientLimit(limit, **fields),
    amounts,
    options(
        name=names,
        count=st.sampled_from(["all", "external"]),
        reply=replies,
        enforce=st.booleans(),
    ),
)


@st.composite
def rate_limits(draw: st.DrawFn) -> RateLimit:
    fields = draw(
        options(
            name=names,
            direction=st.sampled_from(["outbound", "inbound"]),
            share=st.none() | st.just(1) | st.floats(0.001, 1),
            scope=st.just(("global",))
            | st.sets(st.sampled_from(SCOPES[:-1]), min_size=1).map(tuple)
            | st.sampled_from(SCOPES),
            count=st.sampled_from(["all", "external"]),
            denied=st.sampled_from(["ignore", "count"]),
            on_excess=st.sampled_from(["defer", "reject"]),
            resolution=st.sampled_from([None, "1 second", "1 minute", " 2  Seconds "]),
            reply=replies,
            enforce=st.booleans(),
        )
    )
    try:
        kind: type[RateLimit] = draw(st.sampled_from([MessageRateLimit, RecipientRateLimit]))
        return kind(draw(rates), **fields)
    except ValueError:  # these options do not go together
        assume(False)
        raise


limits = st.lists(recipient_limits | rate_limits(), max_size=3)
networks = st.sampled_from(["10.0.0.0/8", "192.0.2.1", "2001:db8::/32", "::ffff:10.1.0.0/112"])
conditions = st.recursive(
    st.builds(has_tag, texts.filter(bool))
    | st.builds(protocol, st.sampled_from(["smtp", "webmail", "api"]))
    | st.lists(networks, min_size=1, max_size=3).map(lambda some: in_network(*some)),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3).map(lambda some: any_of(*some))
        | st.lists(inner, min_size=1, max_size=3).map(lambda some: all_of(*some))
        | inner.map(not_)
    ),
    max_leaves=5,
)
zones = st.just(UTC) | st.integers(-86399, 86399).map(
    lambda seconds: timezone(timedelta(seconds=seconds))
)
moments = st.none() | st.dates(date(1000, 1, 1)) | st.datetimes(timezones=zones)
senders = st.lists(addresses | domains | st.just("<>"), min_size=1, max_size=3)
targets = st.fixed_dictionaries({"senders": senders}, optional={"when": conditions}) | (
    st.fixed_dictionaries({"when": conditions})
)
notes = options(
    reason=st.none() | texts,
    granted_by=st.none() | texts,
    starts=moments,
    ends=moments,
)
expected = st.none() | st.integers(1, 10**9)
lists = st.builds(
    lambda address, fields: MailingList(address, **fields),
    addresses,
    options(
        members=st.lists(addresses, max_size=3),
        subscription=st.sampled_from(["open", "closed"]),
        posting=st.sampled_from(["open", "moderated", "named"]),
        posters=st.lists(addresses | domains, max_size=3),
        moderators=st.lists(addresses, max_size=3),
        exempt=st.booleans(),
    ),
)
directories = st.builds(
    Directory, st.dictionaries(addresses, addresses, max_size=4), st.lists(lists, max_size=3)
)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    """Draw a policy that a file can hold."""
    try:
        common = draw(limits)
        tiers = [
            Tier(f"tier {i}", when=draw(st.none() | conditions), limits=draw(limits))
            for i in range(draw(st.integers(0, 2)))
        ]
        own = [*common, *(limit for tier in tiers for limit in tier.limits)]
        named = sorted({limit.name for limit in own if limit.name})
        overrides, exemptions = [], []
        if named:
            numbers = st.dictionaries(st.sampled_from(named), amounts, min_size=1)
            some = st.none() | st.lists(st.sampled_from(named), min_size=1)
            overrides = draw(st.lists(_each(Override, limits=numbers, more=True), max_size=2))
            exemptions = draw(st.lists(_each(Exemption, limits=some), max_size=2))
        return Policy(
            name=draw(st.sampled_from(NAMES)),
            limits=common,
            tiers=tiers,
            internal_domains=draw(st.lists(domains, max_size=3)),
            overrides=overrides,
            exemptions=exemptions,
            grants=draw(st.none() | st.lists(_each(Grant, more=True), max_size=2)),
            directory=draw(st.none() | directories),
            **draw(
                options(
                    case_sensitive=st.booleans(),
                    subaddress=st.sampled_from([None, "+", "+-", "'=`|"]),
                    ipv4_prefix=st.integers(1, 32),
                    ipv6_prefix=st.integers(1, 128),
                    proxy_address_limit=st.none() | st.integers(4, 300),
                    partial=st.booleans(),
                    per_node=st.booleans(),
                    node=names,
                    shard_by=st.none() | st.sampled_from(SCOPES),
                    override_requires=st.lists(st.sampled_from(["reason", "ends"]), max_size=2),
                )
            ),
        )
    except ValueError:  # an inconsistent directory, unreachable tiers and so on
        assume(False)
        raise


def _each(
    kind: Any, *, more: bool = False, **fields: st.SearchStrategy[Any]
) -> st.SearchStrategy[Any]:
    if more:
        fields["expected_recipients"] = expected
    return st.builds(
        lambda targets, notes, others: kind(**targets, **notes, **others),
        targets,
        notes,
        st.fixed_dictionaries(fields),
    )


@given(policies())
def test_a_dumped_policy_is_equal_when_loaded(policy: Policy) -> None:
    text = policy.dump()
    again = Policy.loads(text)
    assert again == policy
    assert again.dump() == text


junk = st.recursive(
    st.booleans() | st.integers(-5, 5) | st.floats() | st.dates() | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=4,
)


@given(st.data())
def test_random_changes_to_a_file_are_read_or_reported_line_by_line(data: st.DataObject) -> None:
    table = tomllib.loads(EXAMPLE.read_text(encoding="utf-8"))
    place: Any = table
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = data.draw(junk)
    assert is_one_line_each(problems_of(tomli_w.dumps(table)))


@given(st.text(max_size=30))
def test_text_that_is_not_toml_is_reported_in_one_line(text: str) -> None:
    assert is_one_line_each(problems_of(f'name = "a"\n{text}'))


def problems_of(text: str) -> tuple[str, ...] | None:
    """Return the problems of the text of a policy file; None if it is valid."""
    try:
        Policy.loads(text)
    except PolicyFileError as error:
        return error.problems
    return None


def is_one_line_each(problems: tuple[str, ...] | None) -> bool:
    if problems is None:
        return True
    return bool(problems) and all(line.isprintable() and len(line) < 600 for line in problems)
