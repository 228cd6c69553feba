"""ConstrainedOVCocoMetric: COCO AP where only the base or only the novel classes exist."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from mmdet.registry import METRICS

from regionclip.errors import InputError
from regionclip.evaluation.average_precision import IouType
from regionclip.evaluation.coco import evaluate_coco_constrained
from regionclip.evaluation.detections import Detection
from regionclip.evaluation.mmdet_metrics.category_ids import classes_of
from regionclip.evaluation.mmdet_metrics.detection_results_metric import DetectionResultsMetric


@METRICS.register_module()
class ConstrainedOVCocoMetric(DetectionResultsMetric):
    """AP of the 17 novel or of the 48 base classes alone, under the keys of MMDetection's ``CocoMetric``.

    The data set's ``classes``, and so the model's vocabulary, must be its ``base_classes`` or ``novel_classes``, keys
    of ``metainfo`` that MMDetection's ``OVCocoMetric`` knows too. For the generalised protocol take that metric with
    ``proposal_nums=(1, 10, 100)``: by default it counts 1000 detections an image and class.

    Args:
        ann_file: COCO JSON with at least the group's classes; it is cut down as the official files are.
        group: ``base`` or ``novel``.
        metric: ``bbox``, ``segm`` or both.
        collect_device: See `BaseMetric`.
        prefix: See `BaseMetric`; by default ``constrained_{group}``.
    """

    def __init__(
        self,
        ann_file: str,
        group: Literal["base", "novel"],
        metric: IouType | Sequence[IouType] = "bbox",
        collect_device: str = "cpu",
        prefix: str | None = None,
    ) -> None:
        super().__init__(ann_file, metric, collect_device, prefix or f"constrained_{group}")
        self.group = group

    def measure(self, detections: list[Detection], iou_type: IouType) -> dict[str, Any]:
        """Measure COCO result dicts; see `evaluate_coco_constrained`.

        Raises:
            InputError: The data set's classes are not those of the group, or it does not say which these are.
        """
        names, members = (classes_of(self.dataset_meta, key) for key in ("classes", f"{self.group}_classes"))
        if set(names) != set(members):
            raise InputError(
                f"the model detects {len(names)} classes, the {self.group} ones are {len(members)}",
                key="metainfo.classes",
                mend=f"give the data set, and with it the model, the {self.group} classes alone",
            )
        return evaluate_coco_constrained(self.ann_file, detections, names, self.group, iou_type=iou_type)
