"""Writes docs/benchmarks.md and its pictures from the figures of the last run."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import better
import pictures
import tables
from contenders import BY_HAND, ENTRIES, NO_OP, OURS
from figures import Figures
from targets import number
from work import RECIPIENTS

DOCS: Final = Path(__file__).parents[1] / "docs"

PAGE: Final = """\
# Benchmarks

<!-- Written by `nox -s benchmarks`: change benchmarks/page.py, not this page. -->

How long one decision takes, beside a floor that nothing can go below and beside other limiters,
on the work that a mail system does. `nox -s benchmarks` repeats all of it and writes this page.

![One check in memory and on Valkey, as ratios to the floor](benchmarks/overview.svg)

## The targets

{targets}

## What is missed, and why

- **1,000,000 senders against 1.** A sender who wrote long ago stands in memory that the processor
  has no copy of. Looking one of a million strings up in a dict takes 0.6 µs more than one of ten
  thousand (0.77 against 0.14, measured alone), which is half of what a message takes more; the
  rest are the sender's own two or three objects. The loop by hand takes more than this library
  there, in microseconds too. It would need a table of senders outside Python's objects.
- **Server time with many messages recorded.** A sender who is far from the limit takes the short
  way, which looks at the ends of the log alone. Where the sum of all that is recorded is above the
  limit, the log is searched for the window's edge: three guesses by time, an `LINDEX` each, then
  halves. That costs some 10 µs more, and no more at 100,000 messages than at 500. It would need
  a second, coarser log.

## How to read it

The work is the **e-mail check**: a recipient limit of 100, 30 messages a minute and 10,000
external recipients a day, for a message to {recipients} recipients of whom 2 are internal.

- A figure in brackets is a **ratio** to the floor: 2 is twice the time. Ratios travel from
  machine to machine far better than microseconds do.
- Everybody works in the same run, each in a process of its own, a short turn at a time: a machine
  whose speed drifts slows them all alike. A ratio is the median of the ratios, turn by turn.
- The floor in memory is a loop written by hand for this one check. It leaves out threads,
  refunds, the time to try again, which limit spoke, and letting go of senders who are gone.
- The floor on a server is a script that does nothing, called by the same redis-py client.
- The peers count no recipients of a message: what it costs is handed to them for nothing.
- A peer's name alone is its best idiom: charge one limit, then the other. It leaves the first
  charged where the second refuses. "safe" is its way to avoid that, test before hit, which is
  still no guarantee where two threads do it at once.
- **~** is not exact: it lets more than the limit pass in some window. See
  [the answers](#are-the-answers-right).
- Answers are checked as the work goes on. "refused wrongly" is said of whoever refused messages
  that had room, as some do when their lock is taken: to refuse is quick, and no time to compare.

{about}

## The machine

{machine}

{missing}
## In memory

![In memory, against a loop written by hand](benchmarks/memory.svg)

{one_sender}

Many senders, each of whom has sent before; eight threads at once; and asyncio, one message after
another:

{many_senders}

Single calls among 2,000 senders, with Python's garbage collection as it comes:

![The slowest call of a thousand against the median](benchmarks/latency.svg)

{latency}

Bytes by `tracemalloc`, the address itself not counted, and the time of the import beyond
`import attrs`:

{footprint}

## On a server

![On Valkey, against a no-op EVALSHA](benchmarks/redis.svg)

Valkey on the same machine, by one connection:

{on_valkey}

Eight threads, and a hundred tasks of asyncio, at once:

{at_once}

The same on Redis:

{in_redis}

What the server itself is busy with, by its own account:

{server_time}

A message of a sender whose day is full takes {bytes_in_server} bytes in the server.

## Are the answers right?

A limit of 1,000 a minute, and a sender who sends one message as a minute of the clock begins, as
many as pass a tenth of a second before it ends, and then again and again: how many passed in the
worst minute? And: is the minute charged for a message that the day refused? Both in memory.

{answers}

`token-throttle` is all or nothing too, as this library is, and refills steadily, so that a full
bucket and its refill pass in one window.

## Where a peer is better

Where a peer took less than this library at the same work, and how much of it: 0.5 is half.
A refusal by this library comes with the exact time to try again and the SMTP reply.

{better}

## Repeat it

```console
nox -s benchmarks
```

takes about ten minutes on a quiet machine, and `nox -s benchmarks -- --quick` tries it out in
four. `token-throttle` needs Python 3.12 or later: `nox -s benchmarks --force-python 3.13`.
"""


def _about() -> str:
    rows = [[tables.named(name), entry.about] for name, entry in ENTRIES.items()]
    return tables.in_words(["contender", "what it does"], rows)


def _machine(figures: Figures) -> str:
    rows = [[what, told] for what, told in figures.machine.items()]
    return tables.in_words(["", ""], rows)


def _missing(figures: Figures) -> str:
    where: dict[str, list[str]] = {}
    for group, troubles in figures.troubles.items():
        for name, trouble in troubles.items():
            told = f"{tables.named(name)} could not: `{trouble.splitlines()[0][:120]}`"
            where.setdefault(told, []).append(group)
    lines = [f"- {told} ({'; '.join(groups)})" for told, groups in where.items()]
    return "\n".join(["What could not be measured:", "", *lines, ""]) if lines else ""


def _bytes_in_server(figures: Figures) -> str:
    held = figures.median("Valkey, bytes", ("bytes in the server", OURS))
    return "(not measured)" if held is None else number(held)


def text(figures: Figures) -> str:
    """The page."""
    return PAGE.format(
        recipients=len(RECIPIENTS),
        targets=tables.targets(figures),
        about=_about(),
        machine=_machine(figures),
        missing=_missing(figures),
        one_sender=tables.times(figures, tables.ONE_SENDER, BY_HAND),
        many_senders=tables.times(figures, tables.MANY_SENDERS, BY_HAND),
        latency=tables.latency(figures),
        footprint=tables.footprint(figures),
        on_valkey=tables.times(figures, tables.ON_VALKEY, NO_OP),
        at_once=tables.times(figures, tables.AT_ONCE, NO_OP),
        in_redis=tables.times(figures, tables.IN_REDIS, NO_OP),
        bytes_in_server=_bytes_in_server(figures),
        server_time=tables.server_time(figures),
        answers=tables.answers(figures),
        better=better.lines(figures),
    )


def main() -> None:
    """Write it."""
    figures = Figures.load()
    (DOCS / "benchmarks.md").write_text(text(figures), encoding="utf-8")
    pictures.draw_all(figures, DOCS / "benchmarks")


if __name__ == "__main__":
    main()
