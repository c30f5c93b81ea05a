"""Scopes: what a rate limit is counted per, and the subject that an envelope has in a scope.

A scope is one or several of the words in `SCOPES`. A subject of it is one string, whose messages
are counted together. In a cluster, each subject has a tag, and subjects of one tag stand together.
"""

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
    "envelope_values",
    "is_per_recipient",
    "named_subject",
    "normal_scope",
    "split_subject",
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


def normal_scope(value: str | Iterable[str]) -> Scope:
    """Return one word of `SCOPES` or several as a tuple, in the order of `SCOPES`.

    So ("client", "sender") is the same count as ("sender", "client"). Raises TypeError or
    ValueError if `value` is not a scope.
    """
    if not isinstance(value, str | Iterable):
        raise TypeError(f"scope: one of {', '.join(SCOPES)} or several, not {show(value)}")
    words = [value] if isinstance(value, str) else list(value)
    for word in words:
        if word not in SCOPES:
            raise ValueError(f"scope: {show(word)} is not one of {', '.join(SCOPES)}")
    if not words or len(set(words)) < len(words):
        raise ValueError(f"scope: {show(value)} must name at least one, and each once")
    if "global" in words and len(words) > 1:
        raise ValueError(f"scope: {show(value)}: 'global' is one count for all, so it stands alone")
    return tuple(word for word in SCOPES if word in words)


def is_per_recipient(scope: Scope) -> bool:
    """Return whether one envelope has several subjects of `scope`."""
    return "recipient" in scope or "recipient_domain" in scope


def subject_of(scope: Scope, values: Mapping[str, str]) -> str:
    """Return the subject with these values, by the words of `scope`; no two have the same."""
    if len(scope) == 1:
        return values[scope[0]]
    return "".join(f"{len(values[word])}:{values[word]}" for word in scope)


def split_subject(scope: Scope, subject: str) -> dict[str, str]:
    """Return the values that `subject_of` made `subject` of."""
    if len(scope) == 1:
        return {scope[0]: subject}
    values = {}
    for word in scope:
        length, _, rest = subject.partition(":")
        values[word], subject = rest[: int(length)], rest[int(length) :]
    return values


# The subject of an envelope. A value that the envelope lacks is the empty string, which no other
# value is. These are functions with names, and not lambdas, so that a policy can be pickled.


def _client(envelope: Envelope) -> str:
    return envelope.client.address or ""


def _user(envelope: Envelope) -> str:
    return envelope.client.user or ""


def _global(_: Envelope) -> str:
    return ""


_VALUE_OF: Final[Mapping[str, Callable[[Envelope], str]]] = {
    "sender": attrgetter("sender"),
    "sender_domain": attrgetter("sender_domain"),
    "client": _client,
    "user": _user,
    "global": _global,
}
"""What an envelope has for each word; its recipients each have their own values."""


def envelope_values(scope: Scope, envelope: Envelope) -> dict[str, str]:
    """Return the values of `envelope` for the words of `scope`, those of recipients left out."""
    return {word: _VALUE_OF[word](envelope) for word in scope if word in _VALUE_OF}


def subject_getter(scope: Scope) -> Callable[[Envelope], str]:
    """Return the function from an envelope to its subject, for a scope without recipients."""
    if len(scope) == 1:
        return _VALUE_OF[scope[0]]
    return partial(_combined_subject, scope)


def _combined_subject(scope: Scope, envelope: Envelope) -> str:
    return subject_of(scope, envelope_values(scope, envelope))


# The subject that a caller names.

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


def named_subject(scope: str | Sequence[str], value: str | Sequence[str] | None) -> str:
    """Return the subject that a caller names by one value for each word of `scope`, in its order.

    The empty string names the null sender, and the subject of envelopes without a client address
    or user. Raises TypeError or ValueError if `value` does not name one subject.
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
    for each in values:
        if not isinstance(each, str):
            raise TypeError(f"each part of a subject is a string, not {show(each)}")
    if len(values) != len(words):
        raise ValueError(
            f"{show(value)} does not name one subject of the scope {' and '.join(words)}"
        )
    return subject_of(
        ordered, {word: _NORMAL[word](each) for word, each in zip(words, values, strict=True)}
    )


# Sharding: subjects with the same tag stand together on one node of a cluster.

_IMPLIED_BY: Final = {"sender_domain": "sender", "recipient_domain": "recipient"}
"""The word whose value determines another word's: an address has one domain."""


def determines(scope: Scope, word: str) -> bool:
    """Return whether a subject of `scope` determines the value of `word`."""
    return word == "global" or word in scope or _IMPLIED_BY.get(word) in scope


def common_shard(scopes: Collection[Scope]) -> str | None:
    """Return the narrowest word of SCOPES that all of `scopes` determine; None if there is none.

    It is never "global": that all counts stand together must be asked for.
    """
    for word in (*(word for word in SCOPES if word not in _IMPLIED_BY), *_IMPLIED_BY):
        if word != "global" and scopes and all(determines(scope, word) for scope in scopes):
            return word
    return None


def tag_getter(scope: Scope, shard: str | None) -> Callable[[str], str] | None:
    """Return the function from a subject of `scope` to its tag; None if the subject is the tag.

    shard: the word of SCOPES by which counts are spread; subjects with one value of it have one
        tag.
    """
    if shard is None or scope == (shard,) or not determines(scope, shard):
        return None
    if shard == "global":
        return _global_tag
    return partial(_value_in, scope, shard)


def _global_tag(_: str) -> str:
    return ""


def _value_in(scope: Scope, word: str, subject: str) -> str:
    values = split_subject(scope, subject)
    if word in values:
        return values[word]
    address = values[_IMPLIED_BY[word]]
    return address if address == NULL_SENDER else address.rpartition("@")[2]
