"""Batches: requests that arrive while a batch is worked on share the next one.

With nobody else asking a batch is one request, so nothing waits for company; under load one transaction and one
commit serve many. A caller that goes away takes nothing back: what it asked is done all the same.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from mybroker.runtime.problem import Unavailable
from mybroker.runtime.telemetry import histogram

Q = TypeVar("Q")
A = TypeVar("A")

BATCH_MAX = 64
WAITING_MAX = 2_000
WORKERS = 2

_SIZES = histogram("mbb3_batch_requests", "Requests worked on together", ["batches"], buckets=(1, 2, 4, 8, 16, 32, 64))


class Batches(Generic[Q, A]):
    """Collects requests for `work`, which answers each in order. Supervise `run`."""

    def __init__(
        self,
        name: str,
        work: Callable[[Sequence[Q]], Awaitable[Sequence[A]]],
        *,
        batch_max: int = BATCH_MAX,
        waiting_max: int = WAITING_MAX,
        workers: int = WORKERS,
    ) -> None:
        """With one worker batches follow each other; with more, requests may overtake."""
        self._name = name
        self._work = work
        self._batch_max = batch_max
        self._waiting: asyncio.Queue[tuple[Q, asyncio.Future[A]]] = asyncio.Queue(waiting_max)
        self._workers = workers

    async def ask(self, request: Q) -> A:
        """Return the answer to one request. Raises Unavailable at once when too many wait, or what `work` raised."""
        future: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        try:
            self._waiting.put_nowait((request, future))
        except asyncio.QueueFull:
            raise Unavailable(self._name, f"{self._waiting.maxsize} requests are waiting already") from None
        return await future

    async def run(self) -> None:
        """Work until cancelled. What `work` raises goes to those who asked; the next batch is tried all the same."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._workers):
                group.create_task(self._run_one())

    async def _run_one(self) -> None:
        while True:
            batch = [await self._waiting.get()]
            while len(batch) < self._batch_max and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            _SIZES.labels(self._name).observe(len(batch))
            try:
                answers = await self._work([request for request, _ in batch])
            except Exception as error:  # noqa: BLE001  # whoever asked is told
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            for (_, future), answer in zip(batch, answers, strict=True):
                if not future.done():
                    future.set_result(answer)
