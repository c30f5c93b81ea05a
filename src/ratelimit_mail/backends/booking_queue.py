"""The bookings of one queue, in the order in which they leave.

Their times rise with their numbers, as long as all of them were put at the end. One that was booked
anew is later and has kept its number: so up to the latest time of such a booking, nothing is known
of the order of the times.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from typing import Generic, Protocol, TypeVar

from ratelimit_mail.counting.event_log import LONG_AGO

__all__ = ["BookingQueue", "Bookings"]


class Booking(Protocol):
    """A booking: its time, and its number if it stands in a queue."""

    @property
    def at(self) -> int:
        """The booked time."""
        ...

    @property
    def number(self) -> int | None:
        """The number in the queue; None while it does not stand there."""
        ...


B = TypeVar("B", bound=Booking)


class Bookings(Protocol[B]):
    """Bookings that were not used yet, in the order of their numbers, wherever they are."""

    def last_ahead(self, booking: B, now: int, /) -> int:
        """Return when the last of the bookings ahead of one is due, or `now` if that is later."""
        ...

    def behind(self, booking: B, bound: int, /) -> Iterable[B]:
        """Return the bookings behind one that are due before `bound`."""
        ...


class BookingQueue(Generic[B]):
    """Bookings that were not used yet, by number; the numbers are the order of the queue.

    `add` and `remove` may be called again after they were interrupted.
    """

    __slots__ = ("_by_number", "_latest", "_moved_until", "_numbers")

    def __init__(self) -> None:
        self._by_number: dict[int, B] = {}
        self._numbers: list[int] = []
        self._latest = LONG_AGO
        """No booking was ever later."""
        self._moved_until = LONG_AGO
        """A booking that is later than one behind it is not after this."""

    def __len__(self) -> int:
        return len(self._by_number)

    def __contains__(self, number: object) -> bool:
        return number in self._by_number

    def __getitem__(self, number: int) -> B:
        return self._by_number[number]

    def __iter__(self) -> Iterator[B]:
        return map(self._by_number.__getitem__, self._numbers)

    def first(self) -> B | None:
        """Return the booking that is ahead of all others; None if there is none."""
        return self._by_number[self._numbers[0]] if self._numbers else None

    def add(self, number: int, booking: B) -> None:
        """Add a booking, whose number tells where in the queue."""
        at, numbers = booking.at, self._numbers
        if numbers and number < numbers[-1]:  # not before those ahead of it
            self._moved_until = max(self._moved_until, at)
        elif at < self._latest:
            self._moved_until = max(self._moved_until, self._latest)
        if at > self._latest:
            self._latest = at
        self.put_back(number, booking)

    def put_back(self, number: int, booking: B) -> None:
        """Add a booking that was removed before."""
        self._by_number[number] = booking
        numbers = self._numbers
        if not numbers or number > numbers[-1]:
            numbers.append(number)
            return
        i = bisect_left(numbers, number)
        if numbers[i] != number:
            numbers.insert(i, number)

    def remove(self, number: int) -> None:
        """Remove a booking, if it is there."""
        i = bisect_left(self._numbers, number)
        if self._numbers[i : i + 1] == [number]:
            del self._numbers[i]
        self._by_number.pop(number, None)

    def last_ahead(self, booking: B, now: int) -> int:
        """Return when the last of the bookings ahead of one is due, or `now` if that is later."""
        last = now
        for other in self._ahead(booking, now):
            last = max(last, other.at)
            # Any other ahead that is later than this one has been booked anew.
            if other.at > self._moved_until or self._moved_until <= now:
                break
        return last

    def _ahead(self, booking: B, now: int) -> Iterable[B]:
        """Yield the bookings ahead of one, the last one first; none if all are due by `now`."""
        numbers, by_number = self._numbers, self._by_number
        if booking.number is not None:
            first = bisect_left(numbers, booking.number) - 1
            return (by_number[numbers[i]] for i in range(first, -1, -1))
        if booking.at <= now:
            return ()
        return (
            other for number in reversed(numbers) if (other := by_number[number]).at <= booking.at
        )

    def behind(self, booking: B, bound: int) -> Iterator[B]:
        """Yield the bookings behind one that are due before `bound`."""
        numbers, by_number, number = self._numbers, self._by_number, booking.number
        first = 0 if number is None else bisect_right(numbers, number)
        for i in range(first, len(numbers)):
            other = by_number[numbers[i]]
            if other.at < bound:
                if number is not None or other.at > booking.at:
                    yield other
            elif other.at > self._moved_until:  # and so are all behind it
                return
