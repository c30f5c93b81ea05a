"""Dispatcher: listeners are called on a separate thread, and their errors do no harm."""

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
    """A listener that blocks until it is released."""

    def __init__(self) -> None:
        self.busy = threading.Event()
        self.released = threading.Event()
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.busy.set()
        assert self.released.wait(60)
        self.events.append(event)


@pytest.fixture
def stuck() -> Iterator[Stuck]:
    listener = Stuck()
    yield listener
    listener.released.set()


def test_a_listener_receives_every_event_in_order() -> None:
    events: list[Event] = []
    dispatcher = Dispatcher(events.append)
    for number in range(100):
        dispatcher.dispatch(event(number))
    assert dispatcher.flush(60)
    assert events == [event(number) for number in range(100)]
    assert dispatcher.dropped == 0


def test_a_listener_is_called_on_a_daemon_thread() -> None:
    threads: list[threading.Thread] = []
    dispatcher = Dispatcher(lambda _: threads.append(threading.current_thread()))
    dispatcher.dispatch(event())
    dispatcher.dispatch(event())
    assert dispatcher.flush(60)
    assert threads[0] is threads[1]
    assert threads[0] is not threading.current_thread()
    assert threads[0].daemon


def test_no_thread_is_started_before_the_first_event() -> None:
    before = threading.active_count()
    dispatcher = Dispatcher(print)
    assert dispatcher.flush(0)
    assert threading.active_count() == before


def test_each_of_several_listeners_receives_every_event() -> None:
    first: list[Event] = []
    second: list[Event] = []
    dispatcher = Dispatcher([first.append, second.append])
    dispatcher.dispatch(event(1))
    assert dispatcher.flush(60)
    assert first == second == [event(1)]


def test_flush_waits_at_most_its_timeout(stuck: Stuck) -> None:
    dispatcher = Dispatcher(stuck)
    dispatcher.dispatch(event())
    assert not dispatcher.flush(0.01)
    stuck.released.set()
    assert dispatcher.flush(60)
    assert stuck.events == [event()]


def test_a_listener_that_flushes_does_not_wait_for_itself() -> None:
    answers: list[bool] = []
    dispatcher = Dispatcher(lambda _: answers.append(dispatcher.flush()))
    dispatcher.dispatch(event())
    assert dispatcher.flush(60)
    assert answers == [False]


def test_a_listener_that_dispatches_an_event_is_not_called_recursively() -> None:
    events: list[int] = []

    def echo(each: Event) -> None:
        assert isinstance(each, NearLimit)
        if each.used < 3:
            dispatcher.dispatch(event(each.used + 1))
        events.append(each.used)

    dispatcher = Dispatcher(echo)
    dispatcher.dispatch(event(0))
    wait_until(lambda: len(events) == 4)
    assert events == [0, 1, 2, 3]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, MemoryError])
def test_a_listener_that_raises_still_receives_later_events_and_so_do_others(
    error: type[BaseException],
) -> None:
    events: list[Event] = []

    def broken(_: Event) -> None:
        raise error("ann@uwo.ca")

    dispatcher = Dispatcher([broken, events.append])
    dispatcher.dispatch(event(1))
    dispatcher.dispatch(event(2))
    assert dispatcher.flush(60)
    assert events == [event(1), event(2)]


