"""A foreign data set goes from ``data init`` to an evaluated detector: the commands of docs/your-data.md, cut short.

The stages run in this process, in the order of the graph; DVC's part is proved in tests/pipeline.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from regionclip import cli
from regionclip.files import read_json
from regionclip.stages.runner import run_stage

ROOT = Path(__file__).parents[2]
STAGES = (
    *("data", "check_data", "concepts", "teacher", "text_bank", "rpn", "proposals", "pseudo_labels"),
    *("check_pseudo_labels", "pretrain", "zero_shot", "pseudo_boxes", "finetune", "evaluate", "report"),
)


@pytest.fixture
def project(toys: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder around the foreign set."""
    shutil.copy(ROOT / "dvc.yaml", ".")
    shutil.copytree(ROOT / "regionclip", "regionclip", ignore=shutil.ignore_patterns("__pycache__"))
    for key, value in {"REGIONCLIP_WORKERS": "0", "REGIONCLIP_DEVICE": "cpu"}.items():
        monkeypatch.setenv(key, value)
    return toys


def _init(toys: Path, *more: str) -> None:
    files = [
        "--train",
        f"{toys}/train.json",
        "--val",
        f"{toys}/val.json",
        "--images",
        f"{toys}/pictures",
        "--name",
        "toys",
    ]
    assert cli.main(["data", "init", *files, *more]) == 0
    profile = Path("params.yaml")
    text = re.sub(r"iterations: \d+", "iterations: 2", profile.read_text())
    text = re.sub(r"milestones: .*", "milestones: [1]", text).replace("warmup_iterations: 2", "warmup_iterations: 0")
    # Fresh weights are sure of nothing, and two iterations make no proposals.
    text = re.sub(r"min_proposal_recall: .*", "min_proposal_recall: 0.0", text)
    profile.write_text(re.sub(r"threshold: 0\.3", "threshold: 0.0", text))


def _run() -> dict:
    for stage in STAGES:
        run_stage(stage, "toys" if stage in cli.BY_DATASET else None)
    return read_json("reports/summary.json")


@pytest.mark.slow  # what `data init` writes: test_init.py; all stages: tests/pipeline
def test_with_captions_all_stages_run_on_it(project: Path, clip_path: Path) -> None:
    captions = ("--captions", f"{project}/captions.json", "--captions-images", f"{project}/pictures")
    _init(project, "--novel", f"{project}/novel.txt", "--clip", str(clip_path), *captions)
    summary = _run()
    concepts = Path("artifacts/concepts/concepts.csv").read_text()
    assert all(name in concepts for name in ("star", "heart", "ring"))
    for model in ("clip", "regionclip"):
        measured = summary["open_vocabulary"]["toys"][model]
        assert None not in (measured["ap50_base"], measured["ap50_novel"])
    assert "1 novel" in read_json("reports/metrics/evaluate_toys.json")["clip"]["protocol"]


@pytest.mark.slow
def test_without_captions_and_novel_classes_the_clip_itself_is_transferred(project: Path, clip_path: Path) -> None:
    _init(project, "--clip", str(clip_path))
    summary = _run()
    assert list(summary["open_vocabulary"]["toys"]) == ["clip"]
    assert list(summary["open_vocabulary"]["toys"]["clip"]) == ["ap", "ap50"]
    assert read_json("reports/metrics/pseudo_labels.json") == {"not_needed": "pretrain.weights is given"}
