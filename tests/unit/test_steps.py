"""Steps: a generator of calls that `run` makes and `run_async` awaits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from ratelimit_mail._util.steps import Steps, run, run_async

StepsFunction = Callable[[Any], Steps[Any]]
Runner = Callable[[StepsFunction, list[Any]], Any]


def run_sync_steps(steps_of: StepsFunction, outcomes: list[Any]) -> Any:
    """Run steps whose calls return, or raise, one outcome after the other."""
    remaining = iter(outcomes)

    def call() -> Any:
        outcome = next(remaining)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    return run(steps_of(call))


def run_async_steps(steps_of: StepsFunction, outcomes: list[Any]) -> Any:
    """Do what `run_sync_steps` does, with calls that must be awaited."""
    remaining = iter(outcomes)

    async def call() -> Any:
        await asyncio.sleep(0)
        outcome = next(remaining)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    return asyncio.run(run_async(steps_of(call)))


sync_and_async = pytest.mark.parametrize(
    "run_steps", [run_sync_steps, run_async_steps], ids=["sync", "async"]
)


def without_calls(call: Any) -> Steps[str]:
    return "done"
    yield call


def sum_of_two_calls(call: Any) -> Steps[int]:
    first: int = yield call
    second: int = yield call
    return first + second


def with_a_second_try(call: Any) -> Steps[Any]:
    try:
        return (yield call)
    except LookupError:
        return ("instead", (yield call))


def with_a_cleanup(call: Any) -> Steps[Any]:
    try:
        return (yield call)
    except BaseException:
        yield call
        raise


@sync_and_async
def test_steps_without_a_call_return_their_value(run_steps: Runner) -> None:
    assert run_steps(without_calls, []) == "done"


@sync_and_async
def test_steps_receive_what_their_calls_return(run_steps: Runner) -> None:
    assert run_steps(sum_of_two_calls, [2, 40]) == 42


@sync_and_async
def test_steps_may_catch_what_a_call_raises(run_steps: Runner) -> None:
    assert run_steps(with_a_second_try, [KeyError("gone"), 7]) == ("instead", 7)


@sync_and_async
@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), SystemExit(3)])
def test_an_error_that_steps_do_not_catch_reaches_the_caller(
    run_steps: Runner, error: BaseException
) -> None:
    with pytest.raises(type(error)) as caught:
        run_steps(with_a_second_try, [error])
    assert caught.value is error


@sync_and_async
@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_steps_may_make_calls_while_they_clean_up(run_steps: Runner, error: BaseException) -> None:
    outcomes = [error, "cleaned up"]
    with pytest.raises(type(error)) as caught:
        run_steps(with_a_cleanup, outcomes)
    assert caught.value is error


@sync_and_async
def test_an_error_while_cleaning_up_replaces_the_first(run_steps: Runner) -> None:
    with pytest.raises(OSError, match="second") as caught:
        run_steps(with_a_cleanup, [ValueError("first"), OSError("second")])
    assert isinstance(caught.value.__context__, ValueError)


async def test_cancelled_steps_clean_up_and_stay_cancelled() -> None:
    events: list[str] = []
    started = asyncio.Event()

    async def forever() -> None:
        started.set()
        await asyncio.Event().wait()

    async def clean_up() -> None:
        await asyncio.sleep(0)
        events.append("cleaned up")

    def waiting() -> Steps[None]:
        try:
            yield forever
        finally:
            yield clean_up

    task = asyncio.ensure_future(run_async(waiting()))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert events == ["cleaned up"]
    assert task.cancelled()


def test_a_stop_iteration_of_a_call_reaches_the_caller_unchanged() -> None:
    with pytest.raises(StopIteration, match="over"):
        run_sync_steps(with_a_second_try, [StopIteration("over")])
