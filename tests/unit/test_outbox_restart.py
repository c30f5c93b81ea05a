"""What a worker finds that another one left: one that was killed at each step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rlm_testkit.builders import campus_policy
from rlm_testkit.outbox import ANN, Scene, letter
from rlm_testkit.outbox_programs import STEPS, Programs

from ratelimit_mail import MessageRateLimit
from ratelimit_mail.events import Uncertain
from ratelimit_mail.outbox import (
    CallableTransport,
    OutboxError,
    OutgoingMessage,
    State,
    worker_lock,
)
from ratelimit_mail.outbox.store import Store
from ratelimit_mail.outbox.worker_lock import WorkerLock, is_dead
from ratelimit_mail.testing import ManualClock


@pytest.fixture
def killable(tmp_path: Path) -> Callable[..., Programs]:
    def make(*limits: Any, **options: Any) -> Programs:
        policy = campus_policy(*(limits or [MessageRateLimit("2/minute")]))
        return Programs(tmp_path, policy, **options)

    return make


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_worker_killed_at_any_step_loses_nothing_and_sends_nothing_twice(
    killable: Callable[..., Programs],
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    when: str,
    number: int,
) -> None:
    programs = killable()
    ids = [programs.program.outbox.put(letter(i)).message_id for i in range(8)]
    programs.kill_at(step, when, number)
    programs.program.run()
    sent = [message_id for _, message_id in programs.sent]
    assert len(set(sent)) == len(sent)
    states = {each.message_id: each.state for each in programs.program.outbox.list()}
    assert all(states[each] in (State.SENT, State.UNCERTAIN) for each in ids)
    assert all(each in sent for each in ids if states[each] == State.SENT)
    uncertain = [each for each in ids if states[each] == State.UNCERTAIN]
    is_after_sending_began = (step, when) in [("begin_sending", "after"), ("finish", "before")]
    assert len(uncertain) == is_after_sending_began
    times = [at for at, _ in programs.sent]
    assert all(sum(at - 60_000 < each <= at for each in times) <= 2 for at in times)


def test_what_was_claimed_and_not_begun_is_sent_by_the_next_worker(
    killable: Callable[..., Programs], monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = killable()
    programs.program.outbox.put(letter(1))
    programs.kill_at("begin_sending", "before")
    assert programs.program.outbox.show(1).state == State.QUEUED
    programs.program.run()
    assert programs.program.outbox.show(1).state == State.SENT
    assert [usage.used for usage in programs.program.limiter.usage(ANN)] == [1]


def test_what_was_being_sent_is_uncertain_reported_and_counted(
    killable: Callable[..., Programs], monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = killable()
    programs.program.outbox.put(letter(1))
    programs.kill_at("finish", "before")
    assert programs.program.outbox.show(1).state == State.SENDING
    programs.clock.advance(30)
    programs.program.run()
    assert programs.program.outbox.show(1).state == State.UNCERTAIN
    (event,) = programs.program.events
    assert isinstance(event, Uncertain)
    assert event.recipients == ("student1@example.com",)
    (usage,) = programs.program.limiter.usage(ANN)
    # It may have been sent until now.
    assert (usage.used, usage.resets_in) == (1, 60.0)


def test_what_was_being_sent_is_sent_again_if_so_chosen(
    killable: Callable[..., Programs], monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = killable(on_uncertain="resend")
    put = programs.program.outbox.put(letter(1))
    programs.kill_at("finish", "before")
    programs.program.run()
    assert [message_id for _, message_id in programs.sent] == [put.message_id] * 2
    assert programs.program.outbox.show(1).state == State.SENT
    assert [usage.used for usage in programs.program.limiter.usage(ANN)] == [2]


def test_a_charge_that_was_not_settled_is_settled_by_the_next_worker(
    killable: Callable[..., Programs], monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = killable()
    programs.program.outbox.put(letter(1))
    settle = programs.program.limiter.settle
    monkeypatch.setattr(programs.program.limiter, "settle", lambda *_: None)
    programs.kill_at("charge_done", "before")
    assert settle is not programs.program.limiter.settle
    programs.clock.advance(30)
    programs.program.run()
    (usage,) = programs.program.limiter.usage(ANN)
    assert (usage.used, usage.resets_in) == (1, 60.0)


def test_a_booking_of_a_dead_worker_is_not_booked_again(
    killable: Callable[..., Programs], monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = killable(MessageRateLimit("1/hour"))
    for number in range(3):
        programs.program.outbox.put(letter(number))
    programs.kill_at("release", "before")
    start = programs.clock()
    programs.program.run()
    assert [at - start for at, _ in programs.sent] == [0, 3_600_000, 7_200_000]


def test_a_worker_that_is_alive_keeps_what_it_is_sending(tmp_path: Path) -> None:
    policy = campus_policy(MessageRateLimit("9/minute"))
    clock = ManualClock()
    second: list[State] = []

    def send(_: OutgoingMessage) -> None:
        clock.advance(365 * 86400)
        other = Scene(tmp_path / "outbox.db", policy, CallableTransport(print), clock=clock)
        other.outbox._sleep = lambda _: other.outbox.stop()
        other.run()
        second.append(other.outbox.show(1).state)

    first = Scene(tmp_path / "outbox.db", policy, CallableTransport(send), clock=clock)
    first.outbox.put(letter(1))
    first.run()
    assert second == [State.SENDING]
    assert first.outbox.show(1).state == State.SENT


def test_a_killed_program_is_not_counted_as_sending(killable: Callable[..., Programs]) -> None:
    programs = killable()
    programs.program.outbox.put(letter(1))
    programs.kill_at("finish", "before")
    stats = programs.program.outbox.stats()
    assert (stats.counts[State.SENDING], stats.workers) == (1, 0)
    # The statistics change nothing: the next worker still finds what the killed one was sending.
    programs.program.run()
    assert programs.program.outbox.show(1).state == State.UNCERTAIN


def test_a_program_that_is_sending_is_counted(tmp_path: Path) -> None:
    counted: list[int] = []

    def send(_: OutgoingMessage) -> None:
        counted.append(scene.outbox.stats().workers)

    policy = campus_policy(MessageRateLimit("9/minute"))
    scene = Scene(tmp_path / "outbox.db", policy, CallableTransport(send), clock=ManualClock())
    scene.outbox.put(letter(1))
    scene.run()
    assert counted == [1]


def test_a_lock_is_alive_until_it_is_released(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    lock = WorkerLock(path)
    assert not is_dead(path, lock.id)
    lock.release()
    assert is_dead(path, lock.id)
    assert [*tmp_path.iterdir()] == []
    assert is_dead(path, "../../etc/passwd")


def test_a_run_removes_the_locks_of_workers_that_nobody_knows(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    policy = campus_policy(MessageRateLimit("9/minute"))
    scene = Scene(path, policy, CallableTransport(lambda _: None))
    dead = tmp_path / f"outbox.db-worker-{'0' * 32}"
    dead.touch()
    alive, other = WorkerLock(path), WorkerLock(tmp_path / "other.db")
    (tmp_path / "outbox.db-worker-notes.txt").touch()
    scene.run()
    assert not dead.exists()
    assert len([*tmp_path.glob("*-worker-*")]) == 3
    for lock in (alive, other):
        lock.release()


def test_a_lock_that_is_removed_before_it_is_held_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "outbox.db"
    lock_file = worker_lock._lock
    removed: list[Path] = []

    def remove_first(file: int) -> bool:
        if not removed:
            removed.extend(tmp_path.iterdir())
            removed[0].unlink()
        return lock_file(file)

    monkeypatch.setattr(worker_lock, "_lock", remove_first)
    lock = WorkerLock(path)
    assert [*tmp_path.iterdir()] != removed
    assert not is_dead(path, lock.id)
    lock.release()


def test_a_run_leaves_nothing_behind(tmp_path: Path) -> None:
    policy = campus_policy(MessageRateLimit("9/minute"))
    scene = Scene(tmp_path / "outbox.db", policy, CallableTransport(lambda _: None))
    scene.outbox.put(letter(1))
    scene.run()
    assert not [each for each in tmp_path.iterdir() if "worker" in each.name]
    assert scene.outbox.stats().workers == 0


def test_a_result_that_cannot_be_noted_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    policy = campus_policy(MessageRateLimit("9/minute"))
    sent: list[OutgoingMessage] = []
    scene = Scene(tmp_path / "outbox.db", policy, CallableTransport(sent.append))
    scene.outbox.put(letter(1))
    finish = Store.finish
    failures = [OutboxError("database or disk is full")] * 3

    def failing(*args: Any) -> None:
        if failures:
            raise failures.pop()
        finish(*args)

    monkeypatch.setattr(Store, "finish", failing)
    monkeypatch.setattr("ratelimit_mail.outbox.worker.time.sleep", lambda _: None)
    scene.run()
    assert len(sent) == 1
    assert scene.outbox.show(1).state == State.SENT
    assert "what became of message 1 is not noted yet" in caplog.text
