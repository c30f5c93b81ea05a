"""Daemon: a policy server from its start to its end: sockets, signals, reloading and systemd."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import attrs

from ratelimit_mail._util.logger import log_info, log_warning
from ratelimit_mail._util.text import escape, show
from ratelimit_mail.backends import AsyncBackend, Backend, MemoryBackend
from ratelimit_mail.client_tags import ClientTags
from ratelimit_mail.exceptions import RateLimitMailError
from ratelimit_mail.limiter import AsyncLimiter
from ratelimit_mail.monitoring import Monitoring, MonitoringSettings
from ratelimit_mail.policy import Policy
from ratelimit_mail.server import systemd
from ratelimit_mail.server.control import ControlServer
from ratelimit_mail.server.held_mail import HeldMail
from ratelimit_mail.server.listener import Address, PolicyListener
from ratelimit_mail.server.policy_service import Excess, PolicyService
from ratelimit_mail.server.shadow_policy import in_shadow
from ratelimit_mail.server.stages import Stages, limitations

__all__ = ["Daemon", "Settings"]

WATCH_SECONDS: Final = 2.0
"""How often the files are looked at."""

REMEMBER_SECONDS: Final = 900.0
"""How long the store remembers an answer, for requests that are repeated."""

MOST_LISTED: Final = 1000


@attrs.frozen(kw_only=True)
class Settings:
    """How a server is run.

    load_policy, load_tags, load_monitoring: read the policy, the table of tags, and the settings of
        alerts and metrics, at the start and again when one of `files` has changed or SIGHUP has
        come. They run in a thread.
    backend: where messages are counted. is_shared: whether it survives this process.
    alert_store: the same store as a sync backend, because alerts have threads of their own.
    on_backend_error, node: as `AsyncLimiter` documents them.
    addresses: where to listen for mail servers, beside the sockets that systemd opened.
    control: the path of the control socket.
    """

    load_policy: Callable[[], Policy]
    load_tags: Callable[[], ClientTags] = ClientTags
    load_monitoring: Callable[[], MonitoringSettings] = MonitoringSettings
    files: Sequence[Path] = ()
    backend: AsyncBackend | MemoryBackend
    is_shared: bool = False
    alert_store: Backend | None = None
    on_backend_error: Literal["raise", "allow", "deny"] | MemoryBackend = "raise"
    node: str | None = None
    addresses: Sequence[Address] = ()
    socket_mode: int = 0o660
    control: Path | None = None
    stages: Stages = attrs.field(factory=Stages)
    direction: Literal["outbound", "inbound"] = "outbound"
    excess: Excess | None = None
    held: HeldMail | None = None
    hold_for: float = 86_400.0
    is_shadow: bool = False
    most_connections: int = 4000


class Daemon:
    """A policy server.

    Raises what `load_policy`, `load_tags`, `load_monitoring` and `MonitoringSettings.start` raise,
    and OSError if it cannot listen. `run` closes what it has started.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._signatures = self._signature_of_files()  # first: a change while they are read counts
        self._policy, tags, monitoring = self._load()
        settings.stages.check(self._policy)
        self._limiter(self._policy)
        self._monitoring = self._start_monitoring(monitoring, self._policy, None)
        self.service = PolicyService(
            self._limiter(self._policy, self._monitoring),
            stages=settings.stages,
            tags=tags,
            excess=settings.excess,
            held=settings.held,
            hold_for=settings.hold_for,
            is_shadow=settings.is_shadow,
            is_shared=settings.is_shared,
            direction=settings.direction,
        )
        self.listener = PolicyListener(self.service, most=settings.most_connections)
        self._control: ControlServer | None = None
        self._stop = asyncio.Event()
        self._reload = asyncio.Event()
        self._reloading = asyncio.Lock()
        self._started = time.monotonic()

    @property
    def limiter(self) -> AsyncLimiter:
        """The limiter in use."""
        return self.service.limiter

    @property
    def store(self) -> Backend | None:
        """Where the limiter counts, for calls from a thread; None remembers no changes."""
        settings = self._settings
        if settings.alert_store is None and isinstance(settings.backend, MemoryBackend):
            return settings.backend
        return settings.alert_store

    async def run(self, ready: Callable[[list[Address]], None] | None = None) -> None:
        """Listen and answer until SIGTERM, SIGINT or `stop`.

        ready: is called when it listens, with the addresses.
        """
        settings = self._settings
        loop = asyncio.get_running_loop()
        for number, act in (
            (signal.SIGTERM, self.stop),
            (signal.SIGINT, self.stop),
            (getattr(signal, "SIGHUP", None), self._reload.set),
        ):
            if number is not None:
                with suppress(NotImplementedError, ValueError, RuntimeError):  # not in this thread
                    loop.add_signal_handler(number, act)
        tasks: list[asyncio.Task[None]] = []
        try:
            addresses = [
                await self.listener.listen(address, mode=settings.socket_mode)
                for address in settings.addresses
            ]
            for listening in systemd.activated_sockets():
                await self.listener.listen_on(listening)
                addresses.append(_address_of(listening.getsockname()))
            if not addresses:
                raise ValueError(
                    "listen: no address is set, and systemd has opened no socket; an address is"
                    " such as inet:127.0.0.1:10040"
                )
            if settings.control is not None:
                self._control = ControlServer(self, self._control_operations())
                await self._control.open(settings.control)
            for text in limitations(settings.stages, self._policy, holds=settings.excess == "hold"):
                log_warning("%s", text)
            systemd.notify("READY=1", f"STATUS={self._status_line()}")
            if ready is not None:
                ready(addresses)
            tasks = [loop.create_task(self._watch_files()), loop.create_task(self._reload_often())]
            if (seconds := systemd.watchdog_seconds()) is not None:
                tasks.append(loop.create_task(_feed_watchdog(seconds)))
            await self._stop.wait()
        finally:
            systemd.notify("STOPPING=1")
            async with self._reloading:  # what it has started must be known, to be closed
                for task in tasks:
                    task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.listener.close()
            await self.service.close()
            if self._control is not None:
                await self._control.close()
            await asyncio.to_thread(self._monitoring.close)

    def stop(self) -> None:
        """End: answer what was asked, and close."""
        self._stop.set()

    async def reload(self) -> bool:
        """Read the policy, the tags, and the settings of alerts and metrics again.

        If one is wrong, all stay as they were. Counts, connections and the alerts that wait stay.
        Return whether they were read.
        """
        systemd.notify("RELOADING=1")
        try:
            policy, tags, settings = await asyncio.to_thread(self._load)
            self._settings.stages.check(policy)
            self._limiter(policy)
            monitoring = await asyncio.to_thread(
                self._start_monitoring, settings, policy, self._monitoring
            )
        except Exception as error:
            if not isinstance(
                error, OSError | ValueError | TypeError | ModuleNotFoundError | RateLimitMailError
            ):
                log_warning("the policy could not be read: %r", error)
            for line in (str(error) or repr(error)).splitlines()[:20]:
                log_warning("the old policy stays in force: %s", escape(line[:1000]))
            return False
        finally:
            systemd.notify("READY=1")
        if policy.name != self._policy.name:
            log_warning(
                "the policy %s has become %s: its messages are counted afresh",
                show(self._policy.name),
                show(policy.name),
            )
        old = self._monitoring
        self._policy, self._monitoring = policy, monitoring
        self.service.use(self._limiter(policy, monitoring), tags)
        log_info("the policy %s was read again", show(policy.name))
        for text in limitations(
            self._settings.stages, policy, holds=self._settings.excess == "hold"
        ):
            log_warning("%s", text)
        await asyncio.to_thread(old.close)
        return True

    def _load(self) -> tuple[Policy, ClientTags, MonitoringSettings]:
        settings = self._settings
        return settings.load_policy(), settings.load_tags(), settings.load_monitoring()

    def _start_monitoring(
        self, monitoring: MonitoringSettings, policy: Policy, before: Monitoring | None
    ) -> Monitoring:
        started = monitoring.start(policy.name, self._settings.alert_store, before=before)
        held = self._settings.held
        if held is not None:
            started.watch_held(policy.name, partial(len, held))
        return started

    def _limiter(self, policy: Policy, monitoring: Monitoring | None = None) -> AsyncLimiter:
        settings = self._settings
        return AsyncLimiter(
            in_shadow(policy) if settings.is_shadow else policy,
            settings.backend,
            on_backend_error=settings.on_backend_error,
            remember=REMEMBER_SECONDS,
            node=settings.node if policy.per_node else None,
            on_event=None if monitoring is None else monitoring.on_event,
            metrics=None if monitoring is None else monitoring.metrics,
        )

    async def _reload_often(self) -> None:
        while True:
            await self._reload.wait()
            self._reload.clear()
            async with self._reloading:
                await self.reload()

    async def _watch_files(self) -> None:
        """Reload when a file has changed, and has then been the same twice: it is written whole."""
        if not self._settings.files:
            return
        before = self._signatures
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            now = self._signature_of_files()
            if now == before and now != self._signatures:
                self._reload.set()
                self._signatures = now
            before = now

    def _signature_of_files(self) -> tuple[object, ...]:
        return tuple(_signature(path) for path in self._settings.files)

    def _status_line(self) -> str:
        mode = ", in shadow" if self._settings.is_shadow else ""
        return escape(f"policy {self._policy.name}{mode}")

    # The control socket.

    def _control_operations(self) -> dict[str, Any]:
        return {
            "status": self._status,
            "release": self._release,
            "released": self._released,
            "held": self._list_held,
        }

    async def _status(self, _: Mapping[str, Any]) -> Any:
        held = self._settings.held
        return {
            "policy": self._policy.name,
            "shadow": self._settings.is_shadow,
            "uptime": round(time.monotonic() - self._started, 3),
            "connections": len(self.listener.connections),
            "transactions": len(self.service.collector),
            "requests": dict(self.service.stats),
            "held": None if held is None else await asyncio.to_thread(len, held),
        }

    async def _release(self, keys: Mapping[str, Any]) -> Any:
        most = keys.get("most", 100)
        if isinstance(most, bool) or not isinstance(most, int) or not 1 <= most <= MOST_LISTED:
            raise ValueError(f"most: {show(most)} is not a number from 1 to {MOST_LISTED}")
        return await self.service.release(most)

    async def _released(self, keys: Mapping[str, Any]) -> Any:
        released, missing = _queue_ids("queue_ids", keys), _queue_ids("missing", keys)
        await self.service.note_released(released, missing)

    async def _list_held(self, _: Mapping[str, Any]) -> Any:
        messages = await asyncio.to_thread(self._held().all, MOST_LISTED)
        return [
            {
                "queue_id": each.queue_id,
                "sender": each.envelope.sender,
                "recipients": len(each.envelope.recipients),
                "at": each.at,
            }
            for each in messages
        ]

    def _held(self) -> HeldMail:
        if self._settings.held is None:
            raise ValueError("op: this server holds no messages; start it with --excess hold")
        return self._settings.held


