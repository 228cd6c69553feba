"""The GPU's benchmark runs on the CPU at tiny sizes: every work has its numbers, and the page its row."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch

from benchmarks import cuda, speed
from regionclip.files import read_json
from tests.benchmarks.test_speed import CLIP

SIZES = cuda.Sizes(
    picture=(64, 96), batches=(2,), regions=3, concepts=20, joint=(3, 1), finetune=(2, 8), proposals=(5,), classes=4,
    rounds=2,
)  # fmt: skip


@pytest.mark.slow
def test_all_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REGIONCLIP_DEVICE", "REGIONCLIP_PRECISION"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(speed.open_clip, "get_model_config", lambda name: CLIP)
    monkeypatch.setattr(speed, "PAIRS", {"pretrain": partial(speed.pretraining_step, regions=3, side=96)})
    cuda.main(["--device", "cpu", "--out", str(tmp_path)], SIZES)
    found = read_json(tmp_path / "cuda.json")
    works = found["works"]
    assert list(works) == ["pretraining", "pretraining_joint", "finetuning", "testing_5"]
    assert all(work["images_per_second"] > 0 and work["tera_operations"] > 0 for work in works.values())
    assert (
        works["pretraining"]["times_plain"] > 0
        and "3 pictures x 3 regions, 1 held" in works["pretraining_joint"]["work"]
    )
    page = (tmp_path / "cuda.md").read_text()
    assert all(f"| {row['work']} |" in page for row in (*works.values(), *found["pairs"].values()))


def test_the_largest_batch_that_fits_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed.open_clip, "get_model_config", lambda name: CLIP)
    tried, measure = [], cuda.measure

    def measured(work: cuda.Work, device: torch.device, rounds: int) -> dict:
        tried.append(work.pictures)
        if work.pictures > 2:
            raise torch.OutOfMemoryError
        return measure(work, device, rounds)

    monkeypatch.setattr(cuda, "measure", measured)
    works = cuda.measure_all(torch.device("cpu"), SIZES._replace(batches=(4, 3, 2, 1)))
    name, numbers = next(works)
    assert (name, numbers["pictures"], tried) == ("pretraining", 2, [4, 3, 2])


def test_operations_are_counted_once_for_the_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three parts of one picture do the forward pass twice: more than one pass over three, and less than twice it."""
    monkeypatch.setattr(speed.open_clip, "get_model_config", lambda name: CLIP)
    clip, device = cuda.clip_folder("any", tmp_path / "clip"), torch.device("cpu")
    whole, parts = (cuda.measure(cuda.pretraining(clip, device, SIZES, 3, micro), device, 1) for micro in (None, 1))
    assert 1.1 < parts["tera_operations"] / whole["tera_operations"] < 1.6
