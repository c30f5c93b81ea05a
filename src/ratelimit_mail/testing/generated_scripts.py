"""Generate and play scripts of operations, to compare the answers of two backends."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any

import attrs

from ratelimit_mail._util.text import show
from ratelimit_mail.backends.base import Backend
from ratelimit_mail.conditions import has_tag
from ratelimit_mail.decision import Decision
from ratelimit_mail.envelope import Client, Envelope
from ratelimit_mail.exceptions import RateLimitExceeded
from ratelimit_mail.limiter import Limiter, Reservation
from ratelimit_mail.limits import (
    ByteRateLimit,
    Limit,
    MessageRateLimit,
    RecipientLimit,
    RecipientRateLimit,
)
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
_UNIQUE = partial(RecipientRateLimit, unique=True)
START = 1_700_000_000_000
MIDNIGHTS = (
    ("UTC", 1_700_006_400_000),
    ("Europe/Berlin", 1_711_839_600_000),  # before a day of 23 hours
    ("Europe/Berlin", 1_729_980_000_000),  # before a day of 25 hours
    ("America/Havana", 1_710_046_800_000),  # does not exist
    ("America/Havana", 1_730_606_400_000),  # is twice
    ("Africa/Cairo", 1_714_082_400_000),  # does not exist
    ("America/St_Johns", 1_162_089_000_000),  # a minute later it is the day before again
    ("Pacific/Apia", 1_325_239_200_000),  # begins the day after the next one
    ("Australia/Lord_Howe", 1_712_408_400_000),  # two hours before half an hour is repeated
)
"""Time zones and moments at which a day begins there."""

HOUR = 3_600_000
PAUSES: tuple[float, ...] = (0, 0, 0, 0, 0.001, 0.001, 0.2, 0.2, 0.5, 0.999, 1, 1.001, 2, 5, 11)
LONG_PAUSES: tuple[float, ...] = (*PAUSES, *PAUSES, 1799, 3600, 82_795, 86_400, 90_000)


@attrs.frozen
class Script:
    """A policy, and steps under it.

    steps: for each step, the operation, its arguments, and the seconds before it.
    start: the time before the first step.
    """

    policy: Policy
    steps: tuple[tuple[str, tuple[Any, ...], float], ...]
    start: int = START


def generated_script(random: random.Random, *, steps: int = 25, jumps: bool = False) -> Script:
    """Generate a policy with a few small limits, and steps that keep reaching them.

    random: where the choices come from; the same seed makes the same script.
    steps: the number of steps.
    jumps: whether the clock also goes back. Each count then also has a limit per day, so that no
        backend may forget events that matter again when the clock goes back. Envelopes then have
        no ids, because stored answers may be forgotten.
    """
    zone, start = None, START
    if random.random() < 0.3:
        zone, midnight = random.choice(MIDNIGHTS)
        start = midnight - random.choice((1, 2000, 5000, 9000, HOUR + 3000))
    limits = _limits(random, zone, jumps=jumps)
    tiers = [Tier("wireless", when=has_tag("wireless"), limits=_limits(random, zone, jumps=jumps))]
    policy = Policy(
        name="generated",
        limits=[*limits, RecipientLimit(4)],
        tiers=tiers if random.random() < 0.5 else [],
        internal_domains=["uwo.ca", ".uwo.ca"],
    )
    pauses = PAUSES if zone is None else LONG_PAUSES
    return Script(policy, tuple(_step(random, pauses, jumps=jumps) for _ in range(steps)), start)


def _limits(random: random.Random, zone: str | None, *, jumps: bool) -> list[Limit]:
    """Generate limits; with a time zone, some of them by its calendar."""
    limits: list[Limit] = []
    for _ in range(random.randint(1, 3)):
        kind = random.choice((MessageRateLimit, RecipientRateLimit, ByteRateLimit, _UNIQUE))
        options: dict[str, Any] = {
            "scope": random.choice(SCOPES),
            "count": random.choice(("all", "external")),
            "denied": random.choice(("ignore", "ignore", "count")),
            "on_excess": random.choice(("defer", "reject")),
            "on_oversize": random.choice(("reject", "reject", "spread")),
        }
        rate = f"{random.randint(1, 8)}/{random.choice(('second', '2 seconds', '10 seconds'))}"
        resolution = random.choice((None, None, "1 second"))
        if kind is _UNIQUE:
            options |= {"denied": "ignore", "on_oversize": "reject"}
            options["scope"] = random.choice([each for each in SCOPES if each != "recipient"])
            resolution = None
        if zone is not None and random.random() < 0.6:
            options["on_oversize"] = "reject"
            unit = random.choice(("day", "day", "day", "hour", "month"))
            calendar_rate = f"{random.randint(1, 8)}/calendar {unit}"
            limits.append(kind(calendar_rate, time_zone=zone, resolution=resolution, **options))
        else:
            limits.append(kind(rate, resolution=resolution, **options))
        if jumps:
            limits.append(kind(f"{random.randint(5, 30)}/day", **options))
    return limits


def _step(
    random: random.Random, pauses: tuple[float, ...], *, jumps: bool
) -> tuple[str, tuple[Any, ...], float]:
    pause = random.choice(pauses)
    if jumps and random.random() < 0.2:
        pause = -random.choice((0.001, 0.5, 1, 3, 20))
    envelope = _envelope(random, ids=not jumps)
    nth = random.randint(0, 5)
    operation, *arguments = random.choice(
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
            ("refund_envelope", envelope),
            ("cancel", nth),
            ("redeem", nth),
            ("redeem", random.choice((0, 0, nth))),
            ("settle", nth, _refused(random)),
            ("settle_reservation", nth, _refused(random)),
            ("usage", envelope.sender, envelope.client),
            ("reset", envelope.sender) if random.random() < 0.3 else ("check", envelope),
            ("block", envelope.sender, random.choice((0.2, 1, 3, None)))
            if random.random() < 0.3
            else ("unblock", envelope.sender),
        )
    )
    return operation, tuple(arguments), pause


def _refused(random: random.Random) -> list[str]:
    return random.sample(RECIPIENTS, random.choice((0, 0, 0, 1, 2, 5)))


def _envelope(random: random.Random, *, ids: bool) -> Envelope:
    message_id = random.choice((None, None, "1", "2")) if ids else None
    recipients = random.sample(RECIPIENTS, random.choice((1, 1, 1, 2, 2, 3, 4, 5)))
    if message_id is not None:  # so that messages are repeated now and then
        recipients = [RECIPIENTS[1]]
    return Envelope(
        random.choice(SENDERS),
        recipients,
        Client(
            address=random.choice((None, "10.0.0.1", "10.0.0.2")),
            tags=random.choice((set(), {"wireless"})),
        ),
        id=message_id,
        size=random.choice((1, 1, 2, 4)),
    )


def play(script: Script, backend: Callable[[ManualClock], Backend]) -> list[str]:
    """Run the steps on a new `backend(clock)`, and return each answer as a line of text.

    script: the policy and the steps.
    """
    clock = ManualClock(script.start)
    limiter = Limiter(script.policy, backend(clock), sleep=clock.advance, remember=9)
    decisions: list[Decision] = []
    reservations: list[Reservation] = []
    answers = []
    for operation, arguments, pause in script.steps:
        clock.advance(pause)
        answer = _run_step(limiter, operation, arguments, decisions, reservations)
        answers.append(f"{operation}{show(arguments)}: {answer}")
    return answers


def _run_step(
    limiter: Limiter,
    operation: str,
    arguments: tuple[Any, ...],
    decisions: list[Decision],
    reservations: list[Reservation],
) -> str:
    """Run one step; those about an earlier message count accepted messages from the end."""
    try:
        if operation == "reserve":
            reservation = limiter.reserve(*arguments)
            reservations.append(reservation)
            # A message without charges goes at once, and no backend books it by its clock.
            return f"at {reservation.at} in {reservation.delay}" if reservation.delay else "now"
        if operation == "cancel":
            reservations[-1 - arguments[0]].cancel()
            return "cancelled"
        if operation == "redeem":
            redeemed = reservations[-1 - arguments[0]].redeem()
            return f"{redeemed.action} {redeemed.retry_after} {redeemed.limit}"
        if operation == "refund":
            limiter.refund(decisions[-1 - arguments[0]])
            return "refunded"
        if operation == "refund_envelope":
            limiter.refund(arguments[0])
            return "refunded"
        if operation == "settle":
            limiter.settle(decisions[-1 - arguments[0]], arguments[1])
            return "settled"
        if operation == "settle_reservation":
            limiter.settle(reservations[-1 - arguments[0]].decision, arguments[1])
            return "settled"
        if operation == "block":
            return f"until {limiter.block(*arguments).until}"
        if operation == "unblock":
            return f"unblocked {limiter.unblock(*arguments)}"
        if operation == "usage":
            usages = limiter.usage(arguments[0], client=arguments[1])
            return "; ".join(f"{u.limit}: {u.used} {u.remaining} {u.resets_in}" for u in usages)
        if operation == "reset":
            limiter.reset(*arguments)
            return "reset"
        answer = getattr(limiter, operation)(*arguments)
        answers: list[Decision] = answer if isinstance(answer, list) else [answer]
        if operation != "check":
            decisions += filter(None, answers)
        return "; ".join(
            f"{d.action} {d.retry_after} {d.limit} {d.tier} {d.repeated} {d.block is not None}"
            for d in answers
        )
    except RateLimitExceeded as error:
        return f"exceeded: {error}"
    except (IndexError, ValueError) as error:
        return f"{type(error).__name__}"
