"""RegionClassificationMetric: the accuracies of true boxes and AP over them, from one forward pass of a detector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from types import SimpleNamespace
from typing import Any

import numpy as np
from mmdet.registry import METRICS
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger

from regionclip.data.layout import DatasetName
from regionclip.errors import InputError
from regionclip.evaluation.coco import evaluate_coco
from regionclip.evaluation.lvis import evaluate_lvis
from regionclip.evaluation.mmdet_metrics.category_ids import category_ids, classes_of
from regionclip.evaluation.region_classification import RegionRecipe, classify_regions
from regionclip.evaluation.true_box_detections import SETTINGS, true_box_detections

_META_KEYS = ("classes", "base_classes", "novel_classes")


@METRICS.register_module()
class RegionClassificationMetric(BaseMetric):
    """Top-1, top-5 and their class means over true boxes, and AP with these boxes as the only proposals.

    It wants a detector on ``LoadGroundTruthAsProposals`` with ``test_cfg.rcnn=None``, so that MMDetection hands out the
    scores of every proposal, without NMS. The groups are the data set's ``base_classes`` and ``novel_classes``, and
    all.

    Args:
        ann_file: COCO or LVIS JSON.
        dataset: ``coco`` or ``lvis``: whose AP is measured, with the official settings for true boxes.
        templates: The prompt templates of the class names, in words, for the log.
        collect_device: See `BaseMetric`.
        prefix: See `BaseMetric`.
    """

    default_prefix = "region"

    def __init__(
        self,
        ann_file: str,
        dataset: DatasetName,
        templates: str,
        collect_device: str = "cpu",
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        if dataset not in SETTINGS:
            raise InputError(f"there is no data set '{dataset}'", key="dataset", mend="use coco or lvis")
        self.ann_file, self.dataset = ann_file, dataset
        self.recipe = RegionRecipe("roi_align", templates, "zero row")
        self._ids: list[int] = []

    def process(self, data_batch: Any, data_samples: Sequence[Mapping[str, Any]]) -> None:
        """Keep scores, labels and detections of a batch, one entry an image.

        Args:
            data_batch: Not used.
            data_samples: Data samples as dicts: ``img_id``; ``pred_instances`` with bboxes (N, 4) xyxy in original
                pixels and scores (N, K + 1), probabilities with the background last; ``gt_instances`` with labels (N,).

        Raises:
            InputError: The predictions are not those of the true boxes, or the classes are not in the order of their
                ids, so that labels of data set and model would differ.
        """
        if not self._ids:
            self._ids = category_ids(self.ann_file, classes_of(self.dataset_meta, "classes"))
            if self._ids != sorted(self._ids):
                raise InputError(
                    "the classes are not in the order of their category ids",
                    file=self.ann_file,
                    key="metainfo.classes",
                    mend="order classes and text bank by category id",
                )
        for sample in data_samples:
            found, labels = sample["pred_instances"], sample["gt_instances"]["labels"].numpy(force=True)
            if tuple(found["scores"].shape) != (len(labels), len(self._ids) + 1):
                raise InputError(
                    f"scores {tuple(found['scores'].shape)} are not those of {len(labels)} true boxes and "
                    f"{len(self._ids)} classes with background",
                    record=f"image {sample['img_id']}",
                    mend="take LoadGroundTruthAsProposals, test_cfg.rcnn=None and a vocabulary of all classes",
                )
            boxes, image = found["bboxes"].reshape(-1, 4), sample["img_id"]
            detections = true_box_detections(image, boxes, found["scores"], self._ids, self.dataset)
            self.results.append((found["scores"][:, :-1].numpy(force=True), labels, detections))

    def compute_metrics(self, results: list[tuple[np.ndarray, np.ndarray, list[dict[str, Any]]]]) -> dict[str, float]:
        """Measure all regions, log the protocols in words, and return the numbers.

        Args:
            results: For each image scores (N, K), labels (N,) and COCO result dicts.

        Returns:
            ``[class_mean_]top{1,5}_{base,novel,all}`` and ap, ap50, ... of `evaluate_coco` or `evaluate_lvis`:
            fractions 0..1, -1 where there is nothing to measure.

        Raises:
            InputError: The data set does not say which classes are base and which novel.
        """
        scores, labels, detections = zip(*results, strict=True)
        names, base, novel = (classes_of(self.dataset_meta, key) for key in _META_KEYS)
        groups, split = (
            {"base": base, "novel": novel, "all": names},
            SimpleNamespace(base_names=base, novel_names=novel),
        )
        accuracy = classify_regions(np.concatenate(scores), np.concatenate(labels), names, groups, self.recipe)
        found, most = list(chain.from_iterable(detections)), SETTINGS[self.dataset][1]
        if self.dataset == "coco":
            precision = evaluate_coco(self.ann_file, found, split, most)
        else:
            precision = evaluate_lvis(self.ann_file, found, most)
        for result in (accuracy, precision):
            MMLogger.get_current_instance().info(result["protocol"])
        return {
            key: -1.0 if value is None else value
            for key, value in {**accuracy, **precision}.items()
            if key.startswith(("ap", "top", "class_mean"))
        }
