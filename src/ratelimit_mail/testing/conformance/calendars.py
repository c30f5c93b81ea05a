"""Tests of limits of a calendar: at most N from one local midnight to the next."""

from __future__ import annotations

from ratelimit_mail.limiter import Limiter
from ratelimit_mail.limits import Limit, MessageRateLimit, RecipientRateLimit
from ratelimit_mail.testing.clock import ManualClock
from ratelimit_mail.testing.conformance.suite import ConformanceTests, envelope_to, policy_with

__all__ = ["CalendarTests"]

HOUR = 3600
EVENING_BEFORE_25_HOURS = 1_729_976_400_000
"""2024-10-26, 23:00 in Berlin. The next day has 25 hours."""
EVENING_BEFORE_NO_MIDNIGHT = 1_710_043_200_000
"""2024-03-09, 23:00 in Havana. An hour later it is 1:00 of a day of 23 hours."""
BERLIN, HAVANA = "Europe/Berlin", "America/Havana"


class CalendarTests(ConformanceTests):
    """Tests of limits of a calendar: at most N from one local midnight to the next."""

    def at(self, moment: int, *limits: Limit) -> tuple[Limiter, ManualClock]:
        """Return a limiter on an empty backend, and its clock."""
        clock = ManualClock(moment)
        return Limiter(policy_with(*limits), self.backend(clock), sleep=clock.advance), clock

    def test_all_that_was_counted_on_a_day_leaves_at_midnight(self) -> None:
        """However late it was sent; and `retry_after` is the time until midnight."""
        limiter, clock = self.at(
            EVENING_BEFORE_25_HOURS, MessageRateLimit("3/calendar day", time_zone=BERLIN)
        )
        for _ in range(3):
            assert limiter.try_acquire(envelope_to())
            clock.advance(1199)
        assert limiter.try_acquire(envelope_to()).retry_after == 3
        [usage] = limiter.usage("ann@uwo.ca")
        assert (usage.used, usage.remaining, usage.resets_in) == (3, 0, 3)
        clock.advance(2.999)
        assert not limiter.try_acquire(envelope_to())
        clock.advance(0.001)
        [usage] = limiter.usage("ann@uwo.ca")
        assert (usage.used, usage.remaining, usage.resets_in) == (0, 3, 0)
        assert [bool(limiter.try_acquire(envelope_to())) for _ in range(4)] == [1, 1, 1, 0]

    def test_a_day_on_which_the_clocks_go_back_has_25_hours(self) -> None:
        """The day before has 24."""
        limiter, clock = self.at(
            EVENING_BEFORE_25_HOURS, RecipientRateLimit("5/calendar day", time_zone=BERLIN)
        )
        assert limiter.try_acquire(envelope_to(4))
        assert limiter.try_acquire(envelope_to(2)).retry_after == HOUR
        clock.advance(HOUR)
        assert limiter.try_acquire(envelope_to(5))
        assert limiter.try_acquire(envelope_to()).retry_after == 25 * HOUR
        clock.advance(25 * HOUR - 0.001)
        assert not limiter.try_acquire(envelope_to())
        clock.advance(0.001)
        assert limiter.try_acquire(envelope_to(5))
        assert limiter.try_acquire(envelope_to()).retry_after == 24 * HOUR

    def test_a_midnight_that_the_clocks_skip_is_the_moment_of_the_skip(self) -> None:
        """The day that begins there has 23 hours."""
        limiter, clock = self.at(
            EVENING_BEFORE_NO_MIDNIGHT, MessageRateLimit("1/calendar day", time_zone=HAVANA)
        )
        assert limiter.try_acquire(envelope_to())
        assert limiter.check(envelope_to()).retry_after == HOUR
        clock.advance(HOUR)
        assert limiter.try_acquire(envelope_to())
        assert limiter.check(envelope_to()).retry_after == 23 * HOUR

    def test_a_month_and_an_hour_of_the_calendar(self) -> None:
        """Each limit at its own time."""
        limiter, clock = self.at(
            EVENING_BEFORE_25_HOURS + 900_000,
            MessageRateLimit("1/calendar hour"),
            MessageRateLimit("2/calendar month", time_zone=BERLIN),
        )
        assert limiter.try_acquire(envelope_to())
        assert limiter.try_acquire(envelope_to()).retry_after == 0.75 * HOUR
        clock.advance(0.75 * HOUR)
        assert limiter.try_acquire(envelope_to())
        # From midnight of the 27th to the 1st of November, with one hour twice.
        assert limiter.try_acquire(envelope_to()).retry_after == (5 * 24 + 1) * HOUR

    def test_bookings_fill_one_day_after_the_other(self) -> None:
        """In each of them only what it admits, whichever hour it is booked at."""
        limiter, clock = self.at(
            EVENING_BEFORE_25_HOURS, MessageRateLimit("2/calendar day", time_zone=BERLIN)
        )
        delays = [limiter.reserve(envelope_to()).delay for _ in range(6)]
        assert delays == [0, 0, HOUR, HOUR, 26 * HOUR, 26 * HOUR]
        assert limiter.check(envelope_to(sender="ann@uwo.ca")).retry_after == 50 * HOUR
        clock.advance(2 * HOUR)
        [usage] = limiter.usage("ann@uwo.ca")
        assert (usage.used, usage.remaining) == (2, 0)

    def test_a_booking_later_in_the_day_takes_room_of_the_whole_day(self) -> None:
        """Of that day, and of no other."""
        limiter, clock = self.at(
            EVENING_BEFORE_25_HOURS,
            MessageRateLimit("2/calendar day", time_zone=BERLIN, scope="global"),
            MessageRateLimit("1/2 hours"),
        )
        assert limiter.reserve(envelope_to()).delay == 0
        assert limiter.reserve(envelope_to()).delay == 2 * HOUR
        clock.advance(HOUR)
        assert limiter.try_acquire(envelope_to(sender="bob@uwo.ca"))
        assert limiter.try_acquire(envelope_to(sender="cy@uwo.ca")).retry_after == 25 * HOUR

    def test_a_refund_gives_the_day_its_room_back(self) -> None:
        """And a settled message counts on the day on which it was sent."""
        limiter, clock = self.at(
            EVENING_BEFORE_25_HOURS, MessageRateLimit("1/calendar day", time_zone=BERLIN)
        )
        limiter.refund(limiter.try_acquire(envelope_to()))
        decision = limiter.try_acquire(envelope_to())
        assert decision
        clock.advance(HOUR)
        limiter.settle(decision)
        assert limiter.try_acquire(envelope_to()).retry_after == 25 * HOUR

    def test_refused_attempts_count_until_midnight(self) -> None:
        """If the limit counts them."""
        limiter, clock = self.at(
            EVENING_BEFORE_25_HOURS,
            MessageRateLimit("2/calendar day", time_zone=BERLIN, denied="count"),
        )
        for _ in range(50):
            limiter.try_acquire(envelope_to())
            clock.advance(60)
        assert limiter.try_acquire(envelope_to()).retry_after == 600
        clock.advance(600)
        assert limiter.try_acquire(envelope_to())

    def test_with_a_resolution_a_slot_over_midnight_counts_on_both_days(self) -> None:
        """So it may leave late, and never early."""
        limiter, clock = self.at(
            EVENING_BEFORE_25_HOURS,
            MessageRateLimit("1/calendar day", time_zone=BERLIN, resolution="11 minutes"),
        )
        slot = 11 * 60_000
        midnight = EVENING_BEFORE_25_HOURS + HOUR * 1000
        assert midnight % slot  # a slot of eleven minutes contains it
        clock.set(midnight - midnight % slot - 1)
        assert limiter.try_acquire(envelope_to())
        clock.set(midnight)
        assert limiter.try_acquire(envelope_to())
        limiter, clock = self.at(
            midnight - midnight % slot,
            MessageRateLimit("1/calendar day", time_zone=BERLIN, resolution="11 minutes"),
        )
        assert limiter.try_acquire(envelope_to())
        clock.set(midnight)
        assert limiter.try_acquire(envelope_to()).retry_after == 25 * HOUR

    def test_a_sliding_limit_that_becomes_one_of_a_day_keeps_its_history(self) -> None:
        """And the other way round."""
        clock = ManualClock(EVENING_BEFORE_25_HOURS - 22 * HOUR * 1000)
        backend = self.backend(clock)
        sliding = Limiter(policy_with(MessageRateLimit("2/day")), backend)
        daily = Limiter(policy_with(MessageRateLimit("2/calendar day", time_zone=BERLIN)), backend)
        assert sliding.try_acquire(envelope_to())
        assert daily.try_acquire(envelope_to())
        clock.advance(22 * HOUR)
        assert sliding.try_acquire(envelope_to()).retry_after == 2 * HOUR
        assert daily.try_acquire(envelope_to()).retry_after == HOUR
        clock.advance(HOUR)
        assert daily.check(envelope_to())
        assert sliding.check(envelope_to()).retry_after == HOUR

    def test_the_fullest_subjects_of_a_day(self) -> None:
        """What was sent yesterday does not rank anybody."""
        limiter, clock = self.at(
            EVENING_BEFORE_25_HOURS, MessageRateLimit("9/calendar day", time_zone=BERLIN)
        )
        for _ in range(5):
            limiter.try_acquire(envelope_to(sender="ann@uwo.ca"))
        limiter.try_acquire(envelope_to(sender="bob@uwo.ca"))
        assert [each.subject for each in limiter.top()] == ["ann@uwo.ca", "bob@uwo.ca"]
        clock.advance(HOUR)
        limiter.try_acquire(envelope_to(sender="bob@uwo.ca"))
        assert [each.subject for each in limiter.top()] == ["bob@uwo.ca"]

    def test_the_decision_names_the_limit_that_refuses(self) -> None:
        """Among several limits of one count, of calendars and sliding."""
        calendar = MessageRateLimit("3/calendar day", time_zone=BERLIN)
        month = MessageRateLimit("4/calendar month", time_zone=HAVANA)
        sliding = MessageRateLimit("2/minute")
        limiter, clock = self.at(EVENING_BEFORE_25_HOURS, month, calendar, sliding)
        limits = []
        for _ in range(7):
            decision = limiter.try_acquire(envelope_to())
            limits.append(decision.limit)
            clock.advance(decision.retry_after or 0)
        assert limits == [None, None, sliding, None, calendar, None, month]
