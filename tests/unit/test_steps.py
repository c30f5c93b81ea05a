"""Scripts: one set of steps that one colour runs and the other awaits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from ratelimit_mail._util.steps import Steps, run, run_async

Play = Callable[[Callable[[Any], Steps[Any]], list[Any]], Any]


def play_blocking(script: Callable[[Any], Steps[Any]], outcomes: list[Any]) -> Any:
    """Run `script` with a call that returns, or raises, one outcome after the other."""
    left = iter(outcomes)

    def call() -> Any:
        outcome = next(left)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    return run(script(call))


def play_awaited(script: Callable[[Any], Steps[Any]], outcomes: list[Any]) -> Any:
    """The same, where the call must be awaited."""
    left = iter(outcomes)

    async def call() -> Any:
        await asyncio.sleep(0)
        outcome = next(left)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    return asyncio.run(run_async(script(call)))


both = pytest.mark.parametrize("play", [play_blocking, play_awaited])


def silent(call: Any) -> Steps[str]:
    return "done"
    yield call


def adding(call: Any) -> Steps[int]:
    first: int = yield call
    second: int = yield call
    return first + second


def forgiving(call: Any) -> Steps[Any]:
    try:
        return (yield call)
    except LookupError:
        return ("instead", (yield call))


def tidying(call: Any) -> Steps[Any]:
    try:
        return (yield call)
    except BaseException:
        yield call
        raise


@both
def test_a_script_without_a_call_returns(play: Play) -> None:
    assert play(silent, []) == "done"


@both
def test_a_script_receives_what_its_calls_return(play: Play) -> None:
    assert play(adding, [2, 40]) == 42


@both
def test_a_script_may_catch_what_a_call_raises(play: Play) -> None:
    assert play(forgiving, [KeyError("gone"), 7]) == ("instead", 7)


@both
@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), SystemExit(3)])
def test_what_a_script_does_not_catch_reaches_the_caller(play: Play, error: BaseException) -> None:
    with pytest.raises(type(error)) as caught:
        play(forgiving, [error])
    assert caught.value is error


@both
@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_a_script_may_make_calls_while_it_tidies_up(play: Play, error: BaseException) -> None:
    outcomes = [error, "tidied"]
    with pytest.raises(type(error)) as caught:
        play(tidying, outcomes)
    assert caught.value is error


@both
def test_an_error_while_tidying_up_replaces_the_first(play: Play) -> None:
    with pytest.raises(OSError, match="second") as caught:
        play(tidying, [ValueError("first"), OSError("second")])
    assert isinstance(caught.value.__context__, ValueError)


async def test_a_cancelled_script_tidies_up_and_stays_cancelled() -> None:
    steps: list[str] = []
    started = asyncio.Event()

    async def forever() -> None:
        started.set()
        await asyncio.Event().wait()

    async def tidy() -> None:
        await asyncio.sleep(0)
        steps.append("tidied")

    def waiting() -> Steps[None]:
        try:
            yield forever
        finally:
            yield tidy

    task = asyncio.ensure_future(run_async(waiting()))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert steps == ["tidied"]
    assert task.cancelled()


def test_a_stop_iteration_of_a_call_reaches_the_caller_as_it_is() -> None:
    with pytest.raises(StopIteration, match="over"):
        play_blocking(forgiving, [StopIteration("over")])
