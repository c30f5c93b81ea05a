"""Policy and Tier: which charges an envelope has, or which limit it can never meet."""

from __future__ import annotations

from itertools import chain, combinations, product
from operator import attrgetter
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
from ratelimit_mail.conditions import all_of, any_of, has_tag, not_, protocol
from ratelimit_mail.counting.charge import UNITS
from ratelimit_mail.counting.window import Retention
from ratelimit_mail.limits import Limit, RateLimit
from ratelimit_mail.policy.charges import ChargePlan
from ratelimit_mail.scopes import (
    SCOPES,
    named_subject,
    normal_scope,
    subject_getter,
    subject_of,
)

MINUTE = 60_000
DAY = 86_400_000
INSIDE = ["uwo.ca", ".uwo.ca"]


def envelope(*recipients: str, sender: str = "ann@uwo.ca", **client: Any) -> Envelope:
    return Envelope(sender, recipients, Client(**client))


def some(count: int, domain: str = "x.org") -> list[str]:
    return [f"user{i}@{domain}" for i in range(count)]


def policy_of(*limits: Limit) -> Policy:
    return Policy(name="p", limits=limits, internal_domains=INSIDE)


def costs(policy: Policy, envelope: Envelope) -> dict[tuple[str, str], int]:
    """What `envelope` adds to which subject of which count."""
    plan = policy.plan(envelope)
    assert plan.never is None
    found = charged(plan)
    assert len({(name, subject) for name, subject, _ in found}) == len(found)
    return {(name, subject): cost for name, subject, cost in found}


def charged(plan: ChargePlan) -> list[tuple[str, str, int]]:
    """Each count that `plan` charges, its subject, and what is added there."""
    return [
        (f"{ledger.name}:{UNITS[count.unit]}", subject, costs[count.unit])
        for ledger, subject, costs in plan.charges
        for count in ledger.counts
        if costs[count.unit] and (plan.never is None or count.counts_denied)
    ]


# Costs


def test_a_message_costs_one_of_messages_and_its_recipients_of_recipients() -> None:
    policy = policy_of(MessageRateLimit("30/minute"), RecipientRateLimit("500/day"))
    assert costs(policy, envelope("a@x.org", "b@x.org", "a@X.ORG")) == {
        ("p:sender:messages", "ann@uwo.ca"): 1,
        ("p:sender:recipients", "ann@uwo.ca"): 2,
    }


@pytest.mark.parametrize(
    ("recipients", "messages", "cost"),
    [
        (["a@x.org"], 1, 1),
        (["a@x.org", "b@uwo.ca"], 1, 1),
        (["a@x.org", "b@uwo.ca", "c@mail.uwo.ca", "d@y.org"], 1, 2),
        (["a@notuwo.ca"], 1, 1),
        (["a@uwo.ca.x.org"], 1, 1),
        (["b@UWO.ca", "c@deep.mail.uwo.ca"], 0, 0),
    ],
)
def test_only_external_recipients_count_where_a_limit_says_so(
    recipients: list[str], messages: int, cost: int
) -> None:
    policy = policy_of(
        MessageRateLimit("30/minute", count="external"),
        RecipientRateLimit("500/day", count="external"),
    )
    expected = {
        ("p:sender:external messages", "ann@uwo.ca"): messages,
        ("p:sender:external recipients", "ann@uwo.ca"): cost,
    }
    assert costs(policy, envelope(*recipients)) == {k: n for k, n in expected.items() if n}


def test_internal_recipients_count_where_a_limit_counts_all() -> None:
    policy = policy_of(
        RecipientRateLimit("500/day"), RecipientRateLimit("50/day", count="external")
    )
    assert costs(policy, envelope("a@uwo.ca", "b@x.org")) == {
        ("p:sender:recipients", "ann@uwo.ca"): 2,
        ("p:sender:external recipients", "ann@uwo.ca"): 1,
    }


