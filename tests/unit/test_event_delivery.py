"""Dispatcher: listeners are called on a thread of its own, and can harm nobody."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial

import pytest
from rlm_testkit.servers import wait_until

from ratelimit_mail import Client, MessageRateLimit
from ratelimit_mail.events import Dispatcher, Event, NearLimit

LIMIT = MessageRateLimit("30/minute")


def event(number: int = 0) -> NearLimit:
    return NearLimit(
        sender="ann@uwo.ca",
        subject="ann@uwo.ca",
        limit=LIMIT,
        policy="campus",
        tier=None,
        at=datetime(2026, 1, 2, tzinfo=UTC),
        client=Client(),
        used=number,
        share=0.8,
    )


class Stuck:
    """A listener that waits until it is let go."""

    def __init__(self) -> None:
        self.busy = threading.Event()
        self.let_go = threading.Event()
        self.told: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.busy.set()
        assert self.let_go.wait(60)
        self.told.append(event)


@pytest.fixture
def stuck() -> Iterator[Stuck]:
    listener = Stuck()
    yield listener
    listener.let_go.set()


def test_the_listener_has_every_event_in_order() -> None:
    told: list[Event] = []
    teller = Dispatcher(told.append)
    for number in range(100):
        teller.tell(event(number))
    assert teller.flush(60)
    assert told == [event(number) for number in range(100)]
    assert teller.dropped == 0


def test_it_is_called_on_another_thread_which_does_not_keep_the_program_alive() -> None:
    threads: list[threading.Thread] = []
    teller = Dispatcher(lambda _: threads.append(threading.current_thread()))
    teller.tell(event())
    teller.tell(event())
    assert teller.flush(60)
    assert threads[0] is threads[1]
    assert threads[0] is not threading.current_thread()
    assert threads[0].daemon


def test_nobody_to_tell_anything_needs_no_thread() -> None:
    before = threading.active_count()
    teller = Dispatcher(print)
    assert teller.flush(0)
    assert threading.active_count() == before


def test_several_listeners_all_have_every_event() -> None:
    first: list[Event] = []
    second: list[Event] = []
    teller = Dispatcher([first.append, second.append])
    teller.tell(event(1))
    assert teller.flush(60)
    assert first == second == [event(1)]


def test_flush_waits_no_longer_than_it_was_given(stuck: Stuck) -> None:
    teller = Dispatcher(stuck)
    teller.tell(event())
    assert not teller.flush(0.01)
    stuck.let_go.set()
    assert teller.flush(60)
    assert stuck.told == [event()]


def test_a_listener_that_flushes_does_not_wait_for_itself() -> None:
    answers: list[bool] = []
    teller = Dispatcher(lambda _: answers.append(teller.flush()))
    teller.tell(event())
    assert teller.flush(60)
    assert answers == [False]


def test_a_listener_that_tells_is_not_called_within_itself() -> None:
    told: list[int] = []

    def echo(each: Event) -> None:
        assert isinstance(each, NearLimit)
        if each.used < 3:
            teller.tell(event(each.used + 1))
        told.append(each.used)

    teller = Dispatcher(echo)
    teller.tell(event(0))
    wait_until(lambda: len(told) == 4)
    assert told == [0, 1, 2, 3]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, MemoryError])
def test_a_listener_that_raises_goes_on_and_the_others_too(error: type[BaseException]) -> None:
    told: list[Event] = []

    def broken(_: Event) -> None:
        raise error("ann@uwo.ca")

    teller = Dispatcher([broken, told.append])
    teller.tell(event(1))
    teller.tell(event(2))
    assert teller.flush(60)
    assert told == [event(1), event(2)]


def test_what_a_listener_raises_is_logged_once_for_each_kind_and_without_its_text(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(each: Event) -> None:
        assert isinstance(each, NearLimit)
        raise [ValueError, KeyError][each.used % 2]("of ann@uwo.ca")

    teller = Dispatcher(broken)
    for number in range(50):
        teller.tell(event(number))
    assert teller.flush(60)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert "broken, raised ValueError at test_event_delivery.py:" in lines[0]
    assert "broken, raised KeyError at test_event_delivery.py:" in lines[1]
    assert "ann" not in "".join(lines)


def test_a_coroutine_that_a_plain_function_gives_is_a_trouble_that_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def later(_: Event) -> None: ...

    teller = Dispatcher(lambda each: later(each))
    teller.tell(event())
    assert teller.flush(60)
    assert "raised TypeError" in caplog.text


def test_a_log_that_raises_too_does_not_stop_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class RejectedRow(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise OSError("no log either")

    handler = RejectedRow()
    logging.getLogger("ratelimit_mail").addHandler(handler)
    try:
        told: list[Event] = []

        def broken(_: Event) -> None:
            raise ValueError

        teller = Dispatcher([broken, told.append])
        teller.tell(event(1))
        teller.tell(event(2))
        assert teller.flush(60)
        assert told == [event(1), event(2)]
    finally:
        logging.getLogger("ratelimit_mail").removeHandler(handler)


def test_what_comes_while_too_many_wait_is_dropped_and_counted(
    stuck: Stuck, caplog: pytest.LogCaptureFixture
) -> None:
    teller = Dispatcher(stuck, most_waiting=5)
    teller.tell(event(0))
    assert stuck.busy.wait(60)
    for number in range(1, 101):
        teller.tell(event(number))  # would hang here if it waited
    assert teller.dropped == 95
    wait_until(lambda: caplog.records)
    stuck.let_go.set()
    assert teller.flush(60)
    assert stuck.told == [event(number) for number in range(6)]
    teller.tell(event(7))
    assert teller.flush(60)
    assert stuck.told[-1] == event(7)
    assert [record.getMessage() for record in caplog.records] == [
        "a listener of events is too slow: 5 wait, more are dropped"
    ]


def test_a_stuck_log_that_is_the_listener_does_not_hold_up_who_drops(stuck: Stuck) -> None:
    class Slow(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            stuck(event())

    handler = Slow()
    logger = logging.getLogger("ratelimit_mail")
    logger.addHandler(handler)
    try:
        teller = Dispatcher(lambda _: logger.warning("an event"), most_waiting=1)
        teller.tell(event())
        assert stuck.busy.wait(60)
        for _ in range(10):
            teller.tell(event())  # the handler's lock is held by the listener's thread
        assert teller.dropped == 9
    finally:
        stuck.let_go.set()
        assert teller.flush(60)
        logger.removeHandler(handler)


def test_drops_are_counted_to_the_last_with_many_threads(stuck: Stuck) -> None:
    teller = Dispatcher(stuck, most_waiting=1000)
    teller.tell(event())
    assert stuck.busy.wait(60)

    def tell() -> None:
        for number in range(500):
            teller.tell(event(number))

    threads = [threading.Thread(target=tell) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stuck.let_go.set()
    assert teller.flush(60)
    assert len(stuck.told) + teller.dropped == 4001
    assert 1001 <= len(stuck.told) <= 1009  # about as many as may wait


def test_threads_that_tell_at_once_start_one_thread() -> None:
    names: set[int] = set()
    count: list[int] = []

    def listen(_: Event) -> None:
        names.add(threading.get_ident())
        count.append(1)

    teller = Dispatcher(listen)
    start = threading.Barrier(8)

    def tell() -> None:
        start.wait()
        teller.tell(event())

    threads = [threading.Thread(target=tell) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert teller.flush(60)
    assert len(names) == 1
    assert len(count) == 8


async def test_an_event_loop_is_not_held_up(stuck: Stuck) -> None:
    teller = Dispatcher(stuck)
    teller.tell(event())
    await asyncio.sleep(0)
    assert stuck.told == []
    stuck.let_go.set()
    assert await asyncio.to_thread(teller.flush, 60)
    assert stuck.told == [event()]


async def test_a_listener_may_hand_events_to_an_event_loop() -> None:
    queue: asyncio.Queue[Event] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    teller = Dispatcher(lambda each: loop.call_soon_threadsafe(queue.put_nowait, each))
    teller.tell(event(3))
    assert await asyncio.wait_for(queue.get(), 60) == event(3)


def test_the_thread_ends_with_its_teller() -> None:
    threads: list[threading.Thread] = []
    teller = Dispatcher(lambda _: threads.append(threading.current_thread()))
    teller.tell(event())
    assert teller.flush(60)
    del teller
    gc.collect()
    threads[0].join(60)
    assert not threads[0].is_alive()


async def _async_listener(_: Event) -> None: ...


class _AsyncCallable:
    async def __call__(self, _: Event) -> None: ...


def _generator(_: Event) -> Iterator[None]:
    yield


@pytest.mark.parametrize(
    ("listener", "error", "words"),
    [
        (_async_listener, TypeError, "is async, and nobody would await it"),
        (partial(_async_listener), TypeError, "is async"),
        (_AsyncCallable(), TypeError, "is async"),
        ([print, _async_listener], TypeError, "is async"),
        (_generator, TypeError, "is a generator"),
        (None, TypeError, "None is nothing to call"),
        ("print", TypeError, "nothing to call"),
        ([print, 3], TypeError, "3 is nothing to call"),
        ([], ValueError, "at least one is needed"),
    ],
)
def test_what_is_no_listener_is_refused_at_once(
    listener: object, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        Dispatcher(listener)  # type: ignore[arg-type]


@pytest.mark.parametrize("most", [0, -1, 1.5, True, "many"])
def test_what_is_no_number_of_waiting_events_is_refused(most: object) -> None:
    with pytest.raises((TypeError, ValueError), match="most_waiting: "):
        Dispatcher(print, most_waiting=most)  # type: ignore[arg-type]


START = """
import os, sys, threading, time
from datetime import UTC, datetime
from ratelimit_mail import Client, MessageRateLimit
from ratelimit_mail.events import NearLimit, Dispatcher

