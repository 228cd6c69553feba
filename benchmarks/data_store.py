"""Region store at scale: writing, opening, and reading images at random, with memory; and opening a text bank.

Run by ``python -m benchmarks.data store``. Boxes and labels are random; a few hundred images' worth of them are drawn
once and used again, so that the seconds of writing are the writer's.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from regionclip.regions.store import RegionStore
from regionclip.regions.store_writer import RegionStoreWriter
from regionclip.text.text_bank import TextBank

IMAGES, REGIONS, K, CONCEPTS = 200_000, 100, 16, 6250
IDS = 3_000_000
NAMES, WIDTH = 20_000, 1024  # three times the pool of CC3M
READ, ROUNDS = 100_000, 5
PROMISED_IMAGES_A_SECOND, PROMISED_SECONDS, PROMISED_MANY = 2000, 1.0, 5.0


def store_benchmark(images: int = IMAGES, ids: int = IDS) -> dict[str, Any]:
    """Write, open and read a store of ``images`` x `REGIONS` regions, and open one of ``ids`` images.

    Returns:
        Numbers by name; memory in MB, of the process that reads.
    """
    with tempfile.TemporaryDirectory() as folder:
        store, many, bank = (Path(folder) / name for name in ("store", "many", "bank.safetensors"))
        found: dict[str, Any] = {"images": images, "regions": images * REGIONS}
        start = time.perf_counter()
        _write(store, range(images), REGIONS)
        found["written_images_a_second"] = images / (time.perf_counter() - start)
        start = time.perf_counter()
        summary = RegionStore.open(store).summary()
        found |= {"gigabytes": summary["bytes"] / 1e9, "summary_seconds": time.perf_counter() - start}
        # A process of its own, whose memory is that of reading.
        with get_context("spawn").Pool(1) as pool:
            found |= pool.apply(_read_at_random, (store, min(READ, images)))
        _write(many, (f"{number:09d}" for number in range(ids)), 1)
        found |= {"ids": ids, "open_seconds_many_ids": _median_seconds(lambda: RegionStore.open(many)["000000042"])}
        names = tuple(f"concept {number}" for number in range(NAMES))
        TextBank(names, torch.randn(NAMES, WIDTH), ("{}",), "RN50", "0" * 64).save(bank)
        found |= {"bank_names": NAMES, "open_seconds_bank": _median_seconds(lambda: TextBank.load(bank))}
    return found


def _write(folder: Path, ids: Iterator[int | str] | range, regions: int) -> None:
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 500, (300, regions, 2)).astype(np.float32)
    boxes = np.concatenate([corners, corners + rng.uniform(1, 100, corners.shape).astype(np.float32)], axis=2)
    logits = rng.normal(size=(300, regions)).astype(np.float32)
    index = rng.integers(0, CONCEPTS, (300, regions, K))
    prob = rng.dirichlet(np.ones(K + 1), (300, regions))[..., :K].astype(np.float32)
    with RegionStoreWriter(folder, {"teacher_sha256": "0" * 64}, k=K, concepts=CONCEPTS) as writer:
        for number, image_id in enumerate(ids):
            i = number % 300
            writer.add(image_id, boxes[i], logits[i], index[i], prob[i])


def _read_at_random(folder: Path, count: int) -> dict[str, Any]:
    """Open the store and read images at random, every number of them: first from disk, then from the page cache."""
    found: dict[str, Any] = {"open_seconds": _median_seconds(lambda: RegionStore.open(folder))}
    _forget(folder)
    store = RegionStore.open(folder)
    ids = np.random.default_rng(1).permutation(store.ids.to_numpy())[:count].tolist()
    _read(store, ids[:100])
    memory = [_megabytes("RssAnon")]
    found["images_a_second_from_disk"] = _read(store, ids)
    memory.append(_megabytes("RssAnon"))
    rates = []
    for _ in range(ROUNDS):
        rates.append(_read(store, ids))
        memory.append(_megabytes("RssAnon"))
    found |= {"images_a_second": statistics.median(rates), "memory_before": memory[0], "memory_after": memory[-1]}
    return {**found, "memory_growth": max(memory) - memory[0], "mapped_pages": _megabytes("RssFile")}


def _read(store: RegionStore, ids: list[int]) -> float:
    """Return how many images a second are read, all their values looked at."""
    start = time.perf_counter()
    for image_id in ids:
        for values in store[image_id]:
            if values is not None:
                values.sum()
    return len(ids) / (time.perf_counter() - start)


def _forget(folder: Path) -> None:
    """Ask the kernel to drop the files from its page cache."""
    for file in folder.iterdir():
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)  # what is not on the disk yet is not dropped
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def _median_seconds(call: Any) -> float:
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def _megabytes(key: str) -> float:
    """Return memory of this process: its own (RssAnon), or pages of mapped files (RssFile), which are a cache."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 1024
