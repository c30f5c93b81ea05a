"""The time of one e-mail check: in memory and on servers, by threads, asyncio, many senders."""

import asyncio
import gc
import random
import time
from functools import partial
from typing import Any, Final

import pytest

from benchmarks import contenders, workloads
from benchmarks.contenders import BEST, BY_HAND, FLOORS, LIMITS, OURS, make, make_async
from benchmarks.email_check import message, new_senders
from benchmarks.workloads import WORKLOADS, Workload
from ratelimit_mail import Envelope

pytestmark = pytest.mark.benchmark(disable_gc=True)

DENIED: Final = ["denied by the minute", "denied by the day"]
GRID: Final = [
    ("memory", ["accepted", "day nearly full", *DENIED], contenders.IN_MEMORY),
    ("memory", ["8 threads", "asyncio"], [BY_HAND, OURS, *BEST]),
    ("Valkey", ["accepted", "fresh senders", "day nearly full", *DENIED], contenders.ON_SERVER),
    ("Valkey", ["8 threads", "asyncio, 100 tasks"], [contenders.NO_OP, OURS, *BEST]),
    (
        "Redis",
        ["accepted", "fresh senders", DENIED[0]],
        [contenders.SOCKET, contenders.NO_OP, OURS],
    ),
]
WITHOUT_TOKENS: Final = [BY_HAND, OURS, *(name for name in BEST if name != contenders.TOKENS)]


@pytest.mark.parametrize(
    ("store", "work", "name"),
    [(store, work, name) for store, works, names in GRID for work in works for name in names],
)
def test_check(compare: Any, port_of: Any, request: Any, store: str, work: str, name: str) -> None:
    port = port_of(store)

    def build(each: str) -> Workload:
        if not work.startswith("asyncio"):
            return WORKLOADS[work](make(each, port))
        runner = asyncio.Runner()
        request.addfinalizer(runner.close)
        check = runner.run(make_async(each, port))
        return workloads.awaited(check, runner.get_loop(), at_once="100" in work)

    others = [FLOORS[store], *([LIMITS] if name == contenders.BUILT else [])]
    compare(f"{store}, {work}", name, build, others)


@pytest.mark.parametrize("work", ["accepted", "fresh senders", "denied by the minute"])
def test_without_hiredis(compare: Any, port_of: Any, work: str) -> None:
    def build(each: str) -> Workload:
        return WORKLOADS[work](make(each, port_of("Valkey")))

    others = [contenders.NO_OP_PURE]
    compare(f"Valkey, without hiredis, {work}", contenders.OURS_PURE, build, others)


@pytest.mark.parametrize(
    ("group", "senders"), [("Valkey, batches", 5), ("Valkey, batches of new senders", 100)]
)
def test_batches(compare: Any, port_of: Any, group: str, senders: int) -> None:
    """A hundred messages of some senders, decided on in one call and one by one."""

    def build(each: str) -> Workload:
        ours = make(OURS, port_of("Valkey"))
        send = ours.check_many if each == OURS else workloads.one_by_one(ours.check)
        prepare = partial(new_senders, senders, 100 // senders)
        return Workload(lambda: random.sample(prepare(), 100), send)

    compare(group, OURS, build, ["single calls"])


@pytest.mark.parametrize(
    ("senders", "name"),
    [(10_000, name) for name in WITHOUT_TOKENS]
    + [(1_000_000, name) for name in (contenders.DEQUES, BY_HAND, OURS, LIMITS, "throttled-py")],
)
def test_many_senders(compare: Any, senders: int, name: str) -> None:
    def build(each: str) -> Workload:
        if each == "few senders":
            return workloads.by_sender(make(name))
        return workloads.among(senders, make(each))

    compare(f"memory, {senders:,} senders", name, build, [BY_HAND, "few senders"])


@pytest.mark.parametrize(("what", "share"), [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)])
@pytest.mark.parametrize("name", WITHOUT_TOKENS)
def test_latency(benchmark_of: Any, name: str, what: str, share: float, quick: bool) -> None:
    """Single calls among 2,000 senders, with garbage collection: eleven messages of a sender.

    A round is the percentile of 20,000 calls, for new senders; beside it is the round's p50.
    """
    check = make(name).check
    clock = time.perf_counter_ns
    percentiles = [0.0]
    medians: list[float] = []

    def prepare() -> tuple[tuple[list[Envelope]], dict[str, Any]]:
        senders = [f"{len(medians)}.{i}" for i in range(2_000)]
        for sender in senders:
            check(message(sender))
        random.shuffle(senders)
        return ([message(sender) for sender in senders * 10],), {}

    def send(envelopes: list[Envelope]) -> None:
        times = []
        for envelope in envelopes:
            start = clock()
            check(envelope)
            times.append(clock() - start)
        times.sort()
        percentiles.append(times[int(len(times) * share)] / 1e9)
        medians.append(times[len(times) // 2] / 1e9)

    gc.collect()
    gc.freeze()
    benchmark = benchmark_of(lambda: sum(percentiles), f"memory, {what}", name)
    benchmark.pedantic(send, setup=prepare, rounds=3 if quick else 9)
    gc.unfreeze()
    benchmark.extra_info["beside"] = {"p50": medians}
