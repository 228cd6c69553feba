"""One answer through every door, on a finished demo: ``python -m benchmarks.doors [FOLDER]``.

Each door looks for the same names on the same pictures of the split val as Python does, as a process of its own:
command, service, page, MLflow's server of the registered model (`regionclip register`), and onnxruntime by the code of
the export's README. Deviations are the largest of all objects; the page rounds scores to 0.001 and boxes to pixels.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from gradio_client import Client, handle_file

from benchmarks.services import environment_of
from benchmarks.serving import serving
from regionclip import RegionCLIP, artifacts
from regionclip.data.layout import load_classes
from regionclip.files import write_text
from regionclip.inference.outputs import FORMATS

RESULTS = Path(__file__).parent / "results"
PICTURES, THRESHOLD, MOST = 20, 0.1, 100
DATASET = "coco"
Objects = list[tuple[str, float, list[float]]]  # of one picture: name, score, box
Door = Callable[[list[Path], tuple[str, ...]], list[Objects]]


def main() -> None:
    """Compare and write the page; ends with 1 where a door finds other objects."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "folder", nargs="?", type=Path, default=Path(), help="where the demo has run, and is registered"
    )
    root = parser.parse_args().folder.resolve()
    files = sorted((root / artifacts.SETS / DATASET / "val").iterdir())[:PICTURES]
    vocabularies = {
        "the set's names": load_classes(DATASET, root / artifacts.SETS).names,
        "LVIS' names": load_classes("lvis", root / artifacts.SETS).names,
        "others": ("red star", "crème brûlée", "pepper, bell"),
    }
    model, lines, unlike = RegionCLIP.open(root, DATASET), [], 0
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        doors = opened(root, Path(folder), stack)
        for about, names in vocabularies.items():
            wanted = [result.to_hf() for result in model.detect(files, names, threshold=THRESHOLD, max_detections=MOST)]
            known = [transformers(found) for found in wanted]
            lines.append(f"| {about} ({len(names)}) | Python | {sum(map(len, known))} | | |")
            for door, ask in doors.items():
                differ, score, place = compared(ask(files, names), known)
                unlike += differ
                lines.append(f"| | {door} | {differ} | {score:.1e} | {place:.1e} |")
                print(about, lines[-1], flush=True)
    head = [
        "| names | door | objects; not found there, or only there | score | box, pixels |",
        "|---|---|---:|---:|---:|",
    ]
    about = [
        "`python -m benchmarks.doors`",
        *__doc__.splitlines()[1:],
        "",
        f"{len(files)} pictures, threshold {THRESHOLD}, at most {MOST} objects a picture.",
    ]
    write_text(RESULTS / "doors.md", "\n".join(["# One answer through every door", "", *about, "", *head, *lines, ""]))
    sys.exit(unlike > 0)


def opened(root: Path, scratch: Path, stack: ExitStack) -> dict[str, Door]:
    """Start every door; each takes pictures and names and gives the objects of each picture."""
    onnx = scratch / "onnx"
    run(root, sys.executable, "-m", "regionclip", "export", "-o", str(onnx), "--names", "star", "--dataset", DATASET)
    service = stack.enter_context(serving(str(root), 8))
    model = ["-m", f"models:/regionclip-{DATASET}@candidate", "--env-manager", "local"]
    mlflow = stack.enter_context(server(root, "/ping", "mlflow", "models", "serve", *model, "--port"))
    page = stack.enter_context(server(root, "/", "regionclip", "app", "--dataset", DATASET, "--port"))
    return {
        "command": partial(by_command, root, scratch),
        "service": partial(by_service, f"{service}/detect"),
        "page": partial(by_page, Client(page, verbose=False, analytics_enabled=False)),
        "mlflow models serve": partial(by_mlflow, f"{mlflow}/invocations"),
        "onnxruntime": partial(by_onnx, RegionCLIP.open(root, DATASET), onnx),
    }


def by_command(root: Path, scratch: Path, files: list[Path], names: tuple[str, ...]) -> list[Objects]:
    """``regionclip detect`` with a file of names."""
    listed, out = scratch / "names.txt", Path(tempfile.mkdtemp(dir=scratch)) / "out"
    write_text(listed, "".join(f"{name}\n" for name in names))
    rules = ["--threshold", str(THRESHOLD), "--max-detections", str(MOST), "--dataset", DATASET]
    detect = [sys.executable, "-m", "regionclip", "detect", *map(str, files)]
    run(root, *detect, "--names", str(listed), "--out", str(out), *rules)
    return [
        transformers(json.loads(line)["detections"]) for line in (out / FORMATS["json"][0]).read_text().splitlines()
    ]


