"""Send mail to an SMTP server from many threads, tasks or processes, through a limiter."""

from __future__ import annotations

import asyncio
import math
import multiprocessing
import os
import signal
import smtplib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import count
from typing import Any, Final, NamedTuple

import aiosmtplib

from ratelimit_mail import AsyncLimiter, Decision, Envelope, Limiter, Policy
from ratelimit_mail.backends import AsyncRedisBackend, RedisBackend
from rlm_testkit.load import charged_at

HOST: Final = "127.0.0.1"
CLIENT: Final = "client.example"


class Sent(NamedTuple):
    """A message that was sent.

    admitted, settled: when it was admitted and settled, in milliseconds by the backend's clock.
    """

    name: str
    admitted: int
    settled: int

    @property
    def took(self) -> int:
        """Return how many milliseconds the sending took, from admission to settlement."""
        return self.settled - self.admitted


class Work(NamedTuple):
    """What each worker sends: so many messages, but none after `end` by the monotonic clock."""

    envelope: Envelope
    each: int | None = None
    end: float = math.inf

    def names(self, worker: str) -> Iterator[str]:
        """Yield the name of each message of a worker, at the moment when it may be sent."""
        for number in count() if self.each is None else range(self.each):
            if time.monotonic() > self.end:
                return
            yield f"{worker}-{number}"


def _text(name: str) -> str:
    return f"Subject: {name}\r\n\r\nHello\r\n"


def send_in_threads(limiter: Limiter, port: int, work: Work, workers: Iterable[str]) -> list[Sent]:
    """Send in one thread for each name of a worker, and return all messages."""
    decided: list[tuple[str, int, Decision]] = []
    errors: list[BaseException] = []
    sender, recipients = work.envelope.sender, work.envelope.recipients

    def send(worker: str) -> None:
        try:
            with smtplib.SMTP(HOST, port, local_hostname=CLIENT) as smtp:
                for name in work.names(worker):
                    with limiter.sending(work.envelope) as decision:
                        admitted = charged_at(decision)
                        smtp.sendmail(sender, recipients, _text(name))
                    decided.append((name, admitted, decision))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=send, args=(worker,)) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for error in errors:
        raise error
    limiter.usage(sender)  # the memory backend settles at the next call if another thread is in it
    return [Sent(name, admitted, charged_at(decision)) for name, admitted, decision in decided]


async def send_in_tasks(
    limiter: AsyncLimiter, port: int, work: Work, workers: Iterable[str]
) -> list[Sent]:
    """Send in one task for each name of a worker, and return all messages."""
    sent: list[Sent] = []
    sender, recipients = work.envelope.sender, work.envelope.recipients

    async def send(worker: str) -> None:
        smtp = aiosmtplib.SMTP(
            hostname=HOST, port=port, local_hostname=CLIENT, start_tls=False, timeout=None
        )
        async with smtp:
            for name in work.names(worker):
                async with limiter.sending(work.envelope) as decision:
                    admitted = charged_at(decision)
                    await smtp.sendmail(sender, recipients, _text(name))
                sent.append(Sent(name, admitted, charged_at(decision)))

    await asyncio.gather(*(send(worker) for worker in workers))
    return sent


class Store(NamedTuple):
    """Where the processes count: on a server, or each in its own memory without a URL."""

    url: str | None = None
    prefix: str = ""


IN_MEMORY: Final = Store()


class SendingProcesses:
    """Processes that send through a limiter each, all at the same time.

    kind: "sync" for threads, "async" for tasks.
    work: one for each process. workers: how many threads or tasks each process has.
    """

    def __init__(
        self,
        kind: str,
        policy: Policy,
        port: int,
        work: Sequence[Work],
        *,
        workers: int,
        store: Store = IN_MEMORY,
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self._barrier = context.Barrier(len(work) + 1)
        self._results: Any = context.Queue()
        self._processes = [
            context.Process(
                target=_run_process,
                args=(
                    (_send_async if kind == "async" else _send_sync),
                    (policy, store, port, each, [f"{number}-{i}" for i in range(workers)]),
                    self._barrier,
                    self._results,
                ),
                daemon=True,
            )
            for number, each in enumerate(work)
        ]

    def start(self) -> None:
        """Start the processes, and return when all of them begin to send."""
        for process in self._processes:
            process.start()
        self._barrier.wait(120)

    def stop_each_for(self, seconds: float, after: Mapping[int, float]) -> None:
        """Stop some processes by SIGSTOP, each for so many seconds, and wait until all go on.

        after: by the number of a process, after how many seconds it is stopped.
        """
        steps = [(begin, number, signal.SIGSTOP) for number, begin in after.items()]
        steps += [(begin + seconds, number, signal.SIGCONT) for number, begin in after.items()]
        start = time.monotonic()
        for moment, number, sent_signal in sorted(steps):
            time.sleep(max(0.0, start + moment - time.monotonic()))
            pid = self._processes[number].pid
            assert pid is not None
            os.kill(pid, sent_signal)

    def sent(self, timeout: float) -> list[Sent]:
        """Wait until the processes have ended, and return all messages; raise their errors."""
        results = [self._results.get(timeout=timeout) for _ in self._processes]
        for process in self._processes:
            process.join()
            process.close()
        self._results.close()
        self._results.join_thread()
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return [Sent(*each) for result in results for each in result]


Sender = Callable[..., list[Sent]]


def _run_process(send: Sender, arguments: tuple[Any, ...], barrier: Any, results: Any) -> None:
    try:
        results.put(send(*arguments, lambda: barrier.wait(120)))
    except BaseException as error:
        results.put(error)


def _send_sync(
    policy: Policy,
    store: Store,
    port: int,
    work: Work,
    workers: Sequence[str],
    ready: Callable[[], object],
) -> list[Sent]:
    if store.url is None:
        ready()
        return send_in_threads(Limiter(policy), port, work, workers)
    # A slow machine is not an outage.
    with closing(RedisBackend.from_url(store.url, prefix=store.prefix, timeout=30)) as backend:
        limiter = Limiter(policy, backend)
        limiter.check(work.envelope)
        ready()
        return send_in_threads(limiter, port, work, workers)


def _send_async(
    policy: Policy,
    store: Store,
    port: int,
    work: Work,
    workers: Sequence[str],
    ready: Callable[[], object],
) -> list[Sent]:
    async def send() -> list[Sent]:
        if store.url is None:
            ready()
            return await send_in_tasks(AsyncLimiter(policy), port, work, workers)
        backend = AsyncRedisBackend.from_url(store.url, prefix=store.prefix, timeout=30)
        try:
            limiter = AsyncLimiter(policy, backend)
            await limiter.check(work.envelope)
            ready()
            return await send_in_tasks(limiter, port, work, workers)
        finally:
            await backend.aclose()

    return asyncio.run(send())
