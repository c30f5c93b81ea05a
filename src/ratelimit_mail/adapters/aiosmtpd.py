"""LimitedHandler: a handler of an aiosmtpd server, under the limits of a policy.

What goes to the handler inside is charged when the text of a message has come (DATA), all of it or
nothing. At RCPT, limits are only read, and a message that cannot go is refused early. One that was
refused at RCPT is refused as a whole, or a part of its recipients would get it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from typing import Any, Final, Literal
from weakref import WeakKeyDictionary

import attrs
from aiosmtpd.smtp import MISSING

from ratelimit_mail._util.logger import log_warning
from ratelimit_mail._util.steps import shielded
from ratelimit_mail._util.text import show
from ratelimit_mail.decision import Action, Decision
from ratelimit_mail.envelope import Client, Envelope
from ratelimit_mail.exceptions import BackendError
from ratelimit_mail.limiter import AsyncLimiter
from ratelimit_mail.limits import RecipientLimit
from ratelimit_mail.smtp_reply import UNAVAILABLE, Reply

__all__ = ["LimitedHandler", "client_of"]

CANNOT_HOLD: Final = Reply(
    550, "5.7.2", "Posting to this mailing list is moderated, and this server holds no messages."
)

LONGEST_LOGIN: Final = 320


def client_of(session: Any) -> Client:
    """Return the client of an aiosmtpd session: its address, its login, and `smtp`.

    The address is that of the PROXY protocol if it is used, otherwise that of the peer; None for a
    Unix socket. The login is that of AUTH: `auth_data` if it is a login and a password, as it is
    by default, or a string.
    """
    proxy = session.proxy_data
    peer = session.peer[0] if isinstance(session.peer, tuple) else None
    address = peer if proxy is None else proxy.src_addr
    try:
        return Client(address=address, user=_login_of(session), protocol="smtp")
    except ValueError:  # the address is not that of a network
        return Client(user=_login_of(session), protocol="smtp")


def _login_of(session: Any) -> str | None:
    if not session.authenticated:
        return None
    login = getattr(session.auth_data, "login", session.auth_data)
    if isinstance(login, bytes):
        login = login.decode("utf-8", "backslashreplace")
    if not isinstance(login, str) or not login:
        return None
    if not login.isprintable():
        login = login.encode("unicode_escape").decode("ascii")
    if len(login) > LONGEST_LOGIN:  # its beginning, and what tells it from others
        digest = hashlib.sha256(login.encode()).hexdigest()
        login = login[: LONGEST_LOGIN - len(digest)] + digest
    return login


class LimitedHandler:
    """A handler of an aiosmtpd server that passes to another what the limits allow.

    handler: gets what may go; all of its hooks are called as before.
    limiter: decides; the same for all connections, and for other servers that share its limits.
    direction: `"outbound"` for a submission server or a relay, `"inbound"` for a server that takes
        mail for your own mailboxes (an MX).
    client: returns the Client of a session, which chooses the tier; by default `client_of`.

    A message is charged at DATA, and settled when the handler has accepted it. If the handler
    refuses it or raises, or the client goes away before the reply, the charge is given back. A
    refusal is the decision's reply, such as `450 4.7.1 Message rate limit exceeded. ...`. During an
    outage of the backend, messages are deferred with code 451.

    An outbound message is refused as a whole. Inbound mail is refused at RCPT for those recipients
    whose limits are used up. A message that a mailing list's moderator must approve goes to
    `handle_HOLD(server, session, envelope, decision)` of the handler, and is refused without it.
    """

    def __init__(
        self,
        handler: Any,
        limiter: AsyncLimiter,
        *,
        direction: Literal["outbound", "inbound"] = "outbound",
        client: Callable[[Any], Client] = client_of,
    ) -> None:
        if not isinstance(limiter, AsyncLimiter):
            raise TypeError(f"limiter: an AsyncLimiter is needed, not {show(limiter)}")
        if direction not in ("outbound", "inbound"):
            raise ValueError(f"direction: {show(direction)} is not one of outbound, inbound")
        if not callable(client):
            raise TypeError(f"client: a callable is needed, not {show(client)}")
        self._handler = handler
        self._limiter = limiter
        self._direction = direction
        self._client = client
        self._refusals: WeakKeyDictionary[Any, Reply] = WeakKeyDictionary()
        """The replies by which outbound messages were refused at RCPT."""
        self._looked_at: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
        """How many recipients outbound messages had when they were last looked at."""
        policy = limiter.policy
        limits = [*policy.limits, *(limit for tier in policy.tiers for limit in tier.limits)]
        self._first_over = {
            limit.limit + 1 for limit in limits if isinstance(limit, RecipientLimit)
        }

    def __dir__(self) -> list[str]:
        # aiosmtpd looks for the hooks of a handler by their names.
        return sorted({*super().__dir__(), *dir(self._handler)})

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_handler":
            raise AttributeError(name)
        return getattr(self._handler, name)

    async def handle_RCPT(  # noqa: N802 - as aiosmtpd calls it
        self, server: Any, session: Any, envelope: Any, address: str, rcpt_options: list[str]
    ) -> Any:
        """Refuse a recipient if it is known already that the message cannot go to it.

        server, session, envelope, address, rcpt_options: as aiosmtpd passes them.
        """
        reply = self._refusals.get(envelope)
        if reply is None:
            reply = await self._refusal_at_rcpt(session, envelope, address)
        if reply is not None:
            return str(reply)
        return await self._call_handler("RCPT", server, session, envelope, address, rcpt_options)

    async def handle_DATA(  # noqa: N802 - as aiosmtpd calls it
        self, server: Any, session: Any, envelope: Any
    ) -> Any:
        """Charge a message, pass it to the handler, and settle or refund it.

        server, session, envelope: as aiosmtpd passes them.
        """
        reply = self._refusals.get(envelope)
        if reply is not None:
            return str(reply)
        true_envelope = self._envelope(session, envelope, envelope.rcpt_tos)
        try:
            decision = await self._admit(true_envelope)
        except BackendError as error:
            log_warning("a message is deferred: %s", error)
            return str(UNAVAILABLE)
        if decision.action is Action.HOLD:
            status = await self._call_handler("HOLD", server, session, envelope, decision)
            return str(CANNOT_HOLD) if status is MISSING else status
        if not decision:
            return str(decision.reply)
        try:
            status = await self._call_handler("DATA", server, session, envelope)
        except BaseException:  # the client has gone away, or the handler has failed
            await shielded(self._refund(decision))
            raise
        if _is_acceptance(status):
            await self._settle(decision)
        else:
            await shielded(self._refund(decision))
        return status

    async def _call_handler(self, command: str, *args: Any) -> Any:
        """Return what a hook of the handler returns; MISSING if it has none."""
        hook = getattr(self._handler, f"handle_{command}", None)
        return MISSING if hook is None else await hook(*args)

    def _envelope(self, session: Any, envelope: Any, recipients: list[str]) -> Envelope:
        return Envelope.from_smtp(
            envelope.mail_from or "<>",
            recipients,
            client=self._client(session),
            direction=self._direction,
            size=len(envelope.content or b""),
        )

    async def _refusal_at_rcpt(self, session: Any, envelope: Any, address: str) -> Reply | None:
        """Return the reply that refuses a recipient; None if it may be accepted.

        An outbound message is looked at when the number of its recipients has doubled, and when it
        is just above a recipient limit, so that all looks together take time linear in it.
        """
        if self._direction == "inbound":
            recipients = [address]
        else:
            number = len(envelope.rcpt_tos) + 1
            if number & (number - 1) and number not in self._first_over:
                return None
            # Once only, also if the handler refuses one recipient after the other.
            if number <= self._looked_at.get(envelope, 0):
                return None
            self._looked_at[envelope] = number
            recipients = [*envelope.rcpt_tos, address]
        true_envelope = self._envelope(session, envelope, recipients)
        reply: Reply | None = None
        try:
            decision = await self._limiter.check(true_envelope)
            if not decision and decision.action is not Action.HOLD:
                # Now the refused attempt is counted and reported, where that is asked for.
                decision = await self._admit(true_envelope)
                if decision:
                    await shielded(self._refund(decision))
                else:
                    reply = decision.reply
        except BackendError as error:
            log_warning("a message is deferred: %s", error)
            reply = UNAVAILABLE
        if reply is not None and self._direction == "outbound":
            self._refusals[envelope] = reply
        return reply

    async def _admit(self, envelope: Envelope) -> Decision:
        """Charge a message for all of its recipients or for none; give back if cancelled."""
        admission = asyncio.ensure_future(self._limiter.try_acquire(envelope))
        try:
            decision = await asyncio.shield(admission)
        except asyncio.CancelledError:
            await shielded(self._refund_when_decided(admission))
            raise
        if decision.recipients is None or all(decision.recipients.values()):
            return decision
        # DATA has one reply for all recipients. If the message may go to some of them, it is
        # temporary: the client comes again, and RCPT has a reply for each.
        refused = next(each for each in decision.recipients.values() if not each)
        if decision:
            await shielded(self._refund(decision))
            refused = attrs.evolve(refused, action=Action.DEFER)
        return refused

    async def _refund_when_decided(self, admission: asyncio.Future[Decision]) -> None:
        await self._refund(await admission)

    async def _refund(self, decision: Decision) -> None:
        if decision:
            try:
                await self._limiter.refund(decision)
            except BackendError as error:
                log_warning("a message that was not accepted stays charged: %s", error)

    async def _settle(self, decision: Decision) -> None:
        try:
            await self._limiter.settle(decision)
        except BackendError as error:
            log_warning("a message that was accepted stays counted at its admission: %s", error)


def _is_acceptance(status: Any) -> bool:
    """Return whether a handler's status means that it has accepted the message."""
    if isinstance(status, bytes):
        status = status.decode("ascii", "replace")
    return status is MISSING or str(status).startswith("2")
