"""A context in which stages run alone in the tiny world."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from regionclip.artifacts import TEXT_BANKS
from regionclip.data.layout import detection_set, load_classes
from regionclip.params import check_params
from regionclip.regions.store_writer import RegionStoreWriter
from regionclip.text.text_bank import TextBank
from tests.conftest import profile_values


class Run:
    """Stands in for MLflow's run."""

    def __init__(self) -> None:
        self.files: list[str] = []

    def watch_system(self) -> None:
        """Nothing."""

    def log_metrics(self, values: dict[str, Any], step: int) -> None:
        """Nothing."""

    def log_artifact(self, file: Path) -> None:
        """Keep the name."""
        self.files.append(file.name)


Context = Callable[..., SimpleNamespace]


@pytest.fixture
def context(world: Path, clip_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Context:
    """A function that makes a stage's context; the current folder has the world, a teacher and text banks."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REGIONCLIP_WORKERS", "0")
    monkeypatch.setenv("REGIONCLIP_DEVICE", "cpu")
    Path("data").mkdir()
    Path("data/sets").symlink_to(world / "sets")
    Path("artifacts").mkdir()
    Path("artifacts/teacher").symlink_to(clip_path)
    dice = torch.Generator().manual_seed(0)
    TEXT_BANKS.mkdir()
    for name in ("coco", "lvis"):
        names = load_classes(name).names
        bank = TextBank(names, torch.randn(len(names), 32, generator=dice), ("a {}",), "tiny", "0" * 64)
        bank.save(TEXT_BANKS / f"{name}.safetensors")

    def make(validation: dict[str, Any] | None, dataset: str | None = None, **pseudo: float) -> SimpleNamespace:
        values = profile_values("tiny")
        if pseudo:
            fusion = {"base": 0.3, "novel": 0.7}
            values["finetune"]["sets"][dataset] |= {"pseudo_boxes": pseudo, "masks": False, "fusion": fusion}
            values["finetune"]["frozen_stages"] = 4
        values["finetune"]["initialisations"] = ["clip"]
        for section in (values["rpn"], values["pretrain"], *values["finetune"]["sets"].values()):
            section["schedule"] = section["schedule"] | {"validation": validation}
        run = Run()

        @contextmanager
        def model_run(_: str) -> Any:
            yield run

        return SimpleNamespace(
            params=check_params(values, "params.yaml"), dataset=dataset, digest="1" * 64, model_run=model_run,
            scratch=tmp_path / "scratch" / ("plain" if validation is None else "validated"), tracker=run,
        )  # fmt: skip

    return make


def propose(dataset: str, split: str) -> None:
    """Store three boxes a picture, as an RPN would."""
    content = json.loads(detection_set(dataset, split).annotations.read_text())
    with RegionStoreWriter(Path("artifacts/proposals", dataset, split), {}) as writer:
        for image in content["images"]:
            boxes = np.array([[8, 8, 90, 90], [60, 40, 150, 120], [100, 100, 180, 180]], np.float32)
            writer.add(image["id"], boxes, np.array([2, 1, 0], np.float32))
