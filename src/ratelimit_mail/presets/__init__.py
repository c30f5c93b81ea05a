"""The limits of real institutions, ready to use; each states its numbers, source and date."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from ratelimit_mail.policy import Policy
from ratelimit_mail.presets.leeds import leeds_office365
from ratelimit_mail.presets.western import western_convergence, western_office365

__all__ = ["PRESETS", "leeds_office365", "western_convergence", "western_office365"]

PRESETS: Final[Mapping[str, Callable[[], Policy]]] = MappingProxyType(
    {
        "leeds-office365": leeds_office365,
        "western-convergence": western_convergence,
        "western-office365": western_office365,
    }
)
"""Each preset by its policy's name, as the command line takes it."""
