"""Pictures for reports: detections, mistakes, bars by class, learning curves, pseudo-label quality, the summary."""

from regionclip.evaluation.plots.bars import per_class_bars
from regionclip.evaluation.plots.curves import learning_curves
from regionclip.evaluation.plots.errors import error_bars
from regionclip.evaluation.plots.quality import pseudo_label_quality
from regionclip.evaluation.plots.sheet import SceneBoxes, detection_sheet, mistake_sheet, scene_boxes
from regionclip.evaluation.plots.summary import summary_picture

__all__ = [
    "SceneBoxes",
    "detection_sheet",
    "error_bars",
    "learning_curves",
    "mistake_sheet",
    "per_class_bars",
    "pseudo_label_quality",
    "scene_boxes",
    "summary_picture",
]
