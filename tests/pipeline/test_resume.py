"""Pretraining that is killed goes on where it was and ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient
from safetensors.torch import load_file

from regionclip.files import read_json

# Five runs of the stage; tests/engine/test_training.py proves the same of a model of one weight in a second.
pytestmark = pytest.mark.slow

ITERATIONS = 16
MARK = 12345.0
WEIGHTS = "artifacts/pretrain/open_clip_model.safetensors"
HISTORY = "artifacts/history/pretrain.jsonl"


@pytest.fixture(scope="module")
def longer(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy whose pretraining is long enough to be stopped twice."""
    folder = tmp_path_factory.mktemp("resume") / "longer"
    shutil.copytree(finished, folder, ignore=shutil.ignore_patterns("mlruns", "finetune"), symlinks=True)
    _change(folder, r"iterations: \d+", f"iterations: {ITERATIONS}")
    yield folder
    shutil.rmtree(folder.parent)


@pytest.fixture(scope="module")
def uninterrupted(longer: Path, command) -> dict[str, torch.Tensor]:
    """The weights of the student whose training nobody stopped."""
    done = command(longer, "regionclip", "pretrain")
    assert done.returncode == 0, done.stderr[-3000:]
    return load_file(longer / WEIGHTS)


@pytest.fixture(scope="module")
def killed(longer: Path, uninterrupted: dict[str, torch.Tensor], environment: dict[str, str]) -> Path:
    """A copy whose pretraining was killed in the middle; the first line of its history is marked."""
    folder = longer.parent / "killed"
    shutil.copytree(longer, folder, symlinks=True)
    for made in (folder / WEIGHTS, folder / HISTORY):
        made.unlink()
    _stop(folder, environment, signal.SIGKILL, after=3)
    history = _only_scratch(folder) / "history.jsonl"
    first, *rest = history.read_text().splitlines(keepends=True)
    history.write_text(json.dumps(json.loads(first) | {"loss": MARK}) + "\n" + "".join(rest))
    return folder


def _change(folder: Path, pattern: str, replacement: str) -> None:
    """Change a param of the section pretrain."""
    file = folder / "params.yaml"
    before, section = file.read_text().split("\npretrain:")
    file.write_text(f"{before}\npretrain:{re.sub(pattern, replacement, section, count=1)}")


def _only_scratch(folder: Path) -> Path:
    (scratch,) = (folder / ".scratch/pretrain").iterdir()
    return scratch


def _resume_points(folder: Path) -> list[int]:
    return sorted(int(path.stem[5:]) for path in folder.glob(".scratch/pretrain/*/iter_*.pth"))


def _stop(folder: Path, environment: dict[str, str], number: signal.Signals, after: int) -> subprocess.Popen[str]:
    """Start pretrain and send a signal to its process group as soon as a resume point from ``after`` on is there."""
    process = subprocess.Popen(
        ["regionclip", "pretrain"],
        cwd=folder,
        env=environment | {"REGIONCLIP_CHECKPOINT_INTERVAL": "1"},
        start_new_session=True,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    try:
        deadline = time.monotonic() + 300
        while max(_resume_points(folder), default=0) < after:
            assert process.poll() is None and time.monotonic() < deadline, "pretrain ended before it was stopped"
            time.sleep(0.01)
        process.send_signal(number) if number is signal.SIGTERM else _kill_group(process)
        process.stderr_text = process.communicate(timeout=120)[1]
    finally:
        if process.poll() is None:
            _kill_group(process)
            process.wait()
    return process


def _kill_group(process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGKILL)


def _losses(folder: Path) -> dict[int, float]:
    lines = [json.loads(line) for line in (folder / HISTORY).read_text().splitlines()]
    return {line["step"]: line["loss"] for line in lines}


def _endings(folder: Path) -> list[str]:
    """How MLflow says the runs ended, in the order they started."""
    client = MlflowClient(f"sqlite:///{folder / 'mlruns/mlflow.db'}")
    experiment = client.get_experiment_by_name("regionclip").experiment_id
    return [run.info.status for run in client.search_runs([experiment], order_by=["attributes.start_time ASC"])]


def test_killed_pretraining_leaves_resume_points_and_no_output(killed: Path) -> None:
    assert 3 <= max(_resume_points(killed)) < ITERATIONS
    assert not (killed / WEIGHTS).exists() and not (killed / HISTORY).exists()
    assert [path.name for path in (killed / "artifacts").iterdir() if path.name.startswith(".")] == []


def test_changed_param_does_not_resume(
    killed: Path, uninterrupted: dict[str, torch.Tensor], command, tmp_path: Path
) -> None:
    """Another learning rate: another scratch folder, a whole new history, other weights."""
    folder = Path(shutil.copytree(killed, tmp_path / "changed", symlinks=True))
    _change(folder, r"learning_rate: \S+", "learning_rate: 0.001")
    done = command(folder, "regionclip", "pretrain")
    assert done.returncode == 0, done.stderr[-3000:]
    digest = read_json(folder / "artifacts/runs/pretrain.json")["digest"]
    assert not digest.startswith(_only_scratch(killed).name)
    losses = _losses(folder)
    assert sorted(losses) == list(range(1, ITERATIONS + 1)) and losses[1] != MARK
    student = load_file(folder / WEIGHTS)
    key = "visual.layer4.0.conv1.weight"
    assert not torch.allclose(student[key], uninterrupted[key], rtol=1e-3, atol=1e-5)
    shutil.rmtree(folder)


def test_stopped_twice_it_ends_as_the_uninterrupted_one(
    killed: Path, uninterrupted: dict[str, torch.Tensor], environment: dict[str, str], command
) -> None:
    """SIGKILL, then SIGTERM (exit code 4), then `dvc repro`: the mark in the history shows that it went on."""
    reached = max(_resume_points(killed))
    stopped = _stop(killed, environment, signal.SIGTERM, after=reached + 2)
    assert stopped.returncode == 4 and "run it again" in stopped.stderr_text
    assert "Traceback" not in stopped.stderr_text
    assert reached + 2 <= max(_resume_points(killed)) < ITERATIONS and not (killed / WEIGHTS).exists()

    done = command(killed, "dvc", "repro", "--single-item", "pretrain")
    assert done.returncode == 0 and "Running stage 'pretrain'" in done.stdout, done.stderr[-3000:]
    losses = _losses(killed)
    assert sorted(losses) == list(range(1, ITERATIONS + 1)) and losses[1] == MARK
    assert not any((killed / ".scratch").glob("pretrain/*"))
    student = load_file(killed / WEIGHTS)
    assert set(student) == set(uninterrupted)
    for key, weights in student.items():
        torch.testing.assert_close(weights, uninterrupted[key], rtol=1e-5, atol=1e-7, msg=key)
    # Who is killed hard cannot say so; the run that goes on says it in its place.
    assert _endings(killed)[-3:] == ["KILLED", "KILLED", "FINISHED"]
