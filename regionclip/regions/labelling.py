"""Label the regions of captioned pictures: proposals of the RPN, concepts of the teacher."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from mmengine.model import BaseModel
from rich.progress import track
from torch.utils.data import DataLoader, Dataset

from regionclip import runtime
from regionclip.regions.matching import ConceptMatcher
from regionclip.regions.proposals import valid_regions
from regionclip.regions.store import Regions
from regionclip.regions.views import RegionTeacher


@torch.inference_mode()
def label_regions(
    rpn: BaseModel, teacher: RegionTeacher, matcher: ConceptMatcher, pictures: Dataset, top_k: int, batch_size: int = 8
) -> Iterator[tuple[int | str, Regions]]:
    """Yield the labelled regions of each picture, in order.

    Args:
        rpn: The trained RPN; its data preprocessor normalises the pictures for the teacher too.
        teacher: Embeds regions.
        matcher: Turns embeddings into probabilities over the concepts.
        pictures: Gives ``inputs`` and ``data_samples``.
        top_k: Concepts kept a region.
        batch_size: Pictures the RPN takes at a time.

    Yields:
        Image id, and boxes float32 (N, 4) xyxy in original pixels, objectness logits float32 (N,), concept_index
        int32 (N, k), concept_prob float32 (N, k) best first.
    """
    device = runtime.device()
    rpn, teacher = rpn.to(device).eval(), teacher.to(device)
    loader = DataLoader(pictures, batch_size=batch_size, num_workers=runtime.workers(), collate_fn=pseudo_collate)
    for batch in track(loader, description="pseudo labels"):
        data = rpn.data_preprocessor(batch, False)
        samples = rpn(**data, mode="predict")
        for image, sample in zip(data["inputs"], samples, strict=True):
            boxes, objectness = valid_regions(sample.cpu())
            index, probs = _match(image, sample.scale_factor, boxes, teacher, matcher, top_k)
            yield sample.img_id, Regions(boxes, objectness, index, probs)


def _match(
    image: torch.Tensor,
    scale: tuple[float, float],
    boxes: np.ndarray,
    teacher: RegionTeacher,
    matcher: ConceptMatcher,
    top_k: int,
) -> tuple[np.ndarray, np.ndarray]:
    k = min(top_k, len(matcher.bank))
    if not len(boxes):
        return np.zeros((0, k), np.int32), np.zeros((0, k), np.float32)
    network_boxes = torch.from_numpy(boxes) * torch.tensor([*scale, *scale], dtype=torch.float32)
    index, probs = matcher(teacher(image, network_boxes.to(image.device))).top_k(k)
    return index.cpu().numpy(), probs.cpu().numpy()
