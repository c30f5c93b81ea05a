"""What systemd wants of a service: sd_notify, the watchdog and sockets that it opened."""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from typing import Final

__all__ = ["activated_sockets", "notify", "watchdog_seconds"]

FIRST: Final = 3
"""The number of the first file that systemd passes (SD_LISTEN_FDS_START)."""


def notify(*lines: str) -> None:
    """Tell systemd a state, such as `READY=1`; without systemd, do nothing."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if lines[:1] == ("RELOADING=1",):
        lines += (f"MONOTONIC_USEC={time.monotonic_ns() // 1000}",)
    if address[0] == "@":
        address = "\0" + address[1:]
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
        connection.setblocking(False)
        connection.sendto("\n".join(lines).encode(), address)


def watchdog_seconds() -> float | None:
    """Return how often `WATCHDOG=1` is due, which is twice in systemd's time; None if never."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    text = os.environ.get("WATCHDOG_USEC", "")
    if not (text.isascii() and text.isdigit()) or int(text) == 0:
        return None
    return max(0.05, int(text) / 2_000_000)


def activated_sockets() -> list[socket.socket]:
    """Return the listening sockets that systemd opened for this process, each once."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    text = os.environ.pop("LISTEN_FDS", "")
    os.environ.pop("LISTEN_PID", None)
    os.environ.pop("LISTEN_FDNAMES", None)
    number = int(text) if text.isascii() and text.isdigit() else 0
    sockets = []
    for descriptor in range(FIRST, FIRST + number):
        os.set_inheritable(descriptor, False)
        sockets.append(socket.socket(fileno=descriptor))
    return sockets
