"""What somebody who checks a policy ought to look at: dates, and how large its directory is."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

from ratelimit_mail._util.epoch import start_of
from ratelimit_mail.directory import Directory
from ratelimit_mail.overrides import Concession
from ratelimit_mail.policy import Policy

__all__ = ["remarks_on"]

SOON: Final = timedelta(days=30)


def remarks_on(policy: Policy, now: datetime) -> Iterator[tuple[str, str]]:
    """The subject and the words of each remark."""
    if isinstance(policy.directory, Directory):
        aliases, lists = len(policy.directory.aliases), len(policy.directory.lists)
        yield "directory", f"{_many(aliases, 'alias', 'aliases')}, {_many(lists, 'list', 'lists')}"
    if policy.node is not None:
        yield "mail servers", f"this one counts as {policy.node}"
    if policy.shard_by is not None:
        yield "Redis Cluster", f"counts stand together by {policy.shard_by.replace('_', ' ')}"
    if policy.grants == ():
        yield "note", "nobody may send: grants are asked for, and there are none"
    conceded: tuple[tuple[str, tuple[Concession, ...]], ...] = (
        ("overrides", policy.overrides),
        ("exemptions", policy.exemptions),
        ("grants", policy.grants or ()),
    )
    for key, several in conceded:
        for i, each in enumerate(several):
            for words in _dates(each, now):
                yield "note", f"{key}[{i}]{_of(each)} {words}"


def _dates(each: Concession, now: datetime) -> Iterator[str]:
    if each.starts is not None and start_of(each.starts) > now:
        yield f"starts on {each.starts}"
    if each.ends is None:
        return
    end = start_of(each.ends)
    if not isinstance(each.ends, datetime):
        end += timedelta(days=1)
    if end <= now:
        yield f"ended on {each.ends}; it does nothing any more"
    elif end - now <= SOON:
        yield f"ends on {each.ends}, within {SOON.days} days"


def _of(each: Concession) -> str:
    named = ", ".join(each.senders[:3])
    more = f" and {len(each.senders) - 3:,} more" if len(each.senders) > 3 else ""
    return f" of {named}{more}" if named else ""


def _many(number: int, one: str, more: str) -> str:
    return f"{number:,} {one if number == 1 else more}"
