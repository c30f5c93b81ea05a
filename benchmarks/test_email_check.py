"""How long one decision takes in memory, beside a floor and a peer, in one run."""

from __future__ import annotations

import random
import statistics
import tracemalloc
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from contenders import POLICY, by_hand, letter, limits_two_hits, ours
from side_by_side import Round, ratio, side_by_side

from ratelimit_mail import Envelope, Limiter, MessageRateLimit, Policy, RecipientRateLimit
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.testing import ManualClock

BATCH = 30
MANY = 100_000


def accepted(contender: Callable[[], Any]) -> Callable[[], Round]:
    """A round of a new contender: one sender's thirty messages, all of them accepted."""
    return lambda: (contender(), [letter("ann") for _ in range(BATCH)])


def asked_again(contender: Callable[[], Any]) -> Callable[[], Round]:
    """The same with one message thirty times, as a queue asks about it again and again."""
    envelopes = [letter("ann")] * BATCH
    return lambda: (contender(), envelopes)


def filled(contender: Callable[[], Any], senders: int, batch: int = BATCH) -> Callable[[], Round]:
    """Rounds of one contender that holds many senders; each round other ones send."""
    check = contender()
    order = list(range(senders))
    for i in order:
        check(letter(i))
    random.Random(1).shuffle(order)
    source = iter(order * 20)
    # Built anew, as a caller builds them: what is cold is what the limiter holds.
    return lambda: (check, [letter(next(source)) for _ in range(batch)])


def denied(policy: Policy, fill: int) -> Callable[[], Round]:
    """Rounds of one limiter whose sender has used up a limit with `fill` messages."""
    clock = ManualClock()
    limiter = Limiter(policy, MemoryBackend(clock))
    for _ in range(fill):
        clock.advance(0.01)
        assert limiter.try_acquire(letter("ann"))
    assert not limiter.try_acquire(letter("ann"))
    envelopes = [letter("ann")] * BATCH
    return lambda: (limiter.try_acquire, envelopes)


@pytest.fixture(scope="module")
def report() -> Any:
    lines: list[str] = []
    yield lines
    print("\n\n" + "\n".join(lines))


@pytest.mark.parametrize("contender", [by_hand, limits_two_hits, ours])
def test_accepted(benchmark: Any, contender: Callable[[], Any]) -> None:
    benchmark.group = f"{BATCH} messages of one sender, accepted"
    prepare = accepted(contender)

    def setup() -> tuple[Round, dict[str, Any]]:
        return prepare(), {}

    def work(check: Any, envelopes: list[Envelope]) -> None:
        for envelope in envelopes:
            check(envelope)

    benchmark.pedantic(work, setup=setup, rounds=300, warmup_rounds=5)


def test_built_from_plain_strings(benchmark: Any) -> None:
    benchmark.group = "one envelope"
    benchmark(letter, "ann")


def test_ratios(report: list[str]) -> None:
    taken = side_by_side(
        {
            "by hand": accepted(by_hand),
            "limits": accepted(limits_two_hits),
            "ours": accepted(ours),
            "ours, asked again": asked_again(ours),
        }
    )
    for name, seconds in taken.items():
        report.append(f"accepted, {name:24}{statistics.median(seconds) * 1e6:8.2f} µs a message")
    report.append(
        f"ours / by hand                    {ratio(taken['ours'], taken['by hand']):8.2f}"
    )
    report.append(f"ours / limits                     {ratio(taken['ours'], taken['limits']):8.2f}")
    again = ratio(taken["ours, asked again"], taken["limits"])
    report.append(f"ours, asked again / limits        {again:8.2f}")


def test_ratios_late_in_the_day(report: list[str]) -> None:
    sent = 3000
    taken = side_by_side(
        {
            "limits": accepted(partial(limits_two_hits, sent)),
            "ours": accepted(partial(ours, sent)),
        },
        rounds=60,
    )
    for name, seconds in taken.items():
        report.append(
            f"day nearly full, {name:17}{statistics.median(seconds) * 1e6:8.2f} µs a message"
        )
    report.append(f"ours / limits                     {ratio(taken['ours'], taken['limits']):8.2f}")


def test_many_senders_against_one(report: list[str]) -> None:
    taken = side_by_side({"many": filled(ours, MANY), "one": accepted(ours)})
    for name, seconds in taken.items():
        report.append(
            f"{MANY} senders, {name:18}{statistics.median(seconds) * 1e6:8.2f} µs a message"
        )
    report.append(f"{MANY} senders / one           {ratio(taken['many'], taken['one']):8.2f}")


def test_many_senders_beside_a_peer(report: list[str]) -> None:
    taken = side_by_side({"limits": filled(limits_two_hits, MANY), "ours": filled(ours, MANY)})
    report.append(f"{MANY} senders, ours / limits  {ratio(taken['ours'], taken['limits']):8.2f}")


@pytest.mark.parametrize(
    ("name", "limits", "fill"),
    [
        ("minute", POLICY.limits, 30),
        ("day, 1,000 recorded", [RecipientRateLimit("5000/day")], 1000),
        ("day, 100,000 recorded", [RecipientRateLimit("500000/day")], 100_000),
        (
            "both, 10,000 recorded",
            [MessageRateLimit("10000/hour"), RecipientRateLimit("50000/day")],
            10_000,
        ),
    ],
)
def test_denied_against_accepted(report: list[str], name: str, limits: Any, fill: int) -> None:
    policy = Policy(name="denied", limits=limits, internal_domains=["uwo.ca"])

    def same_limits() -> Any:
        return Limiter(policy).try_acquire

    taken = side_by_side({"denied": denied(policy, fill), "accepted": accepted(same_limits)})
    report.append(
        f"denied / accepted, by {name:24}{ratio(taken['denied'], taken['accepted']):8.2f}"
    )


def test_memory_per_message(report: list[str]) -> None:
    senders, messages = 20, 1000
    clock = ManualClock()
    limiter = Limiter(POLICY, MemoryBackend(clock))
    envelopes = [letter(i) for i in range(senders)]
    for envelope in envelopes:
        limiter.try_acquire(envelope)
    tracemalloc.start()
    for _ in range(messages):
        clock.advance(2)
        for envelope in envelopes:
            assert limiter.try_acquire(envelope)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    report.append(f"bytes per recorded message        {held / senders / messages:8.1f}")


def test_memory_per_sender(report: list[str]) -> None:
    senders = 20_000
    limiter = Limiter(POLICY)
    tracemalloc.start()
    for i in range(senders):
        limiter.try_acquire(letter(i))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    report.append(f"bytes per sender with one message {held / senders:8.0f}")
