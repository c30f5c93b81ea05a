"""The names of all keys in Redis, and which of them share a slot in a cluster.

A key is `prefix{tag}...`: a cluster places it by the tag in braces.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ratelimit_mail._util.text import show
from ratelimit_mail.backends.base import Idempotency
from ratelimit_mail.counting.charge import UNITS, Charge, Ledger
from ratelimit_mail.exceptions import BackendError

__all__ = [
    "DEFAULT_PREFIX",
    "Keys",
    "count_name",
    "foreign_value_error",
    "members_key",
    "moved_key",
    "tag_of_key",
]

DEFAULT_PREFIX: Final = "ratelimit-mail:"

_SPECIAL: Final = frozenset("*?[]^-\\")
"""The characters that are special in a pattern of SCAN."""


class Keys:
    """The key names of one backend.

    prefix: the beginning of all key names.
    sharded: whether keys are placed by the tag of their ledger, as a cluster needs it; otherwise
        each subject is its own tag.
    """

    def __init__(self, prefix: str, *, sharded: bool) -> None:
        if not isinstance(prefix, str):
            raise TypeError(f"prefix: a string is needed, not {show(prefix)}")
        if not 0 < len(prefix) <= 100 or not prefix.isprintable() or set(prefix) & set("{} "):
            raise ValueError(
                f"prefix: {show(prefix)} is not 1 to 100 printable characters without braces and"
                " spaces, which keep the keys of two prefixes apart"
            )
        self.prefix = prefix
        self.sharded = sharded
        self._stem = prefix + "{"

    def affixes(self, ledger: Ledger, subject: str) -> tuple[str, str]:
        """Return the beginning and the end that all keys of a subject have."""
        if self.sharded and ledger.tag_of is not None:
            return f"{self._stem}{_quote(ledger.tag_of(subject))}}}", f":{subject}"
        return f"{self._stem}{_quote(subject)}}}", ""

    def tag(self, charge: Charge) -> str:
        """Return the beginning of a charge's keys: equal tags are in the same slot."""
        return self.affixes(charge[0], charge[1])[0]

    def is_multi_slot(self, charges: Sequence[Charge], queue: Charge | None) -> bool:
        """Return whether the counts of a message are in several slots of a cluster."""
        if not self.sharded:
            return False
        tags = {self.tag(charge) for charge in charges}
        if queue is not None:
            tags.add(self.tag(queue))
        return len(tags) > 1

    def key(self, ledger: Ledger, subject: str, unit: int) -> bytes:
        """Return the key of one count."""
        beginning, end = self.affixes(ledger, subject)
        return f"{beginning}{count_name(ledger, unit)}{end}".encode()

    def all_keys(self, ledger: Ledger, subject: str) -> list[bytes]:
        """Return the keys of every unit that may be counted for a subject."""
        return [self.key(ledger, subject, unit) for unit in range(len(UNITS))]

    def first_key(self, charges: Sequence[Charge]) -> bytes:
        """Return a key in the slot of the first charge: that of its count of messages."""
        ledger, subject, _ = charges[0]
        return self.key(ledger, subject, 0)

    def bookings_key(self, queue: Charge) -> bytes:
        """Return the key of the bookings of a queue, beside the log of the queue."""
        ledger, subject, _ = queue
        beginning, end = self.affixes(ledger, subject)
        return f"{beginning}:{ledger.name}:places{end}".encode()

    def pattern(self, ledger: Ledger) -> bytes:
        """Return a pattern of SCAN that all logs of a ledger match, and few other keys."""
        middle = "".join(f"\\{each}" if each in _SPECIAL else each for each in ledger.name)
        beginning = "".join(f"\\{each}" if each in _SPECIAL else each for each in self._stem)
        end = ":*" if self.sharded and ledger.tag_of is not None else ""
        return f"{beginning}*}}:{middle}:[0-{len(UNITS) - 1}]{end}".encode()

    def subject(self, ledger: Ledger, key: bytes) -> str:
        """Return the subject that a key of `ledger` counts."""
        tag, _, rest = key.decode().removeprefix(self._stem).partition("}")
        if self.sharded and ledger.tag_of is not None:
            return rest.removeprefix(f":{ledger.name}:").partition(":")[2]
        return _unquote(tag)

    def register_key(self, name: str) -> bytes:
        """Return the key of a register."""
        return f"{self._stem}{_quote(name)}}}:register".encode()

    def id_key(self, charges: Sequence[Charge], idempotency: Idempotency) -> bytes:
        """Return the key of the answer to an id, in the slot of the first charge."""
        return f"{self.tag(charges[0])}:once:{idempotency.name}".encode()


def count_name(ledger: Ledger, unit: int) -> str:
    """Return what is between the beginning and the end of a count's key."""
    return f":{ledger.name}:{unit}"


def moved_key(id_key: bytes, token: int | str) -> bytes:
    """Return the key that says where the charges of an answer are now, or that they are refunded.

    It is used once the answer cannot say so.
    """
    return b"%b:%b" % (id_key, str(token).encode())


def members_key(log_key: bytes) -> bytes:
    """Return the key of the unique recipients of a log, which is the key of no log."""
    return log_key.replace(b"}", b"}:", 1)


def tag_of_key(key: bytes) -> bytes:
    """Return the beginning of a key, up to the end of its tag: equal ones are in the same slot."""
    return key[: key.index(b"}") + 1]


def foreign_value_error(key: bytes) -> BackendError:
    """Return the error that the value at `key` was not stored by this library."""
    return BackendError(
        f"the key {key.decode()!r} holds a value that is not of this library; nothing was"
        " changed. Give the backend another prefix=, or delete the key if nobody needs it"
    )


def _unquote(tag: str) -> str:
    """Return what `_quote` has quoted."""
    if tag == "%":
        return ""
    return tag.replace("%7B", "{").replace("%7D", "}").replace("%25", "%")


def _quote(tag: str) -> str:
    """Return `tag` without braces and never empty, so that a cluster reads it as a hash tag."""
    if not tag:
        return "%"
    if "%" in tag or "{" in tag or "}" in tag:
        return tag.replace("%", "%25").replace("{", "%7B").replace("}", "%7D")
    return tag
