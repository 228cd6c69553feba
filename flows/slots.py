"""Slots of Prefect's global concurrency limits, handed on within a second when a stage ends."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from prefect.client.orchestration import get_client
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectNotFound

from flows import processes

POLL = 1.0  # seconds

# One stage of this run at a time asks for a slot, because the server makes who comes too early wait for up to 30 s.
_turns: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)


@contextmanager
def slot(limit: str | None) -> Iterator[None]:
    """Hold a slot of a limit; a limit that is None or not on the server is none.

    A lease that cannot be renewed, because the server is away, does not stop the stage.

    Raises:
        RuntimeError: The flow run is being stopped.
        httpx.ConnectError, ConcurrencySlotAcquisitionError: The server is away.
    """
    with ExitStack() as held:
        if limit:
            with _turns[limit]:
                _wait_for_a_free_one(limit)
                # Another run may have been faster; then this waits as long as the server says.
                held.enter_context(concurrency(limit, occupy=1, strict=False))
        yield


def _wait_for_a_free_one(limit: str) -> None:
    with get_client(sync_client=True) as client:
        while True:
            try:
                found = client.read_global_concurrency_limit_by_name(limit)
            except ObjectNotFound:
                return
            if not found.active or found.active_slots < found.limit:
                return
            if processes.stopping.wait(POLL):
                raise RuntimeError("not started, because the flow run is being stopped")
