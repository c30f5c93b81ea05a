"""Remarks on a policy for `check-policy`: its directory, and overrides that begin or end soon."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

from ratelimit_mail._util.epoch import start_of
from ratelimit_mail.directory import Directory, ListFile
from ratelimit_mail.overrides import Concession
from ratelimit_mail.policy import Policy

__all__ = ["remarks_on"]

SOON: Final = timedelta(days=30)


def remarks_on(policy: Policy, now: datetime) -> Iterator[tuple[str, str]]:
    """Yield the subject and the text of each remark."""
    directory = policy.directory
    if isinstance(directory, ListFile):
        directory = directory.directory
    if isinstance(directory, Directory):
        aliases, lists = len(directory.aliases), len(directory.lists)
        yield "directory", f"{_many(aliases, 'alias', 'aliases')}, {_many(lists, 'list', 'lists')}"
    if policy.node is not None:
        yield "mail servers", f"this server counts as {policy.node}"
    if policy.shard_by is not None:
        yield "Redis Cluster", f"counts are grouped by {policy.shard_by.replace('_', ' ')}"
    if policy.grants == ():
        yield "note", "nobody may send: senders need a grant, and there are no grants"
    concessions: tuple[tuple[str, tuple[Concession, ...]], ...] = (
        ("overrides", policy.overrides),
        ("exemptions", policy.exemptions),
        ("grants", policy.grants or ()),
    )
    for key, entries in concessions:
        for i, concession in enumerate(entries):
            for text in _dates(concession, now):
                yield "note", f"{key}[{i}]{_senders(concession)} {text}"


def _dates(concession: Concession, now: datetime) -> Iterator[str]:
    if concession.starts is not None and start_of(concession.starts) > now:
        yield f"starts on {concession.starts}"
    if concession.ends is None:
        return
    end = start_of(concession.ends)
    if not isinstance(concession.ends, datetime):
        end += timedelta(days=1)
    if end <= now:
        yield f"ended on {concession.ends} and has no effect"
    elif end - now <= SOON:
        yield f"ends on {concession.ends}, within {SOON.days} days"


def _senders(concession: Concession) -> str:
    names = ", ".join(concession.senders[:3])
    more = f" and {len(concession.senders) - 3:,} more" if len(concession.senders) > 3 else ""
    return f" of {names}{more}" if names else ""


def _many(number: int, one: str, more: str) -> str:
    return f"{number:,} {one if number == 1 else more}"
