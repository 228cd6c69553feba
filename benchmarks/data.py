"""Data at scale, measured: raw pictures, the concept pool, the region store, shards of captioned images, evaluation.

Run ``python -m benchmarks.data all`` (or ``raw``, ``concepts``, ``store``, ``shards``, ``evaluation``, ``turns``) with
``OMP_NUM_THREADS=1``; needs about 5 GB in the temporary folder. What is measured replaces its part of
``results/data.md``; the other parts stay.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import random
import re
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from regionclip.files import atomic_path, write_json

RESULTS = Path(__file__).parent / "results/data.md"
PICTURES, PICTURE_BYTES = 118_000, 16 << 10  # as many as COCO's training split has
PARTS = ("raw", "concepts", "store", "shards", "evaluation", "turns")


def _raw() -> list[str]:
    from regionclip.stages.inputs import read_inputs

    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        Path("pictures").mkdir()
        content = bytearray(random.Random(0).randbytes(PICTURE_BYTES))
        for number in range(PICTURES):
            content[:8] = number.to_bytes(8)
            Path(f"pictures/{number:012d}.jpg").write_bytes(content)
        stage = {"cmd": "touch out", "deps": ["pictures"], "outs": ["out"]}
        Path("dvc.yaml").write_text(json.dumps({"stages": {"raw": stage}}))
        for command in (["git", "init", "--quiet"], ["dvc", "init", "--quiet"]):
            subprocess.run(command, check=True)
        first = _seconds(lambda: subprocess.run(["dvc", "repro"], check=True))
        again = _seconds(lambda: subprocess.run(["dvc", "status"], check=True))
        stage_sums = _seconds(lambda: read_inputs([Path("pictures")]))
        Path("pictures/000000000005.jpg").write_bytes(b"replaced")
        changed = _seconds(lambda: subprocess.run(["dvc", "status"], check=True))
    return [
        f"A raw folder of {PICTURES:,} pictures of {PICTURE_BYTES >> 10} KiB, which a stage depends on.",
        "",
        *_table(
            ("seconds of the first `dvc repro`", first, "", None),
            ("seconds of `dvc status` after it", again, "", None),
            ("seconds of a stage that sums its inputs after DVC did", stage_sums, "", None),
            ("seconds of `dvc status` when a picture was replaced", changed, "", None),
        ),
    ]


def _seconds(act: Callable[[], object]) -> float:
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


def _concepts() -> list[str]:
    from benchmarks.data_concepts import CAPTIONS, PROMISED_GIB, PROMISED_MINUTES, WORKERS, concepts_benchmark

    found = concepts_benchmark(CAPTIONS)
    minutes, gib = found["seconds"] / 60, found["peak_gib"]
    return [
        f"Concept pool from {CAPTIONS:,} captions, {WORKERS} workers; more in concepts.md.",
        "",
        *_table(
            ("minutes", minutes, f"<= {PROMISED_MINUTES}", minutes <= PROMISED_MINUTES),
            ("peak memory, all processes, GiB", gib, f"<= {PROMISED_GIB}", gib <= PROMISED_GIB),
        ),
    ]


def _store() -> list[str]:
    from benchmarks import data_store as bench

    found = bench.store_benchmark()
    soon, rate, seconds = found["open_seconds"], found["images_a_second"], bench.PROMISED_SECONDS
    many, bank = found["open_seconds_many_ids"], found["open_seconds_bank"]
    wanted, reads = bench.PROMISED_IMAGES_A_SECOND, (bench.ROUNDS + 1) * min(bench.READ, found["images"])
    return [
        f"A region store of {found['images']:,} images x {bench.REGIONS} regions, top {bench.K} of {bench.CONCEPTS:,}",
        f"concepts. One process on one core reads every value of images at random, {reads:,} times; its memory is",
        "RssAnon. Pages of mapped files (RssFile) are the kernel's cache, which it takes back when memory is short.",
        "",
        *_table(
            ("images a second, read at random, in the page cache", rate, f">= {wanted}", rate >= wanted),
            ("images a second, read at random, from disk", found["images_a_second_from_disk"], "", None),
            ("growth of memory while reading, MB", found["memory_growth"], "flat: < 10", found["memory_growth"] < 10),
            ("memory before, MB", found["memory_before"], "", None),
            ("memory after, MB", found["memory_after"], "", None),
            ("pages of mapped files, MB", found["mapped_pages"], "", None),
            ("seconds to open the store", soon, f"< {seconds:g}", soon < seconds),
            (
                f"seconds to open {found['ids']:,} string ids and read one",
                many,
                f"< {bench.PROMISED_MANY:g}",
                many < bench.PROMISED_MANY,
            ),
            (f"seconds to open a text bank of {found['bank_names']:,} names", bank, f"< {seconds:g}", bank < seconds),
            ("images a second, written and checked", found["written_images_a_second"], "", None),
            ("size, GB", found["gigabytes"], "", None),
            ("seconds for size and coverage", found["summary_seconds"], "", None),
        ),
    ]


def _shards() -> list[str]:
    from benchmarks import data_shards as bench

    found = bench.shards_benchmark()
    read, decode = found["read_microseconds_at_random"], found["decode_microseconds"]
    return [
        f"{found['images']:,} JPEG images of 640 x 480 pixels, {found['kilobytes_an_image']:.0f} kB each, in",
        f"{bench.SHARDS} shards, read in random order over all; medians of rounds of {bench.ROUND} images, each",
        "measured in a pair: read and decode, and decode the same bytes from memory.",
        "",
        *_table(
            ("read and decode / decode alone", found["ratio"], f"<= {bench.PROMISED_RATIO:g}", found["ratio"] <= 2),
            ("reading an image, microseconds", read, "<= decoding", read <= decode),
            ("decoding an image, microseconds", decode, "", None),
            ("webdataset's reader, in order, microseconds", found["read_microseconds_webdataset_in_order"], "", None),
            ("images a second, indexed once", found["indexed_images_a_second"], "", None),
            ("seconds to open the index", found["open_seconds"], "", None),
        ),
    ]


def _evaluation() -> list[str]:
    from benchmarks.data_evaluation import CASES, evaluation_benchmark

    lines = [
        "Reading a results file and measuring it, in a process of its own; boxes and masks are generated, masks of",
        "forty corners. Peak memory is the process's largest RSS.",
        "",
        "| pictures x detections | seconds to read | to measure | peak memory, GiB | promised | holds | with dicts |",
        "|---|---:|---:|---:|---:|---|---|",
    ]
    for case in CASES:
        found = evaluation_benchmark(case)
        size, holds = f"{case.images:,} x {case.found}", "yes" if found["gib"] <= case.promised else "no"
        seconds = f"{found['truth_seconds'] + found['read_seconds']:.0f} | {found['seconds']:.0f}"
        lines.append(
            f"| {case.name}, {size} | {seconds} | {found['gib']:.2f} | <= {case.promised:g} | {holds} | {case.before} |"
        )
    return lines


def _turns() -> list[str]:
    from benchmarks import data_evaluation as bench

    measured = {case.name: bench.turns_benchmark(case) for case in bench.TURNS}
    write_json(RESULTS.with_name("evaluation.json"), measured)
    most, gib = bench.PROMISED_TIMES, bench.PROMISED_TURNS_GIB
    lines = [
        "The same boxes measured by pycocotools (COCO) or the package lvis, and by this project: in turns, medians of",
        f"{bench.ROUNDS} rounds; each round is in evaluation.json. From arrays: what a stage has in memory, against",
        "the reference's way from its results file; from files: all that either does, the truth too.",
    ]
    for case in bench.TURNS:
        found = measured[case.name]
        seconds = {side: statistics.median(of[side]["seconds"] for of in found["rounds"]) for side in bench.SIDES}
        quick = {words: bench.times(found, files=words == "files") for words in ("arrays", "files")}
        lines += [
            "",
            f"{case.name}, {case.images:,} x {case.found}:",
            "",
            *_table(
                ("seconds of the reference", seconds["reference"], "", None),
                ("seconds of this project, from arrays", seconds["ours"], "", None),
                *(
                    (f"times as fast, from {words}", times, f">= {most}", times >= most)
                    for words, times in quick.items()
                ),
                ("largest difference of a number", found["difference"], "<= 1e-6", found["difference"] <= 1e-6),
                ("peak memory of the reference, GiB", found["gib"]["reference"], "", None),
                ("peak memory of this project, GiB", found["gib"]["ours"], f"<= {gib:g}", found["gib"]["ours"] <= gib),
            ),
        ]
    return lines


def _table(*rows: tuple[str, float, str, bool | None]) -> list[str]:
    """Return rows of name, value, what is promised and whether it holds."""
    words = {True: "yes", False: "no", None: ""}
    shown = [f"{value:,.0f}" if value >= 100 else f"{value:.3g}" for _, value, _, _ in rows]
    lines = [
        f"| {name} | {number} | {promised} | {words[holds]} |"
        for number, (name, _, promised, holds) in zip(shown, rows, strict=True)
    ]
    return ["| measured | value | promised | holds |", "|---|---:|---:|---|", *lines]


MEASURE: dict[str, Callable[[], list[str]]] = {
    "raw": _raw,
    "concepts": _concepts,
    "store": _store,
    "shards": _shards,
    "evaluation": _evaluation,
    "turns": _turns,
}


def page(old: str, measured: dict[str, list[str]]) -> str:
    """Return the page of results with the measured parts put in place of the old ones."""
    kept = dict(re.findall(r"^## (\w+)\n\n(.*?)\n*(?=^## |\Z)", old, re.MULTILINE | re.DOTALL))
    machine = f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}"
    lines = ["# Data at scale", ""]
    for part in PARTS:
        if part in measured:
            about = f"`python -m benchmarks.data {part}` on {machine}."
            lines += [f"## {part}", "", about, "", *measured[part], ""]
        elif part in kept:
            lines += [f"## {part}", "", kept[part], ""]
    return "\n".join(lines)


def main() -> None:
    """Measure what is asked for and write it to the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=(*PARTS, "all"))
    parser.add_argument("--out", type=Path, default=RESULTS, help="the page to write")
    arguments = parser.parse_args()
    parts = PARTS if arguments.part == "all" else (arguments.part,)
    measured = {part: MEASURE[part]() for part in parts}
    text = page(arguments.out.read_text(encoding="utf-8") if arguments.out.exists() else "", measured)
    with atomic_path(arguments.out) as beside:
        beside.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
