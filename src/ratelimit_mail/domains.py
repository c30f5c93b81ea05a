"""Which domains are a policy's own."""

from __future__ import annotations

from collections.abc import Iterable

from ratelimit_mail._util.cache import Memo
from ratelimit_mail._util.text import show
from ratelimit_mail.addresses import normal_domain

__all__ = ["DomainSet", "normal_pattern"]


def normal_pattern(value: object) -> str:
    """A domain, or with a leading dot all its subdomains, in its one spelling."""
    if not isinstance(value, str):
        raise TypeError(f"a domain is a string such as 'uwo.ca' or '.uwo.ca', not {show(value)}")
    if not value.startswith("."):
        return normal_domain(value)
    try:
        return "." + normal_domain(value[1:])
    except ValueError as error:
        raise ValueError(f"{show(value)}: {error}") from None


class DomainSet(Memo[str, bool]):
    """The domains that some patterns name: `"uwo.ca"` itself, `".uwo.ca"` what is below it.

    Asked for a domain by `[]`, it says whether it has it.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        super().__init__(self._has)
        self.patterns = tuple(patterns)
        self._exact = frozenset(p for p in self.patterns if not p.startswith("."))
        self._above = frozenset(p[1:] for p in self.patterns if p.startswith("."))

    def __reduce__(self) -> tuple[type[DomainSet], tuple[tuple[str, ...]]]:
        return DomainSet, (self.patterns,)

    def _has(self, domain: str) -> bool:
        if domain in self._exact:
            return True
        while self._above:
            _, dot, domain = domain.partition(".")
            if domain in self._above:
                return True
            if not dot:
                break
        return False
