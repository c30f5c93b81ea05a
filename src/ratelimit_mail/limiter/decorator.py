"""The decorator `limited`: a send function that asks its limiter before it sends."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import attrs

from ratelimit_mail._util.steps import Steps
from ratelimit_mail._util.text import show
from ratelimit_mail._util.validators import flag, one_of
from ratelimit_mail.envelope import Envelope, message_size
from ratelimit_mail.exceptions import RateLimitExceeded
from ratelimit_mail.limiter.arguments import OnDenied, exception_classes
from ratelimit_mail.limiter.operations import Operations
from ratelimit_mail.limiter.sending import finish_steps
from ratelimit_mail.smtp_errors import proves_not_sent

__all__ = ["LimitedCall", "envelope_of"]


@attrs.frozen
class LimitedCall:
    """How a decorated function is called: the arguments of `Limiter.limited`."""

    on_denied: OnDenied = attrs.field(validator=one_of("wait", "raise", "skip"))
    timeout: float | None
    envelope: Callable[..., object] | None
    refund_on: tuple[type[BaseException], ...] | None = attrs.field(converter=exception_classes)
    settle: bool = attrs.field(validator=flag)

    def __attrs_post_init__(self) -> None:
        if self.timeout is not None and self.on_denied != "wait":
            raise ValueError(f"timeout: only on_denied='wait' waits, not {self.on_denied!r}")
        if self.envelope is not None and not callable(self.envelope):
            raise TypeError(f"envelope: a callable is needed, not {show(self.envelope)}")

    def call_steps(
        self,
        limiter: Any,
        operations: Operations,
        function: Callable[..., Any],
        args: Any,
        kwargs: Mapping[str, Any],
    ) -> Steps[Any]:
        """Ask `limiter`, call `function`, then settle the message or refund it."""
        measures = operations.policy.counts_bytes
        envelope = envelope_of(self.envelope, function, args, kwargs, measures=measures)
        if self.on_denied == "wait":
            decision = yield partial(limiter.acquire, envelope, self.timeout)
        else:
            decision = yield partial(limiter.try_acquire, envelope)
        if decision.recipients is not None and not all(decision.recipients.values()):
            # One call sends to all recipients, so it is for all or for none.
            if decision:
                yield partial(limiter.refund, decision)
            refused = next(each for each in decision.recipients.values() if not each)
            decision = attrs.evolve(refused, recipients=decision.recipients)
        if not decision:
            if self.on_denied == "raise":
                raise RateLimitExceeded(decision)
            return decision
        try:
            result = yield partial(function, *args, **kwargs)
        except BaseException as error:
            if self.settle or self._is_proof(error):
                steps = finish_steps(operations, envelope, decision, error, self.refund_on)
                interruption = None if isinstance(error, Exception) else error
                yield from operations.finish_after_steps(interruption, steps)
            raise
        if self.settle:
            steps = finish_steps(operations, envelope, decision, result, self.refund_on)
            yield partial(operations.finish, steps)
        return result

    def _is_proof(self, error: BaseException) -> bool:
        """Return whether `error` proves that nothing was sent."""
        if self.refund_on is None:
            return proves_not_sent(error)
        return isinstance(error, self.refund_on)


def envelope_of(
    make: Callable[..., object] | None,
    function: Callable[..., Any],
    args: Iterable[Any],
    kwargs: Mapping[str, Any],
    decorator: str = "limited",
    *,
    measures: bool = False,
) -> Envelope:
    """Return the envelope of a call: what `make` returns, or the one among the arguments.

    measures: whether a message is measured, because limits need its size.

    Raises TypeError that names `function` and `decorator` if there is not exactly one.
    """
    from email.message import Message

    candidates = [make(*args, **kwargs)] if make is not None else [*args, *kwargs.values()]
    messages = [each for each in candidates if isinstance(each, Envelope | Message)]
    if len(messages) != 1:
        name = getattr(function, "__qualname__", function)
        if make is not None:
            raise TypeError(
                f"{name}: envelope= returned {show(candidates[0])}; an EmailMessage or Envelope is"
                " needed"
            )
        raise TypeError(
            f"{name}: one EmailMessage or Envelope is needed among the arguments, but there are"
            f" {len(messages)}; {decorator}(envelope=...) takes a callable that makes one from the"
            " arguments"
        )
    message = messages[0]
    if isinstance(message, Envelope):
        return message
    return Envelope.from_message(message, size=message_size(message) if measures else None)
