"""LoadPicture: pictures in MMDetection pipelines through the project's one opener."""

from __future__ import annotations

from typing import Any

from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS

from regionclip.data.pictures import to_bgr


@TRANSFORMS.register_module()
class LoadPicture(BaseTransform):
    """Read ``img_path`` as the stage `data` and the gate read it; MMCV's loader has other rules for odd pictures."""

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add ``img`` uint8 (H, W, 3) BGR, ``img_shape`` and ``ori_shape``; raises InputError."""
        results["img"] = to_bgr(results["img_path"])
        results["img_shape"] = results["ori_shape"] = results["img"].shape[:2]
        return results

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"
