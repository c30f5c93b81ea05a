"""Generated scripts and the state machine on SQLite files: the answers are those of memory.

Also with tiny chunks, so that short logs are sealed, searched in the file and taken apart again.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test
from rlm_testkit.state_machine import Machine, MachineWithIds, MachineWithJumps

from ratelimit_mail import MessageRateLimit, Policy, RecipientRateLimit
from ratelimit_mail.backends import AsyncSQLiteBackend, Backend, MemoryBackend, SQLiteBackend
from ratelimit_mail.backends.sqlite import event_tree, fast_path, stored_log
from ratelimit_mail.counting.event_log import EventLog
from ratelimit_mail.counting.window import Retention, Window
from ratelimit_mail.testing import BruteForceBackend, ManualClock, generated_script, play
from ratelimit_mail.testing.sync_adapter import SyncAdapter

FEWER_EXAMPLES = settings(max_examples=settings().max_examples // 2)

MakeBackend = Callable[[ManualClock], Backend]

LARGE = Policy(
    name="large",
    internal_domains=["uwo.ca", ".uwo.ca"],
    limits=[
        MessageRateLimit("5/5 seconds"),
        RecipientRateLimit("60/day", denied="count"),
        RecipientRateLimit("400/day", scope="global"),
        MessageRateLimit("900/day", scope="global", resolution="1 second"),
    ],
)
"""One log is trimmed all the time; three grow."""


@pytest.fixture(scope="module")
def make_backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeBackend]:
    """Return a function that makes a backend with a new file, and closes the one before."""
    paths = (tmp_path_factory.mktemp("files") / "counts.db" for _ in itertools.count())
    made: list[SQLiteBackend] = []

    def make(clock: ManualClock) -> SQLiteBackend:
        close()
        made.append(SQLiteBackend(next(paths), clock=clock, timeout=60))
        return made[-1]

    def close() -> None:
        while made:
            backend = made.pop()
            backend.close()
            Path(backend._database.path).unlink(missing_ok=True)

    yield make
    close()


def seal(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Set how many events a leaf has."""
    for module in (event_tree, fast_path, stored_log):
        monkeypatch.setattr(module, "LEAF_SIZE", size)
    monkeypatch.setattr(event_tree, "MOST_IN_ROOT", max(2, size // 4))


@pytest.fixture(params=[event_tree.LEAF_SIZE, 3])
def chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    size: int = request.param
    seal(monkeypatch, size)
    return size


@FEWER_EXAMPLES
@given(seed=st.integers(0, 1 << 64), jumps=st.booleans())
def test_generated_scripts_give_the_answers_of_the_brute_force(
    make_backend: MakeBackend, seed: int, jumps: bool
) -> None:
    script = generated_script(random.Random(seed), jumps=jumps)
    assert play(script, make_backend) == play(script, BruteForceBackend)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.usefixtures("chunk")
def test_long_scripts_give_the_answers_of_the_brute_force(
    make_backend: MakeBackend, seed: int
) -> None:
    script = generated_script(random.Random(seed), steps=300, jumps=bool(seed % 2))
    assert play(script, make_backend) == play(script, BruteForceBackend)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.usefixtures("chunk")
def test_large_logs_give_the_answers_of_a_memory_backend(
    make_backend: MakeBackend, seed: int
) -> None:
    script = generated_script(random.Random(seed), steps=600, jumps=True)
    steps = [(method, arguments, abs(pause)) for method, arguments, pause in script.steps]
    script = attrs.evolve(
        script, policy=LARGE, steps=tuple(step for step in steps if step[0] != "reset")
    )
    assert play(script, make_backend) == play(script, MemoryBackend)


@pytest.mark.parametrize("seed", range(4))
def test_the_async_backend_gives_the_answers_of_a_memory_backend(tmp_path: Path, seed: int) -> None:
    import asyncio

    script = generated_script(random.Random(seed), steps=60, jumps=bool(seed % 2))
    made: list[AsyncSQLiteBackend] = []
    with asyncio.Runner() as runner:

        def make(clock: ManualClock) -> SyncAdapter:
            made.append(AsyncSQLiteBackend(tmp_path / "counts.db", clock=clock, timeout=60))
            return SyncAdapter(made[0], runner.run)

        answers = play(script, make)
        runner.run(made[0].aclose())
    assert answers == play(script, MemoryBackend)


@pytest.mark.parametrize("kind", [MachineWithJumps, MachineWithIds])
def test_any_order_of_calls_gives_the_answers_of_a_memory_backend(
    make_backend: MakeBackend, kind: type[Machine]
) -> None:
    class BesideMemory(kind):  # type: ignore[misc,valid-type]
        def backends(self, clock: ManualClock) -> Sequence[Backend]:
            return MemoryBackend(clock), make_backend(clock)

    run_state_machine_as_test(
        BesideMemory,
        settings=settings(stateful_step_count=30, max_examples=settings().max_examples // 4),
    )


WINDOWS = [
    Window(20, 50),
    Window(60, 400),
    Window(40, 400, denied=True),
    Window(30, 200, resolution=10),
]
RETENTIONS = [Retention(400), Retention(400, ceiling=40), Retention(450, slot=10)]

operations = st.lists(
    st.tuples(
        st.sampled_from(["add", "add", "add", "refuse", "book", "refund", "without", "forget"]),
        st.integers(0, 40),
        st.integers(1, 4),
    ),
    max_size=120,
)


@given(operations=operations, retention=st.sampled_from(RETENTIONS), data=st.data())
def test_a_stored_log_answers_as_an_event_log_does(
    make_backend: MakeBackend, operations: list[Any], retention: Retention, data: st.DataObject
) -> None:
    """It is packed, and unpacked again, after each operation; its leaves have few events."""
    with pytest.MonkeyPatch.context() as patch:
        seal(patch, 2)
        _compare_logs(make_backend, operations, retention, data)


def _compare_logs(
    make_backend: MakeBackend, operations: list[Any], retention: Retention, data: st.DataObject
) -> None:
    backend = make_backend(ManualClock())
    assert isinstance(backend, SQLiteBackend)
    backend.read_register("")
    cursor = backend._database._cursor
    assert cursor is not None
    cursor.execute("BEGIN IMMEDIATE")
    expected = EventLog()
    log = stored_log.StoredLog(event_tree.EventTree(cursor, 8), expected.newest, retention)
    now = 1000
    charged: list[tuple[int, int]] = []
    for operation, number, cost in operations:
        now += number // 3
        for each in (expected, log):
            if operation == "add":
                at = each.add(now, cost, retention)
            elif operation == "refuse" and retention.ceiling:
                each.refuse(now, cost, retention)
            elif operation == "book":
                at = each.book(now, now + 5 * number, cost, retention)
            elif operation == "forget":
                each.forget(now, retention)
        if operation in ("add", "book"):
            charged.append((at, cost))
        elif operation == "refund" and charged:
            event = charged.pop(data.draw(st.integers(0, len(charged) - 1)))
            for each in (expected, log):
                each.refund([event], retention)
        elif operation == "without" and charged:
            event = data.draw(st.sampled_from(charged))
            copies = expected.without([event], retention), log.without([event], retention)
            assert _answers(copies[0], now) == _answers(copies[1], now)
        assert _answers(expected, now) == _answers(log, now)
        log.seal()
        log = stored_log.StoredLog.unpack(cursor, 1, log.pack(0), 0, retention)
        assert _answers(expected, now) == _answers(log, now)
        [[rows]] = cursor.execute("SELECT count(*) FROM log_node")
        assert rows == _nodes_below(log.tree, log.tree.root)


def _nodes_below(tree: event_tree.EventTree, node: event_tree.Node) -> int:
    """Count the nodes of a tree, and check that each entry of a node agrees with its child."""
    nodes = 0
    for entry, number in enumerate(node.children):
        child = tree._node(number)
        nodes += 1 + _nodes_below(tree, child)
        assert child.level == node.level - 1
        assert node.times[entry] == child.times[0]
        for before, of_child in (
            (node.sent, child.sent[-1]),
            (node.attempts, child.attempts[-1]),
            (node.counts, child.count),
        ):
            assert before[entry + 1] - before[entry] == of_child
    return nodes


def _answers(log: EventLog, now: int) -> list[Any]:
    """Return everything that a log is asked."""
    answers: list[Any] = [log.newest, log.held, log.last_booking(now), log.idle_from(400)]
    for window in WINDOWS:
        answers += [log.used(now, window), log.remaining(now, window), log.empty_at(now, window)]
        answers += [log.earliest(now, cost, window) for cost in (1, 7, 20)]
        answers.append(log.earliest_spread(now, [(0, 15), (70, 15)], window))
    return answers
