"""RandomRegions: boxes at random in the place of an RPN's, the paper's ablation of where regions come from."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from regionclip.regions.sampling import clip_boxes

_GRID = 8  # pixels of the network's input


class RandomRegions:
    """Draws boxes as the official pretraining does with CROP_REGION_TYPE "RANDOM" (``create_rand_boxes``).

    Corners lie on a grid of 8 pixels of the network's input: the upper left one uniform over the grid, then right and
    lower side uniform over what is left. The official code draws once for the padded canvas of a whole batch; here
    each picture has boxes of its own, inside it, which depend on the seed and its id alone.

    Args:
        number: Boxes a picture.
        seed: The same seed gives the same boxes.
    """

    def __init__(self, number: int, seed: int) -> None:
        self.number, self.seed = number, seed

    def __call__(self, batch: dict[str, Any]) -> list[DetDataSample]:
        """Give the ``data_samples`` of a batch their ``pred_instances``, as ``test_step`` of an RPN does.

        Boxes are float32 (number, 4) xyxy in original pixels, none of them empty; scores are logits, all 0.
        """
        for sample in batch["data_samples"]:
            boxes, scores = torch.from_numpy(self.boxes(sample)), torch.zeros(self.number)
            sample.pred_instances = InstanceData(bboxes=boxes, scores=scores)
        return batch["data_samples"]

    def boxes(self, sample: DetDataSample) -> np.ndarray:
        """Return the boxes of a picture by its img_id, img_shape, ori_shape and scale_factor."""
        rng = np.random.default_rng((self.seed, zlib.crc32(str(sample.img_id).encode())))
        height, width = sample.img_shape[:2]
        cells = np.array([-(-width // _GRID), -(-height // _GRID)])
        upper_left = rng.integers(0, cells, (self.number, 2))
        lower_right = rng.integers(upper_left + 1, cells + 1)
        boxes = clip_boxes(np.concatenate([upper_left, lower_right], axis=1) * _GRID, height, width)
        scale = np.array([*sample.scale_factor, *sample.scale_factor], np.float32)
        return clip_boxes(boxes / scale, *sample.ori_shape[:2])
