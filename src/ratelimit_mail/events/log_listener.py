"""A listener that writes events to `logging`, one line each, with addresses hashed on demand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

from ratelimit_mail._util.text import escape, show
from ratelimit_mail.events.kinds import (
    BackToNormal,
    BurstAfterDenial,
    Event,
    FirstDenial,
    NearLimit,
)
from ratelimit_mail.events.listeners import Listener

if TYPE_CHECKING:
    import logging

__all__ = ["log_events"]

SHORTEST_KEY: Final = 16

LONGEST_NAME: Final = 320
"""Characters, as an address may have."""


class _Log(Protocol):
    """A Logger, or a LoggerAdapter."""

    def log(self, level: int, msg: str, *args: object, extra: dict[str, Any]) -> None:
        """Write one line."""
        ...


def log_events(
    logger: logging.Logger | logging.LoggerAdapter[Any] | str | None = None,
    *,
    key: bytes | None = None,
    level: int | None = None,
) -> Listener:
    """A listener that writes one line for each event, and its parts as `extra=` fields.

    logger: a logger or its name; left out: `ratelimit_mail.events`.
    key: at least 16 secret bytes. With it, every address, login and subject is replaced by 16
        hexadecimal digits: the same for the same address and key, so that the lines of one sender
        can be told from others', and without the key nobody can find out whose they are.
        Without it they are written with what is not printable escaped.
    level: that of every line; left out: INFO for a sender back to normal, WARNING for all else.

    The fields: `event` (the kind), `sender`, `subject`, `limit`, `policy`, `tier`, `at`,
    `client_address`, `client_user`, `client_protocol`, and those of the kind: `action`, `reply`
    and `retry_after`; `used` and `share`; `attempts` and `seconds`; `denials` and `since`.
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
            at_level = logging.INFO if isinstance(event, BackToNormal) else logging.WARNING
        what, how, own = _told(event)
        whom = names.word(event.sender)
        if event.subject != event.sender:
            whom += f" (counted for {names.word(event.subject)})"
        fields = {**_fields(event, names), **own}
        log.log(at_level, "%s: %s %s; %s", what, whom, how, _where(event, names), extra=fields)

    return listen


class _Names:
    """How addresses and logins are written."""

    def __init__(self, key: object) -> None:
        # The value itself must not show.
        if key is not None and not isinstance(key, bytes):
            raise TypeError(f"key: secret bytes are needed, not a {type(key).__name__}")
        if key is not None and len(key) < SHORTEST_KEY:
            raise ValueError(
                f"key: {len(key)} bytes can be guessed; {SHORTEST_KEY} or more are needed"
            )
        self._key = key

    def field(self, name: str | None) -> str | None:
        """As a field has it."""
        if name is None:
            return None
        if self._key is None:
            return _escaped(name)
        import hmac  # with hashlib, slow to import, and only this needs it

        text = name.encode(errors="surrogatepass")
        return hmac.digest(self._key, text, "sha256").hex()[:16]

    def word(self, name: str) -> str:
        """As it stands in the line, in quotes: what it says is told from what the line says."""
        return show(name if self._key is None else self.field(name))


def _escaped(text: str) -> str:
    line = escape(text[: LONGEST_NAME + 1])
    return line if len(line) <= LONGEST_NAME else f"{line[:LONGEST_NAME]}..."


def _fields(event: Event, names: _Names) -> dict[str, Any]:
    """What every line says, as fields."""
    return {
        "event": type(event).__name__,
        "sender": names.field(event.sender),
        "subject": names.field(event.subject),
        "limit": None if event.limit is None else str(event.limit),
        "policy": event.policy,
        "tier": event.tier,
        "at": event.at.isoformat(),
        "client_address": names.field(event.client.address),
        "client_user": names.field(event.client.user),
        "client_protocol": event.client.protocol,
    }


def _where(event: Event, names: _Names) -> str:
    client = event.client
    parts = [
        ("limit", event.limit),
        ("policy", event.policy),
        ("tier", event.tier),
        ("client", None if client.address is None else names.word(client.address)),
        ("user", None if client.user is None else names.word(client.user)),
    ]
    return ", ".join(f"{name} {value}" for name, value in parts if value is not None)


def _told(event: Event) -> tuple[str, str, dict[str, Any]]:
    """What this kind says of itself, in words and as fields; no address is in it."""
    if isinstance(event, FirstDenial):
        decision = event.decision
        reply = str(decision.reply)  # the words of a rule may name a mailing list; this does not
        return (
            "first denial",
            f"was answered {reply}",
            {
                "action": decision.action.value,
                "reply": reply,
                "retry_after": decision.retry_after,
            },
        )
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
    return type(event).__name__, "was seen", {}
