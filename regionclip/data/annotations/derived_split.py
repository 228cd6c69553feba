"""DerivedSplit: what is written of one split, beside what it was made from."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from regionclip.data.annotations.annotation_files import Json
from regionclip.data.layout import Split


class DerivedSplit(NamedTuple):
    """A split of a detection set.

    Attributes:
        name: "train" or "val".
        source: The annotation file that it was made from.
        pictures: The folder that its pictures' names start from.
        complete: Content of the source.
        kept: What its classes leave of it.
        content: What is written: without boxes that have no area.
    """

    name: Split
    source: Path
    pictures: Path
    complete: Json
    kept: Json
    content: Json

    def counts(self) -> dict[str, int]:
        """Return how many images, annotations and categories are written, and how many were left out, by reason."""
        sizes = {part: len(self.content[part]) for part in ("images", "annotations", "categories")}
        left_out = {
            f"{part}_left_out": len(self.complete[part]) - len(self.kept[part]) for part in ("images", "annotations")
        }
        empty = {"empty_boxes_left_out": len(self.kept["annotations"]) - len(self.content["annotations"])}
        return {f"{self.name}_{key}": count for key, count in (sizes | left_out | empty).items()}