def test_errors_of_a_listener_are_logged_once_per_type_and_without_their_text(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(each: Event) -> None:
        assert isinstance(each, NearLimit)
        raise [ValueError, KeyError][each.used % 2]("of ann@uwo.ca")

    dispatcher = Dispatcher(broken)
    for number in range(50):
        dispatcher.dispatch(event(number))
    assert dispatcher.flush(60)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert "broken raised ValueError at test_event_delivery.py:" in lines[0]
    assert "broken raised KeyError at test_event_delivery.py:" in lines[1]
    assert "ann" not in "".join(lines)


def test_a_function_that_returns_a_coroutine_is_logged_as_an_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def later(_: Event) -> None: ...

    dispatcher = Dispatcher(lambda each: later(each))
    dispatcher.dispatch(event())
    assert dispatcher.flush(60)
    assert "raised TypeError" in caplog.text


def test_a_log_handler_that_raises_does_not_stop_delivery(monkeypatch: pytest.MonkeyPatch) -> None:
    class BrokenHandler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise OSError("no log either")

    handler = BrokenHandler()
    logging.getLogger("ratelimit_mail").addHandler(handler)
    try:
        events: list[Event] = []

        def broken(_: Event) -> None:
            raise ValueError

        dispatcher = Dispatcher([broken, events.append])
        dispatcher.dispatch(event(1))
        dispatcher.dispatch(event(2))
        assert dispatcher.flush(60)
        assert events == [event(1), event(2)]
    finally:
        logging.getLogger("ratelimit_mail").removeHandler(handler)


def test_events_are_dropped_and_counted_while_too_many_wait(
    stuck: Stuck, caplog: pytest.LogCaptureFixture
) -> None:
    dispatcher = Dispatcher(stuck, most_waiting=5)
    dispatcher.dispatch(event(0))
    assert stuck.busy.wait(60)
    for number in range(1, 101):
        dispatcher.dispatch(event(number))  # would hang here if it waited
    assert dispatcher.dropped == 95
    wait_until(lambda: caplog.records)
    stuck.released.set()
    assert dispatcher.flush(60)
    assert stuck.events == [event(number) for number in range(6)]
    dispatcher.dispatch(event(7))
    assert dispatcher.flush(60)
    assert stuck.events[-1] == event(7)
    assert [record.getMessage() for record in caplog.records] == [
        "an event listener is too slow: 5 events are waiting, further events are dropped"
    ]


def test_dropping_an_event_does_not_wait_for_a_stuck_log(stuck: Stuck) -> None:
    class Slow(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            stuck(event())

    handler = Slow()
    logger = logging.getLogger("ratelimit_mail")
    logger.addHandler(handler)
    try:
        dispatcher = Dispatcher(lambda _: logger.warning("an event"), most_waiting=1)
        dispatcher.dispatch(event())
        assert stuck.busy.wait(60)
        for _ in range(10):
            dispatcher.dispatch(event())  # the handler's lock is held by the listener's thread
        assert dispatcher.dropped == 9
    finally:
        stuck.released.set()
        assert dispatcher.flush(60)
        logger.removeHandler(handler)


def test_many_threads_count_every_dropped_event(stuck: Stuck) -> None:
    dispatcher = Dispatcher(stuck, most_waiting=1000)
    dispatcher.dispatch(event())
    assert stuck.busy.wait(60)

    def dispatch() -> None:
        for number in range(500):
            dispatcher.dispatch(event(number))

    threads = [threading.Thread(target=dispatch) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stuck.released.set()
    assert dispatcher.flush(60)
    assert len(stuck.events) + dispatcher.dropped == 4001
    assert 1001 <= len(stuck.events) <= 1009  # about as many as may wait


def test_threads_that_dispatch_at_once_start_one_thread() -> None:
    thread_ids: set[int] = set()
    count: list[int] = []

    def listen(_: Event) -> None:
        thread_ids.add(threading.get_ident())
        count.append(1)

    dispatcher = Dispatcher(listen)
    start = threading.Barrier(8)

    def dispatch() -> None:
        start.wait()
        dispatcher.dispatch(event())

    threads = [threading.Thread(target=dispatch) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert dispatcher.flush(60)
    assert len(thread_ids) == 1
    assert len(count) == 8


async def test_a_stuck_listener_does_not_block_an_event_loop(stuck: Stuck) -> None:
    dispatcher = Dispatcher(stuck)
    dispatcher.dispatch(event())
    await asyncio.sleep(0)
    assert stuck.events == []
    stuck.released.set()
    assert await asyncio.to_thread(dispatcher.flush, 60)
    assert stuck.events == [event()]


async def test_a_listener_may_hand_events_to_an_event_loop() -> None:
    queue: asyncio.Queue[Event] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    dispatcher = Dispatcher(lambda each: loop.call_soon_threadsafe(queue.put_nowait, each))
    dispatcher.dispatch(event(3))
    assert await asyncio.wait_for(queue.get(), 60) == event(3)


def test_the_thread_ends_with_its_dispatcher() -> None:
    threads: list[threading.Thread] = []
    dispatcher = Dispatcher(lambda _: threads.append(threading.current_thread()))
    dispatcher.dispatch(event())
    assert dispatcher.flush(60)
    del dispatcher
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
        (
            _async_listener,
            TypeError,
            "is async, but listeners run on a thread without an event loop",
        ),
        (partial(_async_listener), TypeError, "is async"),
        (_AsyncCallable(), TypeError, "is async"),
        ([print, _async_listener], TypeError, "is async"),
        (_generator, TypeError, "is a generator function"),
        (None, TypeError, "None is not callable"),
        ("print", TypeError, "'print' is not callable"),
        ([print, 3], TypeError, "3 is not callable"),
        ([], ValueError, "at least one is needed"),
    ],
)
def test_an_invalid_listener_raises_an_error_at_once(
    listener: object, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        Dispatcher(listener)  # type: ignore[arg-type]


@pytest.mark.parametrize("most", [0, -1, 1.5, True, "many"])
def test_an_invalid_number_of_waiting_events_raises_an_error(most: object) -> None:
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
    """Run a program; return what it prints, and how many seconds it took."""
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", START + textwrap.dedent(body)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout, time.monotonic() - start


def test_waiting_events_are_delivered_at_exit() -> None:
    printed, _ = run_script("""
        def listen(event):
            print(event.used, flush=True)
        dispatcher = Dispatcher(listen)
        for number in range(20):
            dispatcher.dispatch(event(number))
    """)
    assert printed.split() == [str(number) for number in range(20)]


def test_exit_waits_at_most_a_second_for_a_stuck_listener() -> None:
    printed, took = run_script("""
        dispatchers = [Dispatcher(lambda _: threading.Event().wait()) for _ in range(3)]
        dispatchers.append(Dispatcher(lambda event: print(event.used, flush=True)))
        for dispatcher in dispatchers:
            dispatcher.dispatch(event(1))
    """)
    assert printed == "1\n"
    assert took >= 1.0  # and it ended by itself


def test_the_last_events_are_logged_before_the_log_is_closed_at_exit() -> None:
    printed, _ = run_script("""
        import atexit, tempfile
        from ratelimit_mail.events import log_events
        with tempfile.NamedTemporaryFile() as file:
            pass
        atexit.register(lambda: print(open(file.name).read()))  # after the log is closed
        import logging
        logging.basicConfig(filename=file.name)
        dispatcher = Dispatcher(log_events())
        dispatcher.dispatch(event(1))
    """)
    assert "near a limit: 'a@x.org'" in printed


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_delivers_its_own_events_and_not_those_of_its_parent() -> None:
    printed, _ = run_script("""
        import warnings
        warnings.simplefilter("ignore")  # Python warns of any fork with threads
        busy, released = threading.Event(), threading.Event()
        def listen(event):
            if event.used == 1:
                busy.set()
                released.wait()
            print(os.getpid(), event.used, flush=True)
        parent = os.getpid()
        dispatcher = Dispatcher(listen)
        dispatcher.dispatch(event(1))
        busy.wait()
        dispatcher.dispatch(event(2))  # waits at the fork
        child = os.fork()
        if child == 0:
            dispatcher.dispatch(event(3))
            if not dispatcher.flush(30):
                os._exit(1)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        released.set()
        dispatcher.flush()
        print(parent, child)
    """)
    *lines, pids = printed.splitlines()
    parent, child = pids.split()
    assert lines == [f"{child} 3", f"{parent} 1", f"{parent} 2"]
