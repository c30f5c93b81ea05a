"""TaskOptions: what `limited_task` takes beside Celery's own options."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import attrs

from ratelimit_mail._util.text import show
from ratelimit_mail._util.validators import flag, one_of
from ratelimit_mail.adapters.options import PUSHBACK
from ratelimit_mail.limiter import Limiter
from ratelimit_mail.limiter.arguments import exception_classes
from ratelimit_mail.limiter.marks import Marks
from ratelimit_mail.limiter.operations import milliseconds

__all__ = ["TaskOptions"]


@attrs.frozen(kw_only=True)
class TaskOptions:
    """See `limited_task`. marks: in the backend of the limiter."""

    limiter: Limiter = attrs.field()
    envelope: Callable[..., object] | None = attrs.field(default=None)
    on_uncertain: Literal["report", "resend"] = attrs.field(
        default="report", validator=one_of("report", "resend")
    )
    max_delay: float | None = None
    keep_order: bool = attrs.field(default=True, validator=flag)
    order_timeout: float = 60.0
    sending_timeout: float = 600.0
    remember: float = 86_400.0
    pushback: float | None = PUSHBACK
    refund_on: tuple[type[BaseException], ...] | None = attrs.field(
        default=None, converter=exception_classes
    )
    marks: Marks = attrs.field(init=False)

    @marks.default
    def _marks(self) -> Marks:
        if not isinstance(self.limiter, Limiter):
            raise TypeError(f"limiter: a Limiter is needed, not {show(self.limiter)}")
        return Marks.of(self.limiter)

    def __attrs_post_init__(self) -> None:
        if self.envelope is not None and not callable(self.envelope):
            raise TypeError(f"envelope: a callable is needed, not {show(self.envelope)}")
        milliseconds("max_delay", self.max_delay)
        for name in ("order_timeout", "sending_timeout", "remember", "pushback"):
            seconds = getattr(self, name)
            if seconds is None and name == "pushback":
                continue
            if not milliseconds(name, seconds):
                raise ValueError(f"{name}: {show(seconds)} is not a number of seconds above 0")
        if self.remember <= self.order_timeout:
            raise ValueError(
                f"remember: {show(self.remember)} seconds are not more than order_timeout,"
                f" {show(self.order_timeout)} seconds"
            )
