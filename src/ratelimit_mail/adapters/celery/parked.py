"""ParkedMessages: those that wait for their sender's previous one, in the limiter's backend."""

from __future__ import annotations

from base64 import b85decode, b85encode
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, runtime_checkable

from celery import Celery, Signature
from kombu.serialization import dumps, loads, prepare_accept_content

from ratelimit_mail._util.logger import log_warning
from ratelimit_mail.adapters.celery.options import TaskOptions
from ratelimit_mail.adapters.celery.places import HEADER, Place, alive_mark, over_mark
from ratelimit_mail.limiter.operations import milliseconds

__all__ = ["ParkedMessages"]


@runtime_checkable
class BooksAhead(Protocol):
    """A task whose message can be booked before it is published."""

    def book_ahead(self, signature: Signature[Any]) -> tuple[float, datetime | None]:
        """Book a place. Return its delay in seconds, and its time if it is to be waited for."""
        ...


class ParkedMessages:
    """Messages that wait for their sender's previous one, in the limiter's backend.

    When that is over, its execution books a place for the next one, and publishes it.
    """

    def __init__(self, app: Celery, options: TaskOptions) -> None:
        self._app = app
        self._marks = options.marks
        self._lifetime = milliseconds("", options.remember) or 1
        self._patience = milliseconds("", options.order_timeout) or 1

    def put(self, place: Place, signature: Signature[Any]) -> bool:
        """Park a message. Return False if the previous one is over meanwhile, so it may go on."""
        content_type, encoding, data = dumps(
            dict(signature), serializer=self._app.conf.task_serializer
        )
        if isinstance(data, bytes):
            data = b85encode(data).decode()
            encoding = f"b85 {encoding}"
        name = self._name(place.queue, place.number)
        self._marks.write_text(name, f"{content_type}\n{encoding}\n{data}")
        return not self._marks.are_set([over_mark(place, -1)])[0]

    def release_next(self, place: Place) -> None:
        """Mark the message at `place` as over, and publish the one behind it, if it is parked."""
        self._marks.set(over_mark(place), self._lifetime)
        if place.number > 0:
            self._marks.write_text(self._name(place.queue, place.number), None)
        following = Place(place.queue, place.number + 1)
        if not self._marks.are_set([alive_mark(following)])[0]:
            self.release(following)

    def release(self, place: Place) -> bool:
        """Publish the message that is parked at `place`; return whether there is one."""
        name = self._name(place.queue, place.number)
        text = self._marks.read_text(name)
        if text is None:
            return False
        try:
            signature = self._read(text)
            task: Any = self._app.tasks[str(signature.task)]
            if not isinstance(task, BooksAhead):
                raise TypeError("this is not a limited task")
            headers: dict[str, Any] = signature.options["headers"]
            header: dict[str, Any] = {**headers[HEADER], "next": True}
        except Exception as error:  # whatever a serializer raises
            log_warning("a message that waits cannot be read: %s", type(error).__name__)
            self._marks.write_text(name, None)
            return False
        delay, eta = task.book_ahead(signature)
        with_place: dict[str, Any] = {**headers, HEADER: header}
        signature.set(headers=with_place, eta=eta)
        signature.apply_async()
        # The text stays until the message is over: a broker may lose what it delivers at the moment
        # at which a worker dies. Published twice, it is sent once.
        alive = (alive_mark(place), round(delay * 1000) + self._patience)
        _, is_unwatched = self._marks.set_all([alive, self._watched(place)])
        if is_unwatched:
            self.publish_watch(signature, place, is_next=True)
        return True

    def _read(self, text: str) -> Signature[Any]:
        """Return the task that `put` has stored, if the application accepts its serializer."""
        content_type, encoding, data = text.split("\n", 2)
        raw: Any = data
        if encoding.startswith("b85 "):
            raw, encoding = b85decode(data), encoding[4:]
        accepted = prepare_accept_content(self._app.conf.accept_content)
        fields = loads(raw, content_type, encoding, accept=accepted)
        signature: Signature[Any] = Signature.from_dict(fields, app=self._app)
        return signature

    def watch(self, place: Place, *, is_next: bool) -> tuple[Place, bool] | None:
        """Publish a lost message of a queue again.

        A message is lost if it is next and not alive. If it was never parked it is not known any
        more, and the one behind it is published instead.

        place: of a message that is known to have been put. is_next: whether it was the next to go.
        Return both for the message that is to be watched from now on; None if all are over.
        """
        over, alive = self._marks.are_set([over_mark(place), alive_mark(place)])
        if is_next and not over:
            first = place
        else:
            first = self._first_not_over(place)
            alive = self._marks.are_set([alive_mark(first)])[0]
        if alive or self.release(first):
            return first, True
        if first.number > place.number:
            return None
        log_warning("a sender's messages do not wait any more for one that is lost")
        self.release_next(first)
        return place, False

    def claim_watch(self, place: Place) -> bool:
        """Return whether no other task watches the queue of `place` for `order_timeout`."""
        return self._marks.set(*self._watched(place))

    def publish_watch(self, signature: Signature[Any], place: Place, *, is_next: bool) -> None:
        """Publish a copy of a task that looks, after `order_timeout`, how far its queue is."""
        header: dict[str, Any] = {**place._asdict(), "watch": True, "next": is_next}
        headers: dict[str, Any] = {**signature.options["headers"], HEADER: header}
        eta = datetime.now(UTC) + timedelta(milliseconds=self._patience)
        signature.clone().set(headers=headers, eta=eta).apply_async()

    def _watched(self, place: Place) -> tuple[str, int]:
        # The mark must expire before the task that watches is executed, which sets it again.
        return f"watched {place.queue}", max(1, self._patience * 9 // 10)

    def _first_not_over(self, place: Place) -> Place:
        """Return the first message of a queue that is not over, before or behind `place`."""

        def is_over(number: int) -> bool:
            return number < 0 or self._marks.are_set([over_mark(Place(place.queue, number))])[0]

        step, low, high = 1, place.number, place.number
        if is_over(low):
            while is_over(high := low + step):
                low, step = high, 2 * step
        else:
            while not is_over(low := high - step):
                high, step = low, 2 * step
        while high - low > 1:  # `low` is over, and `high` is not
            middle = (low + high) // 2
            low, high = (middle, high) if is_over(middle) else (low, middle)
        return Place(place.queue, high)

    @staticmethod
    def _name(queue: str, number: int) -> str:
        return f"parked {queue} {number}"
