"""The names of limits, by which overrides and exemptions refer to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ratelimit_mail import (
    Envelope,
    Limiter,
    MessageRateLimit,
    Policy,
    RecipientLimit,
    RecipientRateLimit,
    Tier,
    presets,
)
from ratelimit_mail.conditions import has_tag
from ratelimit_mail.limits import Limit
from ratelimit_mail.overrides import Exemption, Override

ANN = "ann@uwo.ca"

Make = Callable[..., Limit]

every_kind = pytest.mark.parametrize(
    "make",
    [
        lambda **options: RecipientLimit(5, **options),
        lambda **options: MessageRateLimit("5/day", **options),
        lambda **options: RecipientRateLimit("5/day", **options),
    ],
    ids=["RecipientLimit", "MessageRateLimit", "RecipientRateLimit"],
)
both = pytest.mark.parametrize(
    "calling",
    [
        lambda name: {
            "overrides": [Override({name: 7}, senders=[ANN], reason="test", expected_recipients=9)]
        },
        lambda name: {"exemptions": [Exemption([name], senders=[ANN])]},
    ],
    ids=["overrides", "exemptions"],
)

LIMITS = [
    RecipientLimit(10, name="recipients a message"),
    MessageRateLimit("3/minute", name="messages a minute"),
    RecipientRateLimit("20/day"),
]


@every_kind
@pytest.mark.parametrize("name", ["x", "messages a minute", "a.b_c-d 9", "n" * 64])
def test_a_limit_has_a_name(make: Make, name: str) -> None:
    assert make(name=name).name == name
    assert f"name={name!r}" in repr(make(name=name))
    assert make(name=name) != make()
    assert make().name is None
    assert "name" not in repr(make())


@every_kind
@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("", ValueError),
        ("n" * 65, ValueError),
        ("a/b", ValueError),
        ("a:b", ValueError),
        ("a\n", ValueError),
        ("caf\u00e9", ValueError),
        (5, TypeError),
        (b"x", TypeError),
        (True, TypeError),
    ],
)
def test_an_invalid_name_is_an_error(make: Make, name: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="name: ") as caught:
        make(name=name)
    assert len(str(caught.value)) < 200


def test_a_name_does_not_change_what_is_counted() -> None:
    envelope = Envelope(ANN, ["bob@example.com"])
    named = Policy(name="p", limits=[MessageRateLimit("5/day", name="x")])
    plain = Policy(name="p", limits=[MessageRateLimit("5/day")])
    ledgers = [[ledger.name for ledger, _, _ in p.plan(envelope).charges] for p in (named, plain)]
    assert ledgers[0] == ledgers[1]
    assert str(named.limits[0]) == str(plain.limits[0])
    limiter = Limiter(named)
    for _ in range(5):
        limiter.try_acquire(envelope)
    assert limiter.check(envelope).limit == named.limits[0]


# References to limits by name


@both
@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("messages a minutes", "did you mean 'messages a minute'?"),
        ("Messages a minute", "did you mean 'messages a minute'?"),
        ("messages per minute", "did you mean 'messages a minute'?"),
        ("recipients a mesage", "did you mean 'recipients a message'?"),
        ("quota", "there are 'messages a minute', 'recipients a message'"),
        ("", "there are 'messages a minute', 'recipients a message'"),
        ("20/day", "there are 'messages a minute', 'recipients a message'"),
    ],
)
def test_an_unknown_limit_name_is_an_error_that_suggests_the_nearest(
    calling: Callable[[str], Any], name: str, hint: str
) -> None:
    options = calling(name)
    with pytest.raises(ValueError, match=f"{next(iter(options))}: no limit is named") as caught:
        Policy(name="p", limits=LIMITS, **options)
    assert repr(name) in str(caught.value)
    assert str(caught.value).endswith(hint)


@both
@pytest.mark.parametrize("name", ["x" * 100_000, "\x1b[31m", "a\nb"])
def test_a_very_long_or_unprintable_name_makes_a_short_error_of_one_line(
    calling: Callable[[str], Any], name: str
) -> None:
    with pytest.raises(ValueError, match="no limit is named") as caught:
        Policy(name="p", limits=LIMITS, **calling(name))
    assert len(str(caught.value)) < 300
    assert str(caught.value).isprintable()


@both
def test_an_error_says_if_no_limit_has_a_name(calling: Callable[[str], Any]) -> None:
    with pytest.raises(ValueError, match="there are none with a name"):
        Policy(name="p", limits=[MessageRateLimit("3/minute")], **calling("messages a minute"))
    with pytest.raises(ValueError, match="there are none with a name"):
        Policy(name="p", **calling("messages a minute"))


@both
def test_the_limits_of_every_tier_can_be_named(calling: Callable[[str], Any]) -> None:
    tiers = [
        Tier("a", when=has_tag("a"), limits=[MessageRateLimit("3/day", name="first")]),
        Tier("b", limits=[MessageRateLimit("3/day", name="second")]),
    ]
    for name in ("first", "second"):
        assert Policy(name="p", tiers=tiers, **calling(name))
    with pytest.raises(ValueError, match="did you mean 'second'"):
        Policy(name="p", tiers=tiers, **calling("secnd"))


@both
def test_one_unknown_name_among_known_ones_is_an_error(calling: Callable[[str], Any]) -> None:
    [(field, [right])] = calling("messages a minute").items()
    [(_, [wrong])] = calling("messages a minut").items()
    policy = Policy(name="p", limits=LIMITS)
    with pytest.raises(ValueError, match="no limit is named 'messages a minut';"):
        policy.evolve(**{field: [right, wrong, right]})


@both
def test_a_policy_cannot_be_evolved_without_a_limit_that_is_still_named(
    calling: Callable[[str], Any],
) -> None:
    policy = Policy(name="p", limits=LIMITS, **calling("messages a minute"))
    with pytest.raises(ValueError, match="no limit is named 'messages a minute'"):
        policy.evolve(limits=LIMITS[:1])


@both
@pytest.mark.parametrize("name", presets.PRESETS)
def test_the_limits_of_a_preset_can_be_named(calling: Callable[[str], Any], name: str) -> None:
    policy = presets.PRESETS[name]()
    for limit in policy.all_limits:
        assert limit.name is not None
        assert policy.evolve(**calling(limit.name))
