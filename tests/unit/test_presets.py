"""Presets: their names, and the sources of their figures."""

from __future__ import annotations

import inspect
from datetime import date

import pytest

from ratelimit_mail import Policy, presets
from ratelimit_mail.presets import PRESETS, SOURCES

NAMES = [
    "amazon-ses",
    "campus-relay",
    "comcast",
    "earthlink",
    "exchange-online",
    "gmail",
    "gmail-webmail",
    "google-workspace",
    "hotmail",
    "leeds-office365",
    "leeds-smtp",
    "roadrunner",
    "western-convergence",
    "western-office365",
    "yahoo",
]


def test_there_are_fifteen_presets() -> None:
    assert sorted(PRESETS) == NAMES
    assert sorted(SOURCES) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_has_the_name_of_its_policy_and_function(name: str) -> None:
    function = getattr(presets, name.replace("-", "_"))
    assert PRESETS[name] is function
    policy = function()
    assert isinstance(policy, Policy)
    assert policy.name == name


@pytest.mark.parametrize("name", NAMES)
def test_each_limit_of_a_preset_has_a_name(name: str) -> None:
    policy = PRESETS[name]()
    for limits in (policy.limits, *(policy.limits + tier.limits for tier in policy.tiers)):
        names = [limit.name for limit in limits]
        assert None not in names
        assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_states_the_source_and_date_of_its_figures(name: str) -> None:
    source = SOURCES[name]
    assert source.institution
    assert all(source.pages)
    assert source.read == date(2026, 11, 22)
    docs = inspect.getdoc(PRESETS[name]) or ""
    assert "Source: " in docs or "History." in docs


def test_two_presets_never_share_their_counts() -> None:
    counted = [preset().counted_as for preset in PRESETS.values()]
    assert len(set(counted)) == len(counted)
