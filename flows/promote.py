"""The flow `promote`: a candidate becomes the champion if its protocol's numbers say so, and the run says why."""

from __future__ import annotations

from prefect import flow, get_run_logger
from prefect.artifacts import create_table_artifact

from regionclip.inference import promotion
from regionclip.inference.promotion import Comparison


@flow(name="promote")
def promote(dataset: str, candidate: str | None = None) -> Comparison:
    """Compare a candidate of MLflow's registry with the champion, and move the alias or say why not.

    A refused candidate is no failure of the run. `regionclip register --dataset coco` makes candidates.

    Args:
        dataset: Name of the data set; the model is regionclip-DATASET.
        candidate: Its version; None for the one with the alias `candidate`.

    Raises:
        InputError: The registry has no such version.
    """
    found = promotion.promote(dataset, candidate)
    word = "is the champion now" if found.decision.promoted else "was not promoted"
    said = f"{found.model}: version {found.candidate} {word}, because {found.decision.reason}."
    get_run_logger().info("%s", said)
    against = f"version {found.champion}" if found.champion else "none"
    heads = ("number", f"candidate, version {found.candidate}", f"champion, {against}")
    table = [dict(zip(heads, (name, *pair), strict=True)) for name, pair in found.numbers.items()]
    create_table_artifact(table, key=f"promote-{dataset}".replace("_", "-"), description=said)
    return found
