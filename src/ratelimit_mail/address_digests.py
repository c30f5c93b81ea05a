"""Short names of local parts and domains that are too long, or that cannot be printed."""

from __future__ import annotations

import re

from ratelimit_mail._util.text import has_control

__all__ = ["DIGEST_LOCAL", "DIGEST_NAME", "digest_local", "digest_name"]

_NOT_IN_DIGEST_NAME = re.compile(r"[^A-Za-z0-9.+-]")
DIGEST_NAME = re.compile(r"\[_[A-Za-z0-9._+-]{0,24}~[0-9a-f]{32}\]")
_BASE = re.compile(r"\+?[^\s,;:<>()\[\]@\"\\+]{0,64}")
"""What stands before a subaddress that is replaced by its digest."""
DIGEST_LOCAL = re.compile(rf"(?:{_BASE.pattern}\+)?({DIGEST_NAME.pattern})")


def digest_local(local: str) -> str:
    """Return a short printable name of a folded local part; what is before a `+` stays readable.

    Otherwise, each subaddress would be a mailbox of its own.
    """
    cut = local.find("+", 1)
    base, subaddress = local[: max(cut, 0)], local[cut + 1 :]
    if base and subaddress and _BASE.fullmatch(base) and not has_control(base):
        return f"{base}+{digest_name(subaddress)}"
    return digest_name(local)


def digest_name(text: str) -> str:
    """Return a short printable name of `text`, different for every text."""
    # Imported here, because few programs need it.
    import hashlib

    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    return f"[_{_NOT_IN_DIGEST_NAME.sub('_', text[:24])}~{digest}]"
