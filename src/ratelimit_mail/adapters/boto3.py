"""LimitedSES: an Amazon SES client of boto3, under the limits that its account has.

The sending rate and the quota are those of `get_account`. SES counts recipients, and all senders
of an account in a region together.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Mapping
from email.parser import BytesHeaderParser
from email.utils import getaddresses, parseaddr
from functools import partial
from time import monotonic
from typing import Any, Final

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
)

from ratelimit_mail._util.logger import log_warning
from ratelimit_mail._util.text import show
from ratelimit_mail.adapters.options import NotSent, OnExcess, SendingOptions, log_outage
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.backends.base import Backend
from ratelimit_mail.decision import Decision
from ratelimit_mail.envelope import Envelope
from ratelimit_mail.exceptions import BackendError, RateLimitExceeded
from ratelimit_mail.limiter import Limiter
from ratelimit_mail.limits import RecipientLimit, RecipientRateLimit
from ratelimit_mail.policy import Policy

__all__ = ["LimitedSES", "SendingLimitExceeded", "ses_policy"]

PUSHBACK: Final = 1.0
"""Seconds for which nothing is sent after SES has throttled: its sending rate is per second."""

QUOTA_PUSHBACK: Final = 900.0
"""Seconds for which nothing is sent after SES has said that its quota for 24 hours is used up."""

RETRY_REFRESH: Final = 60.0
"""Seconds until the limits are asked for again if the account could not be read."""

_THROTTLING: Final = frozenset(
    ["TooManyRequestsException", "LimitExceededException", "Throttling", "ThrottlingException"]
)

_NOT_SENT: Final = (
    ParamValidationError,
    NoCredentialsError,
    PartialCredentialsError,
    EndpointConnectionError,
    ConnectTimeoutError,
)


class SendingLimitExceeded(RateLimitExceeded, ClientError):
    """A message may not be sent now, or not before the timeout; SES was not asked.

    It is a ClientError with the code of SES's own refusal, `TooManyRequestsException`, or
    `BadRequestException` for a message that can never go.

    decision: names the limit, and says when the message would fit.
    response, operation_name: as those of any ClientError.
    """

    def __init__(self, decision: Decision, operation_name: str) -> None:
        is_never = decision.retry_after is None
        response: Any = {
            "Error": {
                "Code": "BadRequestException" if is_never else "TooManyRequestsException",
                "Message": str(decision.reply),
            },
            "ResponseMetadata": {"HTTPStatusCode": 400 if is_never else 429, "RetryAttempts": 0},
        }
        ClientError.__init__(self, response, operation_name)
        self.decision = decision

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.decision, self.operation_name)


def ses_policy(
    account: Mapping[str, Any], *, name: str = "amazon-ses", recipient_limit: int = 50
) -> Policy:
    """Return the policy of what `get_account` says.

    account: the response of `get_account`. A quota of -1 means that there is none.
    name: a name of its own for each account and region that shares a backend.
    recipient_limit: the most recipients of one message.

    A message to more recipients than the rate allows in a second goes when nothing is held, and
    then holds the rate for as many seconds as it takes.
    """
    quota = account["SendQuota"]
    rate, most = float(quota["MaxSendRate"]), float(quota["Max24HourSend"])
    limits: list[Any] = [RecipientLimit(recipient_limit, name="recipients a message")]
    if rate > 0:
        text = f"{int(rate)}/second" if rate >= 1 else f"1/{math.ceil(1 / rate)} seconds"
        limits.append(
            RecipientRateLimit(text, name="sending rate", scope="global", on_oversize="spread")
        )
    if most >= 1:
        limits.append(RecipientRateLimit(f"{int(most)}/day", name="sending quota", scope="global"))
    return Policy(name=name, limits=limits)


class LimitedSES:
    """A client for Amazon SES, of which `send_email` and `send_raw_email` keep to its limits.

    client: `boto3.client("sesv2")`. Its other methods are this object's, but for those that would
        send past the limits.
    backend: where counts live; by default in memory, for this object alone.
    refresh: after how many seconds the limits of the account are asked for again.
    on_excess: `"wait"` until a message may go, or `"raise"` at once if it may not go now.
    acquire_timeout: the most seconds to wait; None for any time.
    pushback: for how many seconds nothing is sent after SES has throttled; None for none. After it
        has said that the quota is used up, these are at least 15 minutes.
    name, recipient_limit: as in `ses_policy`.
    options: those of Limiter, such as `on_event`.

    Raises SendingLimitExceeded if a message may not go. Safe for threads, as the client is.
    """

    def __init__(
        self,
        client: Any,
        backend: Backend | None = None,
        *,
        refresh: float = 3600.0,
        on_excess: OnExcess = "wait",
        acquire_timeout: float | None = None,
        pushback: float | None = PUSHBACK,
        name: str = "amazon-ses",
        recipient_limit: int = 50,
        **options: Any,
    ) -> None:
        if not callable(getattr(client, "get_account", None)):
            raise TypeError(f"client: boto3.client('sesv2') is needed, not {show(client)}")
        if not refresh > 0:
            raise ValueError(f"refresh: {show(refresh)} is not above 0 seconds")
        self._client = client
        self._backend = MemoryBackend() if backend is None else backend
        self._options = SendingOptions(
            on_excess=on_excess, acquire_timeout=acquire_timeout, pushback=pushback
        )
        self._policy_of = partial(ses_policy, name=name, recipient_limit=recipient_limit)
        self._limiter_options = options
        self._refresh = refresh
        self._refresh_at = -math.inf
        self._lock = threading.Lock()
        self._limiter: Limiter | None = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith(("_", "send")):
            raise AttributeError(
                f"{name}: only send_email and send_raw_email are limited; call it on the client"
            )
        return getattr(self._client, name)

    @property
    def limiter(self) -> Limiter:
        """The limiter that decides now, for its `usage` and `block`.

        It is another one after the limits of the account have changed.
        """
        limiter = self._limiter
        if limiter is not None and monotonic() < self._refresh_at:
            return limiter
        # One thread asks. The others use what is known, or wait if nothing is.
        # No signal is handled between the lock and the `try`.
        for _ in iter(partial(self._lock.acquire, limiter is None), False):
            try:
                if self._limiter is not None and monotonic() < self._refresh_at:
                    return self._limiter
                return self._read_account()
            finally:
                self._lock.release()
        assert limiter is not None  # noqa: S101 - or the lock was waited for
        return limiter

    def refresh(self) -> None:
        """Ask for the limits of the account, and use them from now on; what was sent still counts.

        If they cannot be read, those known stay in force, and the error is logged. Raises the
        error if none are known.
        """
        with self._lock:
            self._read_account()

    def _read_account(self) -> Limiter:
        self._refresh_at = monotonic() + min(RETRY_REFRESH, self._refresh)
        try:
            policy = self._policy_of(self._client.get_account())
        except (ClientError, BotoCoreError) as error:
            if self._limiter is None:
                raise
            log_warning("the limits of the SES account could not be read: %s", error)
            return self._limiter
        if self._limiter is None or self._limiter.policy.limits != policy.limits:
            self._limiter = Limiter(policy, self._backend, **self._limiter_options)
        self._refresh_at = monotonic() + self._refresh
        return self._limiter

    def send_email(self, **kwargs: Any) -> Any:
        """Send a message as the client does, when the limits allow it.

        It is charged for all addresses of `Destination`; for a raw message without one, for those
        of its headers.
        """
        content = kwargs.get("Content")
        raw = content.get("Raw") if isinstance(content, Mapping) else None
        data = raw.get("Data") if isinstance(raw, Mapping) else None
        sender, recipients = _addresses(kwargs, data)
        if not recipients:  # which SES refuses
            return self._client.send_email(**kwargs)
        size = len(data) if isinstance(data, bytes | bytearray) else None
        envelope = Envelope.from_smtp(sender, recipients, size=size)
        limiter = self.limiter

        def send() -> Any:
            try:
                return self._client.send_email(**kwargs)
            except _NOT_SENT as error:
                raise NotSent(error) from error
            except ClientError as error:
                metadata = error.response.get("ResponseMetadata", {})
                if metadata.get("HTTPStatusCode", 400) >= 500:  # it may have been accepted
                    raise
                raise NotSent(error) from error

        limited = self._options.limited(limiter, envelope)
        try:
            return limited(send)()
        except RateLimitExceeded as exceeded:
            raise SendingLimitExceeded(exceeded.decision, "SendEmail") from None
        except NotSent as not_sent:
            failure = not_sent.error
        self._push_back(limiter, failure)
        try:
            raise failure
        finally:
            del failure  # its traceback holds this frame

    def send_raw_email(
        self,
        *,
        RawMessage: Mapping[str, Any],  # noqa: N803 - as in the API
        Source: str | None = None,  # noqa: N803
        Destinations: Iterable[str] = (),  # noqa: N803
        Tags: Iterable[Mapping[str, str]] = (),  # noqa: N803
        **kwargs: Any,
    ) -> Any:
        """Send a raw message by `send_email`, with the arguments of the first version of the API.

        RawMessage, Source, Destinations, Tags: as those of boto3's client for `ses`.
        kwargs: further arguments of `send_email`, such as `ConfigurationSetName`.
        """
        if Source is not None:
            kwargs["FromEmailAddress"] = Source
        if destinations := [*Destinations]:
            kwargs["Destination"] = {"ToAddresses": destinations}
        if tags := [*Tags]:
            kwargs["EmailTags"] = tags
        return self.send_email(Content={"Raw": dict(RawMessage)}, **kwargs)

    def _push_back(self, limiter: Limiter, error: BaseException) -> None:
        """Send nothing for a while if SES has throttled, and then ask for the limits again."""
        seconds = self._options.pushback
        if seconds is None or not isinstance(error, ClientError):
            return
        details = error.response.get("Error", {})
        if details.get("Code") not in _THROTTLING:
            return
        message = str(details.get("Message", ""))
        if "quota" in message.lower():
            seconds = max(seconds, QUOTA_PUSHBACK)
        self._refresh_at = min(self._refresh_at, monotonic() + seconds)
        reason = "".join(each for each in f"SES: {message}" if each.isprintable())[:200]
        try:
            # A block of an administrator, or of the quota, stays.
            if not any(each.scope == ("global",) for each in limiter.blocks()):
                limiter.block(None, seconds, reason, scope="global")
        except BackendError as outage:
            log_outage(outage)


def _addresses(kwargs: Mapping[str, Any], data: Any) -> tuple[str, list[str]]:
    """Return the sender and the recipients of a call of `send_email`."""
    sender = parseaddr(str(kwargs.get("FromEmailAddress", "")))[1]
    destination = kwargs.get("Destination")
    recipients: list[str] = []
    if isinstance(destination, Mapping):
        for field in ("ToAddresses", "CcAddresses", "BccAddresses"):
            addresses = destination.get(field)
            if isinstance(addresses, list | tuple):
                recipients += [parseaddr(str(each))[1] or str(each) for each in addresses]
    if isinstance(data, str):
        data = data.encode()
    if isinstance(data, bytes | bytearray) and not (sender and recipients):
        headers = BytesHeaderParser().parsebytes(bytes(data))
        sender = sender or parseaddr(str(headers.get("From", "")))[1]
        if not recipients:
            fields = [
                str(value) for name in ("To", "Cc", "Bcc") for value in headers.get_all(name, [])
            ]
            recipients = [address for _, address in getaddresses(fields) if address]
    return sender or "<>", recipients
