"""The control socket of a running server: an operator works on the counts that the server holds.

It is a Unix socket with the permissions 0600. Each request is a JSON object in one line, and is
answered by a JSON object in one line; a connection may carry many, one after the other. A line has
at most 65,536 bytes.

Request: `{"op": NAME, ...}`, with these keys:

| op | keys | result |
|---|---|---|
| `status` | | `{"policy", "shadow", "uptime", "connections", "transactions", "requests", "held"}` |
| `usage` | `subject`, `scope`, `client` | a list of usages |
| `top` | `scope`, `n`, `client` | a list of `{"scope", "subject", "share", "usages"}`, most first |
| `reset` | `subject`, `scope`, `by`, `reason` | `null` |
| `block` | `subject`, `scope`, `seconds`, `reason`, `by` | a block |
| `unblock` | `subject`, `scope`, `reason`, `by` | whether there was a block |
| `blocks` | | a list of blocks |
| `operations` | | a list of what operators changed, the latest last |
| `tier` | `client` | the tier of a client |
| `release` | `most` | the queue ids of held messages that may go now; each is counted as sent now |
| `released` | `queue_ids`, `missing` | `null`; the first were released, and are forgotten |
| `held` | | a list of `{"queue_id", "sender", "recipients", "at"}`, `at` in milliseconds |

subject: a string, a list of strings for a scope of several words, or `null` for `"global"`.
scope: a word, or a list of words; left out, `"sender"`.
client: `{"address", "user", "protocol", "tags"}`, each of which may be left out.
seconds: how long a block lasts; left out or `null`, until it is lifted.
missing: what was to be released and is not in the hold queue; it is looked for again.
by: who asks, for the log. The server logs the peer's user id as well.

A usage is `{"limit", "name", "unit", "enforce", "used", "share", "remaining", "resets_in",
"block"}`: `limit` is the limit in words, `name` its name or `null`, `share` is `used` as a fraction
of the limit, `resets_in` is in seconds, `block` is a block or `null`. A block is
`{"scope", "subject", "since", "until", "reason"}`: `scope` is a list of words, the times are ISO
8601, `until` and `reason` may be `null`. A tier is `{"tier", "has_tiers", "scopes"}`: its name or
`null`, whether the policy has tiers, and the scopes that its limits are counted per, as lists.

What an operator changed is `{"at", "operation", "scope", "subject", "by", "reason"}`: `at` is in
milliseconds, `operation` is `block`, `unblock` or `reset`.

Answer: `{"ok": true, "result": ...}`, or `{"ok": false, "error": TEXT, "kind": KIND}`. KIND is
`request` (the request is wrong: fix it), `store` (the store is away or unusable: try again later)
or `server` (an error in the server, which is in its log).
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import socket
import stat
import struct
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Protocol

from ratelimit_mail._util.logger import log_info, log_warning
from ratelimit_mail._util.text import escape, show
from ratelimit_mail.backends import Backend
from ratelimit_mail.envelope import Client
from ratelimit_mail.exceptions import BackendError
from ratelimit_mail.limiter import AsyncLimiter
from ratelimit_mail.limits import RateLimit
from ratelimit_mail.policy import Policy
from ratelimit_mail.rules import Block
from ratelimit_mail.usage import SubjectUsage, Usage

__all__ = [
    "LONGEST_LINE",
    "ControlError",
    "ControlServer",
    "Operation",
    "block_as_json",
    "note_operation",
    "noted_operations",
    "request",
    "subject_usage_as_json",
    "tier_as_json",
    "usage_as_json",
]

LONGEST_LINE: Final = 65_536

MOST_CONNECTIONS: Final = 32
"""How many operators may be connected at once."""

IDLE_SECONDS: Final = 300.0

LONGEST_BY: Final = 200

MOST_OPERATIONS: Final = 1000
"""How many operations a store remembers; older ones are dropped."""

Operation = Callable[[Mapping[str, Any]], Awaitable[Any]]
"""Answers the keys of a request with what becomes the result."""


class ControlError(Exception):
    """A server refused a request; `kind` is `request`, `store` or `server`."""

    def __init__(self, text: str, kind: str) -> None:
        super().__init__(text)
        self.kind = kind


def block_as_json(block: Block) -> dict[str, Any]:
    """Return a block for JSON. The keys are stable."""
    return {
        "scope": list(block.scope),
        "subject": _subject_as_json(block.subject),
        "since": block.since.isoformat(),
        "until": None if block.until is None else block.until.isoformat(),
        "reason": block.reason,
    }


def usage_as_json(usage: Usage) -> dict[str, Any]:
    """Return a usage for JSON. The keys are stable."""
    return {
        "limit": str(usage.limit),
        "name": usage.limit.name,
        "unit": usage.limit.unit,
        "enforce": usage.limit.enforce,
        "used": usage.used,
        "share": usage.used / usage.limit.limit,
        "remaining": usage.remaining,
        "resets_in": usage.resets_in,
        "block": None if usage.block is None else block_as_json(usage.block),
    }


def subject_usage_as_json(each: SubjectUsage) -> dict[str, Any]:
    """Return what one subject has used for JSON. The keys are stable."""
    return {
        "scope": list(each.scope),
        "subject": _subject_as_json(each.subject),
        "share": each.share,
        "usages": [usage_as_json(usage) for usage in each.usages],
    }


def tier_as_json(policy: Policy, client: Client | None) -> dict[str, Any]:
    """Return the tier of a client for JSON, and what the tier's limits are counted per.

    client: None is a client of which nothing is known.
    """
    effective = policy.effective_limits(client or Client())
    reporting = () if effective.shadow is None else effective.shadow.limits
    limits = (*effective.limits, *reporting)
    scopes = dict.fromkeys(each.scope for each in limits if isinstance(each, RateLimit))
    return {
        "tier": effective.tier,
        "has_tiers": bool(policy.tiers),
        "scopes": [list(each) for each in scopes],
    }


def _subject_as_json(subject: str | Sequence[str] | None) -> str | list[str] | None:
    return subject if isinstance(subject, str | None) else list(subject)


def note_operation(
    store: Backend,
    policy: Policy,
    operation: str,
    subject: Any,
    scope: Sequence[str],
    by: str,
    reason: str | None,
) -> None:
    """Remember in the store what an operator changed."""
    name = f"{policy.counted_as}:operations"
    register = store.read_register(name)
    entry = {
        "at": register.now,
        "operation": operation,
        "scope": list(scope),
        "subject": subject,
        "by": by,
        "reason": reason,
    }
    oldest = sorted(register.entries)[: max(0, len(register.entries) + 1 - MOST_OPERATIONS)]
    changes: dict[str, str | None] = dict.fromkeys(oldest)
    changes[f"{register.now:015d} {secrets.token_hex(4)}"] = json.dumps(entry)
    store.write_register(name, changes)


def noted_operations(store: Backend, policy: Policy) -> list[dict[str, Any]]:
    """Return what operators changed lately, the latest last."""
    register = store.read_register(f"{policy.counted_as}:operations")
    return [json.loads(register.entries[key]) for key in sorted(register.entries)]


def request(path: str | Path, op: str, *, timeout: float = 30.0, **keys: Any) -> Any:
    """Ask a running server from a program that is not async; return the result.

    timeout: seconds for the connection and the answer.

    Raises ControlError if the server refuses, and OSError if it cannot be reached.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout)
        connection.connect(os.fspath(path))
        connection.sendall(json.dumps({"op": op, **keys}).encode() + b"\n")
        with connection.makefile("rb") as file:
            line = file.readline()
    try:
        answer = json.loads(line)
        if answer["ok"] is True:
            return answer["result"]
        raise ControlError(str(answer["error"]), str(answer["kind"]))
    except (ValueError, TypeError, KeyError):
        raise ConnectionError(f"{path}: the server's answer is not readable") from None


