"""The context managers of `sending`: admit a message, let the caller send it, then settle it.

A provider counts a message when it gets it, which is some time between its admission and the end of
its sending. So the message counts at its admission while it is being sent, and is moved to the end
of the sending afterwards. Where each sending takes less than a window, no window of the provider
then holds more than the limit, wherever it begins.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING

from ratelimit_mail._util.logger import log_warning
from ratelimit_mail._util.steps import Steps, run, run_async
from ratelimit_mail._util.text import show
from ratelimit_mail.decision import Decision
from ratelimit_mail.exceptions import BackendError

if TYPE_CHECKING:
    from ratelimit_mail.envelope import Envelope
    from ratelimit_mail.limiter.operations import Operations

__all__ = ["AsyncSending", "Sending", "finish_steps", "recipient_set"]


def recipient_set(refused: Iterable[str]) -> frozenset[str]:
    """Return the recipients that a caller says were refused, as envelopes write addresses.

    Raises TypeError for other values.
    """
    if isinstance(refused, str | bytes) or not isinstance(refused, Iterable):
        raise TypeError(f"refused: a list or dict of addresses is needed, not {show(refused)}")
    addresses = list(refused)
    for each in addresses:
        if not isinstance(each, str):
            raise TypeError(f"refused: {show(each)} is not an address")
    from ratelimit_mail.smtp_errors import normal_recipients  # few programs need it

    return normal_recipients(addresses)


def finish_steps(
    operations: Operations,
    envelope: Envelope,
    decision: Decision,
    outcome: object,
    refund_on: tuple[type[BaseException], ...] | None,
) -> Steps[None]:
    """Settle or refund a message whose sending has ended.

    outcome: the exception that ended it, or what the sending function returned.
    refund_on: exceptions that prove that nothing was sent; None for those of smtplib and
        aiosmtplib.

    An outage of the backend is logged, not raised: the message has been sent, and it stays
    counted at its admission.
    """
    # Imported here, because most messages in memory are settled without this function.
    from ratelimit_mail.smtp_errors import proves_not_sent, refused_recipients

    try:
        if operations.is_settled(decision):
            return
        not_reached = refused_recipients(outcome, envelope.recipients)
        if len(not_reached) == len(envelope.recipients):
            yield from operations.refund_steps(decision)
        elif not_reached:
            yield from operations.settle_steps(decision, not_reached)
        elif isinstance(outcome, BaseException) and (
            proves_not_sent(outcome) if refund_on is None else isinstance(outcome, refund_on)
        ):
            yield from operations.refund_steps(decision)
        else:
            yield from operations.settle_steps(decision, ())
    except BackendError as error:
        log_warning("a message that was sent stays counted at its admission: %s", error)


class _Sending:
    """One message on its way: what both context managers do."""

    __slots__ = ("_decision", "_envelope", "_idle", "_operations", "_refund_on", "_timeout")

    def __init__(
        self,
        operations: Operations,
        envelope: Envelope,
        timeout: int | None,
        refund_on: tuple[type[BaseException], ...] | None,
    ) -> None:
        self._operations = operations
        self._envelope = envelope
        self._timeout = timeout
        self._refund_on = refund_on
        self._decision: Decision | None = None
        self._idle = [True]
        """Emptied while the message is being sent: only one thread can do that."""

    def _enter_at_once(self) -> Decision | None:
        """Return the decision if the message may go at once; None if it may have to wait.

        Raises RuntimeError if it is being sent already.
        """
        try:
            self._idle.pop()
        except IndexError:
            raise RuntimeError(
                "this message is being sent: call `sending` anew for each message"
            ) from None
        paths = self._operations.fast_paths
        if paths is None:
            return None
        try:
            self._decision = decision = paths.acquire(self._envelope)
        except BaseException:
            self._idle.append(True)
            raise
        return decision

    def _enter_steps(self) -> Steps[Decision]:
        """Wait until the message may go."""
        try:
            decision = yield from self._operations.acquire_steps(self._envelope, self._timeout)
        except BaseException:
            self._idle.append(True)
            raise
        self._decision = decision
        return decision

    def _exit(self, error: BaseException | None) -> Steps[None] | None:
        """Settle the message; return the steps that settle or refund it if that takes steps."""
        decision, self._decision = self._decision, None
        if decision is None:
            return None
        self._idle.append(True)
        operations = self._operations
        paths = operations.fast_paths
        if error is None and paths is not None and paths.settle(decision):
            return None
        return finish_steps(operations, self._envelope, decision, error, self._refund_on)


class Sending(_Sending):
    """What `Limiter.sending` returns: a context manager for the sending of one message."""

    __slots__ = ()

    def __enter__(self) -> Decision:
        decision = self._enter_at_once()
        return run(self._enter_steps()) if decision is None else decision

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        steps = self._exit(error)
        if steps is not None:
            interruption = None if isinstance(error, Exception) else error
            run(self._operations.finish_after_steps(interruption, steps))


class AsyncSending(_Sending):
    """What `AsyncLimiter.sending` returns: an async context manager for one message."""

    __slots__ = ()

    async def __aenter__(self) -> Decision:
        decision = self._enter_at_once()
        return await run_async(self._enter_steps()) if decision is None else decision

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        steps = self._exit(error)
        if steps is not None:
            # A cancelled task has sent, or proved that it has not, all the same.
            await run_async(self._operations.finish_after_steps(error, steps))
