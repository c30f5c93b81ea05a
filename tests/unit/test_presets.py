"""Presets: their names, and the sources of their figures."""

from __future__ import annotations

import inspect
from datetime import date
from pathlib import Path

import pytest

from ratelimit_mail import Policy, presets
from ratelimit_mail.presets import PRESETS, SOURCES, Figure, Page

NAMES = [
    "amazon-ses",
    "azure-communication-services",
    "brevo",
    "campus-relay",
    "comcast",
    "earthlink",
    "exchange-online",
    "gmail",
    "gmail-webmail",
    "google-workspace",
    "hotmail",
    "icloud-mail",
    "ionos",
    "leeds-office365",
    "leeds-smtp",
    "mailgun",
    "outlook-com",
    "postmark",
    "proton-mail",
    "proton-mail-free",
    "resend",
    "roadrunner",
    "sendgrid",
    "western-convergence",
    "western-office365",
    "yahoo",
    "zoho-mail",
    "zoho-mail-free",
]


FROM_A_SAVED_TEXT = {name for name in NAMES if SOURCES[name].institution == "Western University"}
"""Western's page is known from a text that was saved without its address."""


def test_there_are_twenty_eight_presets() -> None:
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
    assert all(page.title for page in source.pages)
    assert date(2026, 11, 22) <= source.read <= date(2026, 11, 27)
    docs = inspect.getdoc(PRESETS[name]) or ""
    assert "Source: " in docs or "historical limit, listed by Western" in docs


OPTIONAL = {
    "exchange-online": (
        presets.exchange_online(licences=1, internal_domains=["contoso.onmicrosoft.com"]),
        presets.exchange_online(trial=True, outbound_spam_policy="standard"),
        presets.exchange_online(outbound_spam_policy="strict"),
    ),
}
"""Policies with the limits that a preset has only if a parameter asks for them."""


def figures_of(*policies: Policy) -> set[tuple[str | None, int]]:
    return {(limit.name, limit.limit) for policy in policies for limit in policy.all_limits}


@pytest.mark.parametrize("name", NAMES)
def test_no_limit_of_a_preset_is_without_a_figure_with_source_and_date(name: str) -> None:
    policies = (PRESETS[name](), *OPTIONAL.get(name, ()))
    documented = {(each.limit, each.value) for each in SOURCES[name].figures if each.limit}
    assert documented == figures_of(*policies)
    for limit_name, number in documented:
        figure = SOURCES[name].of_limit(limit_name, number)
        assert figure is not None
        assert figure.pages


@pytest.mark.parametrize("name", NAMES)
def test_a_figure_without_a_limit_says_why_or_how_to_set_it(name: str) -> None:
    for figure in SOURCES[name].figures:
        assert figure.limit or figure.note
        assert all(page.title and isinstance(page.read, date) for page in figure.pages)


@pytest.mark.parametrize("name", sorted(set(NAMES) - FROM_A_SAVED_TEXT))
def test_each_page_of_a_provider_has_an_address(name: str) -> None:
    for page in SOURCES[name].pages:
        assert page.address is not None
        assert page.address.startswith(("https://", "http://it.leeds.ac.uk/"))


DOCS = (Path(__file__).parents[2] / "docs" / "presets.md").read_text("utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_the_page_of_presets_has_each_preset_default_and_address(name: str) -> None:
    assert f"`{name}`" in DOCS
    numbers = DOCS.replace("_", "")  # 2_000
    for parameter in inspect.signature(PRESETS[name]).parameters.values():
        default = parameter.default
        if isinstance(default, str) or (isinstance(default, int) and default > 1):
            value = f'"{default}"' if isinstance(default, str) else str(default)
            key = parameter.name.replace("_", "")
            assert f"`{key}={value}`" in numbers or f"| `{key}` | `{value}` |" in numbers
    for page in SOURCES[name].pages:
        assert (page.address or "") in DOCS
        assert str(page.read) in DOCS


def test_a_figure_needs_a_page_and_a_limit_or_a_note() -> None:
    page = Page(title="Limits", read=date(2026, 11, 27))
    with pytest.raises(ValueError, match="needs a page"):
        Figure(value=3, unit="connections", pages=(), note="not a rate")
    with pytest.raises(ValueError, match="note that says why"):
        Figure(value=3, unit="connections", pages=(page,))


def test_two_presets_never_share_their_counts() -> None:
    counted = [preset().counted_as for preset in PRESETS.values()]
    assert len(set(counted)) == len(counted)
