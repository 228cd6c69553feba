"""A workspace with a tiny untrained detector, RPN and CLIP, and a validation set of noise to look at."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from regionclip import RegionCLIP
from regionclip.checkpoints.clip_folder import ClipFolder
from regionclip.checkpoints.mmengine_files import publish
from regionclip.files import write_json
from regionclip.models.assembly import build_detector, build_rpn
from regionclip.models.detector_settings import finetune_settings
from regionclip.params import load_params
from regionclip.text.prompts import TEMPLATE_SETS, embed_names
from tests.conftest import profile_yaml

BASE, NOVEL = ("star", "fish"), ("crown", "red circle")
NAMES = BASE + NOVEL


@pytest.fixture(autouse=True)
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models run where every machine has room."""
    monkeypatch.setenv("REGIONCLIP_DEVICE", "cpu")
    monkeypatch.setenv("REGIONCLIP_WORKERS", "0")


@pytest.fixture(scope="session")
def workspace(clip_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with params.yaml, data/sets/coco and artifacts/, as the pipeline leaves them."""
    root = tmp_path_factory.mktemp("workspace")
    # The pretrained head is asked too and boxes vote, so that every door has to do it.
    before, _, after = profile_yaml("tiny").rpartition("frozen_stages: 2")
    after = after.replace("fusion: null", "fusion: {base: 0.2, novel: 0.6}", 1)
    text = f"{before}frozen_stages: 4{after.replace('box_voting: null', 'box_voting: 0.4', 1)}"
    (root / "params.yaml").write_text(text)
    for name in ("teacher", "pretrain"):
        shutil.copytree(clip_path, root / "artifacts" / name)
    params, clip = load_params(root / "params.yaml"), ClipFolder.open(clip_path)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        rpn = build_rpn(clip, params.rpn, nms_iou=params.rpn.nms_iou, proposals=params.rpn.proposals)
        publish(rpn.state_dict(), root / "artifacts/rpn/rpn.pth", {"classes": list(BASE)})
        for name in ("clip", "regionclip"):
            model = build_detector(clip, finetune_settings(params.finetune, params.finetune.sets["coco"], len(BASE)))
            templates = TEMPLATE_SETS[params.text_bank.templates]
            texts = embed_names(clip.model(), clip.tokenizer(), BASE, templates)
            model.roi_head.bbox_head.fc_cls.set_vocabulary(texts)
            for weight in model.roi_head.shared_head.parameters():
                weight.data += 0.3 * weight.std(correction=0) * torch.randn_like(weight)
            torch.nn.init.normal_(model.roi_head.bbox_head.fc_reg.weight, std=0.1)
            publish(model.state_dict(), root / f"artifacts/finetune/coco/{name}.pth", {"classes": list(BASE)})
    _write_pictures(root / "data/sets/coco")
    return root


@pytest.fixture(scope="session")
def detector(workspace: Path) -> RegionCLIP:
    """The detector of the workspace; all tests of a process share it."""
    return RegionCLIP.open(workspace, device="cpu")


def _write_pictures(folder: Path) -> None:
    """Three pictures of noise in large patches, of one size, with the annotations of a detection set."""
    rng = np.random.default_rng(0)
    (folder / "val").mkdir(parents=True)
    images = []
    for number in (1, 2, 3):
        patches = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8))
        patches.resize((160, 120), Image.Resampling.NEAREST).save(folder / "val" / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": 160, "height": 120})
    categories = [{"id": number, "name": name} for number, name in enumerate(NAMES, 1)]
    truth = {"images": images, "annotations": [], "categories": categories}
    write_json(folder / "annotations/val.json", truth)
    classes = [{**entry, "split": "base" if entry["name"] in BASE else "novel"} for entry in categories]
    write_json(folder / "classes.json", {"classes": classes})
