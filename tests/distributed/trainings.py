"""A program that trains a pretrainer, an RPN and a detector with masks for a few steps, alone or in a process group.

Usage: trainings.py CLIP_FOLDER OUT. Everything that several processes could do otherwise than one is in the data:
pictures of several sizes, with few and many regions, some of which no threshold passes.
"""

from __future__ import annotations

# First: it lets mmcv-lite's operators be found.
import regionclip  # noqa: F401  # isort: skip

import copy
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from mmengine.dist import is_main_process
from mmengine.structures import InstanceData
from torch.utils.data import Dataset

from regionclip import runtime
from regionclip.checkpoints.clip_folder import ClipFolder
from regionclip.data.datasets.stream import ShuffledStream
from regionclip.engine.history_hook import HistoryHook
from regionclip.engine.launch import process_group
from regionclip.engine.prediction import predict
from regionclip.engine.training import train
from regionclip.engine.validation_hook import ValidationHook
from regionclip.models.assembly import build_detector, build_pretrainer, build_rpn
from regionclip.models.detector_settings import finetune_settings
from regionclip.params import check_params
from regionclip.params.stages import LossWeights, Schedule, Validation
from regionclip.workspace.profiles import compose_profile

CONCEPTS, CLASSES, WIDTH = 7, 5, 32
SIZES = ((64, 96), (80, 64), (64, 64))
TEMPERATURE = 0.1


class Pictures(Dataset):
    """An endless stream over nine pictures of noise; subclasses add what is in them."""

    def __init__(self) -> None:
        self.stream = ShuffledStream(9, seed=2)

    def __len__(self) -> int:
        return 9

    def __getitem__(self, position: int) -> dict[str, Any]:
        _, index = self.stream.locate(position)
        rng = np.random.default_rng(index)
        height, width = SIZES[index % len(SIZES)]
        image = rng.integers(0, 256, (3, height, width), np.uint8)
        sample = DetDataSample(metainfo={"img_id": index, "img_shape": (height, width), "scale_factor": (1.0, 1.0)})
        self.fill(sample, index, rng)
        return {"inputs": torch.from_numpy(image), "data_samples": sample}

    def fill(self, sample: DetDataSample, index: int, rng: np.random.Generator) -> None:
        """Give the picture its regions or objects."""
        raise NotImplementedError


class Regions(Pictures):
    """Labelled regions, one to nine a picture; of most pictures none is above the threshold of 0.35."""

    def fill(self, sample: DetDataSample, index: int, rng: np.random.Generator) -> None:
        count = 1 + index
        sample.proposals = InstanceData(
            bboxes=_boxes(count, sample.img_shape, rng),
            concept_index=torch.from_numpy(np.stack([rng.permutation(CONCEPTS)[:3] for _ in range(count)])),
            concept_prob=torch.from_numpy(-np.sort(-rng.random((count, 3), np.float32) / (2.6 + index % 4))),
        )
        sample.caption_features = torch.from_numpy(rng.normal(size=WIDTH).astype(np.float32))


class Objects(Pictures):
    """One to three objects with masks, and up to 36 proposals, so that some pictures have fewer than are sampled."""

    def fill(self, sample: DetDataSample, index: int, rng: np.random.Generator) -> None:
        count = 1 + index % 3
        boxes = _boxes(count, sample.img_shape, rng)
        masks = np.zeros((count, *sample.img_shape), np.uint8)
        for mask, (left, top, right, bottom) in zip(masks, boxes.int().tolist(), strict=True):
            mask[top : (top + bottom) // 2 + 1, left:right] = 1
        sample.gt_instances = InstanceData(
            bboxes=HorizontalBoxes(boxes),
            labels=torch.from_numpy(rng.integers(0, CLASSES, count)),
            masks=BitmapMasks(masks, *sample.img_shape),
        )
        near = torch.cat([boxes + torch.from_numpy(rng.normal(0, 3, (count, 4)).astype(np.float32)) for _ in range(4)])
        far = _boxes(3 * index, sample.img_shape, rng)
        sample.proposals = InstanceData(bboxes=torch.cat([near, far]))


def _boxes(count: int, shape: tuple[int, int], rng: np.random.Generator) -> torch.Tensor:
    height, width = shape
    corner = rng.random((count, 2), np.float32) * [width - 34, height - 34]
    return torch.from_numpy(np.concatenate([corner, corner + 12 + 20 * rng.random((count, 2))], axis=1)).float()


def measure(model: Any) -> tuple[dict[str, float | None], list[DetDataSample]]:
    """Measure an RPN: the mean score of its proposals on the nine pictures, two at a time."""
    found = list(predict(model, Objects(), title="validation", batch_size=2))
    if not is_main_process():
        return {}, []
    assert [sample.img_id for sample in found] == [Objects()[place]["data_samples"].img_id for place in range(9)]
    return {"score": float(torch.cat([sample.pred_instances.scores for sample in found]).mean())}, []


def run(clip_folder: Path, out: Path) -> None:
    """Train the three models; the first process writes KIND.jsonl and KIND.pt into ``out``."""
    clip, params = ClipFolder.open(clip_folder), check_params(compose_profile("tiny"), "tiny")
    settings = finetune_settings(params.finetune, params.finetune.sets["lvis"], CLASSES)
    changes = {"temperature": TEMPERATURE, "threshold": 0.35, "frozen_stages": 2}
    changes["losses"] = LossWeights(contrastive=1.0, distillation=1.0, image_text=1.0)
    dice = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    pretrainer = build_pretrainer(clip, params.pretrain.model_copy(update=changes))
    pretrainer.set_concepts(torch.randn(CONCEPTS, WIDTH, generator=dice))
    in_parts = copy.deepcopy(pretrainer)
    # One process holds its four pictures together, two of them one each.
    in_parts.micro_batch = 1 if runtime.inside_group() else None
    detector = build_detector(clip, settings, masks=True)
    detector.roi_head.bbox_head.fc_cls.set_vocabulary(torch.randn(CLASSES, WIDTH, generator=dice))
    rpn = build_rpn(clip, params.rpn, nms_iou=0.7, proposals=20)
    schedule = Schedule(
        iterations=4, batch_size=4, optimizer="SGD", learning_rate=0.01, weight_decay=0.0001, warmup_iterations=0,
        milestones=[3], clip_gradients={"norm": 1.0, "per": "model"},
    )  # fmt: skip
    trainings = {
        "pretrain": (pretrainer, Regions()),
        "in_parts": (in_parts, Regions()),
        "rpn": (rpn, Objects()),
        "finetune": (detector, Objects()),
    }
    for kind, (model, data) in trainings.items():
        scratch, hooks = out / "scratch" / kind, [HistoryHook(out / f"{kind}.jsonl")]
        if kind == "rpn":
            hooks.append(ValidationHook(Validation(interval=3), "score", ("object",), measure, None))
        trained = train(model, data, schedule, title=kind, seed=3, scratch=scratch, hooks=hooks)
        if is_main_process():
            torch.save(trained.state_dict(), out / f"{kind}.pt")


if __name__ == "__main__":
    with process_group() if runtime.inside_group() else nullcontext():
        run(Path(sys.argv[1]), Path(sys.argv[2]))