class Controlled(Protocol):
    """What a control socket works on: a server whose limiter changes with its policy."""

    @property
    def limiter(self) -> AsyncLimiter:
        """The limiter in use."""

    @property
    def store(self) -> Backend | None:
        """Where the limiter counts, for calls from a thread; None remembers no changes."""


class ControlServer:
    """Answers requests on a Unix socket.

    server: has the limiter, which may change when the policy is read again.
    operations: further operations by their names.
    """

    def __init__(
        self, server: Controlled, operations: Mapping[str, Operation] | None = None
    ) -> None:
        self._server = server
        self._listener: asyncio.Server | None = None
        self._path: Path | None = None
        self._identity: tuple[int, int] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._operations: dict[str, Operation] = {
            "usage": self._usage,
            "top": self._top,
            "reset": self._reset,
            "block": self._block,
            "unblock": self._unblock,
            "blocks": self._blocks,
            "tier": self._tier,
            "operations": self._list_operations,
            **(operations or {}),
        }

    async def open(self, path: str | Path) -> None:
        """Listen on `path`; a socket that no server answers any more is replaced.

        Raises OSError if a server listens there, or the path cannot be used.
        """
        self._path = Path(path)
        remove_stale_socket(self._path)
        # Created with the right permissions, not changed to them a moment later.
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        mask = os.umask(0o177)
        try:
            listening.bind(os.fspath(self._path))
        except BaseException:
            listening.close()
            raise
        finally:
            os.umask(mask)
        status = self._path.lstat()
        self._identity = status.st_dev, status.st_ino
        self._listener = await asyncio.start_unix_server(
            self._serve, sock=listening, limit=LONGEST_LINE
        )

    async def close(self) -> None:
        """Stop listening, end the connections and remove the socket."""
        if self._listener is not None:
            self._listener.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._path is not None and self._identity is not None:
            with suppress(OSError):
                status = self._path.lstat()
                if (status.st_dev, status.st_ino) == self._identity:
                    self._path.unlink()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a connection is served in a task
        if len(self._tasks) >= MOST_CONNECTIONS:
            writer.close()
            return
        self._tasks.add(task)
        try:
            peer = _peer_of(writer)
            while True:
                async with asyncio.timeout(IDLE_SECONDS):
                    line = await reader.readline()
                if not line.endswith(b"\n"):
                    return
                answer = await self._answer(line, peer)
                writer.write(json.dumps(answer).encode() + b"\n")
                async with asyncio.timeout(IDLE_SECONDS):
                    await writer.drain()
        except (OSError, ValueError, TimeoutError):  # a line that is too long is a ValueError
            return
        except asyncio.CancelledError:  # by `close`; asyncio 3.11 would log it with a traceback
            return
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _answer(self, line: bytes, peer: str) -> dict[str, Any]:
        try:
            keys = json.loads(line)
            if not isinstance(keys, dict) or not isinstance(keys.get("op"), str):
                raise ValueError('a request is an object such as {"op": "usage"}')
            operation = self._operations.get(keys["op"])
            if operation is None:
                raise ValueError(
                    f"op: {show(keys['op'])} is not one of {', '.join(self._operations)}"
                )
            return {"ok": True, "result": await operation({**keys, "peer": peer})}
        except (ValueError, TypeError, RecursionError) as error:
            return {"ok": False, "error": escape(str(error)[:1000]), "kind": "request"}
        except BackendError as error:
            return {"ok": False, "error": escape(str(error)[:1000]), "kind": "store"}
        except Exception as error:
            log_warning("a request to the control socket failed: %r", error)
            return {"ok": False, "error": f"the server failed: {show(error)}", "kind": "server"}

    async def _usage(self, keys: Mapping[str, Any]) -> Any:
        usages = await self._server.limiter.usage(
            keys.get("subject"), scope=_scope(keys), client=_client(keys)
        )
        return [usage_as_json(each) for each in usages]

    async def _top(self, keys: Mapping[str, Any]) -> Any:
        n = keys.get("n", 10)
        subjects = await self._server.limiter.top(_scope(keys), n, client=_client(keys))
        return [subject_usage_as_json(each) for each in subjects]

    async def _reset(self, keys: Mapping[str, Any]) -> Any:
        subject, scope, by = keys.get("subject"), _scope(keys), _by(keys)
        reason = _reason(keys)
        await self._server.limiter.reset(subject, scope=scope)
        await self._note("reset", keys, by, reason)
        log_info("%s reset the counts of %s %s%s", by, _words(scope), show(subject), _why(reason))

    async def _block(self, keys: Mapping[str, Any]) -> Any:
        subject, scope, by = keys.get("subject"), _scope(keys), _by(keys)
        block = await self._server.limiter.block(
            subject, keys.get("seconds"), keys.get("reason"), scope=scope
        )
        # The command writes the name into the reason, for those who only see the block.
        reason = (block.reason or "").removesuffix(f" (by {keys.get('by')})")
        await self._note("block", keys, by, reason)
        until = "for ever" if block.until is None else f"until {block.until.isoformat()}"
        why = _why(reason)
        log_info("%s blocked %s %s %s%s", by, _words(scope), show(subject), until, why)
        return block_as_json(block)

    async def _unblock(self, keys: Mapping[str, Any]) -> Any:
        subject, scope, by = keys.get("subject"), _scope(keys), _by(keys)
        reason = _reason(keys)
        was_blocked = await self._server.limiter.unblock(subject, scope=scope)
        if was_blocked:
            await self._note("unblock", keys, by, reason)
            log_info("%s unblocked %s %s%s", by, _words(scope), show(subject), _why(reason))
        return was_blocked

    async def _blocks(self, keys: Mapping[str, Any]) -> Any:  # noqa: ARG002 - as every operation
        return [block_as_json(each) for each in await self._server.limiter.blocks()]

    async def _note(self, operation: str, keys: Mapping[str, Any], by: str, why: Any) -> None:
        """Remember a change in the store. It is in the log too, so a failure only warns."""
        scope = _scope(keys)
        words = [scope] if isinstance(scope, str) else list(scope)
        policy, store = self._server.limiter.policy, self._server.store
        if store is None:
            return
        subject = keys.get("subject")
        try:
            await asyncio.to_thread(
                note_operation, store, policy, operation, subject, words, by, why
            )
        except BackendError as error:
            log_warning("the store does not remember what was changed: %s", show(str(error)))

    async def _list_operations(self, keys: Mapping[str, Any]) -> Any:  # noqa: ARG002
        policy, store = self._server.limiter.policy, self._server.store
        return [] if store is None else await asyncio.to_thread(noted_operations, store, policy)

    async def _tier(self, keys: Mapping[str, Any]) -> Any:
        return tier_as_json(self._server.limiter.policy, _client(keys))


