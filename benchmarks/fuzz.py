"""Mutated inputs for every reader: no error but an `InputError` may leave, nothing may hang, nothing be lost uncounted.

Run ``python -m benchmarks.fuzz`` for all kinds, 21,000 inputs in sum; it takes some minutes on two cores and writes
``results/fuzz.md``. Each kind is a module of ``benchmarks/fuzzing`` whose ``run(folder, rng)`` makes one mutated input,
feeds it to the product and says what became of it.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import multiprocessing
import platform
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from regionclip.errors import InputError
from regionclip.files import atomic_path

RESULTS = Path(__file__).parent / "results/fuzz.md"
KINDS = {
    "annotations": 5000,
    "captions": 5000,
    "voc": 2000,
    "yolo": 2000,
    "cityscapes": 2000,
    "pictures": 3000,
    "archives": 1000,
    "weights": 1000,
    "params": 1000,
}
"""Kind -> inputs by default."""
SECONDS = 20  # for one input; more is a hang
MEMORY = 12 << 30  # bytes of address space beyond which an input is one that takes too much
_SHOWN = 3  # findings of a kind that are shown with their traceback


def fuzz(kind: str, count: int, seed: int) -> tuple[Counter[str], list[str]]:
    """Feed ``count`` mutated inputs of a kind; return outcomes and findings, each with the seed that makes it again."""
    module = importlib.import_module(f"benchmarks.fuzzing.{kind}")
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    signal.signal(signal.SIGALRM, _hang)
    outcomes: Counter[str] = Counter()
    findings: list[str] = []
    for number in range(seed, seed + count):
        with tempfile.TemporaryDirectory() as folder:
            signal.alarm(SECONDS)
            try:
                outcome = module.run(Path(folder), random.Random(number))
            except InputError:
                outcome = "refused"
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    raise
                outcome = "FINDING"
                findings.append(
                    f"{kind}, seed {number}: {type(error).__name__}: {error}\n{traceback.format_exc(limit=-4)}"
                )
            finally:
                signal.alarm(0)
        outcomes[outcome] += 1
    return outcomes, findings


def _hang(*_: object) -> None:
    raise TimeoutError(f"still at it after {SECONDS} s")


def _share(task: tuple[str, int, int]) -> tuple[Counter[str], list[str]]:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    return fuzz(*task)


def _alone(task: tuple[str, int, int]) -> tuple[str, Counter[str], list[str]]:
    """Run a share in a process of its own; an input that kills it is a finding."""
    kind, count, first = task
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            return kind, *pool.submit(_share, task).result()
        except BrokenProcessPool:
            killed = f"{kind}, one of the seeds {first} to {first + count - 1} killed its process\n"
            return kind, Counter({"FINDING": 1}), [killed]


def main() -> int:
    """Run the command; the exit code is 1 where something was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kind", choices=KINDS, nargs="*", default=list(KINDS), help="default: all")
    parser.add_argument("--count", type=int, help="inputs of each kind; default: 21,000 in sum")
    parser.add_argument("--seed", type=int, default=0, help="of the first input; the next ones follow")
    parser.add_argument("--processes", type=int, default=2)
    chosen = parser.parse_args()
    tasks, step = [], 500
    for kind in chosen.kind:
        last = chosen.seed + (chosen.count or KINDS[kind])
        tasks += [(kind, min(step, last - start), start) for start in range(chosen.seed, last, step)]
    started, outcomes, findings = time.perf_counter(), {kind: Counter() for kind in chosen.kind}, []
    with ThreadPoolExecutor(chosen.processes) as pool:
        for kind, counted, found in pool.map(_alone, tasks):
            outcomes[kind] += counted
            findings += found
            done = sum(sum(counts.values()) for counts in outcomes.values())
            print(f"\r{done} inputs, {len(findings)} findings", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    table = _table(outcomes, time.perf_counter() - started, chosen)
    print(table)
    print(*findings[: _SHOWN * len(chosen.kind)], sep="\n")
    if chosen.count is None and chosen.kind == list(KINDS):
        with atomic_path(RESULTS) as beside:
            beside.write_text(table + "".join(f"\n```\n{found}```\n" for found in findings[:_SHOWN]), encoding="utf-8")
    return 1 if findings else 0


def _table(outcomes: dict[str, Counter[str]], seconds: float, chosen: argparse.Namespace) -> str:
    columns = sorted(set().union(*outcomes.values()) | {"FINDING"})
    rows = [
        f"| {kind} | {sum(counts.values())} | {' | '.join(str(counts[column]) for column in columns)} |"
        for kind, counts in outcomes.items()
    ]
    total = sum(sum(counts.values()) for counts in outcomes.values())
    return "\n".join(
        [
            "# Mutated inputs",
            "",
            f"`python -m benchmarks.fuzz --seed {chosen.seed}`: {total} inputs in {seconds / 60:.0f} minutes on "
            f"{platform.machine()}. A finding is an error that is no InputError, a hang, or a record lost uncounted.",
            "",
            f"| kind | inputs | {' | '.join(columns)} |",
            f"|---|---:|{'---:|' * len(columns)}",
            *rows,
            "",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
