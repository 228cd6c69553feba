"""DetectionResultsMetric: what the metrics on detections share, from data samples to COCO result dicts."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger

from regionclip.errors import InputError
from regionclip.evaluation.average_precision import IouType
from regionclip.evaluation.detections import Detection, results_of_image
from regionclip.evaluation.mmdet_metrics.category_ids import category_ids, classes_of

_NAMES = {"ap": "mAP", "ap50": "mAP_50", "ap75": "mAP_75", "aps": "mAP_s", "apm": "mAP_m", "apl": "mAP_l"}


class DetectionResultsMetric(BaseMetric):
    """Collects detections; a subclass measures them in ``measure``.

    Args:
        ann_file: COCO or LVIS JSON with the ground truth.
        metric: ``bbox``, ``segm`` or both.
        collect_device: See `BaseMetric`.
        prefix: See `BaseMetric`.

    Raises:
        InputError: ``metric`` is neither.
    """

    def __init__(
        self,
        ann_file: str,
        metric: IouType | Sequence[IouType] = "bbox",
        collect_device: str = "cpu",
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.ann_file = ann_file
        self.iou_types = [metric] if isinstance(metric, str) else list(metric)
        for iou_type in self.iou_types:
            if iou_type not in ("bbox", "segm"):
                raise InputError(f"there is no metric '{iou_type}'", key="metric", mend="use bbox, segm or both")
        self._ids: list[int] | None = None

    def process(self, data_batch: Any, data_samples: Sequence[Mapping[str, Any]]) -> None:
        """Turn the predictions of a batch into COCO result dicts, one list an image.

        Args:
            data_batch: Not used.
            data_samples: Data samples as dicts: ``img_id`` and ``pred_instances`` with bboxes (N, 4) xyxy in original
                pixels, labels (N,) that index the data set's ``classes``, scores (N,), and masks where ``segm`` is
                measured: a bool tensor (N, H, W) or N RLEs.
        """
        for sample in data_samples:
            found = sample["pred_instances"]
            boxes, labels, scores = (found[key].numpy(force=True) for key in ("bboxes", "labels", "scores"))
            masks = found.get("masks") if "segm" in self.iou_types else None
            masks = masks.numpy(force=True) if hasattr(masks, "numpy") else masks
            self.results.append(results_of_image(sample["img_id"], boxes, labels, scores, self.category_ids, masks))

    def compute_metrics(self, results: list[list[Detection]]) -> dict[str, float]:
        """Measure all detections, log each protocol in words, and return the numbers.

        Args:
            results: COCO result dicts, one list an image.

        Returns:
            ``{bbox,segm}_{number}``: fractions 0..1, -1 where no class has an object, as COCO's and LVIS's own code
            says it.
        """
        detections = list(chain.from_iterable(results))
        numbers: dict[str, float] = {}
        for iou_type in self.iou_types:
            measured = self.measure(detections, iou_type)
            MMLogger.get_current_instance().info("%s: %s", iou_type, measured["protocol"])
            for key, value in measured.items():
                if key.startswith("ap"):
                    numbers[f"{iou_type}_{self.spell(key)}"] = -1.0 if value is None else value
        return numbers

    @abstractmethod
    def measure(self, detections: list[Detection], iou_type: IouType) -> dict[str, Any]:
        """Measure COCO result dicts; return a result of `regionclip.evaluation`."""

    def spell(self, key: str) -> str:
        """Spell the name of a number as MMDetection's own metric does."""
        return _NAMES.get(key, key)

    @property
    def category_ids(self) -> list[int]:
        """The category id of every label; see `category_ids`."""
        if self._ids is None:
            self._ids = category_ids(self.ann_file, classes_of(self.dataset_meta, "classes"))
        return self._ids
