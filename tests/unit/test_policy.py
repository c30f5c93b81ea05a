"""Policy: a value, and the errors for arguments that are not valid."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from rlm_testkit.builders import envelope_to

from ratelimit_mail import (
    Client,
    Limiter,
    MessageRateLimit,
    Policy,
    RecipientLimit,
    RecipientRateLimit,
    Tier,
)
from ratelimit_mail.conditions import has_tag, protocol
from ratelimit_mail.limits import RateLimit

TIERS = [
    Tier("web", when=protocol("webmail"), limits=[MessageRateLimit("1/day")]),
    Tier("air", when=has_tag("wireless"), limits=[RecipientRateLimit("9/day")]),
]


@pytest.mark.parametrize("make", [lambda name: Policy(name=name), Tier])
@pytest.mark.parametrize("name", ["a", "western-office365", "Tier 2", "a.b_c", "x" * 64])
def test_a_name_is_not_changed(make: Any, name: str) -> None:
    assert make(name).name == name


@pytest.mark.parametrize("make", [lambda name: Policy(name=name), Tier])
@pytest.mark.parametrize(
    ("name", "error", "expected"),
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
def test_an_invalid_name_is_an_error(
    make: Any, name: Any, error: type[Exception], expected: str
) -> None:
    with pytest.raises(error, match=expected) as caught:
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
def test_invalid_limits_are_errors(make: Any, limits: Any, named: str) -> None:
    with pytest.raises(TypeError, match=r"^limits: ") as caught:
        make(name="p", limits=limits)
    assert named in str(caught.value)


@pytest.mark.parametrize("when", [5, "wireless", Client()])
def test_an_invalid_condition_is_an_error(when: Any) -> None:
    with pytest.raises(TypeError, match=r"tier 't': when: .* such as has_tag") as caught:
        Tier("t", when=when)
    assert repr(when)[:40] in str(caught.value)


@pytest.mark.parametrize("tiers", [5, None, ["rest"], Tier("t"), [Tier]])
def test_invalid_tiers_are_errors(tiers: Any) -> None:
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
def test_invalid_internal_domains_are_errors(
    domains: Any, error: type[Exception], named: str
) -> None:
    with pytest.raises(error) as caught:
        Policy(name="p", internal_domains=domains)
    assert named in str(caught.value)


def test_an_error_names_the_field_and_the_invalid_domain() -> None:
    with pytest.raises(ValueError, match=r"internal_domains: 'no domain'"):
        Policy(name="p", internal_domains=["no domain"])
    with pytest.raises(ValueError, match=r"internal_domains: '\.no domain': 'no domain' is no"):
        Policy(name="p", internal_domains=[".no domain"])
    with pytest.raises(TypeError, match=r"internal_domains: .* not 5"):
        Policy(name="p", internal_domains=[5])  # type: ignore[list-item]


@pytest.mark.parametrize("mail", [None, "a@x.org", {}, Client()])
def test_an_object_that_is_not_an_envelope_is_an_error_and_charges_nothing(mail: Any) -> None:
    policy = Policy(name="p", limits=[MessageRateLimit("5/day")])
    limiter = Limiter(policy)
    with pytest.raises(TypeError, match="an Envelope is needed"):
        policy.plan(mail)
    with pytest.raises(TypeError, match="an Envelope is needed"):
        limiter.try_acquire(mail)
    assert limiter.usage("a@x.org")[0].used == 0


def test_a_policy_is_a_value() -> None:
    def policy() -> Policy:
        return Policy(name="p", limits=[RecipientLimit(5), MessageRateLimit("1/day")], tiers=TIERS)

    one, other = policy(), policy()
    assert one == other
    assert hash(one) == hash(other)
    assert one != attrs.evolve(one, name="q")
    assert (
        attrs.evolve(one, name="q")
        .plan(envelope_to(["b@x.org"], client=Client(protocol="webmail")))
        .charges
    )
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        one.limits = ()  # type: ignore[misc]
    assert one.limits == (RecipientLimit(5), MessageRateLimit("1/day"))