def _queue_ids(name: str, keys: Mapping[str, Any]) -> list[str]:
    queue_ids = keys.get(name, [])
    if not isinstance(queue_ids, list) or not all(isinstance(each, str) for each in queue_ids):
        raise ValueError(f"{name}: a list of queue ids is needed")
    return queue_ids


async def _feed_watchdog(seconds: float) -> None:
    while True:
        systemd.notify("WATCHDOG=1")
        await asyncio.sleep(seconds)


def _signature(path: Path) -> tuple[int, ...] | None:
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_mtime_ns, state.st_size, state.st_ino


def _address_of(name: Any) -> Address:
    """Return the address of a socket that systemd opened."""
    if isinstance(name, tuple):
        return str(name[0]), int(name[1])
    return Path(os.fsdecode(name))


def raise_file_limit(needed: int) -> int:
    """Raise the soft limit of open files to `needed`, as far as allowed; return what it is."""
    if sys.platform == "win32":
        return needed
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            return wanted
    return needed if soft == resource.RLIM_INFINITY else soft


def service_name(address: Address) -> str:
    """Return an address as main.cf has it, such as `inet:127.0.0.1:10040`."""
    if isinstance(address, Path):
        return f"unix:{address}"
    host, port = address
    return f"inet:[{host}]:{port}" if ":" in host else f"inet:{host}:{port}"


def names_of(addresses: Iterable[Address]) -> str:
    """Return addresses for the log."""
    return ", ".join(escape(service_name(each)) for each in addresses)
