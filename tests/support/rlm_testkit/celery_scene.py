"""A Celery application without a broker: the test runs each execution, by a manual clock.

A worker may die at any call of the limiter's backend, of the broker or of the function. Its message
is delivered again, as with `acks_late`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from celery import Celery
from celery.exceptions import Ignore, Reject, Retry
from celery.utils import uuid

from ratelimit_mail import Limiter, Policy
from ratelimit_mail.adapters.celery import places, task
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.testing import ManualClock

__all__ = ["CeleryScene", "Message", "WorkerDied"]

WATCH = "the messages of a sender were watched"


class WorkerDied(BaseException):
    """Ends an execution as SIGKILL does: nothing more happens in it."""


class Message(NamedTuple):
    """A message in the queue. due: when it may be executed, by the manual clock."""

    due: int
    number: int
    task: str
    args: Any
    kwargs: Any
    task_id: str
    headers: Mapping[str, Any]
    retries: int


class _Fragile:
    """A backend whose caller dies at a call, before or after it."""

    def __init__(self, backend: MemoryBackend, step: Callable[[], None]) -> None:
        self._backend = backend
        self._step = step

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._backend, name)
        if name not in ("apply", "apply_many", "redeem", "settle", "refund", "write_register"):
            return method

        def call(*args: Any) -> Any:
            self._step()
            result = method(*args)
            self._step()
            return result

        return call

    def apply(self, *args: Any) -> Any:
        return self.__getattr__("apply")(*args)


class CeleryScene:
    """Runs the tasks of one application.

    executions: how many there were of each task, by its id. outcomes: what the last one of each
    task returned or raised. die_in: after how many more steps the worker dies; 0 for never.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, policy: Policy, **options: Any) -> None:
        self.clock = ManualClock()
        self.backend = MemoryBackend(self.clock)
        self.limiter = Limiter(
            policy, _Fragile(self.backend, self.step), sleep=self.clock.advance, **options
        )
        self.app = Celery("scene", broker="memory://", set_as_current=False)
        self.queue: list[Message] = []
        self.executions: dict[str, int] = {}
        self.watches = 0
        self.outcomes: dict[str, Any] = {}
        self.die_in = 0
        self._is_dead = False
        self._number = 0
        now = SimpleNamespace(
            sleep=self.clock.advance,
            monotonic=lambda: self.clock() / 1000,
            time=lambda: self.clock() / 1000,
        )
        for module in (places, task):
            monkeypatch.setattr(module, "time", now)
        monkeypatch.setattr(self.app, "send_task", self._publish)

    def step(self) -> None:
        """Die, if it is time to."""
        if self._is_dead:
            raise WorkerDied
        if self.die_in:
            self.die_in -= 1
            if not self.die_in:
                self._is_dead = True
                raise WorkerDied

    def _publish(
        self,
        name: str,
        args: Any = None,
        kwargs: Any = None,
        *,
        task_id: str | None = None,
        **options: Any,
    ) -> str:
        self.step()
        task_id = task_id or uuid()
        eta = options.get("eta")
        wait = 0.0 if eta is None else (eta - datetime.now(UTC)).total_seconds()
        wait += options.get("countdown") or 0
        due = self.clock() + (max(0, round(wait * 1000)) if wait else 0)
        self._number += 1
        message = Message(
            due,
            self._number,
            name,
            args or (),
            kwargs or {},
            task_id,
            options.get("headers") or {},
            options.get("retries") or 0,
        )
        self.queue.append(message)
        self.step()
        return task_id

    def run(self, most: int = 10_000) -> None:
        """Execute messages in the order in which they come due, until there are none."""
        while self.queue and most:
            self.queue.sort()
            self.execute(self.queue.pop(0))
            most -= 1

    def execute(self, message: Message) -> Any:
        """Run one execution. Return what it returned or raised."""
        self.clock.advance(max(0, message.due - self.clock()) / 1000)
        task: Any = self.app.tasks[message.task]
        task.push_request(
            id=message.task_id,
            args=message.args,
            kwargs=message.kwargs,
            headers=dict(message.headers),
            retries=message.retries,
            called_directly=False,
            is_eager=False,
            delivery_info={"exchange": "", "routing_key": "celery"},
        )
        outcome: Any
        try:
            outcome = task.run(*message.args, **message.kwargs)
        except Retry as retry:
            outcome = retry
        except Ignore as ignored:
            outcome = ignored
        except Reject as rejected:
            outcome = rejected
            if getattr(rejected, "requeue", False):
                self._deliver_again(message)
        except WorkerDied as died:
            outcome = died
            self._is_dead = False
            self._deliver_again(message)
        except Exception as error:
            outcome = error
        finally:
            task.pop_request()
        if str(outcome) == WATCH:
            self.watches += 1
            return outcome
        self.executions[message.task_id] = self.executions.get(message.task_id, 0) + 1
        if not isinstance(outcome, Ignore):
            self.outcomes[message.task_id] = outcome
        return outcome

    def _deliver_again(self, message: Message) -> None:
        self._number += 1
        self.queue.append(message._replace(due=self.clock() + 1000, number=self._number))
