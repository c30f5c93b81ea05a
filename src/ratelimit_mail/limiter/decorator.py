"""What `limited` makes of a send function: one that first asks its limiter."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

import attrs

from ratelimit_mail._util.steps import Steps
from ratelimit_mail._util.text import show
from ratelimit_mail._util.validators import one_of
from ratelimit_mail.envelope import Envelope
from ratelimit_mail.exceptions import RateLimitExceeded

__all__ = ["Errors", "LimitedCall", "OnDenied", "is_async"]

OnDenied = Literal["wait", "raise", "skip"]
Errors = type[BaseException] | tuple[type[BaseException], ...]


def _exceptions(value: object) -> tuple[type[BaseException], ...]:
    found = value if isinstance(value, tuple) else (value,)
    for each in found:
        if not (isinstance(each, type) and issubclass(each, BaseException)):
            raise TypeError(f"refund_on: {show(each)} is no exception class")
    return found


@attrs.frozen
class LimitedCall:
    """How a send function is guarded: the arguments of `limited`."""

    on_denied: OnDenied = attrs.field(validator=one_of("wait", "raise", "skip"))
    timeout: float | None
    envelope: Callable[..., object] | None
    refund_on: tuple[type[BaseException], ...] = attrs.field(converter=_exceptions)

    def __attrs_post_init__(self) -> None:
        if self.timeout is not None and self.on_denied != "wait":
            raise ValueError(f"timeout: only on_denied='wait' waits, not {self.on_denied!r}")
        if self.envelope is not None and not callable(self.envelope):
            raise TypeError(f"envelope: something to call is needed, not {show(self.envelope)}")

    def sending(
        self, limiter: Any, function: Callable[..., Any], args: Any, kwargs: Mapping[str, Any]
    ) -> Steps[Any]:
        """Ask `limiter`, then call `function`; what it raises of `refund_on` is taken back."""
        envelope = self._envelope_of(function, args, kwargs)
        if self.on_denied == "wait":
            decision = yield lambda: limiter.acquire(envelope, self.timeout)
        else:
            decision = yield lambda: limiter.try_acquire(envelope)
        if decision.recipients is not None and not all(decision.recipients.values()):
            # One call sends to all of them, so it is for all or for none.
            if decision:
                yield lambda: limiter.refund(decision)
            refused = next(each for each in decision.recipients.values() if not each)
            decision = attrs.evolve(refused, recipients=decision.recipients)
        if not decision:
            if self.on_denied == "raise":
                raise RateLimitExceeded(decision)
            return decision
        try:
            return (yield partial(function, *args, **kwargs))
        except self.refund_on:
            yield lambda: limiter.refund(decision)
            raise

    def _envelope_of(
        self, function: Callable[..., Any], args: Any, kwargs: Mapping[str, Any]
    ) -> Envelope:
        from email.message import Message

        if self.envelope is not None:
            found = [self.envelope(*args, **kwargs)]
        else:
            found = [*args, *kwargs.values()]
        mail = [each for each in found if isinstance(each, Envelope | Message)]
        if len(mail) != 1:
            whose = "what envelope= gave" if self.envelope else "the arguments"
            raise TypeError(
                f"{getattr(function, '__qualname__', function)}: one EmailMessage or Envelope is"
                f" needed among {whose}, but {len(mail)} are there; limited(envelope=...) takes"
                " a callable that makes it of the arguments"
            )
        return mail[0] if isinstance(mail[0], Envelope) else Envelope.from_message(mail[0])


def is_async(function: Callable[..., object]) -> bool:
    """Whether a call of `function` is to be awaited. Raises TypeError for generators."""
    call = getattr(function, "__call__", function)  # noqa: B004 - a callable object's method
    for each in (function, call):
        if inspect.isgeneratorfunction(each) or inspect.isasyncgenfunction(each):
            raise TypeError(f"{show(function)} is a generator; a function that sends is needed")
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)