def event(number):
    return NearLimit(sender="a@x.org", subject="a@x.org", limit=MessageRateLimit("1/day"),
        policy="p", tier=None, at=datetime(2026, 1, 2, tzinfo=UTC), client=Client(),
        used=number, share=0.8)
"""


def run_script(body: str) -> tuple[str, float]:
    """What a program prints, and how many seconds it took."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", START + textwrap.dedent(body)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout, time.monotonic() - began


def test_what_waits_at_the_end_of_the_program_is_told() -> None:
    printed, _ = run_script("""
        def listen(event):
            print(event.used, flush=True)
        teller = Dispatcher(listen)
        for number in range(20):
            teller.tell(event(number))
    """)
    assert printed.split() == [str(number) for number in range(20)]


def test_the_end_of_the_program_waits_a_second_for_a_stuck_listener_and_no_longer() -> None:
    printed, took = run_script("""
        told = []
        tellers = [Dispatcher(lambda _: threading.Event().wait()) for _ in range(3)]
        tellers.append(Dispatcher(lambda event: print(event.used, flush=True)))
        for teller in tellers:
            teller.tell(event(1))
    """)
    assert printed == "1\n"
    assert took >= 1.0  # and it ended by itself


def test_a_log_that_is_closed_at_the_end_still_has_the_last_events() -> None:
    printed, _ = run_script("""
        import atexit, tempfile
        from ratelimit_mail.events import log_events
        with tempfile.NamedTemporaryFile() as file:
            pass
        atexit.register(lambda: print(open(file.name).read()))  # after the log is closed
        import logging
        logging.basicConfig(filename=file.name)
        teller = Dispatcher(log_events())
        teller.tell(event(1))
    """)
    assert "near a limit: 'a@x.org'" in printed


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_tells_its_own_events_and_none_of_its_parents() -> None:
    printed, _ = run_script("""
        import warnings
        warnings.simplefilter("ignore")  # Python warns of any fork with threads
        busy, let_go = threading.Event(), threading.Event()
        def listen(event):
            if event.used == 1:
                busy.set()
                let_go.wait()
            print(os.getpid(), event.used, flush=True)
        parent = os.getpid()
        teller = Dispatcher(listen)
        teller.tell(event(1))
        busy.wait()
        teller.tell(event(2))  # waits at the fork
        child = os.fork()
        if child == 0:
            teller.tell(event(3))
            if not teller.flush(30):
                os._exit(1)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        let_go.set()
        teller.flush()
        print(parent, child)
    """)
    *lines, pids = printed.splitlines()
    parent, child = pids.split()
    assert lines == [f"{child} 3", f"{parent} 1", f"{parent} 2"]