def test_without_internal_domains_everybody_is_external() -> None:
    policy = Policy(name="p", limits=[RecipientRateLimit("5/day", count="external")])
    assert list(costs(policy, envelope("a@uwo.ca", "b@x.org")).values()) == [2]


def test_a_domain_literal_is_internal_where_it_is_named() -> None:
    limit = RecipientRateLimit("5/day", count="external")
    policy = Policy(name="p", limits=[limit], internal_domains=["[192.0.2.1]"])
    assert list(costs(policy, envelope("a@[192.0.2.1]", "a@[192.0.2.2]")).values()) == [1]


def test_a_policy_without_limits_charges_nothing() -> None:
    assert costs(Policy(name="p"), envelope(*some(1000))) == {}


def test_planning_is_pure() -> None:
    policy, mail = policy_of(RecipientRateLimit("5/day", scope="recipient")), envelope(*some(3))
    assert policy.plan(mail) == policy.plan(mail)


# Counts


def test_limits_of_one_scope_and_unit_are_windows_of_one_count() -> None:
    minute, day = MessageRateLimit("30/minute"), MessageRateLimit("500/day", denied="count")
    policy = policy_of(minute, RecipientRateLimit("9/day"), day)
    ((ledger, _, _),) = policy.plan(envelope("a@x.org")).charges
    messages, _ = ledger.counts
    assert [(w.limit, w.length, w.denied) for w in messages.windows] == [
        (30, MINUTE, False),
        (500, DAY, True),
    ]
    effective = policy.plan(envelope("a@x.org")).effective_limits
    assert [effective.limit_of(messages, i) for i in (0, 1)] == [minute, day]
    assert (messages.smallest, messages.counts_denied) == (30, True)


def test_a_counts_name_tells_neither_limit_nor_window_nor_tier() -> None:
    strict = Tier("strict", when=has_tag("x"), limits=[MessageRateLimit("1/second")])
    lax = Tier("lax", limits=[MessageRateLimit("9/day", denied="count", resolution="1 second")])
    policy = Policy(name="p", tiers=[strict, lax])
    names = {
        name
        for tags in ("x", "y")
        for name, _, _ in charged(policy.plan(envelope("a@x.org", tags={tags})))
    }
    assert names == {"p:sender:messages"}


def test_a_log_is_kept_as_long_as_the_longest_window_of_any_tier() -> None:
    policy = Policy(
        name="p",
        tiers=[
            Tier("a", when=has_tag("a"), limits=[MessageRateLimit("9/minute", denied="count")]),
            Tier("b", limits=[MessageRateLimit("5/day")]),
        ],
    )
    (charge,) = policy.plan(envelope("a@x.org", tags={"a"})).charges
    assert charge[0].counts[0].retention == Retention(DAY, 1, 9)
    assert charge[0].span == DAY


def test_a_coarse_log_serves_each_of_its_windows_exactly() -> None:
    policy = policy_of(
        MessageRateLimit("9/minute", resolution="6 seconds"),
        MessageRateLimit("99/day", resolution="10 seconds"),
    )
    (charge,) = policy.plan(envelope("a@x.org")).charges
    assert charge[0].counts[0].retention == Retention(DAY + 9_999, 2_000, 0)
    assert charge[0].span == DAY + 9_999


ALL_SCOPES = [
    *chain.from_iterable(combinations(SCOPES[:-1], size) for size in range(1, len(SCOPES))),
    ("global",),
]
KINDS = [
    (kind, count)
    for kind in (MessageRateLimit, RecipientRateLimit)
    for count in ("all", "external")
]


def test_no_two_ledgers_share_a_name() -> None:
    limits = [
        kind("5/day", scope=scope, count=count)  # type: ignore[arg-type]
        for scope in ALL_SCOPES
        for kind, count in KINDS
    ]
    ledgers = [
        ledger
        for name in ("p", "p-p", "p p", "sender", "p.sender")
        for scope in ALL_SCOPES
        for ledger in Policy(name=name, limits=limits).ledgers_of(scope)
    ]
    assert len(ledgers) == len({ledger.name for ledger in ledgers}) == 5 * len(ALL_SCOPES)
    for ledger in ledgers:
        assert sorted(count.unit for count in ledger.counts) == [*range(len(UNITS))]


