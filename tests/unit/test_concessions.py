"""Concession: for which senders and clients, and at which times, it holds."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratelimit_mail import Client
from ratelimit_mail.addresses import DomainSet
from ratelimit_mail.concessions import TargetIndex
from ratelimit_mail.conditions import all_of, has_tag, in_network, protocol
from ratelimit_mail.overrides import Concession, Exemption, Grant, Override

ANN = "ann@leeds.ac.uk"
NOBODY = Client()
SECOND = 1000
DAY = 86_400 * SECOND
HUGE = 10**5000
"""So long that Python refuses to print it."""

Make = Callable[..., Concession]


def override(**options: Any) -> Override:
    return Override({"messages a minute": 60}, **options)


every_kind = pytest.mark.parametrize("make", [override, Exemption, Grant])


def moment(text: str) -> int:
    """Return a time in UTC in milliseconds since the epoch."""
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def holds(concession: Concession, sender: str = ANN, client: Client = NOBODY, now: int = 0) -> bool:
    return concession.holds([sender], client, now)


# Senders and clients


@pytest.mark.parametrize(
    ("pattern", "sender", "expected"),
    [
        ("ann@leeds.ac.uk", ANN, True),
        ("ann@LEEDS.ac.uk", ANN, True),
        ("Ann@leeds.ac.uk", ANN, True),
        ("ann@leeds.ac.uk", "ANN@leeds.ac.uk", True),
        ("bob@leeds.ac.uk", ANN, False),
        ("leeds.ac.uk", ANN, True),
        ("Leeds.AC.uk", ANN, True),
        ("ac.uk", ANN, False),
        ("eeds.ac.uk", ANN, False),
        (".leeds.ac.uk", ANN, False),
        (".ac.uk", ANN, True),
        (".uk", ANN, True),
        (".leeds.ac.uk", "ann@lists.leeds.ac.uk", True),
        (".leeds.ac.uk", "ann@a.b.leeds.ac.uk", True),
        (".leeds.ac.uk", "ann@notleeds.ac.uk", False),
        ("leeds.ac.uk", "leeds.ac.uk@example.com", False),
        ("leeds.ac.uk", '"ann@leeds.ac.uk"@example.com', False),
        ('"a@b"@example.com', '"a@b"@example.com', True),
        ("stra\u00dfe.de", "ann@xn--strae-oqa.de", True),
        ("[192.0.2.1]", "ann@[192.0.2.1]", True),
        ("<>", "<>", True),
        ("<>", ANN, False),
        ("leeds.ac.uk", "<>", False),
        (".uk", "<>", False),
    ],
)
def test_a_sender_is_named_by_address_domain_or_parent_domain(
    pattern: str, sender: str, expected: bool
) -> None:
    grant = Grant(senders=["nobody@example.net", pattern])
    assert holds(grant, sender) is expected
    assert bool(TargetIndex([grant]).holding([sender], NOBODY, 0)) is expected


labels = st.sampled_from(["a", "b", "ac", "uk"])
domains = st.lists(labels, min_size=1, max_size=4).map(".".join)


@given(st.lists(st.tuples(st.sampled_from(["", "."]), domains).map("".join), min_size=1), domains)
def test_domains_of_senders_mean_what_internal_domains_mean(
    patterns: list[str], domain: str
) -> None:
    expected = DomainSet(patterns)[domain]
    assert holds(Grant(senders=patterns), f"ann@{domain}") is expected


@every_kind
def test_a_concession_to_an_alias_or_its_owner_holds(make: Make) -> None:
    for name in (ANN, "alias@leeds.ac.uk"):
        assert make(senders=[name]).holds([ANN, "alias@leeds.ac.uk"], NOBODY, 0)
    assert not make(senders=["eve@leeds.ac.uk"]).holds([ANN, "alias@leeds.ac.uk"], NOBODY, 0)


@every_kind
def test_a_condition_on_the_client_needs_no_senders(make: Make) -> None:
    concession = make(when=has_tag("list-server"))
    assert holds(concession, client=Client(tags={"list-server"}))
    assert not holds(concession)


@every_kind
@pytest.mark.parametrize(
    ("sender", "tags", "expected"),
    [(ANN, {"x"}, True), (ANN, set(), False), ("bob@x.org", {"x"}, False), ("b@x.org", {}, False)],
)
def test_senders_and_condition_must_both_hold(
    make: Make, sender: str, tags: set[str], expected: bool
) -> None:
    concession = make(senders=[ANN], when=has_tag("x"))
    assert holds(concession, sender, Client(tags=tags)) is expected


def test_a_condition_is_not_evaluated_for_other_senders_or_at_other_times() -> None:
    evaluated = []

    def condition(client: Client) -> bool:
        evaluated.append(client)
        return True

    grant = Grant(senders=[ANN], when=condition, starts=date(2026, 1, 2), ends=date(2026, 1, 3))
    assert not holds(grant, "bob@x.org", now=moment("2026-01-02"))
    assert not holds(grant, ANN, now=moment("2026-01-01"))
    assert not holds(grant, ANN, now=moment("2026-01-04"))
    assert evaluated == []
    assert holds(grant, ANN, now=moment("2026-01-02"))
    assert evaluated == [NOBODY]


# Dates

ZONE = timezone(timedelta(hours=5, minutes=30))


@every_kind
@pytest.mark.parametrize(
    ("starts", "first"),
    [
        (date(2026, 3, 1), "2026-03-01"),
        (datetime(2026, 3, 1, 9, 30, 0, 1000, tzinfo=UTC), "2026-03-01T09:30:00.001"),
        (datetime(2026, 3, 1, 4, tzinfo=ZONE), "2026-02-28T22:30"),
        (date(1969, 12, 31), "1969-12-31"),
    ],
)
def test_it_starts_to_the_millisecond(make: Make, starts: date, first: str) -> None:
    concession = make(senders=[ANN], starts=starts)
    assert concession.has_dates
    assert not holds(concession, now=moment(first) - 1)
    assert holds(concession, now=moment(first))
    assert holds(concession, now=moment(first) + 1000 * 366 * DAY)


@every_kind
@pytest.mark.parametrize(
    ("ends", "over"),
    [
        (date(2026, 2, 28), "2026-03-01"),
        (date(2024, 2, 28), "2024-02-29"),
        (date(2026, 12, 31), "2027-01-01"),
        (datetime(2026, 2, 28, tzinfo=UTC), "2026-02-28"),
        (datetime(2026, 3, 1, 9, 30, 0, 1000, tzinfo=UTC), "2026-03-01T09:30:00.001"),
        (datetime(2026, 3, 1, 4, tzinfo=ZONE), "2026-02-28T22:30"),
    ],
)
def test_it_ends_to_the_millisecond_and_a_date_includes_its_day_in_utc(
    make: Make, ends: date, over: str
) -> None:
    concession = make(senders=[ANN], ends=ends)
    assert concession.has_dates
    assert holds(concession, now=0)
    assert holds(concession, now=moment(over) - 1)
    assert not holds(concession, now=moment(over))
    assert not holds(concession, now=moment(over) + 1000 * 366 * DAY)


@every_kind
def test_without_dates_it_holds_for_ever(make: Make) -> None:
    concession = make(senders=[ANN])
    assert not concession.has_dates
    assert all(holds(concession, now=now) for now in (-(10**15), 0, 10**15))


@every_kind
def test_one_date_can_be_both_start_and_end(make: Make) -> None:
    day = date(2026, 3, 1)
    concession = make(senders=[ANN], starts=day, ends=day)
    times = ["2026-02-28T23:59:59.999", "2026-03-01", "2026-03-01T23:59:59.999", "2026-03-02"]
    assert [holds(concession, now=moment(each)) for each in times] == [False, True, True, False]


@every_kind
def test_the_first_and_the_last_date_of_the_calendar_are_dates(make: Make) -> None:
    assert holds(make(senders=[ANN], starts=date.min, ends=date.max))
    west, east = timezone(timedelta(hours=-23)), timezone(timedelta(hours=23))
    starts, ends = datetime.min.replace(tzinfo=east), datetime.max.replace(tzinfo=west)
    assert holds(make(senders=[ANN], starts=starts, ends=ends))


# Errors


class NoOffset(tzinfo):
    """A time zone without an offset."""

    def utcoffset(self, _: datetime | None) -> None:
        return None

    def dst(self, _: datetime | None) -> None:
        return None

    def tzname(self, _: datetime | None) -> None:
        return None


@every_kind
@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({}, ValueError, ["are needed", "senders", "when"]),
        ({"senders": []}, ValueError, ["are needed"]),
        ({"senders": "ann@x.org"}, TypeError, ["senders", "'ann@x.org'"]),
        ({"senders": 5}, TypeError, ["senders", "5"]),
        ({"senders": None}, TypeError, ["senders", "None"]),
        ({"senders": [None]}, TypeError, ["senders", "None"]),
        ({"senders": [b"a@x.org"]}, TypeError, ["senders", "b'a@x.org'"]),
        ({"senders": ["a b@x.org"]}, ValueError, ["senders", "'a b@x.org'"]),
        ({"senders": ["ann@"]}, ValueError, ["senders", "'ann@'"]),
        ({"senders": ["@x.org"]}, ValueError, ["senders", "'@x.org'"]),
        ({"senders": ["*.x.org"]}, ValueError, ["senders", "'*.x.org'"]),
        ({"senders": ["."]}, ValueError, ["senders", "'.'"]),
        ({"senders": [ANN, "x..org"]}, ValueError, ["senders", "'x..org'"]),
        ({"senders": ["a" * 999]}, ValueError, ["senders", "1001 characters"]),
        ({"when": "wireless"}, TypeError, ["when", "'wireless'"]),
        ({"senders": [ANN], "when": True}, TypeError, ["when", "True"]),
        ({"senders": [ANN], "reason": 5}, TypeError, ["reason", "5"]),
        ({"senders": [ANN], "granted_by": b"x"}, TypeError, ["granted_by", "b'x'"]),
        ({"senders": [ANN], "starts": "2026-01-01"}, TypeError, ["starts", "'2026-01-01'"]),
        ({"senders": [ANN], "ends": 1_800_000_000}, TypeError, ["ends", "1800000000"]),
        ({"senders": [ANN], "ends": True}, TypeError, ["ends", "True"]),
        (
            {"senders": [ANN], "ends": datetime(2026, 1, 2, 3)},
            ValueError,
            ["ends", "2026-01-02 03:00:00", "zone"],
        ),
        (
            {"senders": [ANN], "starts": datetime(2026, 1, 2, 3, tzinfo=NoOffset())},
            ValueError,
            ["starts", "2026-01-02 03:00:00", "zone"],
        ),
    ],
)
def test_invalid_values_are_errors(
    make: Make, options: Any, error: type[Exception], words: list[str]
) -> None:
    with pytest.raises(error) as caught:
        make(**options)
    assert [word for word in words if word not in str(caught.value)] == []
    assert len(str(caught.value)) < 300


@every_kind
def test_an_empty_string_is_not_the_null_sender(make: Make) -> None:
    with pytest.raises(ValueError, match="senders: ''"):
        make(senders=[""])


@every_kind
@pytest.mark.parametrize(
    ("starts", "ends"),
    [
        (date(2026, 3, 2), date(2026, 3, 1)),
        (datetime(2026, 3, 1, 12, tzinfo=UTC), datetime(2026, 3, 1, 12, tzinfo=UTC)),
        (datetime(2026, 3, 1, 12, tzinfo=UTC), datetime(2026, 3, 1, 17, 30, tzinfo=ZONE)),
        (date(2026, 3, 2), datetime(2026, 3, 2, tzinfo=UTC)),
        (datetime(2026, 3, 2, tzinfo=UTC), date(2026, 3, 1)),
    ],
)
def test_an_end_that_is_not_after_the_start_is_an_error(
    make: Make, starts: date, ends: date
) -> None:
    with pytest.raises(ValueError, match="before it starts") as caught:
        make(senders=[ANN], starts=starts, ends=ends)
    assert str(starts) in str(caught.value)
    assert str(ends) in str(caught.value)


@pytest.mark.parametrize("make", [override, Grant])
@pytest.mark.parametrize(
    ("value", "error"),
    [
        (0, ValueError),
        (-5, ValueError),
        pytest.param(-HUGE, ValueError, id="huge"),
        (True, TypeError),
        ("9", TypeError),
    ],
)
def test_expected_recipients_must_be_a_positive_whole_number(
    make: Make, value: object, error: type[Exception]
) -> None:
    with pytest.raises(error, match=r"expected_recipients: .* needed"):
        make(senders=[ANN], expected_recipients=value)


# Values

CONDITION = all_of(in_network("10.0.0.0/8"), protocol("smtp"))
ALL: dict[str, Any] = {
    "senders": [ANN, "x.org", ".y.org", "<>"],
    "when": CONDITION,
    "reason": "Open day",
    "granted_by": "IT Service Desk",
    "starts": date(2026, 1, 1),
    "ends": datetime(2026, 2, 1, tzinfo=UTC),
}


@every_kind
@pytest.mark.parametrize("options", [{"senders": [ANN]}, ALL])
@pytest.mark.parametrize(
    "copied",
    [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value)), attrs.evolve],
)
def test_a_copy_is_the_same_value_and_holds_at_the_same_times(
    make: Make, options: Any, copied: Callable[[Concession], Concession]
) -> None:
    original = make(**options)
    twin = copied(original)
    assert type(twin) is type(original)
    assert twin == original
    assert hash(twin) == hash(original)
    client = Client(address="10.1.2.3", protocol="smtp")
    for now in ("2025-12-31", "2026-01-01", "2026-01-31T23:59:59.999", "2026-02-01"):
        expected = holds(original, "<>", client, moment(now))
        assert holds(twin, "<>", client, moment(now)) is expected


@every_kind
@pytest.mark.parametrize("name", ALL)
def test_concessions_that_differ_in_any_field_are_not_equal(make: Make, name: str) -> None:
    other = {**ALL, name: {"senders": [ANN], "when": protocol("smtp")}.get(name)}
    assert make(**ALL) != make(**other)


def test_the_three_kinds_are_never_equal() -> None:
    values: list[Concession] = [override(**ALL), Exemption(**ALL), Grant(**ALL)]
    assert len(set(values)) == 3


@every_kind
def test_a_sender_named_twice_is_stored_once(make: Make) -> None:
    assert make(senders=[ANN, "ann@LEEDS.ac.uk"]).senders == (ANN,)


@every_kind
def test_a_concession_is_frozen(make: Make) -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        make(senders=[ANN]).senders = ()  # type: ignore[misc]


def test_a_repr_leaves_out_default_values() -> None:
    assert repr(Grant(senders=[ANN])) == "Grant(senders=('ann@leeds.ac.uk',))"
    short = Exemption(["messages a minute"], when=has_tag("x"), ends=date(2026, 1, 1))
    assert repr(short) == (
        "Exemption(when=HasTag(tag='x'), ends=datetime.date(2026, 1, 1),"
        " limits=('messages a minute',))"
    )


# The index


class Counting(Grant):
    """A grant that counts how often it is evaluated."""

    evaluations = 0

    def holds_for(self, client: Client, now: int) -> bool:
        Counting.evaluations += 1
        return super().holds_for(client, now)


@pytest.mark.parametrize(
    "names",
    [
        [f"user{i}@x.org" for i in range(10_000)],
        [f"d{i}.org" for i in range(10_000)],
        [f".d{i}.org" for i in range(10_000)],
    ],
    ids=["addresses", "domains", "domains below"],
)
def test_few_of_ten_thousand_concessions_are_evaluated_for_a_message(names: list[str]) -> None:
    few = [Counting(senders=["sub.d7.org"]), Counting(when=has_tag("x"))]
    register = TargetIndex([*few, *(Counting(senders=[name]) for name in names)])
    Counting.evaluations = 0
    positions = {
        sender: register.holding([sender], NOBODY, 0)
        for sender in ("user7@x.org", "ann@d7.org", "ann@sub.d7.org", "eve@example.com", "<>")
    }
    assert len(set(positions.values()) - {()}) >= 1
    assert Counting.evaluations <= 5 * 3


@given(
    st.lists(st.lists(st.sampled_from(["a@x", "b@x", "x", ".y", "x.y", "<>"]), max_size=3)),
    st.lists(st.sampled_from(["a@x", "b@x", "c@x.y", "<>", "d@z"]), min_size=1, max_size=2),
    st.booleans(),
)
def test_an_index_returns_all_that_hold_in_order(
    names: list[list[str]], senders: list[str], tagged: bool
) -> None:
    # Without senders, the condition alone decides.
    grants = [Grant(senders=each, when=has_tag("x") if not each else None) for each in names]
    client = Client(tags={"x"} if tagged else ())
    positions = TargetIndex(grants).holding(senders, client, 0)
    assert positions == tuple(i for i, each in enumerate(grants) if each.holds(senders, client, 0))
