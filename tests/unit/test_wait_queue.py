"""Line: the order of those who wait."""

from __future__ import annotations

import threading

from ratelimit_mail.limiter.wait_queue import WaitQueue


def waiters(line: WaitQueue, *booked: tuple[str, int]) -> tuple[list[int], list[object]]:
    """Let each join and wait; whose turn it is is written into the first list."""
    turns: list[int] = []
    places = [line.join(sender, at) for sender, at in booked]
    for i, place in enumerate(places):
        line.when_first(place, lambda i=i: turns.append(i))  # type: ignore[misc]
    return turns, [*places]


def test_the_first_need_not_wait() -> None:
    turns, _ = waiters(WaitQueue(), ("ann", 10))
    assert turns == [0]


def test_those_behind_are_woken_one_by_one_in_the_order_of_their_times() -> None:
    line = WaitQueue()
    places = {at: line.join("ann", at) for at in (30, 10, 20)}
    turns: list[int] = []
    for at, place in places.items():
        line.when_first(place, lambda at=at: turns.append(at))  # type: ignore[misc]
    assert turns == [10]
    line.leave(places[10])
    assert turns == [10, 20]
    line.leave(places[20])
    assert turns == [10, 20, 30]


def test_of_one_moment_the_first_to_join_is_first() -> None:
    line = WaitQueue()
    turns, places = waiters(line, ("ann", 10), ("ann", 10), ("ann", 10))
    for place in places:
        line.leave(place)  # type: ignore[arg-type]
    assert turns == [0, 1, 2]


def test_senders_do_not_wait_for_each_other() -> None:
    turns, _ = waiters(WaitQueue(), ("ann", 10), ("bob", 99), ("eve", 5))
    assert turns == [0, 1, 2]


def test_one_who_leaves_from_the_middle_holds_up_nobody() -> None:
    line = WaitQueue()
    first, second, third = (line.join("ann", at) for at in (10, 20, 30))
    woken: list[str] = []
    line.when_first(third, lambda: woken.append("third"))
    line.leave(second)
    assert woken == []
    line.leave(first)
    assert woken == ["third"]


def test_one_who_is_still_asleep_when_first_is_woken_when_it_asks() -> None:
    line = WaitQueue()
    first, second = line.join("ann", 10), line.join("ann", 20)
    line.leave(first)
    woken: list[str] = []
    line.when_first(second, lambda: woken.append("second"))
    assert woken == ["second"]


def test_only_one_of_a_sender_is_first_at_a_time() -> None:
    line = WaitQueue()
    late, early, other = line.join("ann", 20), line.join("ann", 10), line.join("bob", 99)
    assert [line.is_first(place) for place in (late, early, other)] == [False, True, True]
    line.leave(early)
    assert line.is_first(late)


def test_one_who_joins_before_the_first_comes_before_it() -> None:
    line = WaitQueue()
    late, early = line.join("ann", 20), line.join("ann", 10)
    woken: list[str] = []
    line.when_first(late, lambda: woken.append("late"))
    line.when_first(early, lambda: woken.append("early"))
    assert woken == ["early"]
    line.leave(early)
    assert woken == ["early", "late"]


def test_nothing_is_kept_of_those_who_have_left() -> None:
    line = WaitQueue()
    for i in range(100):
        line.leave(line.join(f"user{i}@x.org", i))
    assert not line._waiters


def test_threads_take_their_turns_in_order() -> None:
    line = WaitQueue()
    places = [line.join("ann", at) for at in range(20)]
    turns: list[int] = []

    def wait(number: int) -> None:
        first = threading.Event()
        line.when_first(places[number], first.set)
        assert first.wait(timeout=30)
        turns.append(number)
        line.leave(places[number])

    threads = [threading.Thread(target=wait, args=(number,)) for number in reversed(range(20))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert turns == list(range(20))


def test_those_who_are_stuck_are_overtaken_and_may_still_leave() -> None:
    line = WaitQueue()
    stuck, late = line.join("ann", 10), line.join("ann", 20)
    assert not line.is_first(late)
    line.overtake(late)
    assert line.is_first(late)
    assert line.is_first(stuck)
    line.leave(stuck)
    line.leave(late)
    assert line.is_first(line.join("ann", 30))


def test_one_who_cannot_be_woken_any_more_holds_up_nobody() -> None:
    def closed() -> None:
        raise RuntimeError("Event loop is closed")

    line = WaitQueue()
    first, dead, last = (line.join("ann", at) for at in (10, 20, 30))
    woken: list[int] = []
    line.when_first(dead, closed)
    line.when_first(last, lambda: woken.append(30))
    line.leave(first)
    assert woken == [30]
    line.leave(dead)
    assert line.is_first(last)


def test_numbers_taken_before_the_booking_decide_among_equal_times() -> None:
    line = WaitQueue()
    one, two = line.next_number(), line.next_number()
    second = line.join("ann", 10, two)
    first = line.join("ann", 10, one)
    assert (line.is_first(first), line.is_first(second)) == (True, False)
