"""The names of keys: which log, which answer, and what stands in one slot of a cluster."""

from __future__ import annotations

from collections.abc import Sequence

from ratelimit_mail.backends.base import Idempotency
from ratelimit_mail.counting.charge import UNITS, Charge, Ledger
from ratelimit_mail.exceptions import BackendError

__all__ = ["Keys", "foreign", "middle_of", "refund_key"]


class Keys:
    """The names of one backend.

    prefix: what all its keys begin with.
    sharded: whether keys are to stand together by tag; else each is its own subject's.
    """

    def __init__(self, prefix: str, *, sharded: bool) -> None:
        self._stem = prefix + "{"
        self._sharded = sharded

    def around(self, ledger: Ledger, subject: str) -> tuple[str, str]:
        """The beginning and the end of a subject's keys."""
        if self._sharded and ledger.tag_of is not None:
            return f"{self._stem}{_quoted(ledger.tag_of(subject))}}}", f":{subject}"
        return f"{self._stem}{_quoted(subject)}}}", ""

    def tag(self, charge: Charge) -> str:
        """What stands in the same slot has the same tag."""
        return self.around(charge[0], charge[1])[0]

    def key_of(self, ledger: Ledger, subject: str, unit: int) -> bytes:
        """The key of one count."""
        begin, end = self.around(ledger, subject)
        return f"{begin}{middle_of(ledger, unit)}{end}".encode()

    def keys_of(self, ledger: Ledger, subject: str) -> list[bytes]:
        """The keys of all that may be counted for a subject, in every unit."""
        return [self.key_of(ledger, subject, unit) for unit in range(len(UNITS))]

    def id_key(self, charges: Sequence[Charge], idempotency: Idempotency) -> bytes:
        """The key of an answer, in the slot of the first charge."""
        return f"{self.tag(charges[0])}:once:{idempotency.name}".encode()


def middle_of(ledger: Ledger, unit: int) -> str:
    """What stands between the beginning and the end of a count's key."""
    return f":{ledger.name}:{unit}"


def refund_key(id_key: bytes, token: int | str) -> bytes:
    """The key that tells that a charge has been taken out, by whoever held its answer."""
    return b"%b:%b" % (id_key, str(token).encode())


def foreign(key: bytes) -> BackendError:
    """The error that something stands at a key that this library has not put there."""
    return BackendError(
        f"the key {key.decode()!r} holds something that is not of this library; nothing was"
        " changed. Give the backend another prefix=, or delete the key if nobody needs it"
    )


def _quoted(tag: str) -> str:
    """`tag` without braces, and never empty, so that a cluster takes it for a hash tag."""
    if not tag:
        return "%"
    if "%" in tag or "{" in tag or "}" in tag:
        return tag.replace("%", "%25").replace("{", "%7B").replace("}", "%7D")
    return tag
