"""Slots of a limit: held by as many as there are, handed on, waited for only while the run goes on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from prefect.client.orchestration import get_client

from flows import processes
from flows.slots import slot

LIMIT = "two-devices"


@pytest.fixture
def limit(prefect_server: None) -> Iterator[str]:
    """A limit of two slots on the server."""
    with get_client(sync_client=True) as client:
        client.upsert_global_concurrency_limit_by_name(LIMIT, 2)
        yield LIMIT
        client.delete_global_concurrency_limit_by_name(LIMIT)


def taken() -> int:
    with get_client(sync_client=True) as client:
        return client.read_global_concurrency_limit_by_name(LIMIT).active_slots


def test_no_more_hold_one_than_there_are_and_all_come_to_hold_one(limit: str) -> None:
    guard, both = threading.Lock(), threading.Barrier(2)
    inside, most = 0, 0

    def stage(_: int) -> None:
        nonlocal inside, most
        with slot(limit):
            with guard:
                inside += 1
                most = max(most, inside)
            both.wait(60)
            with guard:
                inside -= 1

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(stage, range(4)))
    assert most == 2 and taken() == 0


def test_an_error_gives_the_slot_back(limit: str) -> None:
    with pytest.raises(ValueError, match="of the stage"), slot(limit):
        assert taken() == 1
        raise ValueError("of the stage")
    assert taken() == 0


@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize("name", [None, "not-on-the-server"])
def test_a_limit_that_is_not_there_holds_nobody_and_is_not_made(name: str | None) -> None:
    with get_client(sync_client=True) as client, slot(name), slot(name):
        there = client.read_global_concurrency_limits()
    assert name not in [found.name for found in there]


def test_a_run_that_is_being_stopped_waits_no_more(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "stopping", threading.Event())
    with slot(limit), slot(limit), ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(slot(limit).__enter__)
        processes.stopping.set()
        with pytest.raises(RuntimeError, match="being stopped"):
            waiting.result(60)
