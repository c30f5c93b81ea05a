"""log_events: a listener that logs one line for each event, with addresses optionally hashed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, Protocol

from ratelimit_mail._util.text import escape, show
from ratelimit_mail.events.kinds import (
    BackToNormal,
    Blocked,
    BurstAfterDenial,
    Delayed,
    Event,
    ExpectedRecipientsExceeded,
    Failed,
    FirstDenial,
    Held,
    NearLimit,
    OutboxEvent,
    Released,
    Unblocked,
    Uncertain,
)
from ratelimit_mail.events.listeners import Listener

if TYPE_CHECKING:
    import logging

__all__ = ["line_of", "log_events"]

SHORTEST_KEY: Final = 16

_WORD: Final = re.compile(r"[^\s<>()\[\]{},;:'\"]++")
"""What may be an address; a pattern that needs the @ too would take quadratic time without it."""

LONGEST_NAME: Final = 320
"""Characters; an address has no more."""


class _Log(Protocol):
    """A Logger or a LoggerAdapter."""

    def log(self, level: int, msg: str, *args: object, extra: dict[str, Any]) -> None:
        """Log one line."""
        ...


def log_events(
    logger: logging.Logger | logging.LoggerAdapter[Any] | str | None = None,
    *,
    key: bytes | None = None,
    level: int | None = None,
) -> Listener:
    """Return a listener that logs one line for each event, with its attributes as `extra=` fields.

    logger: a logger or its name; the default is `ratelimit_mail.events`.
    key: at least 16 secret bytes. With a key, each address, login and subject is replaced by 16
        hexadecimal digits. They are the same for the same address and key, so that all lines of
        one sender can be found, but an address cannot be found out without the key. So is each
        address in the reason of a block, which may be a provider's reply. Without a key, addresses
        are logged as they are, with unprintable characters escaped.
    level: the level of every line; the default is INFO for BackToNormal, Unblocked, Delayed and
        Released, and WARNING for all others.

    The fields are `event` (the kind), `sender`, `subject`, `limit`, `enforced`, `policy`, `tier`,
    `at`, `client_address`, `client_user`, `client_protocol`, and those of the kind: `action`,
    `reply` and `retry_after`; `used` and `share`; `attempts` and `seconds`; `denials` and `since`;
    `expected` and `recipients`; `scope`, `until` and `reason`. Events of an outbox have `outbox_id`
    (the number of the message), `recipients` (how many) and `expected`, `put`, `reply`, `lists` or
    `resent`, but not its key, which the program chose and which may hold anything.
    """
    import logging

    names = _Names(key)
    if logger is None or isinstance(logger, str):
        logger = logging.getLogger(logger or "ratelimit_mail.events")
    elif not callable(getattr(logger, "log", None)):
        raise TypeError(f"logger: a Logger or its name is needed, not {show(logger)}")
    if level is not None and (not isinstance(level, int) or isinstance(level, bool)):
        raise TypeError(f"level: a number such as logging.INFO is needed, not {show(level)}")
    log: _Log = logger

    def listen(event: Event) -> None:
        at_level = level
        if at_level is None:
            is_good = isinstance(event, BackToNormal | Unblocked | Delayed | Released)
            at_level = logging.INFO if is_good else logging.WARNING
        line, fields = _line_of(event, names)
        log.log(at_level, "%s", line, extra=fields)

    return listen


def line_of(event: Event, key: bytes | None = None) -> tuple[str, dict[str, Any]]:
    """Return an event in one line, which is escaped, and its fields as `log_events` names them."""
    return _line_of(event, _Names(key))


def _line_of(event: Event, names: _Names) -> tuple[str, dict[str, Any]]:
    title, text, own_fields = _describe(event, names)
    if not event.enforced:
        title = f"{title} (only reported)"
    sender = names.quoted(event.sender)
    if event.subject != event.sender:
        sender += f" (counted for {names.quoted(event.subject)})"
    line = f"{title}: {sender} {text}; {_context(event, names)}"
    return line, {**_common_fields(event, names), **own_fields}


class _Names:
    """The format of addresses and logins: escaped, or hashed with a key."""

    def __init__(self, key: object) -> None:
        # The messages must not show the key.
        if key is not None and not isinstance(key, bytes):
            raise TypeError(f"key: secret bytes are needed, not a {type(key).__name__}")
        if key is not None and len(key) < SHORTEST_KEY:
            raise ValueError(
                f"key: {len(key)} bytes can be guessed; {SHORTEST_KEY} or more are needed"
            )
        self._key = key

    def field(self, name: str | None) -> str | None:
        """Return `name` as the value of a field."""
        if name is None:
            return None
        if self._key is None:
            return _escaped(name)
        import hmac  # here, because it imports hashlib, which is slow to import

        text = name.encode(errors="surrogatepass")
        return hmac.digest(self._key, text, "sha256").hex()[:16]

    def in_text(self, text: str) -> str:
        """Return `text`, such as a provider's reply, with its addresses as `field` gives them."""
        if self._key is not None:
            text = _WORD.sub(self._word, text)
        return escape(text)

    def _word(self, match: re.Match[str]) -> str:
        is_address = "@" in match[0][1:-1]
        return str(self.field(match[0])) if is_address else match[0]

    def quoted(self, name: str) -> str:
        """Return `name` in quotes for the line, so that it cannot pose as the text around it."""
        return show(name if self._key is None else self.field(name))


