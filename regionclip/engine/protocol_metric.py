"""ProtocolMetric: the numbers of the stage evaluate, from a test that MMEngine runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS

from regionclip.data.annotations.masks import encode_masks
from regionclip.data.annotations.truth import load_truth
from regionclip.data.layout import detection_set, load_classes
from regionclip.evaluation.detections import detections_from_samples
from regionclip.evaluation.protocols import measure


@METRICS.register_module()
class ProtocolMetric(BaseMetric):
    """Measure detections of all classes by their data set's protocol; see `measure`.

    Args:
        dataset: Name of the data set.
        split: ``dev`` or ``val``.
        protocol: See `measure`.
        collect_device: See `BaseMetric`.
    """

    def __init__(self, dataset: str, split: str, protocol: str, collect_device: str = "cpu") -> None:
        super().__init__(collect_device, prefix=dataset)
        self.dataset, self.split, self.protocol = dataset, split, protocol

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep the detections of each picture."""
        for sample in data_samples:
            found = SimpleNamespace(**sample["pred_instances"])
            if masks := hasattr(found, "masks"):
                tensor = hasattr(found.masks, "numpy")
                found.masks = encode_masks(found.masks.numpy(force=True) if tensor else found.masks)
            self.results.append(SimpleNamespace(img_id=sample["img_id"], pred_instances=found, masks=masks))

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Return the numbers; those of groups and classes have dotted names."""
        annotations, classes = detection_set(self.dataset, self.split).annotations, load_classes(self.dataset)
        truth = load_truth(annotations, lvis=classes.federated, masks=any(item.masks for item in results))
        found = detections_from_samples(results, classes.ids)
        return dict(_flat(measure(self.protocol, truth, found, classes)))


def _flat(numbers: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for key, value in numbers.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        elif isinstance(value, int | float):
            yield f"{prefix}{key}", float(value)