def test_ledgers_of_a_scope_are_those_of_every_tier_once() -> None:
    policy = Policy(
        name="p",
        limits=[MessageRateLimit("5/day")],
        tiers=[
            Tier("a", when=has_tag("a"), limits=[RecipientRateLimit("5/day")]),
            Tier(
                "b", limits=[RecipientRateLimit("5/day"), MessageRateLimit("5/day", scope="user")]
            ),
        ],
    )
    assert [ledger.name for ledger in policy.ledgers_of(("sender",))] == ["p:sender"]
    assert [ledger.name for ledger in policy.ledgers_of(("user",))] == ["p:user"]
    assert policy.ledgers_of(("client",)) == []


# Scopes and subjects

FULL = envelope("b@x.org", "c@x.org", "b@y.org", address="10.0.0.1", user="ann")
SUBJECTS: list[tuple[Any, dict[str, int]]] = [
    ("sender", {"ann@uwo.ca": 3}),
    ("client", {"10.0.0.1": 3}),
    ("user", {"ann": 3}),
    ("sender_domain", {"uwo.ca": 3}),
    ("global", {"": 3}),
    ("recipient", {"b@x.org": 1, "c@x.org": 1, "b@y.org": 1}),
    ("recipient_domain", {"x.org": 2, "y.org": 1}),
    (("sender", "client"), {"10:ann@uwo.ca8:10.0.0.1": 3}),
    (("user", "recipient_domain"), {"3:ann5:x.org": 2, "3:ann5:y.org": 1}),
    (
        ("recipient", "recipient_domain"),
        {"7:b@x.org5:x.org": 1, "7:c@x.org5:x.org": 1, "7:b@y.org5:y.org": 1},
    ),
]


@pytest.mark.parametrize(("scope", "subjects"), SUBJECTS)
def test_recipients_are_charged_to_the_subjects_of_a_scope(
    scope: Any, subjects: dict[str, int]
) -> None:
    found = costs(policy_of(RecipientRateLimit("5/day", scope=scope)), FULL)
    assert {subject: cost for (_, subject), cost in found.items()} == subjects


@pytest.mark.parametrize(("scope", "subjects"), SUBJECTS)
def test_a_message_is_one_message_for_each_subject_of_a_scope(
    scope: Any, subjects: dict[str, int]
) -> None:
    found = costs(policy_of(MessageRateLimit("5/day", scope=scope)), FULL)
    assert {subject: cost for (_, subject), cost in found.items()} == dict.fromkeys(subjects, 1)


@pytest.mark.parametrize("kind", [MessageRateLimit, RecipientRateLimit])
def test_internal_recipients_are_no_subjects_of_an_external_limit(kind: Any) -> None:
    policy = policy_of(kind("5/day", scope="recipient", count="external"))
    found = costs(policy, envelope("b@uwo.ca", "b@x.org", "c@mail.uwo.ca"))
    assert [subject for _, subject in found] == ["b@x.org"]


@pytest.mark.parametrize("scope", ["client", "user"])
def test_an_unknown_client_is_a_subject_of_its_own(scope: str) -> None:
    policy = policy_of(MessageRateLimit("5/day", scope=scope))
    unknown = costs(policy, envelope("b@x.org"))
    known = costs(policy, envelope("b@x.org", address="10.0.0.1", user="ann"))
    assert len(unknown) == len(known) == 1
    assert unknown.keys().isdisjoint(known)


def test_the_null_sender_is_a_subject_of_its_own() -> None:
    policy = policy_of(MessageRateLimit("5/day", scope=["sender", "sender_domain"]))
    null = costs(policy, envelope("b@x.org", sender=""))
    assert null == costs(policy, envelope("b@x.org", sender="<>"))
    assert null.keys().isdisjoint(costs(policy, envelope("b@x.org")))


