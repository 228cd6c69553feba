"""StoreProposals: an MMEngine metric that writes an RPN's proposals to a region store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmdet.registry import METRICS
from mmdet.structures import DetDataSample
from mmengine.evaluator import BaseMetric
from mmengine.structures import InstanceData

from regionclip.labelling.proposals import valid_regions
from regionclip.regions.store import RegionStoreWriter


@METRICS.register_module()
class StoreProposals(BaseMetric):
    """Write the proposals of the tested pictures, best first, with raw logits; ``LoadStoredProposals`` reads them.

    Stock ``DumpProposals`` writes a pickle and knows pictures by file name. Proposals are held in memory until the
    test ends: 20 bytes each, 2.4 GB for COCO's training pictures with 1000 each.

    Args:
        store: Folder to write; one that is there is replaced.
        metadata: What made the proposals, such as the config's name.
        collect_device: MMEngine's.
    """

    default_prefix = "proposals"

    def __init__(self, store: str, metadata: dict[str, str], collect_device: str = "cpu") -> None:
        super().__init__(collect_device=collect_device)
        self.store, self.metadata = store, dict(metadata)

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Keep image id, boxes float32 (n, 4) in original pixels and logits float32 (n,) of each picture."""
        for sample in data_samples:
            found = sample["pred_instances"]
            picture = DetDataSample()
            picture.pred_instances = InstanceData(bboxes=found["bboxes"].cpu(), scores=found["scores"].cpu())
            self.results.append((sample["img_id"], *valid_regions(picture)))

    def compute_metrics(self, results: list[tuple]) -> dict[str, float]:
        """Write the store.

        Returns:
            ``images``, ``regions``: how many it holds.

        Raises:
            InputError: A picture came twice, or a logit is not finite.
        """
        with RegionStoreWriter(self.store, self.metadata) as writer:
            for image_id, boxes, logits in results:
                writer.add(image_id, boxes, logits)
        return {"images": len(results), "regions": sum(len(boxes) for _, boxes, _ in results)}
