"""FederatedLVISMetric: LVIS box and mask AP without the `lvis` package, which no longer runs with numpy 2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmdet.registry import METRICS

from regionclip.evaluation.average_precision import IouType
from regionclip.evaluation.detections import Detection
from regionclip.evaluation.lvis import LvisImages, evaluate_lvis
from regionclip.evaluation.mmdet_metrics.detection_results_metric import DetectionResultsMetric


@METRICS.register_module()
class FederatedLVISMetric(DetectionResultsMetric):
    """AP, AP50, AP75, APs, APm, APl, APr, APc, APf under the keys of MMDetection's ``LVISMetric`` (``bbox_APr``).

    Args:
        ann_file: LVIS v1 JSON.
        metric: ``bbox``, ``segm`` or both.
        max_detections: The most detections that count in an image.
        images: ``all``, or ``labelled``, the official loader's; see `evaluate_lvis`.
        collect_device: See `BaseMetric`.
        prefix: See `BaseMetric`.
    """

    default_prefix = "lvis"

    def __init__(
        self,
        ann_file: str,
        metric: IouType | Sequence[IouType] = "bbox",
        max_detections: int = 300,
        images: LvisImages = "all",
        collect_device: str = "cpu",
        prefix: str | None = None,
    ) -> None:
        super().__init__(ann_file, metric, collect_device, prefix)
        self.max_detections = max_detections
        self.images: LvisImages = images

    def measure(self, detections: list[Detection], iou_type: IouType) -> dict[str, Any]:
        """Measure COCO result dicts; see `evaluate_lvis`."""
        return evaluate_lvis(self.ann_file, detections, self.max_detections, iou_type=iou_type, images=self.images)

    def spell(self, key: str) -> str:
        """Spell ``apr`` as ``APr``."""
        return f"AP{key[2:]}"
