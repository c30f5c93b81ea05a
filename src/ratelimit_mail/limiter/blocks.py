"""Blocks: subjects that may send nothing, until a time or until they are unblocked.

The blocks of a policy are a register of its backend. A limiter holds a copy of it, so that a
message needs no call of its own: in memory the copy is renewed whenever the register changes, with
a server at most a second after it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from heapq import nsmallest
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import attrs

from ratelimit_mail._util.epoch import datetime_of, milliseconds_of
from ratelimit_mail._util.logger import log_warning
from ratelimit_mail._util.rare_warnings import RareWarnings
from ratelimit_mail._util.steps import Steps
from ratelimit_mail._util.text import show
from ratelimit_mail.addresses import NULL_SENDER
from ratelimit_mail.backends.base import Register
from ratelimit_mail.backends.memory import MemoryBackend
from ratelimit_mail.decision import Action, Decision
from ratelimit_mail.envelope import Envelope
from ratelimit_mail.exceptions import BackendError
from ratelimit_mail.policy import Policy
from ratelimit_mail.scopes import is_per_recipient, normal_scope, subject_getter

if TYPE_CHECKING:
    from ratelimit_mail.rules import Block

__all__ = ["Blocks", "blocked", "register_name"]

REFRESH_SECONDS: Final = 1.0
"""How old the copy of a server's register may be."""

MOST_AUTOMATIC: Final = 1000
"""How many subjects are blocked because they exceeded a limit.

Who forges senders has as many subjects as they like, and each limiter reads all blocks of a server
every second.
"""

LONGEST_REASON: Final = 400

LONGEST_BLOCK: Final = 10**10

UNREADABLE: Final = (ValueError, TypeError, KeyError, OverflowError, RecursionError)
"""What reading an entry raises that this version of the library did not write."""


def register_name(policy: Policy) -> str:
    """Return the name of the register that holds the blocks of a policy."""
    return f"{policy.counted_as}:blocks"


class _Entry(NamedTuple):
    """An entry of the register: its text, and what it says.

    automatic: None for a block that somebody made. Otherwise the subject has exceeded a limit, by
        a message with a `"login"` or with `"none"`.
    """

    text: str
    scope: tuple[str, ...]
    key: str
    block: Block
    automatic: object = None


