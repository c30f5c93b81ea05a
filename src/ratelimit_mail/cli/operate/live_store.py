"""The live counts that an operator works on: a store with a policy, or a running server.

Both answer in the form of the control socket, which `ratelimit_mail.server.control` documents.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from ratelimit_mail.backends import Backend
from ratelimit_mail.cli.errors import CommandError
from ratelimit_mail.envelope import Client
from ratelimit_mail.events import Dispatcher
from ratelimit_mail.exceptions import BackendError
from ratelimit_mail.limiter import Limiter
from ratelimit_mail.policy import Policy
from ratelimit_mail.server.control import (
    ControlError,
    block_as_json,
    note_operation,
    noted_operations,
    request,
    subject_usage_as_json,
    tier_as_json,
    usage_as_json,
)

__all__ = ["ControlSocket", "LiveStore", "PolicyStore", "Subject"]

Row = dict[str, Any]


class Subject(NamedTuple):
    """What an operator names: the values of a subject, and what they are values of.

    value: a string, several for a scope of several words, None for `("global",)`.
    """

    value: str | tuple[str, ...] | None
    scope: tuple[str, ...]


class LiveStore(Protocol):
    """Counts and blocks in use, asked and changed by an operator."""

    def usage(self, subject: Subject, client: Client | None) -> list[Row]:
        """Return how much of each limit a subject has used."""
        ...

    def top(self, scope: Sequence[str], n: int, client: Client | None) -> list[Row]:
        """Return the subjects that used most of their limits."""
        ...

    def blocks(self) -> list[Row]:
        """Return the blocks in force."""
        ...

    def reset(self, subject: Subject, by: str, reason: str) -> None:
        """Forget what was counted for a subject."""
        ...

    def block(self, subject: Subject, seconds: float | None, by: str, reason: str) -> Row:
        """Block a subject."""
        ...

    def unblock(self, subject: Subject, by: str, reason: str) -> bool:
        """Lift a block; return whether there was one."""
        ...

    def tier(self, client: Client | None) -> Row:
        """Return the tier of a client, and what its limits are counted per."""
        ...

    def operations(self) -> list[Row]:
        """Return what operators changed lately, the latest last."""
        ...

    def status(self) -> dict[str, Any]:
        """Return the state of the store or the server, by name."""
        ...


class PolicyStore:
    """The counts of a policy in a store. What operators change is noted in the store too.

    on_event: what reports a block and its end; None for none.
    """

    def __init__(
        self,
        policy: Policy,
        backend: Backend,
        node: str | None = None,
        *,
        on_event: Dispatcher | None = None,
    ) -> None:
        self._limiter = Limiter(policy, backend, node=node, on_event=on_event)
        self._backend = backend

    def usage(self, subject: Subject, client: Client | None) -> list[Row]:
        """See `LiveStore.usage`."""
        usages = self._limiter.usage(subject.value, scope=subject.scope, client=client)
        return [usage_as_json(each) for each in usages]

    def top(self, scope: Sequence[str], n: int, client: Client | None) -> list[Row]:
        """See `LiveStore.top`."""
        return [subject_usage_as_json(each) for each in self._limiter.top(scope, n, client=client)]

    def blocks(self) -> list[Row]:
        """See `LiveStore.blocks`."""
        return [block_as_json(each) for each in self._limiter.blocks()]

    def reset(self, subject: Subject, by: str, reason: str) -> None:
        """See `LiveStore.reset`."""
        self._limiter.reset(subject.value, scope=subject.scope)
        self._note("reset", subject, by, reason)

    def block(self, subject: Subject, seconds: float | None, by: str, reason: str) -> Row:
        """See `LiveStore.block`."""
        text = _with_name(reason, by)
        block = self._limiter.block(subject.value, seconds, text, scope=subject.scope)
        self._note("block", subject, by, reason)
        return block_as_json(block)

    def unblock(self, subject: Subject, by: str, reason: str) -> bool:
        """See `LiveStore.unblock`."""
        was_blocked = self._limiter.unblock(subject.value, scope=subject.scope)
        if was_blocked:
            self._note("unblock", subject, by, reason)
        return was_blocked

    def tier(self, client: Client | None) -> Row:
        """See `LiveStore.tier`."""
        return tier_as_json(self._limiter.policy, client)

    def operations(self) -> list[Row]:
        """See `LiveStore.operations`."""
        return noted_operations(self._backend, self._limiter.policy)

    def status(self) -> dict[str, Any]:
        """See `LiveStore.status`."""
        return {"policy": self._limiter.policy.name}

    def _note(self, operation: str, subject: Subject, by: str, reason: str) -> None:
        policy = self._limiter.policy
        note_operation(self._backend, policy, operation, subject.value, subject.scope, by, reason)


class ControlSocket:
    """The counts of a running server, which is asked by its control socket."""

    def __init__(self, path: str) -> None:
        self._path = path

    def _ask(self, operation: str, **keys: Any) -> Any:
        try:
            return request(self._path, operation, **keys)
        except ControlError as error:
            if error.kind == "store":
                raise BackendError(str(error)) from None
            raise CommandError(str(error)) from None

    def usage(self, subject: Subject, client: Client | None) -> list[Row]:
        """See `LiveStore.usage`."""
        return self._rows("usage", **_keys(subject), client=_client_keys(client))

    def top(self, scope: Sequence[str], n: int, client: Client | None) -> list[Row]:
        """See `LiveStore.top`."""
        return self._rows("top", scope=list(scope), n=n, client=_client_keys(client))

    def blocks(self) -> list[Row]:
        """See `LiveStore.blocks`."""
        return self._rows("blocks")

    def reset(self, subject: Subject, by: str, reason: str) -> None:
        """See `LiveStore.reset`."""
        self._ask("reset", **_keys(subject), by=by, reason=reason)

    def block(self, subject: Subject, seconds: float | None, by: str, reason: str) -> Row:
        """See `LiveStore.block`."""
        reason = _with_name(reason, by)
        row: Row = self._ask("block", **_keys(subject), seconds=seconds, by=by, reason=reason)
        return row

    def unblock(self, subject: Subject, by: str, reason: str) -> bool:
        """See `LiveStore.unblock`."""
        return bool(self._ask("unblock", **_keys(subject), by=by, reason=reason))

    def tier(self, client: Client | None) -> Row:
        """See `LiveStore.tier`."""
        try:
            row: Row = self._ask("tier", client=_client_keys(client))
        except CommandError as error:
            if not str(error).startswith("op: "):
                raise
            # The server was started before this operation was added.
            return {"tier": None, "has_tiers": False, "scopes": []}
        return row

    def operations(self) -> list[Row]:
        """See `LiveStore.operations`."""
        return self._rows("operations")

    def status(self) -> dict[str, Any]:
        """See `LiveStore.status`."""
        status = self._ask("status")
        return status if isinstance(status, dict) else {}

    def _rows(self, operation: str, **keys: Any) -> list[Row]:
        rows: list[Row] = self._ask(operation, **keys)
        return rows


def _with_name(reason: str, by: str) -> str:
    """Return the reason of a block with the name of its operator, as a store remembers it."""
    return f"{reason} (by {by})"


def _keys(subject: Subject) -> dict[str, Any]:
    value = subject.value
    return {
        "subject": list(value) if isinstance(value, tuple) else value,
        "scope": list(subject.scope),
    }


def _client_keys(client: Client | None) -> dict[str, Any] | None:
    if client is None:
        return None
    keys = {
        "address": client.address,
        "user": client.user,
        "protocol": client.protocol,
        "tags": sorted(client.tags),
    }
    return {name: value for name, value in keys.items() if value}
