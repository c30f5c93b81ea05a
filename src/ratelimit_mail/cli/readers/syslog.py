"""Read the time, the program and the text of syslog lines, and of what `journalctl` prints.

Three forms are read: as syslog writes lines (its times may lack the year), as `journalctl -o json`
does, and as RFC 5424 says. The times may be as in `Mar  2 09:00:00`, ISO 8601 or Unix seconds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo
from typing import Final, NamedTuple

from ratelimit_mail._util.epoch import milliseconds_of
from ratelimit_mail._util.text import show
from ratelimit_mail.cli.readers.base import Reading, Source
from ratelimit_mail.cli.readers.times import parse_time

__all__ = [
    "SyslogLine",
    "SyslogReader",
    "YearlessTimes",
    "by_first_time",
    "is_remark",
    "parse_line",
]

_LINE: Final = re.compile(
    r"""
    (?:<[0-9]{1,3}>(?:1[ ])?)?
    (?:
        ([A-Z][a-z]{2})[ ]{1,2}([0-9]{1,2})[ ]([0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.[0-9]++)?
    |
        (?:[A-Z][a-z]{2}[ ])?
        ([0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]{1,9})?
         (?:Z|[+-][0-9]{2}:?[0-9]{2}|[ ]UTC)?)
    |
        ([0-9]{9,11}\.[0-9]++)
    )
    [ ]([^ ]++)[ ]
    (?:
        ([^ :\[\]]++)(?:\[[0-9]++\])?:[ ]?
    |
        ([^ :\[\]]++)[ ](?:[0-9]++|-)[ ][^ ]++[ ](?:-|\[[^\]]*+\])[ ]
    )
    (.*)
    """,
    re.VERBOSE | re.DOTALL,
)
_MONTHS: Final = {
    "Jan": 1,
    "Feb": 2,
    "Mar": 3,
    "Apr": 4,
    "May": 5,
    "Jun": 6,
    "Jul": 7,
    "Aug": 8,
    "Sep": 9,
    "Oct": 10,
    "Nov": 11,
    "Dec": 12,
}
_JOURNAL: Final = re.compile(r"-- .* --")
_REPEATED: Final = re.compile(r"message repeated [0-9]++ times: \[ (.*)\]", re.DOTALL)


class SyslogLine(NamedTuple):
    """One line: its time as month, day and clock, or as text; where it comes from, and its text."""

    yearless: tuple[int, int, str] | None
    time: str
    host: str
    program: str
    text: str


def parse_line(line: str) -> SyslogLine | None:
    """Return the parts of a line; None if it is not one of syslog."""
    if line.startswith("{"):
        return _of_journal(line)
    match = _LINE.match(line)
    if match is None:
        return None
    month, day, clock, iso, unix, host, program, other_program, text = match.groups()
    yearless = None
    if month is not None:
        if month not in _MONTHS:
            return None
        yearless = _MONTHS[month], int(day), clock
    repeated = _REPEATED.fullmatch(text)
    return SyslogLine(
        yearless,
        (iso or unix or "").replace(" UTC", "Z"),
        host,
        program or other_program,
        repeated[1] if repeated else text,
    )


def _of_journal(line: str) -> SyslogLine | None:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(entry, dict):
        return None
    text = entry.get("MESSAGE")
    if isinstance(text, list):  # bytes that are not UTF-8
        try:
            text = bytes(text).decode("utf-8", "surrogateescape")
        except (ValueError, TypeError):
            return None
    time, program = entry.get("__REALTIME_TIMESTAMP"), entry.get("SYSLOG_IDENTIFIER", "")
    host = entry.get("_HOSTNAME", "")
    if not (isinstance(text, str) and isinstance(time, str) and isinstance(program, str)):
        return None
    return SyslogLine(None, time, str(host), program, text)


def is_remark(line: str) -> bool:
    """Return whether a line is one of journalctl's own, such as `-- Boot 1f... --`."""
    return _JOURNAL.fullmatch(line) is not None


class YearlessTimes:
    """Times without a year: the year of the first is known, and it grows in January.

    Raises ValueError for a day that the year does not have.
    """

    def __init__(self, year: int, zone: tzinfo) -> None:
        self._year = year
        self._zone = zone
        self._month = 0
        self._hour = (0, 0, "")
        self._start = 0

    def parse(self, month: int, day: int, clock: str) -> int:
        """Return the time in milliseconds since the epoch."""
        year = self._year
        if month != self._month:
            if self._month - month >= 6:
                self._year = year = year + 1
            elif self._month and month - self._month >= 6:
                year -= 1  # a line of December that came late
            if year == self._year:
                self._month = month
        minute, second = int(clock[3:5]), int(clock[6:8])
        if minute > 59 or second > 60:
            raise ValueError(f"time: {show(clock)} is not a time of day")
        hour = month, day, clock[:2]
        if hour != self._hour or year != self._year:
            try:
                moment = datetime(year, month, day, int(clock[:2]), tzinfo=self._zone)
            except ValueError:
                raise ValueError(f"time: {year} has no day {month:02}-{day:02} {clock}") from None
            start = milliseconds_of(moment)
            if year == self._year:
                self._hour, self._start = hour, start
        else:
            start = self._start
        return start + minute * 60_000 + min(second, 59) * 1000


class SyslogReader:
    """Read lines of syslog from sources that are in the order of time."""

    def __init__(self, sources: Sequence[Source], reading: Reading) -> None:
        self._zone = reading.options.timezone
        self._reading = reading
        self._source = sources[0]
        self._yearless: YearlessTimes | None = None
        self._last = ("", 0)

    def time_of(self, line: SyslogLine) -> int:
        """Return the time of a line; raise ValueError if it is not one."""
        if line.yearless is not None:
            if self._yearless is None:
                self._yearless = YearlessTimes(self._first_year(*line.yearless[:2]), self._zone)
            return self._yearless.parse(*line.yearless)
        if line.time != self._last[0]:
            self._last = line.time, parse_time(line.time.replace(",", "."), self._zone)
        return self._last[1]

    def _first_year(self, month: int, day: int) -> int:
        options = self._reading.options
        if options.year is not None:
            return options.year
        written = self._source.written
        year = written.year
        # A day more, because the file's date is in another time zone.
        if (month, day) > (written.month, written.day + 1):
            year -= 1
        self._reading.remark(
            f"the times have no year: {year} is assumed for the first, by the date of the file;"
            " --year says another"
        )
        return year


def by_first_time(sources: Sequence[Source]) -> Sequence[Source]:
    """Return the files of one log in the order of time, whatever order they were named in.

    The year of times without one does not matter here if the files' own dates differ by less.
    """
    if len(sources) < 2:
        return sources
    return sorted(sources, key=_first_time)


def _first_time(source: Source) -> int:
    for text in source.start.lines:
        line = parse_line(text)
        if line is None:
            continue
        try:
            if line.yearless is None:
                return parse_time(line.time.replace(",", "."))
            month, day, clock = line.yearless
            written = source.written
            year = written.year - ((month, day) > (written.month, written.day + 1))
            return YearlessTimes(year, UTC).parse(month, day, clock)
        except ValueError:
            continue
    return 0