class Blocks:
    """The blocks of one policy, as one limiter knows them."""

    def __init__(self, policy: Policy, backend: Any, store: object) -> None:
        self._policy = policy
        self._backend = backend
        self._name = register_name(policy)
        self._by_scope: dict[tuple[str, ...], dict[str, Block]] = {}
        self._entries: dict[str, _Entry] = {}
        """What was read, by its name: a register may have thousands, of which few change."""
        self.exist = False
        """Whether there are any."""
        self._getters: dict[tuple[str, ...], Callable[[Envelope], str]] = {}
        self._ahead = 0
        """How much the clock of the backend is ahead of `backend.now()`, in milliseconds."""
        self._refresh_at = 0.0
        self._warnings = RareWarnings(monotonic)
        self.is_stale = True
        """Whether the register may have changed; for a server, `is_due` asks the clock too."""
        self._is_local = isinstance(store, MemoryBackend)
        if isinstance(store, MemoryBackend):
            store.watch_register(self._name, self)

    def concern(self, envelope: Envelope) -> bool:
        """Return whether `envelope` may be blocked, so that its blocks must be looked up."""
        return self.is_due() or (bool(self._by_scope) and self.find(envelope) is not None)

    def is_due(self) -> bool:
        """Return whether the copy must be renewed first."""
        if self._is_local:
            return self.is_stale
        return self.is_stale or monotonic() >= self._refresh_at

    def refresh_steps(self, *, is_charged: bool = True) -> Steps[None]:
        """Renew the copy if it is due; during an outage the old one stays in force.

        is_charged: whether the message that needs it is charged anything. One that is not asks no
            server, and is subject to the blocks that are known.
        """
        if not self.is_due() or not (is_charged or self._is_local):
            return
        try:
            self.is_stale = False
            self._refresh_at = monotonic() + REFRESH_SECONDS
            yield from self._read_steps()
        except BackendError as error:
            if self._by_scope:
                log_warning("the blocks could not be read; those known stay in force: %s", error)
        except BaseException:
            self.is_stale = True
            raise

    def find(self, envelope: Envelope) -> Block | None:
        """Return the block of `envelope`, if there is one."""
        if not self._by_scope or not isinstance(envelope, Envelope):
            return None
        sender = self._policy.owner(envelope.sender)
        now = datetime_of(self._now())
        for scope, blocks in self._by_scope.items():
            subjects = {self._getters[scope](envelope)}
            if sender != envelope.sender:
                subjects.add(self._getters[scope](attrs.evolve(envelope, sender=sender)))
            for subject in subjects:
                block = blocks.get(subject)
                if block is not None and (block.until is None or now < block.until):
                    return block
        return None

    def of_subject(self, scope: tuple[str, ...], key: str) -> Block | None:
        """Return the block of exactly this subject, if there is one."""
        block = self._by_scope.get(scope, {}).get(key)
        if block is None or (block.until is not None and block.until <= datetime_of(self._now())):
            return None
        return block

    def decision(self, block: Block, tier: str | None) -> Decision:
        """Return the decision on a message that `block` refuses."""
        return blocked(block, tier, self._now())

    def list_steps(self) -> Steps[tuple[Block, ...]]:
        """See `Limiter.blocks`."""
        self.is_stale = False
        register = yield from self._read_steps()
        now = datetime_of(register.now)
        blocks = (block for each in self._by_scope.values() for block in each.values())
        return tuple(block for block in blocks if block.until is None or now < block.until)

    def add_steps(
        self,
        subject: str | Sequence[str] | None,
        scope: str | Sequence[str],
        seconds: float | None,
        reason: str | None,
    ) -> Steps[Block]:
        """See `Limiter.block`."""
        ordered, key = self._key(subject, scope)
        if seconds is not None:
            self.check_seconds(seconds)
        if reason is not None and not isinstance(reason, str):
            raise TypeError(f"reason: a text is needed, not {show(reason)}")
        if reason is not None and not (reason.isprintable() and len(reason) <= LONGEST_REASON):
            raise ValueError(
                f"reason: {show(reason)} is not a line of at most {LONGEST_REASON} characters"
            )
        register = yield from self._read_steps()
        until = None if seconds is None else register.now + round(seconds * 1000)
        shown = _in_order(ordered, scope, subject)
        entry = {"since": register.now, "until": until, "reason": reason, "subject": shown}
        changes: dict[str, str | None] = dict.fromkeys(self._expired(register.now))
        changes[_entry_key(ordered, key)] = _text_of(entry)
        yield from self._write_steps(register, changes)
        return self._by_scope[ordered][key]

    def add_automatic_steps(
        self,
        subject: str | Sequence[str] | None,
        scope: str | Sequence[str],
        reason: str,
        *,
        has_login: bool,
    ) -> Steps[Block | None]:
        """Block a subject that has exceeded a limit; return None if it is blocked already.

        Of more than MOST_AUTOMATIC such blocks the oldest is lifted: one whose message had no
        login first, because a login cannot be forged. What somebody has blocked stays.
        """
        ordered, key = self._key(subject, scope)
        register = yield from self._read_steps()
        expired = self._expired(register.now)
        name = _entry_key(ordered, key)
        if name in self._entries and name not in expired:
            return None
        changes: dict[str, str | None] = dict.fromkeys(expired)
        automatic = [
            (each.automatic == "login", each.block.since, other)
            for other, each in self._entries.items()
            if each.automatic is not None
        ]
        if (surplus := len(automatic) + 1 - MOST_AUTOMATIC) > 0:
            changes.update(dict.fromkeys(other for _, _, other in nsmallest(surplus, automatic)))
            self._warnings.warn(
                "surplus",
                "more than %d subjects exceeded a limit that blocks them, and the oldest of these"
                " blocks are lifted: senders may be forged; block their client or login",
                MOST_AUTOMATIC,
            )
        entry = {
            "since": register.now,
            "until": None,
            "reason": reason,
            "subject": _in_order(ordered, scope, subject),
            "automatic": "login" if has_login else "none",
        }
        changes[name] = _text_of(entry)
        yield from self._write_steps(register, changes)
        return self._by_scope[ordered][key]

    def _read_steps(self) -> Steps[Register]:
        """Read the register, and take it over."""
        register: Register = yield partial(self._backend.read_register, self._name)
        self._take(register)
        return register

    def _write_steps(self, register: Register, changes: Mapping[str, str | None]) -> Steps[None]:
        """Change the register that was read, and take over the result."""
        yield partial(self._backend.write_register, self._name, changes)
        entries = {**register.entries, **changes}
        texts = {name: text for name, text in entries.items() if text is not None}
        self._take(Register(register.now, texts))

    def longer_block_steps(
        self, subject: str | Sequence[str] | None, scope: str | Sequence[str], seconds: float
    ) -> Steps[Block | None]:
        """Return the block of a subject if it lasts for `seconds` from now or longer."""
        ordered, key = self._key(subject, scope)
        register = yield from self._read_steps()
        block = self._by_scope.get(ordered, {}).get(key)
        end = datetime_of(register.now + round(seconds * 1000))
        return None if block is None or (block.until is not None and block.until < end) else block

    def remove_steps(
        self, subject: str | Sequence[str] | None, scope: str | Sequence[str]
    ) -> Steps[Block | None]:
        """See `Limiter.unblock`; return the block that was lifted."""
        ordered, key = self._key(subject, scope)
        register = yield from self._read_steps()
        block = self._by_scope.get(ordered, {}).get(key)
        changes = dict.fromkeys([_entry_key(ordered, key), *self._expired(register.now)])
        yield from self._write_steps(register, changes)
        if block is not None and block.until is not None:
            return block if datetime_of(register.now) < block.until else None
        return block

    @staticmethod
    def check_seconds(seconds: object) -> None:
        """Raise TypeError or ValueError if `seconds` is not how long a block may last."""
        if isinstance(seconds, bool) or not isinstance(seconds, int | float):
            raise TypeError(f"seconds: a number is needed, not {show(seconds)}")
        if not 0.001 <= seconds <= LONGEST_BLOCK:
            raise ValueError(
                f"seconds: {show(seconds)} is not a number of seconds from 0.001 to"
                f" {LONGEST_BLOCK}; leave it out to block for ever"
            )

    def _key(
        self, subject: str | Sequence[str] | None, scope: str | Sequence[str]
    ) -> tuple[tuple[str, ...], str]:
        ordered = normal_scope(scope)
        if is_per_recipient(ordered):
            raise ValueError(
                f"scope: {show(scope)}: a block stops those who send; recipients cannot be blocked"
            )
        key, _ = self._policy.subject(scope, subject)
        return ordered, key

    def _take(self, register: Register) -> None:
        """Replace the copy."""
        self._ahead = register.now - self._backend.now()
        by_scope: dict[tuple[str, ...], dict[str, Block]] = {}
        known, entries = self._entries, dict[str, _Entry]()
        for name, text in register.entries.items():
            entry = known.get(name)
            if entry is None or entry.text != text:
                try:
                    entry = _Entry(text, *_parsed(name, text))
                except UNREADABLE:
                    log_warning("a block in the backend is not readable: %s", show(name))
                    continue
            entries[name] = entry
            scope = entry.scope
            by_scope.setdefault(scope, {})[entry.key] = entry.block
            if scope not in self._getters:
                self._getters[scope] = subject_getter(scope, self._policy.comparison)
        self._entries = entries
        self._by_scope = by_scope
        self.exist = bool(by_scope)

    def _expired(self, now: int) -> list[str]:
        """Return the names of the entries that are over."""
        moment = datetime_of(now)
        return [
            name
            for name, entry in self._entries.items()
            if entry.block.until is not None and entry.block.until <= moment
        ]

    def _now(self) -> int:
        now: int = self._backend.now() + self._ahead
        return now


