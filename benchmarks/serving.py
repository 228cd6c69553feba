"""What the service gives: pictures a second and latency at 1, 8 and 32 clients, with batches and without, in turns.

Run ``python -m benchmarks.serving`` in a folder with a fine-tuned detector and its pictures; less than two minutes.
With ``--soak 10000`` it asks so many times instead, and says what memory the service holds.
"""

from __future__ import annotations

import argparse
import base64
import os
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import torch

from benchmarks.services import environment_of
from regionclip import RegionCLIP
from regionclip.files import atomic_path, write_json, write_text

RESULTS = Path(__file__).parent / "results"
CLIENTS = (1, 8, 32)
BATCHES = (1, 8)
ROUNDS = 2
NAMES = ["red star", "blue fish", "green crown", "small house"]


def main() -> None:
    """Measure in turns and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=".", help="workspace or bundle")
    parser.add_argument("--pictures", type=Path, default=Path("data/sets/coco/val"), help="folder")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--about", default="", help="the detector, in words for the table")
    parser.add_argument("--soak", type=int, metavar="REQUESTS", help="ask so many times and watch the memory instead")
    chosen = parser.parse_args()
    load = os.getloadavg()[0]
    files = [file.read_bytes() for file in sorted(chosen.pictures.iterdir())[:32]]
    bodies = [{"image": base64.b64encode(file).decode(), "names": NAMES, "threshold": 0.05} for file in files]
    if chosen.soak:
        return soak(chosen.model, bodies, chosen.soak)
    rows = [row for _ in range(ROUNDS) for row in direct(chosen.model, files, chosen.seconds)]
    with ExitStack() as stack:
        served = {most: stack.enter_context(serving(chosen.model, most)) for most in BATCHES}
        for address in served.values():
            asked(address, bodies, clients=8, seconds=2 * chosen.seconds)  # names are embedded, caches are filled
        for _ in range(ROUNDS):
            for clients in CLIENTS:
                for most, address in served.items():
                    rows.append({"how": f"batches to {most}"} | asked(address, bodies, clients, chosen.seconds))
    about = f"{chosen.about or 'the detector of the folder'}; load {load:.1f} before the start, of other programs"
    found = {"cores": os.cpu_count(), "threads": torch.get_num_threads(), "about": about, "rows": rows}
    write_json(RESULTS / "serving.json", found)
    with atomic_path(RESULTS / "serving.md") as beside:
        beside.write_text(table(rows, about), encoding="utf-8")
    print((RESULTS / "serving.md").read_text())


def direct(model: str, files: list[bytes], seconds: float) -> list[dict[str, Any]]:
    """Call the Python API in this process."""
    opened, rows = RegionCLIP.open(model), []
    for most in BATCHES:
        list(opened.detect(files[:most], NAMES, batch_size=most))
        begin, cpu, done = time.perf_counter(), time.process_time(), 0
        while time.perf_counter() - begin < seconds:
            part = [files[(done + place) % len(files)] for place in range(most)]
            done += len(list(opened.detect(part, NAMES, threshold=0.05, batch_size=most)))
        rate, cpu = done / (time.perf_counter() - begin), (time.process_time() - cpu) / done
        speed = {"rate": rate, "p50": most / rate, "p95": None}
        rows.append({"how": f"Python, {most} a call", "clients": 1, **speed, "cpu": cpu})
    return rows


@contextmanager
def serving(model: str, most: int) -> Iterator[str]:
    """Run the service as a process until the block ends."""
    options = ["--model", model, "--port", "0", "--max-batch", str(most), "--timeout", "120"]
    command = [sys.executable, "-m", "regionclip", "serve", *options]
    environment = environment_of({"REGIONCLIP_DEVICE": os.environ.get("REGIONCLIP_DEVICE", "")})
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        address, loaded = process.stdout.readline().strip(), process.stdout.readline()
        if not loaded:
            raise RuntimeError("the service does not start")
        yield address
    finally:
        process.terminate()
        process.wait(60)


def asked(address: str, bodies: list[dict[str, Any]], clients: int, seconds: float) -> dict[str, Any]:
    """Ask from so many clients at once, each again as soon as it is answered."""
    numbers, latencies, before = count(), [], counted(address)
    begin = time.perf_counter()

    def client() -> None:
        with httpx.Client(base_url=address, timeout=120, trust_env=False) as connection:
            while (sent := time.perf_counter()) - begin < seconds or len(latencies) < 2:
                connection.post("/detect", json=bodies[next(numbers) % len(bodies)]).raise_for_status()
                latencies.append(time.perf_counter() - sent)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken, after = time.perf_counter() - begin, counted(address)
    cuts = statistics.quantiles(latencies, n=20, method="inclusive")
    pictures, calls, cpu = (after[what] - before[what] for what in ("sum", "count", "cpu"))
    speed = {"rate": len(latencies) / taken, "p50": cuts[9], "p95": cuts[18]}
    return {"clients": clients, **speed, "batch": pictures / calls, "cpu": cpu / pictures}


def soak(model: str, bodies: list[dict[str, Any]], requests: int) -> None:
    """Ask from eight clients, a fifth of the time with names never seen before; write what memory the service holds."""
    rows, begin = [], time.perf_counter()
    with (
        serving(model, max(BATCHES)) as address,
        httpx.Client(base_url=address, timeout=120, trust_env=False) as client,
    ):

        def ask(number: int) -> None:
            new = {} if number % 5 else {"names": [f"thing {number}"]}
            client.post("/detect", json=bodies[number % len(bodies)] | new).raise_for_status()

        with ThreadPoolExecutor(8) as pool:
            for start in range(0, requests, requests // 10):
                list(pool.map(ask, range(start, start + requests // 10)))
                megabytes = counted(address)["memory"] / 1e6
                rows.append(f"| {start + requests // 10} | {megabytes:.0f} | {time.perf_counter() - begin:.0f} |")
                print(rows[-1], flush=True)
    about = f"`python -m benchmarks.serving --soak {requests}`: {' '.join(soak.__doc__.split())}"
    lines = ["# Memory of the service", "", about, "", "| requests | resident, MB | seconds |", "|---:|---:|---:|"]
    write_text(RESULTS / "serving_soak.md", "\n".join([*lines, *rows, ""]))


def counted(address: str) -> dict[str, float]:
    """Pictures that went to the model, how often it was called, and the service's seconds of processors and bytes."""
    said = httpx.get(f"{address}/metrics", trust_env=False).text
    names = {what: f"regionclip_batch_pictures_{what}" for what in ("sum", "count")}
    names |= {"cpu": "process_cpu_seconds_total", "memory": "process_resident_memory_bytes"}
    return {what: float(re.search(rf"^{name} (\S+)", said, re.MULTILINE)[1]) for what, name in names.items()}


