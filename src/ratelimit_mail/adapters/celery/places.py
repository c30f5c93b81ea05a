"""The places of messages among those that one process has published for one sender."""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from celery.utils import uuid

from ratelimit_mail.limiter import Limiter

__all__ = ["HEADER", "Place", "alive_mark", "over_mark", "publisher_of"]

HEADER: Final = "ratelimit_mail"
"""The header of a task's message that says which message its sender put before it."""

MOST_SENDERS: Final = 10_000
"""Senders whose latest message a publishing process remembers."""


class Place(NamedTuple):
    """The place of a message among those that one process has published for one sender.

    queue: names the process and the sender. number: how many messages preceded it.
    """

    queue: str
    number: int

    @classmethod
    def from_header(cls, header: object) -> Place | None:
        """Return the place that a task's message names; None if it names none."""
        if not isinstance(header, Mapping):
            return None
        queue, number = header.get("queue"), header.get("number")
        if not isinstance(queue, str) or not isinstance(number, int):
            return None
        return cls(queue, number)


class _Latest(NamedTuple):
    """The latest message of a sender: its place, and when it was published."""

    place: Place
    moment: float


class _Publisher:
    """Gives the messages that this process publishes for each sender their places."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._latest: OrderedDict[str, _Latest] = OrderedDict()
        self._process = os.getpid()

    def place(self, sender: str, longest: float) -> dict[str, Any]:
        """Return the header that names the place of a new message.

        longest: how many seconds ago the previous one may have been published: what has become of
            an older one may be forgotten, so a new queue begins.
        """
        now = time.monotonic()
        with self._lock:
            if self._process != os.getpid():  # a fork must not use the same places
                self._latest.clear()
                self._process = os.getpid()
            latest = self._latest.pop(sender, None)
            place = Place(uuid(), 0)
            if latest is not None and now - latest.moment < longest:
                place = Place(latest.place.queue, latest.place.number + 1)
            self._latest[sender] = _Latest(place, now)
            if len(self._latest) > MOST_SENDERS:
                self._latest.popitem(last=False)
        return place._asdict()


_PUBLISHERS: WeakKeyDictionary[Limiter, _Publisher] = WeakKeyDictionary()
_PUBLISHERS_LOCK = threading.Lock()


def publisher_of(limiter: Limiter) -> _Publisher:
    """Return what gives the messages under a limiter their places."""
    with _PUBLISHERS_LOCK:
        return _PUBLISHERS.setdefault(limiter, _Publisher())


def over_mark(place: Place, offset: int = 0) -> str:
    """Return the mark of a place, or of one before or behind it, whose message is over."""
    return f"over {place.queue} {place.number + offset}"


def alive_mark(place: Place) -> str:
    """Return the mark of a place whose message is not lost: it waits for its time, or is sent."""
    return f"alive {place.queue} {place.number}"
