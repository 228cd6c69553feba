"""PicturesDataset: pictures without boxes, through an MMDetection test pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.dataset import Compose
from mmengine.registry import DefaultScope
from torch.utils.data import Dataset

from regionclip.data.detection import test_resize
from regionclip.params import Detection


class PicturesDataset(Dataset):
    """Pictures by id and file.

    Args:
        pictures: Pairs of image id and file.
        sizes: The short side for tests, and the longest side.
    """

    def __init__(self, pictures: Sequence[tuple[int | str, Path]], sizes: Detection) -> None:
        self.pictures = list(pictures)
        keys = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")
        steps = [
            {"type": "LoadImageFromFile", "imdecode_backend": "pillow"},
            test_resize(sizes),
            {"type": "PackDetInputs", "meta_keys": keys},
        ]
        # Outside a Runner, MMEngine finds MMDetection's transforms only in this scope.
        with DefaultScope.overwrite_default_scope("mmdet"):
            self.pipeline = Compose(steps)

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return ``inputs`` uint8 (3, H, W) BGR and ``data_samples``."""
        image_id, file = self.pictures[index]
        return self.pipeline({"img_id": image_id, "img_path": str(file)})
