"""The subjects of a count: whose messages are counted together, as one string each."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from operator import attrgetter
from typing import Final

from ratelimit_mail._util.text import show
from ratelimit_mail.addresses import NULL_SENDER, subject_address, subject_domain, subject_sender
from ratelimit_mail.envelope import Client, Envelope

__all__ = [
    "SCOPES",
    "Scope",
    "common_shard",
    "is_per_recipient",
    "known_parts",
    "named_subject",
    "normal_scope",
    "parts_of",
    "subject_getter",
    "subject_of",
    "tag_getter",
]

Scope = tuple[str, ...]

SCOPES: Final = (
    "sender",
    "client",
    "user",
    "sender_domain",
    "recipient",
    "recipient_domain",
    "global",
)
"""What a rate limit may be counted per."""


# What an envelope does not tell is the empty string, which nothing else is. Functions with
# names, so that a policy can be pickled.


def _client(envelope: Envelope) -> str:
    return envelope.client.address or ""


def _user(envelope: Envelope) -> str:
    return envelope.client.user or ""


def _everybody(_: Envelope) -> str:
    return ""


_TOLD: Final[Mapping[str, Callable[[Envelope], str]]] = {
    "sender": attrgetter("sender"),
    "sender_domain": attrgetter("sender_domain"),
    "client": _client,
    "user": _user,
    "global": _everybody,
}

_NORMAL: Final[Mapping[str, Callable[[str], str]]] = {
    "sender": subject_sender,
    "sender_domain": lambda value: (
        NULL_SENDER if value in ("", NULL_SENDER) else subject_domain(value)
    ),
    "client": lambda value: Client(address=value or None).address or "",
    "user": lambda value: Client(user=value or None).user or "",
    "recipient": subject_address,
    "recipient_domain": subject_domain,
}


def normal_scope(value: object) -> Scope:
    """One word of `SCOPES` or several, in their one order.

    So ("client", "sender") is the same count as ("sender", "client").
    """
    if not isinstance(value, str | Iterable):
        raise TypeError(f"scope: one of {', '.join(SCOPES)} or several, not {show(value)}")
    named = [value] if isinstance(value, str) else list(value)
    for word in named:
        if word not in SCOPES:
            raise ValueError(f"scope: {show(word)} is none of {', '.join(SCOPES)}")
    if not named or len(set(named)) < len(named):
        raise ValueError(f"scope: {show(value)} must name at least one, and each once")
    if "global" in named and len(named) > 1:
        raise ValueError(f"scope: {show(value)}: 'global' is one count for all, so it stands alone")
    return tuple(word for word in SCOPES if word in named)


def is_per_recipient(scope: Scope) -> bool:
    """Whether one envelope has several subjects of `scope`."""
    return "recipient" in scope or "recipient_domain" in scope


def subject_of(scope: Scope, parts: Mapping[str, str]) -> str:
    """One string for one subject, and another for any other."""
    if len(scope) == 1:
        return parts[scope[0]]
    return "".join(f"{len(parts[word])}:{parts[word]}" for word in scope)


def parts_of(scope: Scope, subject: str) -> dict[str, str]:
    """What `subject_of` made one string of."""
    if len(scope) == 1:
        return {scope[0]: subject}
    parts = {}
    for word in scope:
        length, _, rest = subject.partition(":")
        parts[word], subject = rest[: int(length)], rest[int(length) :]
    return parts


def known_parts(scope: Scope, envelope: Envelope) -> dict[str, str]:
    """What `envelope` tells of each part of `scope`, its recipients left out."""
    return {word: _TOLD[word](envelope) for word in scope if word in _TOLD}


def subject_getter(scope: Scope) -> Callable[[Envelope], str]:
    """What gives the subject of an envelope, for a scope without recipients."""
    if len(scope) == 1:
        return _TOLD[scope[0]]
    return partial(_combined, scope)


def _combined(scope: Scope, envelope: Envelope) -> str:
    return subject_of(scope, known_parts(scope, envelope))


def named_subject(scope: str | Sequence[str], value: str | Sequence[str] | None) -> str:
    """The subject that a caller names, by one value for each part of `scope` in its order.

    The empty string names the client or user of those who do not tell theirs, and the null
    sender. Raises TypeError or ValueError where `value` does not name one.
    """
    ordered = normal_scope(scope)
    words = (scope,) if isinstance(scope, str) else tuple(scope)
    if ordered == ("global",):
        if value is not None:
            raise ValueError(f"the scope 'global' is one count for all; leave {show(value)} out")
        return ""
    values = (value,) if isinstance(value, str) else () if value is None else value
    if isinstance(values, bytes) or not isinstance(values, Sequence):
        raise TypeError(f"a subject is named by a string, or by several, not {show(value)}")
    for part in values:
        if not isinstance(part, str):
            raise TypeError(f"each part of a subject is a string, not {show(part)}")
    if len(values) != len(words):
        raise ValueError(
            f"{show(value)} does not name one subject of the scope {' and '.join(words)}"
        )
    return subject_of(
        ordered, {word: _NORMAL[word](part) for word, part in zip(words, values, strict=True)}
    )


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
