"""Policy(override_requires=): the fields that each override of a policy must have."""

from __future__ import annotations

import pickle
from datetime import date
from typing import Any

import pytest
from rlm_testkit.builders import NAMED_LIMITS

from ratelimit_mail import Override, Policy
from ratelimit_mail.conditions import has_tag

ANN, BOB = "ann@leeds.ac.uk", "bob@leeds.ac.uk"


def policy_requiring(fields: Any, *overrides: Override) -> Policy:
    return Policy(name="campus", limits=NAMED_LIMITS, override_requires=fields, overrides=overrides)


def override(**fields: Any) -> Override:
    return Override({"messages a minute": 7}, **{"senders": [ANN], **fields})


def test_by_default_nothing_is_required() -> None:
    policy = Policy(name="campus", limits=NAMED_LIMITS, overrides=[override()])
    assert policy.override_requires == ()


FIELDS: dict[str, Any] = {
    "reason": "Open day",
    "granted_by": "IT Service Desk",
    "expected_recipients": 350,
    "starts": date(2026, 3, 1),
    "ends": date(2026, 3, 31),
}


@pytest.mark.parametrize("field", FIELDS)
def test_an_override_must_have_each_required_field(field: str) -> None:
    complete = override(**{field: FIELDS[field]})
    assert policy_requiring([field], complete).overrides == (complete,)
    with pytest.raises(ValueError, match=f"has no {field}; the policy 'campus' requires {field}"):
        policy_requiring([field], complete, override())


@pytest.mark.parametrize("reason", ["", "  ", "\n"])
def test_a_blank_reason_is_missing(reason: str) -> None:
    with pytest.raises(ValueError, match="has no reason"):
        policy_requiring(["reason"], override(reason=reason))


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        ({"senders": [ANN]}, "for 'ann@leeds.ac.uk' has"),
        ({"senders": [ANN, BOB, "uwo.ca"]}, "for 'ann@leeds.ac.uk' and 2 more has"),
        ({"senders": [], "when": has_tag("a")}, "for clients that meet its condition has"),
    ],
)
def test_the_error_names_the_override(targets: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match="overrides: the override of 'messages a minute'") as error:
        policy_requiring(["reason"], override(**targets))
    assert words in str(error.value)


def test_an_override_that_is_added_later_is_checked_too() -> None:
    policy = policy_requiring(["reason"])
    with pytest.raises(ValueError, match="has no reason"):
        policy.evolve(overrides=[override()])


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        ("reason", TypeError, "override_requires: a list is needed, not 'reason'"),
        (5, TypeError, "override_requires: a list is needed, not 5"),
        ([5], TypeError, "override_requires: 5 is not a str"),
        (["senders"], ValueError, "override_requires: 'senders' is not one of reason, granted_by"),
    ],
)
def test_only_names_of_optional_fields_can_be_required(
    value: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        policy_requiring(value)


def test_it_survives_files_copies_and_pickling() -> None:
    policy = policy_requiring(["reason", "reason", "ends"])
    assert policy.override_requires == ("reason", "ends")
    assert Policy.loads(policy.dump()) == policy
    assert pickle.loads(pickle.dumps(policy)) == policy