def _escaped(text: str) -> str:
    line = escape(text[: LONGEST_NAME + 1])
    return line if len(line) <= LONGEST_NAME else f"{line[:LONGEST_NAME]}..."


def _common_fields(event: Event, names: _Names) -> dict[str, Any]:
    """Return the fields that every event has."""
    return {
        "event": type(event).__name__,
        "sender": names.field(event.sender),
        "subject": names.field(event.subject),
        "limit": None if event.limit is None else str(event.limit),
        "enforced": event.enforced,
        "policy": event.policy,
        "tier": event.tier,
        "at": event.at.isoformat(),
        "client_address": names.field(event.client.address),
        "client_user": names.field(event.client.user),
        "client_protocol": event.client.protocol,
    }


def _context(event: Event, names: _Names) -> str:
    """Return the limit, policy, tier and client of `event` in words."""
    client = event.client
    values = [
        ("limit", event.limit),
        ("policy", event.policy),
        ("tier", event.tier),
        ("client", None if client.address is None else names.quoted(client.address)),
        ("user", None if client.user is None else names.quoted(client.user)),
    ]
    return ", ".join(f"{name} {value}" for name, value in values if value is not None)


def _describe(event: Event, names: _Names) -> tuple[str, str, dict[str, Any]]:
    """Return the title, the text and the fields of this kind of event, without any address."""
    if isinstance(event, FirstDenial):
        decision = event.decision
        # The reply, not the rule: the text of a rule may name a mailing list.
        reply = str(decision.reply)
        return (
            "first denial",
            f"was answered {reply}",
            {
                "action": decision.action.value,
                "reply": reply,
                "retry_after": decision.retry_after,
            },
        )
    if isinstance(event, Blocked | Unblocked):
        block = event.block
        until = None if block.until is None else block.until.isoformat()
        reason_field = None if block.reason is None else names.in_text(block.reason)
        fields = {"scope": "+".join(block.scope), "until": until, "reason": reason_field}
        reason = "" if reason_field is None else f" ({show(reason_field)})"
        if isinstance(event, Unblocked):
            return "unblocked", f"may send again{reason}", fields
        return "blocked", f"may not send until {until or 'it is unblocked'}{reason}", fields
    if isinstance(event, NearLimit):
        return (
            "near a limit",
            f"has used {event.used}, {event.share:.0%} of it",
            {"used": event.used, "share": event.share},
        )
    if isinstance(event, BurstAfterDenial):
        return (
            "burst after a denial",
            f"was refused {event.attempts} more times in {event.seconds:g} seconds",
            {"attempts": event.attempts, "seconds": event.seconds},
        )
    if isinstance(event, BackToNormal):
        since = event.since.isoformat()
        return (
            "back to normal",
            f"was refused {event.denials} times since {since}",
            {"denials": event.denials, "since": since},
        )
    if isinstance(event, ExpectedRecipientsExceeded):
        # Not the reason of the override, which may name people.
        return (
            "more recipients than expected",
            f"has reached {event.recipients} recipients, {event.expected} were expected",
            {"expected": event.expected, "recipients": event.recipients},
        )
    if isinstance(event, OutboxEvent):
        return _describe_outbox_event(event, names)
    return type(event).__name__, "was seen", {}


def _describe_outbox_event(event: OutboxEvent, names: _Names) -> tuple[str, str, dict[str, Any]]:
    # A LogRecord has a `message` of its own.
    fields: dict[str, Any] = {"outbox_id": event.message, "recipients": len(event.recipients)}
    number = f"message {event.message}"
    if isinstance(event, Delayed):
        expected = None if event.expected is None else event.expected.isoformat()
        when = "nobody knows how long" if expected is None else f"expected at {expected}"
        return "delayed", f"{number} waits, {when}", {**fields, "expected": expected}
    if isinstance(event, Released):
        put = event.put.isoformat()
        return "released", f"{number} of {put} has been sent", {**fields, "put": put}
    if isinstance(event, Held):
        lists = [names.field(each) for each in event.lists]
        return "held", f"{number} waits for a moderator", {**fields, "lists": lists}
    if isinstance(event, Failed | Uncertain):
        reply = names.in_text(event.reply)
        fields["reply"] = reply
        if isinstance(event, Failed):
            count = len(event.recipients)
            return "failed", f"{number} did not reach {count} recipients ({show(reply)})", fields
        then = "and is sent again" if event.resent else "and is not sent again"
        fields["resent"] = event.resent
        return "uncertain", f"{number} may have been sent {then} ({show(reply)})", fields
    return type(event).__name__, number, fields
