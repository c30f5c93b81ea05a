"""Which counts stand together: the part of its subject that a cluster places a count by."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import Final

from ratelimit_mail.addresses import NULL_SENDER
from ratelimit_mail.scopes import SCOPES, Scope, parts_of

__all__ = ["common_shard", "tag_getter"]

_TOLD_BY: Final = {"sender_domain": "sender", "recipient_domain": "recipient"}
"""What is known once something else is: an address has one domain."""


def tells(scope: Scope, word: str) -> bool:
    """Whether a subject of `scope` says what its `word` is."""
    return word == "global" or word in scope or _TOLD_BY.get(word) in scope


def common_shard(scopes: Collection[Scope]) -> str | None:
    """The narrowest word of SCOPES that every one of `scopes` tells; None where there is none.

    Never "global": that all counts stand together must be asked for.
    """
    for word in (*(word for word in SCOPES if word not in _TOLD_BY), *_TOLD_BY):
        if word != "global" and scopes and all(tells(scope, word) for scope in scopes):
            return word
    return None


def tag_getter(scope: Scope, shard: str | None) -> Callable[[str], str] | None:
    """What gives the tag of a subject of `scope`; None where the tag is the subject itself."""
    if shard is None or scope == (shard,) or not tells(scope, shard):
        return None
    if shard == "global":
        return _one_for_all
    return partial(_part, scope, shard)


def _one_for_all(_: str) -> str:
    return ""


def _part(scope: Scope, word: str, subject: str) -> str:
    parts = parts_of(scope, subject)
    if word in parts:
        return parts[word]
    address = parts[_TOLD_BY[word]]
    return address if address == NULL_SENDER else address.rpartition("@")[2]
