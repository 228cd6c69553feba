"""How well a CLIP recognises whole images and crops of the objects in scenes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from regionclip import runtime
from regionclip.checkpoints.clip_folder import MEAN, STD, ClipFolder
from regionclip.data.annotations.annotation_files import picture_name
from regionclip.data.annotations.truth import boxes_by_image, load_truth
from regionclip.data.captions import decode_image, open_captioned_images
from regionclip.data.layout import ClassList, DetectionSet
from regionclip.evaluation.region_classification import classify_regions
from regionclip.labelling.views import RegionTeacher
from regionclip.regions.matching import cosine_logits
from regionclip.text.text_bank import TextBank

BATCH = 256


def normalized(image: np.ndarray) -> Tensor:
    """CLIP's normalisation of one RGB picture, uint8 (H, W, 3), to float32 (3, H, W)."""
    mean, std = (torch.tensor(values).view(3, 1, 1) * 255 for values in (MEAN, STD))
    return (torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1) - mean) / std


@torch.no_grad()
def image_top1(clip: ClipFolder, shards: Path, bank: TextBank) -> float:
    """Share of captioned images whose nearest class name is the one their caption holds.

    Args:
        clip: The CLIP.
        shards: Captioned images; those whose caption holds none or several of the names are left out.
        bank: One embedding a class.
    """
    model = clip.model().to(runtime.device())
    images, labels = [], []
    for record in open_captioned_images(shards):
        words = set(re.findall(r"[a-z]+", record.captions[0].lower()))
        found = [index for index, name in enumerate(bank.names) if name in words]
        if len(found) == 1:
            images.append(normalized(np.asarray(decode_image(record.image))))
            labels.append(found[0])
    right, text = 0, bank.embeddings.to(runtime.device())
    for start in range(0, len(images), BATCH):
        features = model.encode_image(torch.stack(images[start : start + BATCH]).to(runtime.device()))
        nearest = cosine_logits(features, text, 1.0).argmax(dim=1).cpu()
        right += int((nearest == torch.tensor(labels[start : start + BATCH])).sum())
    return right / max(len(images), 1)


@torch.no_grad()
def classify_crops(
    clip: ClipFolder, scenes: DetectionSet, classes: ClassList, bank: TextBank, context: float
) -> dict[str, Any]:
    """Top-1 and top-5 accuracy of the true boxes' crops among all classes; see `classify_regions`.

    Args:
        clip: The CLIP.
        scenes: Pictures and true boxes.
        classes: The classes.
        bank: One embedding a class.
        context: Side of the square crop over the longer side of the box.
    """
    device = runtime.device()
    teacher = RegionTeacher(clip.model().to(device), "crop", context)
    truth, text = load_truth(scenes.annotations), bank.embeddings.to(device)
    objects = boxes_by_image(truth)
    scores, labels = [torch.zeros(0, len(classes.names))], [np.zeros(0, np.int64)]
    for picture in truth.images:
        boxes, categories = objects[picture["id"]]
        if len(boxes):
            image = normalized(np.asarray(decode_image(scenes.images / picture_name(picture)))).to(device)
            features = teacher(image[None], [torch.from_numpy(boxes).to(device)])
            scores.append(cosine_logits(features, text, 1.0).cpu())
            labels.append(np.searchsorted(classes.ids, categories))
    table, true = torch.cat(scores).numpy(), np.concatenate(labels)
    return classify_regions(table, true, classes.names, classes.groups, "crop", bank.templates)
