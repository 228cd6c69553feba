"""Stage check_pseudo_labels: the gate before pretraining."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from regionclip.contracts.captions import read_caption_tables
from regionclip.contracts.checkpoint import gate
from regionclip.contracts.pseudo_labels import Demands, pseudo_label_checks
from regionclip.data.layout import captioned_scenes
from regionclip.errors import InputError
from regionclip.regions.store import RegionStore
from regionclip.stages.imported import say_not_needed
from regionclip.text.concepts import ConceptPool

if TYPE_CHECKING:
    from regionclip.stages.runner import StageContext

STORE, CONCEPTS = Path("artifacts/pseudo_labels"), Path("artifacts/concepts/concepts.csv")
MOST_REGIONS = 5_000_000  # of a larger store the first ones are checked; a table of them takes about 1 GB


def run(context: StageContext) -> dict[str, Any]:
    """Check artifacts/pseudo_labels; write reports/checks/check_pseudo_labels.json.

    Raises:
        InputError: The store does not say its threshold.
        DataCheckFailed: The store breaks its contract (exit code 3).
    """
    if context.params.pretrain.weights:
        gate("check_pseudo_labels", [])
        return say_not_needed("check_pseudo_labels", "pretrain.weights is given")
    params = context.params.check_pseudo_labels
    store = RegionStore.open(STORE)
    try:
        threshold = float(store.metadata["threshold"])
    except (KeyError, ValueError):
        mend = "run the stage `pseudo_labels` again"
        raise InputError("the key is missing or no number", file=STORE, key="threshold", mend=mend) from None
    demands = Demands(len(ConceptPool.load(CONCEPTS)), threshold, params.min_kept_fraction, params.max_regions)
    regions, images = store.to_pandas(limit=MOST_REGIONS), read_caption_tables(captioned_scenes()[0]).images
    if len(regions) < store.num_regions:
        # The last image may be cut, and those after it were not read.
        regions = regions[regions["image_id"] != regions["image_id"].iloc[-1]]
        images = images[images["id"].isin(regions["image_id"])]
    results = gate("check_pseudo_labels", pseudo_label_checks(STORE, regions, images, demands))
    kept = next(result["observed"] for result in results if result["column"] == "kept")
    return {"expectations": len(results), "regions": len(regions), "images": len(images), "kept_fraction": kept}
