"""WaitQueue: one sender's waiters are woken one by one, in the order of their booked times."""

from __future__ import annotations

import threading

from ratelimit_mail.limiter.wait_queue import Waiter, WaitQueue


def join_and_wait(queue: WaitQueue, *bookings: tuple[str, int]) -> tuple[list[Waiter], list[int]]:
    """Let a waiter join for each booking, and return them with the numbers of those woken."""
    waiters = [queue.join(sender, at) for sender, at in bookings]
    woken: list[int] = []
    for number, waiter in enumerate(waiters):
        queue.when_first(waiter, lambda number=number: woken.append(number))  # type: ignore[misc]
    return waiters, woken


def test_the_first_waiter_is_woken_at_once() -> None:
    _, woken = join_and_wait(WaitQueue(), ("ann", 10))
    assert woken == [0]


def test_waiters_are_woken_one_by_one_in_the_order_of_their_booked_times() -> None:
    queue = WaitQueue()
    waiters = {at: queue.join("ann", at) for at in (30, 10, 20)}
    woken: list[int] = []
    for at, waiter in waiters.items():
        queue.when_first(waiter, lambda at=at: woken.append(at))  # type: ignore[misc]
    assert woken == [10]
    queue.leave(waiters[10])
    assert woken == [10, 20]
    queue.leave(waiters[20])
    assert woken == [10, 20, 30]


def test_waiters_of_the_same_time_are_woken_in_the_order_in_which_they_joined() -> None:
    queue = WaitQueue()
    waiters, woken = join_and_wait(queue, ("ann", 10), ("ann", 10), ("ann", 10))
    for waiter in waiters:
        queue.leave(waiter)
    assert woken == [0, 1, 2]


def test_senders_do_not_wait_for_each_other() -> None:
    _, woken = join_and_wait(WaitQueue(), ("ann", 10), ("bob", 99), ("eve", 5))
    assert woken == [0, 1, 2]


def test_a_waiter_that_leaves_from_the_middle_does_not_hold_up_the_others() -> None:
    queue = WaitQueue()
    first, second, third = (queue.join("ann", at) for at in (10, 20, 30))
    woken: list[str] = []
    queue.when_first(third, lambda: woken.append("third"))
    queue.leave(second)
    assert woken == []
    queue.leave(first)
    assert woken == ["third"]


def test_a_waiter_that_became_first_before_it_waits_is_woken_at_once() -> None:
    queue = WaitQueue()
    first, second = queue.join("ann", 10), queue.join("ann", 20)
    queue.leave(first)
    woken: list[str] = []
    queue.when_first(second, lambda: woken.append("second"))
    assert woken == ["second"]


def test_one_waiter_of_each_sender_is_first() -> None:
    queue = WaitQueue()
    late, early, other = queue.join("ann", 20), queue.join("ann", 10), queue.join("bob", 99)
    assert [queue.is_first(waiter) for waiter in (late, early, other)] == [False, True, True]
    queue.leave(early)
    assert queue.is_first(late)


def test_a_waiter_that_joins_with_an_earlier_time_goes_first() -> None:
    queue = WaitQueue()
    late, early = queue.join("ann", 20), queue.join("ann", 10)
    woken: list[str] = []
    queue.when_first(late, lambda: woken.append("late"))
    queue.when_first(early, lambda: woken.append("early"))
    assert woken == ["early"]
    queue.leave(early)
    assert woken == ["early", "late"]


def test_nothing_remains_of_waiters_that_have_left() -> None:
    queue = WaitQueue()
    for i in range(100):
        queue.leave(queue.join(f"user{i}@x.org", i))
    assert not queue._waiters


def test_threads_are_woken_in_order() -> None:
    queue = WaitQueue()
    waiters = [queue.join("ann", at) for at in range(20)]
    woken: list[int] = []

    def wait(number: int) -> None:
        first = threading.Event()
        queue.when_first(waiters[number], first.set)
        assert first.wait(timeout=30)
        woken.append(number)
        queue.leave(waiters[number])

    threads = [threading.Thread(target=wait, args=(number,)) for number in reversed(range(20))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert woken == list(range(20))


def test_a_stuck_waiter_is_overtaken_and_may_still_leave() -> None:
    queue = WaitQueue()
    stuck, late = queue.join("ann", 10), queue.join("ann", 20)
    assert not queue.is_first(late)
    queue.overtake(late)
    assert queue.is_first(late)
    assert queue.is_first(stuck)
    queue.leave(stuck)
    queue.leave(late)
    assert queue.is_first(queue.join("ann", 30))


def test_a_waiter_that_cannot_be_woken_does_not_hold_up_the_others() -> None:
    def raise_closed() -> None:
        raise RuntimeError("Event loop is closed")

    queue = WaitQueue()
    first, closed, last = (queue.join("ann", at) for at in (10, 20, 30))
    woken: list[int] = []
    queue.when_first(closed, raise_closed)
    queue.when_first(last, lambda: woken.append(30))
    queue.leave(first)
    assert woken == [30]
    queue.leave(closed)
    assert queue.is_first(last)


def test_numbers_from_before_the_booking_order_waiters_of_the_same_time() -> None:
    queue = WaitQueue()
    earlier, later = queue.next_number(), queue.next_number()
    second = queue.join("ann", 10, later)
    first = queue.join("ann", 10, earlier)
    assert (queue.is_first(first), queue.is_first(second)) == (True, False)
