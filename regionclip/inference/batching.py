"""Dynamic batching: what waits at the same time and fits together goes to the model together, in one worker thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, NamedTuple


class _Job(NamedTuple):
    work: Callable[[list[Any]], Sequence[Any]]
    item: Any
    done: asyncio.Future[Any]
    patience: float  # time of the loop until which it waits for others


class Batcher:
    """Calls a model for many who wait: one call at a time, the longest waiting first, the event loop free meanwhile.

    Args:
        most: Items of a call.
        wait: Seconds that an item waits for others while the model has nothing to do.
        seen: Gets the number of items of each call.
    """

    def __init__(self, most: int, wait: float, seen: Callable[[int], object]) -> None:
        self._most, self._wait, self._seen = most, wait, seen
        self._waiting: dict[Hashable, list[_Job]] = {}
        self._more = asyncio.Event()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._running: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    async def __call__(self, work: Callable[[list[Any]], Sequence[Any]], item: Any, key: Hashable | None = None) -> Any:
        """Return what ``work`` gives for ``item``; items of one key may share a call, None is alone."""
        loop = asyncio.get_running_loop()
        patience = 0.0 if key is None else loop.time() + self._wait
        job = _Job(work, item, loop.create_future(), patience)
        self._waiting.setdefault(object() if key is None else key, []).append(job)
        self._more.set()
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run())
        return await job.done

    async def _run(self) -> None:
        while self._waiting:
            key, jobs = next(iter(self._waiting.items()))
            left = jobs[0].patience - asyncio.get_running_loop().time()
            if len(jobs) < self._most and left > 0:
                self._more.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._more.wait(), left)
                continue
            del self._waiting[key]
            if len(jobs) > self._most:
                self._waiting[key] = jobs[self._most :]  # behind those of other keys
            await self._call(jobs[: self._most])

    async def _call(self, jobs: Sequence[_Job]) -> None:
        jobs = [job for job in jobs if not job.done.done()]  # others gave up waiting
        if not jobs:
            return
        call = asyncio.get_running_loop().run_in_executor(self._worker, jobs[0].work, [job.item for job in jobs])
        try:
            found = await call
        except Exception as error:
            if len(jobs) > 1:
                # One may have brought it about, or there was no room for so many.
                for job in jobs:
                    await self._call([job])
            elif not jobs[0].done.done():
                jobs[0].done.set_exception(error)
            return
        self._seen(len(jobs))
        for job, result in zip(jobs, found, strict=True):
            if not job.done.done():
                job.done.set_result(result)