def table(rows: list[dict[str, Any]], about: str) -> str:
    """Write the medians of rounds, and what batches gain, by round."""
    lines = [
        "# The service",
        "",
        f"`python -m benchmarks.serving` on {os.cpu_count()} cores: {about}.",
        f"Medians of {ROUNDS} rounds, which take turns. Clients are threads of one process on the same cores; each",
        "asks again when it is answered; the gain is that over batches of one, by round. CPU time is what other",
        "programs disturb least.",
        "",
        "| how | clients | CPU ms a picture | pictures/s | p50, ms | p95, ms | pictures a batch | gain in pictures/s |",
        "|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    for how, clients in dict.fromkeys((row["how"], row["clients"]) for row in rows):
        own = [row for row in rows if (row["how"], row["clients"]) == (how, clients)]
        single = [row for row in rows if (row["how"], row["clients"]) == (f"batches to {BATCHES[0]}", clients)]
        pairs = zip(own, single, strict=True) if how == f"batches to {BATCHES[1]}" else ()
        gains = [f"{one['rate'] / other['rate']:.2f}" for one, other in pairs]
        p95 = "" if own[0]["p95"] is None else f"{1000 * median(own, 'p95'):.0f}"
        batch = f"{median(own, 'batch'):.1f}" if "batch" in own[0] else ""
        speed = f"{1000 * median(own, 'cpu'):.0f} | {median(own, 'rate'):.1f} | {1000 * median(own, 'p50'):.0f} | {p95}"
        lines.append(f"| {how} | {clients} | {speed} | {batch} | {', '.join(gains)} |")
    return "\n".join(lines) + "\n"


def median(rows: list[dict[str, Any]], key: str) -> float:
    """Return the median of a column."""
    return statistics.median(row[key] for row in rows)


if __name__ == "__main__":
    main()
