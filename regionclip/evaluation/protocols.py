"""The protocols: how a data set's detections are measured, and which of the numbers tell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from regionclip.data.annotations.truth import BoxArrays, Truth
from regionclip.data.layout import ClassList
from regionclip.errors import InputError
from regionclip.evaluation.coco import Group, evaluate_coco
from regionclip.evaluation.lvis import evaluate_lvis


@dataclass(frozen=True)
class Protocol:
    """How detections are measured.

    Attributes:
        headline: The numbers of tables and of the registry. A new champion must raise the first and keep the second.
        overall: The number over all classes.
        base: The number that says whether the base classes are kept.
        chooses: What chooses among the weights of a training, of base classes: the protocol grants no knowledge of the
            novel ones, and weights chosen by them would have some.
        per_class: What the number of a class is, in words.
        max_detections: The most that count in an image (in COCO's, of one class).
        evaluate: Called as `evaluate_coco` is.
        constrained: Whether the base and the novel classes are also measured each alone.
    """

    headline: tuple[str, ...]
    overall: str
    base: str
    chooses: str
    per_class: str
    max_detections: int
    evaluate: Callable[..., dict[str, Any]]
    constrained: bool = False

    @property
    def has_novel(self) -> bool:
        """Whether some classes are kept from training."""
        return self.headline[0] != self.overall


_GENERALISED = Protocol(
    headline=("ap50_novel", "ap50_base", "ap50_all", "ap"),
    overall="ap50_all",
    base="ap50_base",
    chooses="ap50_base",
    per_class="AP50",
    max_detections=100,
    evaluate=evaluate_coco,
)
_FEDERATED = Protocol(
    headline=("apr", "ap", "apc", "apf"),
    overall="ap",
    base="apf",
    chooses="ap_base",
    per_class="AP",
    max_detections=300,
    evaluate=lambda truth, found, _, most, **options: evaluate_lvis(truth, found, most, **options),
)
PROTOCOLS = {
    "generalised": _GENERALISED,
    "constrained": replace(_GENERALISED, constrained=True),
    "closed_set": replace(_GENERALISED, headline=("ap", "ap50"), overall="ap", base="ap50", chooses="ap_base"),
    "federated": _FEDERATED,
    "federated_labelled": replace(_FEDERATED, evaluate=partial(_FEDERATED.evaluate, images="labelled")),
}
"""Name, as in ``data.sets.NAME.protocol``, to the protocol."""


def measure(
    protocol: str, truth: Truth, detections: BoxArrays, classes: ClassList, group: Group = "all"
) -> dict[str, Any]:
    """Measure detections by a protocol.

    Args:
        protocol: One of `PROTOCOLS`.
        truth: Of the split that was detected on.
        detections: Of ``detect`` with the same ``group``.
        classes: Of the data set.
        group: ``base`` or ``novel``: the constrained protocol, where no other class exists.

    Returns:
        The numbers of the boxes, see `evaluate_coco` and `evaluate_lvis`; and under ``segm`` those of the masks, if
        every detection has one.

    Raises:
        InputError: A group is wanted by itself of a protocol that has none.
    """
    of = PROTOCOLS[protocol]
    if group != "all" and not of.constrained:
        raise InputError(f"'{protocol}' does not measure the {group} classes alone", key="group", mend="use all")
    options = {} if group == "all" else {"group": group}
    numbers = partial(of.evaluate, truth, detections, classes, of.max_detections, **options)
    masked = len(detections) > 0 and bool(detections.masked().all())
    return numbers() | ({"segm": numbers(iou_type="segm")} if masked else {})
