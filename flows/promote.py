"""The flow `promote`: a candidate becomes the champion if its protocol's numbers say so, and the run says why."""

from __future__ import annotations

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact

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
    word = "promoted" if found.decision.promoted else "not promoted"
    get_run_logger().info("%s version %s: %s, %s.", found.model, found.candidate, word, found.decision.reason)
    create_markdown_artifact(_page(found), key=f"promote-{dataset}", description="Candidate against champion")
    return found


def _page(found: Comparison) -> str:
    word = "is the champion now" if found.decision.promoted else "was not promoted"
    against = f"version {found.champion}" if found.champion else "none"
    rows = [f"| {name} | {ours} | {theirs} |" for name, (ours, theirs) in found.numbers.items()]
    return "\n".join(
        [
            f"# {found.model}: version {found.candidate} {word}",
            "",
            f"Because {found.decision.reason}.",
            "",
            f"| number | candidate, version {found.candidate} | champion, {against} |",
            "|---|---:|---:|",
            *rows,
        ]
    )
