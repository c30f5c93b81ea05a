"""CalendarWindow: the window of a limit that is one period of a calendar."""

from __future__ import annotations

import attrs

from ratelimit_mail.calendars import Calendar
from ratelimit_mail.counting.window import Window

__all__ = ["CalendarWindow"]


@attrs.frozen
class CalendarWindow(Window):
    """At most `limit` in each period of a calendar; all that was counted leaves at its end.

    length: the most milliseconds that a period has.
    calendar: whose periods they are.
    resolution: as for `Window`; events of a slot in which a period ends leave with the next one.

    It does not spread a cost.
    """

    calendar: Calendar = attrs.field(kw_only=True)

    def cutoff(self, moment: int) -> int:
        """Return the latest event that no longer counts at `moment`."""
        slot = self.resolution
        return self.calendar.period(moment)[0] // slot * slot - 1

    def expiry(self, event: int) -> int:
        """Return the first moment at which `event` no longer counts."""
        slot = self.resolution
        return self.calendar.period(event // slot * slot + slot - 1)[1]
