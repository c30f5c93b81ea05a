"""Fixtures: contenders timed in alternation, servers, a clock set by hand; what the page shows."""

import contextlib
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from importlib.metadata import distributions
from time import perf_counter
from typing import Any, Final

import pytest
from rlm_testkit.servers import Server, redis_server, valkey

from benchmarks.contenders import OURS, PEERS, UNDECIDING
from benchmarks.neighbours import begin, prepared, round_seconds
from benchmarks.workloads import Workload
from ratelimit_mail import Envelope

PACKAGES: Final = ("redis", "hiredis", "limits", "pyrate-limiter", "throttled-py", "token-throttle")
PROGRAMS: Final = {"Valkey": valkey, "Redis": redis_server}
FORK: Final = multiprocessing.get_context("fork")
RUN: Final[dict[str, Any]] = {
    "failures": {},
    "load": os.getloadavg()[0],
    "versions": {each.name: each.version for each in distributions() if each.name in PACKAGES},
}
"""What the page shows of this run besides its figures."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="few rounds: the figures are rough")


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Iterator[None]:
    """Skip a peer or a server that is not installed, and a peer that fails; the page says so."""
    try:
        return (yield)
    except Exception as error:
        peer = pyfuncitem.funcargs.get("name") in PEERS
        if not peer and not isinstance(error, ModuleNotFoundError):
            raise
        RUN["failures"][pyfuncitem.name] = repr(error)
        pytest.skip(repr(error))


def pytest_benchmark_update_json(output_json: dict[str, Any]) -> None:
    output_json.update(RUN)


@pytest.fixture(scope="session")
def quick(request: pytest.FixtureRequest) -> bool:
    """Whether this run only tries the benchmarks out."""
    return bool(request.config.getoption("--quick"))


@contextlib.contextmanager
def on_one_core() -> Iterator[None]:
    """Let this process and those that it starts run on the core of the servers.

    On two cores, the time of a call depends more on whether the system lets a core sleep meanwhile
    than on what the call does: 30 or 75 µs for a script that does nothing.
    """
    if not hasattr(os, "sched_setaffinity"):  # other systems than Linux
        yield
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


@pytest.fixture
def compare(benchmark: Any, quick: bool) -> Callable[..., None]:
    """Time a contender in alternation with what its time is compared with.

    A round of each of the others comes before each of its rounds. A machine whose speed drifts
    slows them all alike, and the ratios within a round hold.
    """

    def measure(
        group: str, name: str, build: Callable[[str], Workload], others: Sequence[str] = ()
    ) -> None:
        answers: Sequence[object] = []
        wrong = total = 0

        def setup() -> tuple[tuple[list[Envelope]], dict[str, Any]]:
            for each, process in neighbours.items():
                times[each].append(process.submit(round_seconds).result())
            return (prepared(workload),), {}

        def send(envelopes: list[Envelope]) -> None:
            nonlocal answers
            answers = workload.send(envelopes)

        def count(envelopes: list[Envelope]) -> None:
            nonlocal wrong, total
            total += len(envelopes)
            wrong += sum(bool(answer) is not workload.expected for answer in answers)

        with contextlib.ExitStack() as stack:
            if group.partition(",")[0] in PROGRAMS:
                stack.enter_context(on_one_core())
            names = dict.fromkeys(each for each in (*others, OURS) if each != name)
            neighbours = {
                each: stack.enter_context(ProcessPoolExecutor(1, FORK, begin, (build, each)))
                for each in names
            }
            times: dict[str, list[float]] = {each: [] for each in names}
            for process in neighbours.values():  # forks it, before this process has grown
                process.submit(round_seconds).result()
            workload = build(name)
            for _ in range(2):  # the second round is warm, and says how many there is time for
                start = perf_counter()
                (envelopes,), _kwargs = setup()
                send(envelopes)
                rounds = int((0.1 if quick else 1.2) / (perf_counter() - start))
            times = {each: [] for each in names}
            benchmark.group = group
            benchmark.pedantic(send, setup=setup, teardown=count, rounds=min(max(rounds, 3), 400))
        share = 0 if name in UNDECIDING else wrong / total
        benchmark.extra_info.update(contender=name, beside=times, wrong=share)
        benchmark.extra_info["messages"] = len(envelopes)
        assert not (name == OURS and wrong), f"{wrong} of {total} answers are wrong"

    return measure


@pytest.fixture
def benchmark_of(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Return the benchmark fixture that reads another quantity in place of the clock."""

    def make(quantity: Callable[[], float], group: str, contender: str, messages: int = 1) -> Any:
        request.node.add_marker(pytest.mark.benchmark(timer=quantity, group=group), append=False)
        benchmark = request.getfixturevalue("benchmark")
        benchmark.extra_info.update(contender=contender, messages=messages)
        return benchmark

    return make


@pytest.fixture(scope="session")
def port_of(request: pytest.FixtureRequest) -> Callable[[str], int | None]:
    """Return the port of the server of a store, started at its first use; None for memory."""

    @cache
    def start(store: str) -> int | None:
        if store == "memory":
            return None
        with on_one_core():
            server = Server(PROGRAMS[store]())
        request.addfinalizer(server.stop)
        server_info = server.client().info("server")
        RUN["versions"][store] = server_info.get("valkey_version", server_info["redis_version"])
        return server.port

    return start


@pytest.fixture
def advance(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Set the clocks of this process by hand: the function moves them some seconds on.

    `time.sleep`, and the timers of threads, use real time.
    """
    pyrate_clocks = pytest.importorskip("pyrate_limiter.clocks")  # imports the functions by name
    now = 20_833 * 86_400 * 10**9  # a midnight: windows aligned to the clock begin
    for module in (time, pyrate_clocks):
        for clock in ("time", "monotonic"):
            monkeypatch.setattr(module, clock, lambda: now / 1e9, raising=False)
            monkeypatch.setattr(module, f"{clock}_ns", lambda: now, raising=False)
    monkeypatch.setattr(time, "clock_gettime_ns", lambda _: now, raising=False)

    def advance(seconds: float) -> None:
        nonlocal now
        now += round(seconds * 1e9)

    return advance