TRIPLE = ("sender", "client", "recipient")


def test_no_two_combined_subjects_are_one_string() -> None:
    tricky = ["".join(text) for size in range(3) for text in product(":1a", repeat=size)]
    subjects = {
        subject_of(TRIPLE, dict(zip(TRIPLE, parts, strict=True)))
        for parts in product(tricky, repeat=3)
    }
    assert len(subjects) == len(tricky) ** 3


@given(st.text(st.sampled_from(":+0123é\n"), max_size=12), st.data())
@settings(deadline=None)
def test_however_a_string_is_split_its_parts_are_told_apart(text: str, data: st.DataObject) -> None:
    cut = st.integers(0, len(text))

    def split() -> tuple[str, str]:
        at = data.draw(cut)
        return text[:at], text[at:]

    one, other = split(), split()
    first, second = (
        subject_of(TRIPLE[:2], dict(zip(TRIPLE, x, strict=False))) for x in (one, other)
    )
    assert (first == second) == (one == other)


@given(st.tuples(st.text(), st.text()), st.tuples(st.text(), st.text()))
@settings(deadline=None)
def test_combined_subjects_are_equal_iff_their_parts_are(
    one: tuple[str, str], other: tuple[str, str]
) -> None:
    first, second = (
        subject_of(TRIPLE[:2], dict(zip(TRIPLE, x, strict=False))) for x in (one, other)
    )
    assert (first == second) == (one == other)


@pytest.mark.parametrize(
    ("scope", "value"),
    [
        ("sender", "ann@UWO.ca"),
        ("client", "::ffff:10.0.0.1"),
        ("user", "ann"),
        ("sender_domain", "UWO.ca"),
        ("global", None),
        ("recipient", "b@X.org"),
        ("recipient_domain", "X.org"),
        (("client", "sender"), ("10.0.0.1", "ann@uwo.ca")),
        (("recipient_domain", "user"), ("y.ORG", "ann")),
    ],
)
def test_a_subject_that_is_named_is_the_one_that_is_charged(scope: Any, value: Any) -> None:
    found = costs(policy_of(RecipientRateLimit("5/day", scope=normal_scope(scope))), FULL)
    assert named_subject(scope, value) in [subject for _, subject in found]


