"""A config trained and tested by MMDetection's own tools: what train.py saves, test.py reads and measures."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import CheckpointLoader

from regionclip.engine import mmdet_tools
from regionclip.errors import InputError
from regionclip.regions.store import RegionStore

# The fixture `experiment` keeps runs from writing configs down; here one must be.
PRETTY_TEXT = Config.__dict__["pretty_text"]


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> None:
    monkeypatch.setattr(sys, "argv", ["mmdet_tools", *map(str, arguments)])
    # MMDetection's tools set it where it is not set, and leave it to the tests that follow.
    monkeypatch.setenv("LOCAL_RANK", "0")
    mmdet_tools.main()


def _written(config: Config, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a config down, not in its work folder, where the run writes its own copy."""
    folder.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(Config, "pretty_text", PRETTY_TEXT)
        config.dump(folder / "config.py")
    return folder / "config.py"


def test_train_then_test(experiment: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One step, its checkpoint, a test run on it; a checkpoint that lacks a layer is refused by name."""
    config = experiment("transfer_coco48_rn50", shallow=True)
    config.default_hooks.checkpoint = {"type": "CheckpointHook", "by_epoch": False, "save_optimizer": False}
    path = _written(config, tmp_path / "configs", monkeypatch)
    _run(monkeypatch, "train", path)
    weights = tmp_path / "iter_1.pth"
    assert weights.is_file()

    _run(monkeypatch, "test", path, weights, "--work-dir", tmp_path / "test")
    (numbers,) = (tmp_path / "test").glob("*/*.json")
    assert "coco/novel_ap50" in json.loads(numbers.read_text())

    checkpoint = CheckpointLoader.load_checkpoint(str(weights))
    del checkpoint["state_dict"]["roi_head.shared_head.layer4.0.conv1.weight"]
    torch.save(checkpoint, tmp_path / "lacking.pth")
    with pytest.raises(InputError, match=r"lacking\.pth, key 'roi_head\.shared_head\.layer4\.0\.conv1\.weight'"):
        _run(monkeypatch, "test", path, tmp_path / "lacking.pth", "--work-dir", tmp_path / "test")


def test_proposals_of_other_pictures(
    experiment: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The options that docs/experiments.md gives make LVIS's RPN propose on COCO's pictures."""
    config = experiment("rpn_lvis866_fpn")
    with DefaultScope.overwrite_default_scope("mmdet"):
        torch.save(MODELS.build(config.model.copy()).state_dict(), tmp_path / "rpn.pth")
    path = _written(config, tmp_path / "configs", monkeypatch)
    _run(
        monkeypatch, "test", path, tmp_path / "rpn.pth", "--work-dir", tmp_path / "test", "--cfg-options",
        "test_dataloader.dataset.ann_file=data/coco/annotations/ov_coco_val_all65.json",
        "test_dataloader.dataset.data_prefix.img=datasets/coco/val2017/",
        "test_dataloader.dataset.metainfo.classes=[person]",
        f"test_evaluator.store={tmp_path / 'store'}",
    )  # fmt: skip
    assert RegionStore.open(tmp_path / "store").image_ids == [3, 4]