def blocked(block: Block, tier: str | None, now: int) -> Decision:
    """Return the decision on a message that `block` refuses at the moment `now`."""
    if block.until is None:
        return Decision(Action.REJECT, None, None, tier, block=block)
    wait = max(0, milliseconds_of(block.until) - now) / 1000
    return Decision(Action.DEFER, wait, None, tier, block=block)


def _in_order(
    ordered: tuple[str, ...], scope: str | Sequence[str], subject: str | Sequence[str] | None
) -> str | tuple[str, ...] | None:
    """Return the values of a subject in the order of its normal scope, as the caller wrote them."""
    if subject is None:
        return None
    words = (scope,) if isinstance(scope, str) else tuple(scope)
    values = dict(
        zip(words, (subject,) if isinstance(subject, str) else tuple(subject), strict=True)
    )
    if values.get("sender") == "":
        values["sender"] = NULL_SENDER
    return values[ordered[0]] if len(ordered) == 1 else tuple(values[word] for word in ordered)


def _entry_key(scope: tuple[str, ...], key: str) -> str:
    return f"{'+'.join(scope)} {key}"


def _text_of(entry: Mapping[str, object]) -> str:
    import json  # slow to import, and few policies have blocks

    return json.dumps(entry)


def _parsed(name: str, text: str) -> tuple[tuple[str, ...], str, Block, object]:
    words, _, key = name.partition(" ")
    scope = normal_scope(words.split("+"))
    if is_per_recipient(scope):
        raise ValueError(f"recipients cannot be blocked: {show(name)}")
    import json

    from ratelimit_mail.rules import Block

    entry: Mapping[str, Any] = json.loads(text)
    subject = entry["subject"]
    until = entry["until"]
    block = Block(
        scope=scope,
        subject=tuple(subject) if isinstance(subject, list) else subject,
        since=datetime_of(entry["since"]),
        until=None if until is None else datetime_of(until),
        reason=entry["reason"],
    )
    return scope, key, block, entry.get("automatic")
