"""PicturesDataset: pictures without boxes, through an MMDetection test pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dataset import Compose
from mmengine.registry import DefaultScope
from torch.utils.data import Dataset

from regionclip.data.datasets.detection import test_resize
from regionclip.data.pictures import ImageSpan, decode_image
from regionclip.params.stages import Detection


class PicturesDataset(Dataset):
    """Pictures by id and file.

    Args:
        pictures: Pairs of image id and where the image is, a file or a place in a shard, by number.
        sizes: The short side for tests, and the longest side.
    """

    def __init__(self, pictures: Sequence[tuple[int | str, Path | ImageSpan]], sizes: Detection) -> None:
        self.pictures = pictures
        keys = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")
        steps = [test_resize(sizes), {"type": "PackDetInputs", "meta_keys": keys}]
        # Outside a Runner, MMEngine finds MMDetection's transforms only in this scope.
        with DefaultScope.overwrite_default_scope("mmdet"):
            self.pipeline = Compose(steps)

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return ``inputs`` uint8 (3, H, W) BGR and ``data_samples``."""
        image_id, image = self.pictures[index]
        name = f"{image.file}/{image_id}" if isinstance(image, ImageSpan) else str(image)
        pixels = np.ascontiguousarray(np.asarray(decode_image(image, name))[..., ::-1])
        shape = pixels.shape[:2]
        record = {"img": pixels, "img_id": image_id, "img_path": name, "img_shape": shape, "ori_shape": shape}
        return self.pipeline(record)
