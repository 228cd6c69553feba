"""A vision transformer through the whole graph by `dvc repro`, and a kill that changes nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from regionclip.checkpoints.clip_folder import ClipFolder
from regionclip.files import read_json
from tests.pipeline.conftest import new_repository

WEIGHTS = "artifacts/pretrain/open_clip_model.safetensors"

# The whole graph once more.
pytestmark = pytest.mark.slow


def test_a_transformer_goes_through_the_graph_and_through_a_kill(
    tmp_path: Path, environment: dict[str, str], command
) -> None:
    folder = new_repository(tmp_path / "vit", "tiny_vit", command)
    process = subprocess.Popen(
        ["dvc", "repro"],
        cwd=folder, env=environment | {"REGIONCLIP_CHECKPOINT_INTERVAL": "1"}, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 1800
    while not list(folder.glob(".scratch/pretrain/*/iter_[2-5].pth")):
        assert process.poll() is None and time.monotonic() < deadline, "it ended before it was stopped"
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (folder / "artifacts/pretrain").exists()

    done = command(folder, "dvc", "repro")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    resumed = load_file(folder / WEIGHTS)
    for name in ("coco", "lvis"):
        measured = read_json(folder / f"reports/metrics/evaluate_{name}.json")
        assert measured.keys() == {"clip", "regionclip"}
    teacher, student = (ClipFolder.open(folder / f"artifacts/{name}") for name in ("teacher", "pretrain"))
    assert student.model_cfg == teacher.model_cfg and student.model_cfg["vision_cfg"]["layers"] == 4
    again = command(folder, "dvc", "repro", "--force", "--single-item", "pretrain")
    assert again.returncode == 0, again.stderr[-3000:]
    for key, weights in load_file(folder / WEIGHTS).items():
        torch.testing.assert_close(weights, resumed[key], rtol=1e-5, atol=1e-7, msg=key)
