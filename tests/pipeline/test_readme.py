"""README.md, line by line: each is run in a fresh shell of a finished workspace, or is excused here with a reason."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
Shell = Callable[..., subprocess.CompletedProcess[str]]
NAMES = ["red circle", "crown"]

OFFICIAL = "needs official weights and data sets; every profile is tried in tests/test_profiles.py"
ELSEWHERE = {
    "make demo": "rebuilds all in a quarter of an hour, as `dvc repro` has done here on tiny params",
    "make test": "runs these tests",
    "regionclip inspect weights/regionclip_finetuned-coco_rn50.pth": "needs official weights; tests/checkpoints",
    "regionclip profile zero_shot_rn50 -o && dvc repro zero_shot": OFFICIAL,
    "regionclip profile transfer_coco48_rn50 -o": OFFICIAL,
    "dvc repro evaluate@coco": OFFICIAL,
    "regionclip profile transfer_lvis866_rn50x4 -o && dvc repro evaluate@lvis": OFFICIAL,
    "python -m benchmarks.parity --golden tests/golden --run zs_coco --out /tmp/parity --compare": (
        "tests/benchmarks/parity/test_golden_runs.py runs it"
    ),
    "regionclip data init --train a.json --val b.json --images pictures --novel novel.txt --clip weights/my_clip": (
        "needs a user's own files; tests/pipeline/test_real_files.py"
    ),
    "regionclip app": "blocks; tests/inference/test_app.py",
    "regionclip serve": "blocks; tests/inference/test_service.py",
    "make serve": "blocks; tests/flows/test_local.py",
    "make deploy": "needs `make serve`; tests/flows/test_deploy.py",
    "prefect deployment run pipeline/weekly-rebuild -p pull=false -p push=false --watch": (
        "needs `make serve` and `make deploy`; tests/ops"
    ),
    "mlflow models serve -m models:/regionclip-coco@candidate --env-manager local --port 5001": "blocks; see below",
}


def commands() -> list[tuple[str, str]]:
    """The lines of README's shell blocks without their comments, and its Python blocks, each with its language."""
    found = []
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```$", (ROOT / "README.md").read_text(), re.M | re.S):
        if language == "python":
            found.append((language, block))
        elif not language:
            lines = (re.sub(r"\s+#.*", "", line).strip() for line in block.splitlines())
            found += [("sh", line) for line in lines if line]
    return found


@pytest.fixture
def project(finished: Path, tmp_path: Path, command: Shell) -> Path:
    """A copy of the finished workspace, with MLflow's state, as a commit; and what the README's examples look at."""
    folder = tmp_path / "project"
    shutil.copytree(finished, folder, symlinks=True)
    (folder / ".venv").symlink_to(sys.prefix)
    picture = next((folder / "data/sets/coco/val").iterdir()).read_bytes()
    (folder / "picture.jpg").write_bytes(picture)
    rows = [{"image": base64.b64encode(picture).decode(), "names": NAMES}]
    (folder / "rows.json").write_text(json.dumps({"dataframe_records": rows}))
    command(folder, "git", "add", "--all").check_returncode()
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    command(folder, "git", *identity, "commit", "--quiet", "--message=finished").check_returncode()
    return folder


@pytest.fixture
def shell(project: Path, environment: dict[str, str], tmp_path: Path) -> Shell:
    """A function that runs lines in a shell of their own in the project, which knows nothing but how to activate."""
    fresh = environment | {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(tmp_path)}

    def run(lines: str, wait: bool = True) -> subprocess.CompletedProcess[str] | subprocess.Popen[bytes]:
        arguments = ["bash", "-ec", f"source .venv/bin/activate\n{lines}"]
        if not wait:
            return subprocess.Popen(arguments, cwd=project, env=fresh, start_new_session=True)
        return subprocess.run(arguments, cwd=project, env=fresh, capture_output=True, text=True, check=False)

    return run


def state(folder: Path) -> dict[str, bytes]:
    """What MLflow keeps of a workspace."""
    return {str(path): path.read_bytes() for path in (folder / "mlruns").rglob("*") if path.is_file()}


def test_excused_lines_stand_in_the_readme() -> None:
    """A line that was changed is to be looked at again."""
    assert set(ELSEWHERE) <= {text for _, text in commands()}


@pytest.mark.slow
def test_every_line_runs(project: Path, finished: Path, shell: Shell) -> None:
    """In the order of the page. The last ones find the model that one of them registered; nothing is said about where
    MLflow's store is, no other one appears, and the workspace that this one is a copy of stays as it is."""
    before, failed = state(finished), []
    for language, text in commands():
        if text in ELSEWHERE:
            continue
        (project / "example.py").write_text(text)
        done = shell(text if language == "sh" else "python example.py")
        if done.returncode:
            failed.append(f"{text}\n{done.stdout[-1000:]}{done.stderr[-2000:]}")
        if text.startswith("mlflow models predict"):
            assert json.loads(done.stdout.splitlines()[-1])["predictions"][0].keys() == {"detections"}
    assert not failed, "\n\n".join(failed)
    assert not (project / "mlflow.db").exists() and state(finished) == before
    assert str(finished).encode() not in (project / "mlruns/mlflow.db").read_bytes()
    assert any((project / "mlruns/artifacts/models").iterdir())
    _answers(project, shell)


def _answers(project: Path, shell: Shell) -> None:
    """The line that serves the model answers as the README says."""
    (line,) = (text for _, text in commands() if text.startswith("mlflow models serve"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = shell(f"exec {re.sub('5001', str(port), line)}", wait=False)
    body, kind = (project / "rows.json").read_bytes(), {"Content-Type": "application/json"}
    try:
        for _ in range(600):
            assert server.poll() is None
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5)
                break
            except (urllib.error.URLError, OSError):
                time.sleep(0.5)
        request = urllib.request.Request(f"http://127.0.0.1:{port}/invocations", body, kind)
        with urllib.request.urlopen(request, timeout=300) as answer:
            (row,) = json.load(answer)["predictions"]
        assert {found["label"] for found in row["detections"]} <= set(NAMES)
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
