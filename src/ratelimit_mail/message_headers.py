"""What the headers of a message say of its sender and recipients, read as `smtplib` reads them."""

from __future__ import annotations

from email.message import Message
from email.utils import getaddresses
from itertools import chain
from typing import Any

from ratelimit_mail._util.text import show
from ratelimit_mail.addresses import NULL_SENDER

__all__ = ["sender_and_recipients"]


def sender_and_recipients(message: object) -> tuple[str, list[str]]:
    """The addresses that `smtplib.SMTP.send_message` would use for `message`.

    Raises TypeError for what is no message, and ValueError where the headers do not tell.
    """
    if not isinstance(message, Message):
        raise TypeError(f"an EmailMessage is needed, not {show(message)}")
    blocks = [name.lower() for name in message.keys()].count("resent-date")  # noqa: SIM118
    if blocks > 1:
        raise ValueError("the message has more than one Resent- block; which one is meant?")
    prefix = "Resent-" if blocks else ""
    named = f"{prefix}Sender" if f"{prefix}Sender" in message else f"{prefix}From"
    if named not in message:
        raise ValueError(f"the message has neither {prefix}Sender nor {prefix}From")
    to = chain.from_iterable(_recipients(message, prefix + name) for name in ("To", "Bcc", "Cc"))
    return _sender(message, named), list(to)


def _sender(message: Message[Any, Any], name: str) -> str:
    text, pairs, _ = _read(message, name)
    if pairs and pairs[0][1]:
        return pairs[0][1]
    if text.strip() == NULL_SENDER:
        return NULL_SENDER
    raise ValueError(f"{name}: {show(text)} does not begin with an address")


def _recipients(message: Message[Any, Any], name: str) -> list[str]:
    if name not in message:
        return []
    text, pairs, is_whole = _read(message, name)
    # An empty group ("undisclosed-recipients:;"), or nothing between two commas, stands
    # there as an empty address without a name, and is nobody.
    unaddressed = any(person and not address for person, address in pairs)
    lost = text.count("@") > sum((person + address).count("@") for person, address in pairs)
    if unaddressed or lost or not is_whole:
        raise ValueError(f"{name}: {show(text)} has a recipient that is no address")
    return [address for _, address in pairs if address]


def _read(message: Message[Any, Any], name: str) -> tuple[str, list[tuple[str, str]], bool]:
    """A header's text, its names and addresses, and whether `email` dropped none of them."""
    try:
        header = message[name]
        text = str(header)
        defects = map(str, getattr(header, "defects", ()))
        return text, getaddresses([text]), not any("invalid address" in each for each in defects)
    except Exception as error:
        # Hostile headers trip `email` in many ways, from IndexError to RecursionError.
        raise ValueError(f"{name}: not readable as addresses ({type(error).__name__})") from error
