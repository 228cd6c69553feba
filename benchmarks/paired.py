"""The same work done twice and timed in turns, and the page of what was found."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import torch

RESULTS = Path(__file__).parent / "results"
_LONGEST = 300.0  # seconds a pair, after which no further round begins


class Pair(NamedTuple):
    """The same work done twice.

    Attributes:
        work: What is done, in words.
        plain: The plain recipe's way.
        ours: This project's.
        difference: The largest deviation of the results, relative to the largest number.
        memory: Measure the peaks of memory too.
    """

    work: str
    plain: Callable[[], object]
    ours: Callable[[], object]
    difference: float
    memory: bool = False


def measure(pair: Pair, rounds: int, device: torch.device) -> dict[str, Any]:
    """Time both sides in turns, ``rounds`` times or for five minutes: medians of seconds, and ratios of the rounds."""
    peaks = {}
    if pair.memory:
        peaks = {"plain_bytes": _peak_bytes(pair.plain, device), "bytes": _peak_bytes(pair.ours, device)}
    plain, ours = [], []
    while not plain or (len(plain) < rounds and sum(plain) + sum(ours) < _LONGEST):
        plain.append(seconds(pair.plain, device))
        ours.append(seconds(pair.ours, device))
    ratios = [one / other for one, other in zip(plain, ours, strict=True)]
    return {
        "work": pair.work,
        "plain_seconds": statistics.median(plain),
        "seconds": statistics.median(ours),
        "ratio": statistics.median(ratios),
        "least_ratio": min(ratios),
        "largest_ratio": max(ratios),
        "difference": pair.difference,
        "rounds": len(plain),
        **peaks,
    }


def page(machine: dict[str, Any], found: dict[str, dict[str, Any]]) -> str:
    """Return the page of all pairs that were measured."""
    lines = [
        "# Speed against the plain recipe",
        "",
        "`python -m benchmarks.speed`: open_clip's and torchvision's own modules in float32 against this project's, in",
        f"turns; medians. {', '.join(f'{key} {value}' for key, value in machine.items())}.",
        "",
        "| work | plain, s | ours, s | times faster | least to largest | deviation | rounds | memory, GiB |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for pair in found.values():
        span = f"{pair['least_ratio']:.3g} to {pair['largest_ratio']:.3g}"
        seconds = f"{pair['plain_seconds']:.3g} | {pair['seconds']:.3g} | {pair['ratio']:.3g}"
        memory = " to ".join(f"{pair[key] / 2**30:.2f}" for key in ("plain_bytes", "bytes") if key in pair)
        lines.append(
            f"| {pair['work']} | {seconds} | {span} | {pair['difference']:.1e} | {pair['rounds']} | {memory} |"
        )
    return "\n".join([*lines, ""])


def seconds(act: Callable[[], object], device: torch.device) -> float:
    """Return what ``act`` takes, the device's work included."""
    started = time.perf_counter()
    act()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def _peak_bytes(act: Callable[[], object], device: torch.device) -> int:
    """Return the most memory that ``act`` held at a time, in tensors beyond those that there were before."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        act()
        return torch.cuda.max_memory_allocated(device) - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as seen:
        act()
    events = [event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"]
    return max(accumulate(event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())))