@pytest.mark.parametrize(
    ("scope", "value", "named"),
    [
        ("sender", None, "None"),
        ("sender", ["a@x.org", "b@x.org"], "['a@x.org', 'b@x.org']"),
        ("sender", "nonsense", "'nonsense'"),
        ("client", "nonsense", "'nonsense'"),
        ("user", "a\nb", r"'a\nb'"),
        ("recipient_domain", "b@x.org", "'b@x.org'"),
        (("sender", "client"), "a@x.org", "'a@x.org'"),
        (("sender", "client"), (), "()"),
        ("global", "a@x.org", "'a@x.org'"),
        ("planet", "a@x.org", "'planet'"),
    ],
)
def test_no_subject_is_named_with_what_is_wrong(scope: Any, value: Any, named: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is checked below
        named_subject(scope, value)
    assert named in str(caught.value)
    assert str(caught.value).isprintable()


def test_the_domain_of_the_null_sender_can_be_named() -> None:
    policy = policy_of(MessageRateLimit("5/day", scope="sender_domain"))
    ((_, subject),) = costs(policy, envelope("b@x.org", sender="<>"))
    assert named_subject("sender_domain", subject) == subject


@pytest.mark.parametrize(
    ("scope", "value"),
    [("client", ""), ("user", ""), (["sender", "client"], ["ann@uwo.ca", ""])],
)
def test_the_empty_string_names_those_who_do_not_tell(scope: Any, value: Any) -> None:
    policy = policy_of(MessageRateLimit("5/day", scope=scope))
    ((_, subject),) = costs(policy, envelope("b@x.org"))
    assert named_subject(scope, value) == subject
    limiter = Limiter(policy)
    limiter.try_acquire(envelope("b@x.org"))
    assert limiter.usage(value, scope=scope)[0].used == 1


@pytest.mark.parametrize("scope", ["recipient", "recipient_domain"])
def test_the_empty_string_names_nobody_where_each_message_tells(scope: str) -> None:
    with pytest.raises(ValueError, match=r"empty|'' is no domain"):
        named_subject(scope, "")


def test_a_subject_of_one_part_is_read_without_a_function_of_ours() -> None:
    assert isinstance(subject_getter(("sender",)), attrgetter)
    assert isinstance(subject_getter(("sender_domain",)), attrgetter)


@pytest.mark.parametrize(
    ("scope", "value"),
    [
        ("sender", 5),
        ("sender_domain", [5]),
        ("client", 5),
        (["sender", "user"], ["a@x.org", 5]),
    ],
)
def test_a_subject_that_is_no_string_is_named(scope: Any, value: Any) -> None:
    with pytest.raises(TypeError, match=r"not 5|5 does not"):
        named_subject(scope, value)


# Never


@pytest.mark.parametrize(
    ("limit", "fits", "never"),
    [
        (RecipientLimit(3), some(3), some(4)),
        (RecipientLimit(3), [*some(2), "b@uwo.ca"], [*some(3), "b@uwo.ca"]),
        (RecipientLimit(3, count="external"), [*some(3), "b@uwo.ca"], some(4)),
        (RecipientRateLimit("3/day"), some(3), some(4)),
        (RecipientRateLimit("3/day", scope="global"), some(3), some(4)),
        (RecipientRateLimit("3/day", count="external"), [*some(3), *some(9, "uwo.ca")], some(4)),
        (
            RecipientRateLimit("3/day", scope="recipient_domain"),
            [*some(3), *some(3, "y.org")],
            some(4),
        ),
        (RecipientRateLimit("1/day", scope="recipient"), some(9), []),
        (MessageRateLimit("1/day"), some(9), []),
    ],
)
def test_what_could_not_go_even_with_empty_counts_never_fits(
    limit: Limit, fits: list[str], never: list[str]
) -> None:
    policy = policy_of(limit)
    assert policy.plan(envelope(*fits)).never is None
    if never:
        assert policy.plan(envelope(*never)).never == limit


def test_the_smallest_limit_that_is_exceeded_speaks() -> None:
    large, small = RecipientRateLimit("9/day"), RecipientRateLimit("3/minute")
    assert policy_of(large, small).plan(envelope(*some(10))).never == small
    assert policy_of(large, small).plan(envelope(*some(4))).never == small


def test_a_message_that_never_fits_is_charged_where_refused_attempts_count() -> None:
    policy = policy_of(
        MessageRateLimit("9/day", denied="count"),
        RecipientRateLimit("3/day", denied="ignore"),
        RecipientRateLimit("9/day", scope="recipient_domain", denied="count"),
    )
    plan = policy.plan(envelope(*some(4)))
    assert charged(plan) == [
        ("p:sender:messages", "ann@uwo.ca", 1),
        ("p:recipient_domain:recipients", "x.org", 4),
    ]


def test_a_recipient_limits_refusal_counts_nowhere() -> None:
    policy = policy_of(RecipientLimit(3), RecipientRateLimit("2/day", denied="count"))
    plan = policy.plan(envelope(*some(4)))
    assert (plan.never, plan.charges) == (RecipientLimit(3), [])


# Tiers


def tiered() -> Policy:
    return Policy(
        name="p",
        limits=[RecipientLimit(5)],
        tiers=[
            Tier("web", when=protocol("webmail"), limits=[MessageRateLimit("1/day")]),
            Tier("air", when=has_tag("wireless"), limits=[RecipientRateLimit("9/day")]),
        ],
    )


@pytest.mark.parametrize(
    ("client", "tier", "names"),
    [
        ({"protocol": "webmail"}, "web", ["p:sender:messages"]),
        ({"protocol": "webmail", "tags": {"wireless"}}, "web", ["p:sender:messages"]),
        ({"protocol": "smtp", "tags": {"wireless"}}, "air", ["p:sender:recipients"]),
        ({}, None, []),
    ],
)
def test_the_first_tier_whose_condition_holds_is_the_one(
    client: dict[str, Any], tier: str | None, names: list[str]
) -> None:
    plan = tiered().plan(envelope("b@x.org", **client))
    assert plan.effective_limits.tier == tier
    assert [name for name, _, _ in charged(plan)] == names


@pytest.mark.parametrize("client", [{"protocol": "webmail"}, {"tags": {"wireless"}}, {}])
def test_everybody_meets_the_common_limits(client: dict[str, Any]) -> None:
    assert tiered().plan(envelope(*some(6), **client)).never == RecipientLimit(5)


def test_a_tier_without_a_condition_takes_the_rest() -> None:
    policy = Policy(name="p", tiers=[Tier("web", when=protocol("webmail")), Tier("rest")])
    assert policy.plan(envelope("b@x.org")).effective_limits.tier == "rest"


A, B, C = has_tag("a"), has_tag("b"), has_tag("c")


@pytest.mark.parametrize(
    ("tiers", "wanted"),
    [
        ([Tier("one"), Tier("two")], "'two' can never be reached, because 'one' before it"),
        ([Tier("one"), Tier("two", when=A)], "'two' can never be reached"),
        ([Tier("one", when=A), Tier("two", when=has_tag("a"))], "'two' can never be reached"),
        (
            [Tier("one", when=any_of(A, B)), Tier("x", when=C), Tier("two", when=any_of(A, B))],
            "'two' can never be reached, because 'one' before it",
        ),
        ([Tier("one", when=A), Tier("one", when=B)], "two of them are named 'one'"),
    ],
)
def test_a_tier_that_can_never_be_reached_is_an_error(tiers: list[Tier], wanted: str) -> None:
    with pytest.raises(ValueError, match=wanted):
        Policy(name="p", tiers=tiers)


@pytest.mark.parametrize(
    "conditions",
    [
        [any_of(A, B), A],
        [A, all_of(A, B)],
        [any_of(A, B), any_of(B, A)],
        [A, not_(A), B],
        [all_of(A, not_(A))],
    ],
)
def test_a_tier_that_earlier_ones_leave_nobody_is_an_error(conditions: list[Any]) -> None:
    tiers = [Tier(f"tier {i}", when=when) for i, when in enumerate(conditions)]
    with pytest.raises(ValueError, match="can never be reached"):
        Policy(name="p", tiers=tiers)


# Nonsense


@pytest.mark.parametrize("make", [lambda name: Policy(name=name), Tier])
@pytest.mark.parametrize("name", ["a", "western-office365", "Tier 2", "a.b_c", "x" * 64])
def test_a_name_is_kept_as_written(make: Any, name: str) -> None:
    assert make(name).name == name


@pytest.mark.parametrize("make", [lambda name: Policy(name=name), Tier])
@pytest.mark.parametrize(
    ("name", "error", "wanted"),
    [
        ("a:b", ValueError, "1 to 64 letters"),
        ("", ValueError, "1 to 64 letters"),
        ("x" * 65, ValueError, "1 to 64 letters"),
        ("x" * 10_000, ValueError, "1 to 64 letters"),
        ("a\n", ValueError, "1 to 64 letters"),
        ("büro", ValueError, "1 to 64 letters"),
        ("{a}", ValueError, "1 to 64 letters"),
        (None, TypeError, "a name is a string"),
        (5, TypeError, "a name is a string"),
        (b"a", TypeError, "a name is a string"),
    ],
)
def test_no_name_is_named_with_what_one_is(
    make: Any, name: Any, error: type[Exception], wanted: str
) -> None:
    with pytest.raises(error, match=wanted) as caught:
        make(name)
    assert repr(name)[:40] in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("make", [Policy, Tier])
@pytest.mark.parametrize(
    ("limits", "named"),
    [
        (5, "5"),
        (None, "None"),
        (RecipientLimit(5), "RecipientLimit(limit=5"),
        ("5/day", "'5'"),
        (["5/day"], "'5/day'"),
        ([None], "None"),
        ([RecipientLimit(5), RecipientLimit], "RecipientLimit"),
        ([RateLimit("5/day")], "RateLimit(rate=5 per 1 day"),
    ],
)
def test_limits_that_are_none_are_named(make: Any, limits: Any, named: str) -> None:
    with pytest.raises(TypeError, match=r"^limits: ") as caught:
        make(name="p", limits=limits)
    assert named in str(caught.value)


@pytest.mark.parametrize("when", [5, "wireless", Client()])
def test_a_condition_that_is_none_is_named(when: Any) -> None:
    with pytest.raises(TypeError, match=r"tier 't': when: .* such as has_tag") as caught:
        Tier("t", when=when)
    assert repr(when)[:40] in str(caught.value)


@pytest.mark.parametrize("tiers", [5, None, ["rest"], Tier("t"), [Tier]])
def test_tiers_that_are_none_are_an_error(tiers: Any) -> None:
    with pytest.raises(TypeError, match=r"^tiers: "):
        Policy(name="p", tiers=tiers)


@pytest.mark.parametrize(
    ("domains", "error", "named"),
    [
        ("uwo.ca", TypeError, "'uwo.ca'"),
        (None, TypeError, "None"),
        ([None], TypeError, "None"),
        ([b"uwo.ca"], TypeError, "b'uwo.ca'"),
        ([""], ValueError, "''"),
        (["uwo.ca", "no domain"], ValueError, "'no domain'"),
        (["ann@uwo.ca"], ValueError, "'ann@uwo.ca'"),
        (["*.uwo.ca"], ValueError, "'*.uwo.ca'"),
        (["x" * 300], ValueError, "(302 characters)"),
    ],
)
def test_internal_domains_that_are_none_are_named(
    domains: Any, error: type[Exception], named: str
) -> None:
    with pytest.raises(error) as caught:
        Policy(name="p", internal_domains=domains)
    assert named in str(caught.value)


def test_an_internal_domain_that_is_none_is_told_where_it_stands() -> None:
    with pytest.raises(ValueError, match=r"internal_domains: 'no domain'"):
        Policy(name="p", internal_domains=["no domain"])
    with pytest.raises(ValueError, match=r"internal_domains: '\.no domain': 'no domain' is no"):
        Policy(name="p", internal_domains=[".no domain"])
    with pytest.raises(TypeError, match=r"internal_domains: .* not 5"):
        Policy(name="p", internal_domains=[5])


@pytest.mark.parametrize("mail", [None, "a@x.org", {}, Client()])
def test_what_is_no_envelope_is_refused_and_charges_nothing(mail: Any) -> None:
    policy = policy_of(MessageRateLimit("5/day"))
    limiter = Limiter(policy)
    with pytest.raises(TypeError, match="an Envelope is needed"):
        policy.plan(mail)
    with pytest.raises(TypeError, match="an Envelope is needed"):
        limiter.try_acquire(mail)
    assert limiter.usage("a@x.org")[0].used == 0


def test_a_policy_is_a_value() -> None:
    one, other = tiered(), tiered()
    assert one == other
    assert hash(one) == hash(other)
    assert one != attrs.evolve(one, name="q")
    assert attrs.evolve(one, name="q").plan(envelope("b@x.org", protocol="webmail")).charges
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        one.limits = ()  # type: ignore[misc]
    assert one.limits == (RecipientLimit(5),)
