"""How well a CLIP recognises whole images and crops of the objects in scenes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from regionclip import runtime
from regionclip.checkpoints.clip_folder import MEAN, STD, ClipFolder
from regionclip.data.captions import decode_image, open_captioned_images
from regionclip.data.layout import ClassList, DetectionSet
from regionclip.evaluation.truth import boxes_by_image, load_truth
from regionclip.regions.views import RegionTeacher
from regionclip.text.embed import embed_names
from regionclip.text.prompts import TEMPLATE_SETS


def normalized(image: np.ndarray) -> Tensor:
    """CLIP's normalisation of one RGB picture, uint8 (H, W, 3), to float32 (3, H, W)."""
    mean, std = (torch.tensor(values).view(3, 1, 1) * 255 for values in (MEAN, STD))
    return (torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1) - mean) / std


@torch.no_grad()
def image_top1(clip: ClipFolder, shards: Path, names: Sequence[str], templates: str) -> float:
    """Share of captioned images whose nearest class name is the one their caption holds.

    Args:
        clip: The CLIP.
        shards: Captioned images; those whose caption holds none or several of the names are left out.
        names: K class names.
        templates: Name of the prompt set.
    """
    device = runtime.device()
    model = clip.model().to(device)
    text = _class_directions(clip, model, names, templates)
    right = total = 0
    images, labels = [], []
    for record in open_captioned_images(shards):
        words = record.captions[0].lower().replace(".", " ").replace(",", " ").split()
        found = [index for index, name in enumerate(names) if name in words]
        if len(found) == 1:
            images.append(normalized(np.asarray(decode_image(record.image))))
            labels.append(found[0])
    for start in range(0, len(images), 256):
        features = model.encode_image(torch.stack(images[start : start + 256]).to(device))
        predicted = (features @ text.T).argmax(dim=1).cpu()
        right += int((predicted == torch.tensor(labels[start : start + 256])).sum())
        total += len(predicted)
    return right / max(total, 1)


@torch.no_grad()
def crop_top1(clip: ClipFolder, scenes: DetectionSet, classes: ClassList, templates: str, context: float) -> float:
    """Share of true boxes whose crop's nearest class name is the right one, among all classes.

    Args:
        clip: The CLIP.
        scenes: Pictures and true boxes.
        classes: The classes.
        templates: Name of the prompt set.
        context: Side of the square crop over the longer side of the box.
    """
    device = runtime.device()
    model = clip.model().to(device)
    text = _class_directions(clip, model, classes.names, templates)
    teacher = RegionTeacher(model, "crop", context)
    truth = load_truth(scenes.annotations)
    objects = boxes_by_image(truth)
    ids = np.asarray(classes.ids)
    right = total = 0
    for picture in truth["images"]:
        boxes, categories = objects[picture["id"]]
        if len(boxes):
            image = normalized(np.asarray(decode_image(scenes.images / picture["file_name"]))).to(device)
            features = teacher(image, torch.from_numpy(boxes).to(device))
            right += int((ids[(features @ text.T).argmax(dim=1).cpu()] == categories).sum())
            total += len(boxes)
    return right / max(total, 1)


def _class_directions(clip: ClipFolder, model: torch.nn.Module, names: Sequence[str], templates: str) -> Tensor:
    embeddings = embed_names(model, clip.tokenizer(), names, TEMPLATE_SETS[templates], device=runtime.device())
    return torch.nn.functional.normalize(embeddings, dim=-1).to(runtime.device())