def _scope(keys: Mapping[str, Any]) -> Any:
    scope = keys.get("scope")
    return "sender" if scope is None else scope


def _words(scope: Any) -> str:
    return scope if isinstance(scope, str) else " and ".join(scope)


def _client(keys: Mapping[str, Any]) -> Client | None:
    fields = keys.get("client")
    if fields is None:
        return None
    if not isinstance(fields, dict) or not set(fields) <= {"address", "user", "protocol", "tags"}:
        raise ValueError(
            f"client: {show(fields)} is not an object of address, user, protocol, tags"
        )
    return Client(**fields)


def _by(keys: Mapping[str, Any]) -> str:
    """Return who asks, for the log: the name that the request has, and the peer's user id."""
    name = keys.get("by")
    if name is None:
        return str(keys["peer"])
    if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= LONGEST_BY:
        raise ValueError(f"by: {show(name)} is not 1 to {LONGEST_BY} printable characters")
    return f"{name} ({keys['peer']})"


def _reason(keys: Mapping[str, Any]) -> str | None:
    reason = keys.get("reason")
    if reason is not None and not (
        isinstance(reason, str) and reason.isprintable() and len(reason) <= 2 * LONGEST_BY
    ):
        raise ValueError(f"reason: {show(reason)} is not a line of at most {2 * LONGEST_BY}")
    return reason


def _why(reason: str | None) -> str:
    return "" if not reason else f": {reason}"


def _peer_of(writer: asyncio.StreamWriter) -> str:
    """Return the user id of the process at the other end, where the system knows it."""
    connection = writer.get_extra_info("socket")
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None or connection is None:
        return "an operator"
    credentials = connection.getsockopt(socket.SOL_SOCKET, option, struct.calcsize("3i"))
    return f"uid {struct.unpack('3i', credentials)[1]}"


def remove_stale_socket(path: Path) -> None:
    """Remove a socket that a server left behind. Raises OSError if a server answers there."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            return
    except OSError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
    raise OSError(f"{path}: a server listens there already")
