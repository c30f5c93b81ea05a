"""Generated scripts of operations, for comparing two backends answer by answer."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import attrs

from ratelimit_mail._util.text import show
from ratelimit_mail.backends.base import Backend
from ratelimit_mail.conditions import has_tag
from ratelimit_mail.decision import Decision
from ratelimit_mail.envelope import Client, Envelope
from ratelimit_mail.exceptions import RateLimitExceeded
from ratelimit_mail.limiter import Limiter, Reservation
from ratelimit_mail.limits import Limit, MessageRateLimit, RecipientLimit, RecipientRateLimit
from ratelimit_mail.policy import Policy, Tier
from ratelimit_mail.testing.clock import ManualClock

__all__ = ["Script", "generated_script", "play"]

SENDERS = ("ann@uwo.ca", "bob@uwo.ca", "<>")
RECIPIENTS = ("c@uwo.ca", "d@x.org", "e@x.org", "f@y.org", "g@sub.uwo.ca")
SCOPES: tuple[str | tuple[str, ...], ...] = (
    "sender",
    "sender",
    "sender_domain",
    "global",
    "client",
    "recipient",
    "recipient_domain",
    ("sender", "recipient_domain"),
)
START = 1_700_000_000_000


@attrs.frozen
class Script:
    """A policy, and what is done under it: verbs, their arguments, the pause before each."""

    policy: Policy
    steps: tuple[tuple[str, tuple[Any, ...], float], ...]


def generated_script(random: random.Random, *, steps: int = 25, jumps: bool = False) -> Script:
    """A policy of a few small limits, and a script that keeps hitting them.

    jumps: the clock goes back now and then. Every count then has a limit a day long too,
        so that no backend may forget in between what a clock that goes back brings up again;
        and no envelope an id, because its answer may be forgotten.
    """
    limits = _limits(random, jumps=jumps)
    tiers = [Tier("wireless", when=has_tag("wireless"), limits=_limits(random, jumps=jumps))]
    policy = Policy(
        name="generated",
        limits=[*limits, RecipientLimit(4)],
        tiers=tiers if random.random() < 0.5 else [],
        internal_domains=["uwo.ca", ".uwo.ca"],
    )
    return Script(policy, tuple(_step(random, jumps=jumps) for _ in range(steps)))


def _limits(random: random.Random, *, jumps: bool) -> list[Limit]:
    limits: list[Limit] = []
    for _ in range(random.randint(1, 3)):
        kind = random.choice((MessageRateLimit, RecipientRateLimit))
        options: dict[str, Any] = {
            "scope": random.choice(SCOPES),
            "count": random.choice(("all", "external")),
            "denied": random.choice(("ignore", "ignore", "count")),
            "on_excess": random.choice(("defer", "reject")),
        }
        rate = f"{random.randint(1, 8)}/{random.choice(('second', '2 seconds', '10 seconds'))}"
        resolution = random.choice((None, None, "1 second"))
        limits.append(kind(rate, resolution=resolution, **options))
        if jumps:
            limits.append(kind(f"{random.randint(5, 30)}/day", **options))
    return limits


def _step(random: random.Random, *, jumps: bool) -> tuple[str, tuple[Any, ...], float]:
    pause = random.choice((0, 0, 0, 0, 0.001, 0.001, 0.2, 0.2, 0.5, 0.999, 1, 1.001, 2, 5, 11))
    if jumps and random.random() < 0.2:
        pause = -random.choice((0.001, 0.5, 1, 3, 20))
    envelope = _envelope(random, ids=not jumps)
    nth = random.randint(0, 5)
    verb, *arguments = random.choice(
        (
            ("try_acquire", envelope),
            ("try_acquire", envelope),
            ("try_acquire", envelope),
            ("check", envelope),
            (
                "try_acquire_many",
                [_envelope(random, ids=not jumps) for _ in range(random.randint(0, 5))],
            ),
            ("reserve", envelope, random.choice((None, None, 0, 1, 3))),
            ("reserve", envelope, random.choice((None, None, 0, 1, 3))),
            ("refund", nth),
            ("cancel", nth),
            ("usage", envelope.sender, envelope.client),
            ("reset", envelope.sender) if random.random() < 0.3 else ("check", envelope),
        )
    )
    return verb, tuple(arguments), pause


def _envelope(random: random.Random, *, ids: bool) -> Envelope:
    known_by = random.choice((None, None, "1", "2")) if ids else None
    recipients = random.sample(RECIPIENTS, random.choice((1, 1, 1, 2, 2, 3, 4, 5)))
    if known_by is not None:  # so that the same is asked again now and then
        recipients = [RECIPIENTS[1]]
    return Envelope(
        random.choice(SENDERS),
        recipients,
        Client(
            address=random.choice((None, "10.0.0.1", "10.0.0.2")),
            tags=random.choice((set(), {"wireless"})),
        ),
        id=known_by,
    )


def play(script: Script, backend: Callable[[ManualClock], Backend]) -> list[str]:
    """What a limiter on `backend(clock)` answers to each step, in words."""
    clock = ManualClock(START)
    limiter = Limiter(script.policy, backend(clock), sleep=clock.advance, remember=9)
    decisions: list[Decision] = []
    reservations: list[Reservation] = []
    answers = []
    for verb, arguments, pause in script.steps:
        clock.advance(pause)
        answer = _do(limiter, verb, arguments, decisions, reservations)
        answers.append(f"{verb}{show(arguments)}: {answer}")
    return answers


def _do(
    limiter: Limiter,
    verb: str,
    arguments: tuple[Any, ...],
    decisions: list[Decision],
    reservations: list[Reservation],
) -> str:
    """One step; those that take something back name one of the last accepted by its number."""
    try:
        if verb == "reserve":
            reservation = limiter.reserve(*arguments)
            reservations.append(reservation)
            # What goes at once and is not counted is booked by no backend's clock.
            return f"at {reservation.at} in {reservation.delay}" if reservation.delay else "now"
        if verb == "cancel":
            reservations[-1 - arguments[0]].cancel()
            return "cancelled"
        if verb == "refund":
            limiter.refund(decisions[-1 - arguments[0]])
            return "refunded"
        if verb == "usage":
            found = limiter.usage(arguments[0], client=arguments[1])
            return "; ".join(f"{u.limit}: {u.used} {u.remaining} {u.resets_in}" for u in found)
        if verb == "reset":
            limiter.reset(*arguments)
            return "reset"
        found = getattr(limiter, verb)(*arguments)
        answered: list[Decision] = found if isinstance(found, list) else [found]
        if verb != "check":
            decisions += filter(None, answered)
        return "; ".join(f"{d.action} {d.retry_after} {d.limit} {d.tier}" for d in answered)
    except RateLimitExceeded as error:
        return f"exceeded: {error}"
    except (IndexError, ValueError) as error:
        return f"{type(error).__name__}"