def by_service(address: str, files: list[Path], names: tuple[str, ...]) -> list[Objects]:
    """``regionclip serve``."""
    rules = {"names": names, "threshold": THRESHOLD, "max_detections": MOST}
    answers = (
        httpx.post(address, json={"image": text(file), **rules}, timeout=300, trust_env=False).raise_for_status().json()
        for file in files
    )
    return [transformers(answer["detections"]) for answer in answers]


def by_page(page: Client, files: list[Path], names: tuple[str, ...]) -> list[Objects]:
    """``regionclip app``: rows of its table."""
    typed = ", ".join(f'"{name}"' if "," in name else name for name in names)
    found = []
    for file in files:
        _, table = page.predict(handle_file(file), THRESHOLD, MOST, typed, "", False, api_name="/find")
        found.append([(name, score, [float(side) for side in box.split(",")]) for _, name, score, box in table["data"]])
    return found


def by_mlflow(address: str, files: list[Path], names: tuple[str, ...]) -> list[Objects]:
    """``mlflow models serve``."""
    rows = [{"image": text(file), "names": names} for file in files]
    body = {"dataframe_records": rows, "params": {"threshold": THRESHOLD, "max_detections": MOST}}
    answer = httpx.post(address, json=body, timeout=300, trust_env=False).raise_for_status().json()
    return [transformers(row["detections"]) for row in answer["predictions"]]


def by_onnx(model: RegionCLIP, folder: Path, files: list[Path], names: tuple[str, ...]) -> list[Objects]:
    """The code of the export's README, with embeddings of these names."""
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    embeddings, found = folder / "text_embeddings.npy", []
    np.save(embeddings, model.vocabulary(list(names)).embeddings.numpy())
    for file in files:
        program, known = code, {}
        for place in (folder / "detector.onnx", embeddings, file):
            name = "picture.png" if place == file else place.name
            program = program.replace(f'"{name}"', repr(str(place)))
        exec(program, known)
        count = int(known["count"])
        scores, labels, boxes = (known[key][:count] for key in ("scores", "labels", "boxes"))
        sure = scores >= THRESHOLD
        rows = zip(labels[sure], scores[sure].tolist(), boxes[sure].tolist(), strict=True)
        found.append([(names[label], score, box) for label, score, box in rows][:MOST])
    return found


def transformers(found: list[dict[str, Any]]) -> Objects:
    """Objects of transformers' dicts."""
    return [(one["label"], one["score"], list(one["box"].values())) for one in found]


def compared(found: list[Objects], wanted: list[Objects]) -> tuple[int, float, float]:
    """Return how many objects have no partner of their name within two pixels, and the deviations of the others."""
    alone, scores, places = 0, [0.0], [0.0]
    for own, known in zip(found, wanted, strict=True):
        left = list(own)
        for name, score, box in known:
            near = [(max(abs(np.subtract(box, other[2]))), other) for other in left if other[0] == name]
            distance, partner = min(near, key=lambda one: (one[0], abs(one[1][1] - score)), default=(np.inf, None))
            if distance > 2:
                alone += 1
                continue
            left.remove(partner)
            scores.append(abs(partner[1] - score))
            places.append(distance)
        alone += len(left)
    return alone, max(scores), max(places)


def text(file: Path) -> str:
    """A picture in base64."""
    return base64.b64encode(file.read_bytes()).decode()


def run(folder: Path, *command: str) -> None:
    """Run a program in the demo's folder to its good end."""
    subprocess.run(command, cwd=folder, env=environment_of({}), check=True, stdout=subprocess.DEVNULL)


@contextmanager
def server(folder: Path, probe: str, *command: str) -> Iterator[str]:
    """Run a program that takes a port, until the block ends; gives its address when it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = [sys.executable, "-m", *command, str(port)]
    process = subprocess.Popen(program, cwd=folder, env=environment_of({}), start_new_session=True)
    address, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 300
    try:
        while True:
            try:
                httpx.get(address + probe, trust_env=False).raise_for_status()
                break
            except httpx.HTTPError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{command} does not start") from None
                time.sleep(0.5)
        yield address
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(60)


if __name__ == "__main__":
    main()
