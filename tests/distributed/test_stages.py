"""Stages of the tiny profiles in two processes: the files of one process."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient
from safetensors.torch import load_file

from regionclip.files import sha256_tree
from regionclip.workspace.profiles import profile_text

# Twelve stages one after the other; test_joint_training.py proves the same of the trainings in half a minute.
pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PROPOSED = ("proposals", "--dataset", "lvis")
BEFORE = (
    *((name,) for name in ("data", "check_data", "concepts", "teacher", "text_bank", "rpn")),
    *(("proposals", "--dataset", "coco"), PROPOSED, ("pseudo_labels",), ("check_pseudo_labels",)),
)
AFTER = (
    ("pretrain",),
    *((name, "--dataset", "lvis") for name in ("zero_shot", "pseudo_boxes", "finetune", "evaluate")),
)


def _regionclip(folder: Path, environment: dict[str, str], *arguments: str, processes: int = 1) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "regionclip", *arguments],
        cwd=folder, env=environment | {"REGIONCLIP_PROCESSES": str(processes)}, capture_output=True, text=True,
        timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module", params=["tiny", "tiny_vit"])
def alone(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]
) -> Path:
    """The pipeline with tiny params, of a ResNet and of a transformer, each stage in one process."""
    folder = tmp_path_factory.mktemp("stages") / "alone"
    folder.mkdir()
    for name in ("dvc.yaml", "regionclip"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "params.yaml").write_text(profile_text(request.param))
    for stage in (*BEFORE, *AFTER):
        _regionclip(folder, environment, *stage)
    return folder


@pytest.fixture(scope="module")
def together(alone: Path, environment: dict[str, str]) -> Path:
    """A copy whose stages from the RPN on ran in two processes."""
    folder = alone.with_name("together")
    shutil.copytree(alone, folder, symlinks=True)
    for made in ("rpn", "proposals", "pretrain", "finetune", "evaluate"):
        shutil.rmtree(folder / "artifacts" / made)
    for made, stage in (("rpn", ("rpn",)), ("proposals", PROPOSED)):
        _regionclip(folder, environment, *stage, processes=2)
        # Later stages start from the same files, so that rounding does not add up.
        shutil.move(folder / "artifacts" / made, folder / made)
        shutil.copytree(alone / "artifacts" / made, folder / "artifacts" / made)
    for stage in AFTER:
        _regionclip(folder, environment, *stage, processes=2)
        if stage[0] in ("pretrain", "finetune"):
            shutil.move(folder / "artifacts" / stage[0], folder / stage[0])
            shutil.copytree(alone / "artifacts" / stage[0], folder / "artifacts" / stage[0])
    return folder


def test_losses_are_those_of_one_process(alone: Path, together: Path) -> None:
    for name in ("rpn", "pretrain", "finetune_lvis/clip", "finetune_lvis/regionclip"):
        one, two = (
            [json.loads(line) for line in (folder / f"artifacts/history/{name}.jsonl").read_text().splitlines()]
            for folder in (alone, together)
        )
        assert len(one) == len(two) >= 4
        for single, joint in zip(one, two, strict=True):
            assert joint == pytest.approx(single, rel=1e-3, abs=1e-5), name


def test_weights_are_those_of_one_process(alone: Path, together: Path) -> None:
    """AdamW makes a step of the rounding of a gradient that is nothing, so a tenth of the learning rate is allowed."""
    student = "pretrain/open_clip_model.safetensors"
    pairs = {student: [load_file(alone / "artifacts" / student), load_file(together / student)]}
    for name in ("rpn/rpn.pth", "finetune/lvis/clip.pth"):
        files = alone / "artifacts" / name, together / name
        pairs[name] = [torch.load(file, weights_only=True)["state_dict"] for file in files]
    for name, (one, two) in pairs.items():
        assert set(one) == set(two)
        for key, value in one.items():
            torch.testing.assert_close(two[key], value, rtol=1e-3, atol=5e-5, msg=f"{name}: {key}")


def test_numbers_and_detections_are_those_of_one_process_bit_by_bit(alone: Path, together: Path) -> None:
    for name in ("proposals_lvis", "zero_shot_lvis", "evaluate_lvis"):
        file = f"reports/metrics/{name}.json"
        assert (together / file).read_bytes() == (alone / file).read_bytes()
    assert sha256_tree(together / "artifacts/evaluate") == sha256_tree(alone / "artifacts/evaluate")


def test_only_the_first_process_speaks_and_writes(together: Path) -> None:
    """One MLflow run a stage; nothing of the second process beside the outputs."""
    assert {path.name for path in (together / ".scratch").iterdir()} == {"locks"}
    assert not list((together / "artifacts").rglob(".*"))
    client = MlflowClient(f"sqlite:///{together / 'mlruns/mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("regionclip").experiment_id])
    stages = [run.info.run_name for run in runs if "mlflow.parentRunId" not in run.data.tags]
    # The pipeline before was copied with its runs.
    names = ["@".join(stage[::2]) for stage in (*BEFORE, *AFTER)]
    again = {"rpn", "proposals@lvis", *names[len(BEFORE) :]}
    assert Counter(stages) == {name: 1 + (name in again) for name in names}
