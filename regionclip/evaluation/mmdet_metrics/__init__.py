"""Metrics for MMEngine's evaluators; importing this package registers them with MMDetection."""

from regionclip.evaluation.mmdet_metrics.constrained_ov_coco_metric import ConstrainedOVCocoMetric
from regionclip.evaluation.mmdet_metrics.federated_lvis_metric import FederatedLVISMetric
from regionclip.evaluation.mmdet_metrics.region_classification_metric import RegionClassificationMetric

__all__ = ["ConstrainedOVCocoMetric", "FederatedLVISMetric", "RegionClassificationMetric"]
