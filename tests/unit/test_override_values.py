"""Override: its values, copies and reprs, and the errors for what is not an override."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from rlm_testkit.builders import (
    NAMED_LIMITS,
    envelope_to,
    limiter_with_clock,
    policy_with_overrides,
)

from ratelimit_mail import (
    Client,
    MessageRateLimit,
    Policy,
    RecipientLimit,
    Tier,
)
from ratelimit_mail.overrides import Exemption, Override
from ratelimit_mail.rates import MOST

ANN = "ann@leeds.ac.uk"
BOB = "bob@leeds.ac.uk"
WIRELESS = Client(tags={"wireless"})
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOON_MS = int(NOON.timestamp()) * 1000


# Errors


@pytest.mark.parametrize(
    ("limits", "error", "words"),
    [
        ({}, TypeError, ["limits", "{}"]),
        (None, TypeError, ["limits", "None"]),
        (500, TypeError, ["limits", "500"]),
        ("recipients a message", TypeError, ["limits", "'recipients a message'"]),
        ([("recipients a message", 500)], TypeError, ["limits", "500"]),
        ({5: 5}, TypeError, ["limits", "name", "5"]),
        ({"recipients a message": True}, TypeError, ["recipients a message", "True"]),
        ({"recipients a message": 1.5}, TypeError, ["recipients a message", "1.5"]),
        ({"recipients a message": None}, TypeError, ["recipients a message", "None"]),
        ({"recipients a message": [5]}, TypeError, ["recipients a message", "[5]"]),
        ({"x" * 999: None}, TypeError, ["1001 characters", "None"]),
    ],
)
def test_invalid_numbers_are_errors(limits: Any, error: type[Exception], words: list[str]) -> None:
    with pytest.raises(error) as caught:
        Override(limits, senders=[ANN])
    assert [word for word in words if word not in str(caught.value)] == []
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("name", "number", "words"),
    [
        ("recipients a message", 0, ["0", "at least 1"]),
        ("recipients a message", -3, ["-3", "at least 1"]),
        ("recipients a message", MOST + 1, [str(MOST + 1), "above"]),
        ("recipients a message", "500/day", ["'500/day'", "a number is needed"]),
        ("recipients a message", "500", ["'500'", "a number is needed"]),
        ("messages a minute", 0, ["0", "at least 1"]),
        ("messages a minute", -3, ["-3", "at least 1"]),
        ("messages a minute", MOST + 1, [str(MOST + 1), "above"]),
        pytest.param("messages a minute", 10**5000, ["above"], id="huge"),
        ("messages a minute", "many", ["'many'", "one rate"]),
        ("messages a minute", "", ["''", "one rate"]),
        ("messages a minute", "60", ["'60'", "one rate"]),
        ("messages a minute", "0/minute", ["0", "at least 1"]),
        ("messages a minute", "5/minute; 9/hour", ["'5/minute; 9/hour'", "one rate"]),
        ("slots", "9/second", ["resolution", "'10 seconds'", "longer"]),
        ("shared", 3, ["share", "0.33", "nothing"]),
    ],
)
def test_a_number_that_does_not_suit_its_limit_is_an_error_of_the_policy(
    name: str, number: int | str, words: list[str]
) -> None:
    override = Override({name: number}, senders=[ANN])
    limits = [
        *NAMED_LIMITS,
        MessageRateLimit("9/minute", name="slots", resolution="10 seconds"),
        MessageRateLimit("9/minute", name="shared", share=0.33),
    ]
    with pytest.raises(ValueError, match=f"override of '{name}'") as caught:
        policy_with_overrides(override, limits=limits)
    assert [word for word in words if word not in str(caught.value)] == []
    with pytest.raises(ValueError, match=f"override of '{name}'"):
        Policy(name="p", tiers=[Tier("t", limits=limits)], overrides=[override])


def test_a_number_must_suit_every_limit_of_the_name() -> None:
    limits = [RecipientLimit(10, name="both"), MessageRateLimit("3/minute", name="both")]
    assert policy_with_overrides(Override({"both": 5}, senders=[ANN]), limits=limits)
    with pytest.raises(ValueError, match="a number is needed, not '5/day'"):
        policy_with_overrides(Override({"both": "5/day"}, senders=[ANN]), limits=limits)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (Override({"messages a minute": 5}, senders=[ANN]), "a list is needed, not Override"),
        ("ann@leeds.ac.uk", "a list is needed, not 'ann@leeds.ac.uk'"),
        (None, "a list is needed, not None"),
        ([{"messages a minute": 5}], "{'messages a minute': 5} is not an Override"),
        ([Exemption(senders=[ANN])], "is not an Override"),
    ],
)
def test_a_policy_accepts_only_a_list_of_overrides(overrides: Any, words: str) -> None:
    with pytest.raises(TypeError, match=f"overrides: .*{words}"):
        Policy(name="p", limits=NAMED_LIMITS, overrides=overrides)


# Values


ALL: dict[str, Any] = {
    "limits": {"recipients a message": 500, "recipients a day": "20000/day"},
    "senders": [ANN],
    "reason": "Open day",
    "granted_by": "IT Service Desk",
    "expected_recipients": 350,
}


def test_overrides_are_equal_if_their_numbers_are_in_any_order() -> None:
    reordered = dict(reversed(ALL["limits"].items()))
    assert Override(**ALL) == Override(**{**ALL, "limits": reordered})
    assert hash(Override(**ALL)) == hash(Override(**{**ALL, "limits": reordered}))
    assert Override(**ALL) != Override(**{**ALL, "limits": {"recipients a message": 500}})
    assert Override(**ALL) != Override(**{**ALL, "expected_recipients": 351})


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))]
)
def test_a_copy_is_the_same_value(copied: Callable[[Any], Any]) -> None:
    twin = copied(Override(**ALL))
    assert twin == Override(**ALL)
    assert dict(twin.limits) == ALL["limits"]
    assert twin.expected_recipients == 350


def test_its_numbers_cannot_be_changed() -> None:
    numbers: dict[str, int | str] = {"messages a minute": 5}
    override = Override(numbers, senders=[ANN])
    numbers["messages a minute"] = 900
    assert override.limits == {"messages a minute": 5}
    with pytest.raises(TypeError):
        override.limits["messages a minute"] = 900  # type: ignore[index]


def test_a_repr_leaves_out_default_values() -> None:
    words = repr(Override({"messages a minute": 5}, senders=[ANN]))
    assert words.startswith("Override(senders=('ann@leeds.ac.uk',), limits=")
    assert "None" not in words


def test_a_repr_shows_its_numbers_as_written() -> None:
    assert repr(Override({"messages a minute": 5}, senders=[ANN])) == (
        "Override(senders=('ann@leeds.ac.uk',), limits={'messages a minute': 5})"
    )


def test_a_policy_with_overrides_is_a_value() -> None:
    policy = policy_with_overrides(Override(**ALL, ends=NOON))
    twin = pickle.loads(pickle.dumps(policy))
    assert twin == policy
    assert hash(twin) == hash(policy)
    assert policy != policy_with_overrides()
    assert policy_with_overrides().evolve(overrides=[Override(**ALL, ends=NOON)]) == policy
    assert policy.evolve(overrides=()) == policy_with_overrides()
    limiter, clock = limiter_with_clock(twin, NOON_MS - 1)
    assert limiter.check(envelope_to(11, ANN))
    clock.advance(0.001)
    assert not limiter.check(envelope_to(11, ANN))


def test_a_policy_can_be_pickled_after_it_was_used() -> None:
    policy = policy_with_overrides(Override(**ALL))
    first = policy.plan(envelope_to(500, ANN))
    twin = pickle.loads(pickle.dumps(policy))
    assert twin == policy
    plan = twin.plan(envelope_to(500, ANN))
    assert [ledger.name for ledger, _, _ in plan.charges] == ["leeds:sender"]
    assert plan.effective_limits.limits == first.effective_limits.limits


def test_overrides_do_not_change_the_names_of_the_counts() -> None:
    plain, raised = policy_with_overrides(), policy_with_overrides(Override(**ALL))
    names = [
        [ledger.name for ledger, _, _ in each.plan(envelope_to(sender=ANN)).charges]
        for each in (plain, raised)
    ]
    assert names[0] == names[1] == ["leeds:sender"]
