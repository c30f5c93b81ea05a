"""Attempt: what the executions of a task have in common until its message is sent, in marks."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ratelimit_mail._util.logger import log_warning
from ratelimit_mail.adapters.celery.options import TaskOptions
from ratelimit_mail.adapters.celery.places import HEADER, Place, alive_mark, over_mark
from ratelimit_mail.exceptions import BackendError
from ratelimit_mail.limiter.operations import milliseconds

if TYPE_CHECKING:
    from celery.app.task import Context

__all__ = ["Attempt"]


class Attempt:
    """One attempt to send the message of a task: what all of its executions have in common.

    Celery's retries of the caller are attempts of their own; executions that wait are not.

    place: only of the first attempt: nothing waits for a later one.
    """

    def __init__(self, options: TaskOptions, request: Context) -> None:
        self._marks = options.marks
        self._lifetime = milliseconds("", options.remember) or 1
        self._sending = milliseconds("", options.sending_timeout) or 1
        self._patience = milliseconds("", options.order_timeout) or 1
        self.task_id = str(request.id)
        self.id = self.task_id if not request.retries else f"{self.task_id}/{request.retries}"
        self.headers: dict[str, Any] = request.as_execution_options()["headers"]
        header = self.headers.get(HEADER)
        self.place = None if request.retries else Place.from_header(header)
        flags = header if self.place is not None and isinstance(header, Mapping) else {}
        self.is_watch = flags.get("watch") is True
        self.is_next = self.place is None or self.place.number == 0 or flags.get("next") is True

    def state(self) -> tuple[bool, bool, bool, bool]:
        """Return whether the attempt is over, is running, and has begun, and whether it is next.

        It is next if its sender's previous message is over.
        """
        names = [f"{stage} {self.id}" for stage in ("over", "running", "begun")]
        if self.place is None or self.is_next:
            over, running, begun = self._marks.are_set(names)
            return over, running, begun, True
        names.append(over_mark(self.place, -1))
        over, running, begun, is_next = self._marks.are_set(names)
        if is_next:
            self.set_next()
        return over, running, begun, is_next

    def set_next(self) -> None:
        """Note in the headers that the previous message is over, because its mark expires."""
        self.is_next = True
        self.headers[HEADER] = {**self.headers[HEADER], "next": True}

    def begin(self) -> bool:
        """Claim the attempt. Return False if another execution has claimed it."""
        marks = [(f"running {self.id}", self._sending), (f"begun {self.id}", self._lifetime)]
        if self.place is not None:
            marks.append((alive_mark(self.place), self._sending + self._patience))
        return self._marks.set_all(marks)[0]

    def set_alive(self, seconds: float) -> None:
        """Mark the message as one that waits for so many seconds. An outage is the reason to."""
        if self.place is not None:
            with suppress(BackendError):
                self._marks.set(alive_mark(self.place), round(seconds * 1000) + self._patience)

    def end(self) -> None:
        """Mark the attempt as over. An outage is logged: the function has been called."""
        try:
            self._marks.set(f"over {self.id}", self._lifetime)
        except BackendError as error:
            log_warning("if task %s is delivered again, it is uncertain: %s", self.task_id, error)

    def forget(self) -> None:
        """Clear what `begin` has set: the function did not send, and wants to be called again."""
        self._marks.clear(f"begun {self.id}")
        self._marks.clear(f"running {self.id}")

    def is_over(self) -> bool:
        """Return whether the attempt is over."""
        return self._marks.are_set([f"over {self.id}"])[0]
