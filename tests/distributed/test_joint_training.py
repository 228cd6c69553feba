"""Two processes train to the losses and weights of one process with the joint batch."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from regionclip.checkpoints.mmengine_files import read

PROGRAM = Path(__file__).with_name("trainings.py")
KINDS = ("pretrain", "in_parts", "rpn", "finetune")


@pytest.fixture(scope="module")
def alone(clip_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What this process trains by itself."""
    out = tmp_path_factory.mktemp("alone")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REGIONCLIP_WORKERS", "0")
        patch.setenv("REGIONCLIP_DEVICE", "cpu")
        runpy.run_path(str(PROGRAM))["run"](clip_path, out)
    return out


@pytest.fixture(scope="module")
def together(clip_path: Path, tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Path:
    """What two processes train under torch's launcher."""
    out = tmp_path_factory.mktemp("together")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(PROGRAM)]
    done = subprocess.run(
        [*command, str(clip_path), str(out)], env=environment, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return out


def _history(folder: Path, kind: str) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / f"{kind}.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("kind", KINDS)
def test_losses_are_those_of_the_joint_batch(kind: str, alone: Path, together: Path) -> None:
    """Every loss of every step to 1e-5 of its size: sums are taken in another order."""
    one, two = ([line for line in _history(folder, kind) if "loss" in line] for folder in (alone, together))
    assert [line["step"] for line in one] == [line["step"] for line in two] == [1, 2, 3, 4]
    for single, joint in zip(one, two, strict=True):
        assert set(single) == set(joint) and "loss" in single
        for name, value in single.items():
            assert joint[name] == pytest.approx(value, rel=1e-5, abs=1e-6), (name, single["step"])


def test_all_processes_validate_and_find_what_one_finds(alone: Path, together: Path) -> None:
    """After steps 3 and 4 of the RPN's; the best weights are of the same step."""
    one, two = ([line for line in _history(folder, "rpn") if "loss" not in line] for folder in (alone, together))
    assert [line["step"] for line in one] == [line["step"] for line in two] == [3, 4]
    assert [line["validation_score"] for line in two] == pytest.approx([line["validation_score"] for line in one])
    (_, first), (_, second) = (read(folder / "scratch/rpn/best.pth") for folder in (alone, together))
    assert first["step"] == second["step"]


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_those_of_one_process(kind: str, alone: Path, together: Path) -> None:
    """To 1e-6; processes that average their own means end 2e-5 to 1e-3 apart."""
    one, two = (torch.load(folder / f"{kind}.pt", weights_only=True) for folder in (alone, together))
    assert set(one) == set(two)
    apart = max(float((one[key].double() - two[key].double()).abs().max()) for key in one)
    assert apart < 1e-6, apart


def test_the_case_tells_means_of_means_from_the_mean(alone: Path) -> None:
    """Steps differ in how many regions are kept; with equal numbers nothing would be shown."""
    history = _history(alone, "pretrain")
    assert len({line["kept_regions"] for line in history}) > 1 and min(line["kept_regions"] for line in history) >= 1
    assert max(line["loss_contrastive"] for line in history) > 0.1
