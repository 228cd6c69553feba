"""Sections data, quarantine and check_data."""

from __future__ import annotations

import re
from collections import Counter
from typing import Annotated, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from regionclip.params.section import Distinct, Fraction, Ordered, Rate, Relation, Section, Text

LVIS_CLASSES = 96  # of the demo world: all shapes in all colours
# Ids of the images of the splits would meet in larger ones (regionclip/demo_world/build.py).
Pictures = Annotated[int, Field(ge=1, le=100_000)]
Objects = Annotated[int, Field(ge=1, le=50)]
Litter = Annotated[int, Field(ge=0, le=50)]
Side = Annotated[int, Field(ge=4, le=1024)]


class DemoWorld(Section):
    """The generated world: sizes in pixels, sets in images."""

    pair_size: Annotated[int, Field(ge=32, le=256)]
    scene_size: Annotated[int, Field(ge=32, le=1024)]
    pairs_train: Pictures
    pairs_val: Pictures
    scenes: Pictures
    coco_train: Pictures
    coco_dev: Pictures
    coco_val: Pictures
    lvis_train: Pictures
    lvis_dev: Pictures
    lvis_val: Pictures
    objects_per_scene: Annotated[tuple[Objects, Objects], Ordered]
    object_size: Annotated[tuple[Side, Side], Ordered]
    distractors: Annotated[tuple[Litter, Litter], Ordered]
    jpeg_quality: Annotated[int, Field(ge=1, le=100)]
    lvis_frequency_factor: Rate

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.object_size[1] > self.scene_size:
            raise Relation("object_size", f"an object of {self.object_size[1]} pixels is larger than the scenes")
        most = self.objects_per_scene[1]
        if 2 * (most + self.distractors[1]) * self.object_size[0] ** 2 > self.scene_size**2:
            parts = f"{most} objects and {self.distractors[1]} distractors"
            raise Relation("objects_per_scene", f"{parts} of {self.object_size[0]} pixels have no room")
        for key in ("lvis_train", "lvis_dev", "lvis_val"):
            # Every split holds every class.
            if getattr(self, key) * most < LVIS_CLASSES:
                problem = f"scenes of at most {most} objects cannot show all {LVIS_CLASSES} classes"
                raise Relation(key, f"{problem}; ask for at least {-(-LVIS_CLASSES // most)}")
        return self


class OwnClasses(Section):
    """Names of a data set's own classes, as its annotation files spell them; without ``novel`` all are base."""

    base: Annotated[list[str], Field(min_length=1)]
    novel: list[str]

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        counts = Counter([*self.base, *self.novel])
        twice = sorted(name for name, count in counts.items() if count > 1)
        if twice:
            raise Relation("", f"each name stands once in base or in novel; more than once: {', '.join(twice)}")
        return self


class SetFiles(Section):
    """Annotation files of a data set, and the folders that the file names in them start from."""

    instances_train: Text
    instances_val: Text
    images_train: Text
    images_val: Text


PUBLIC = {"coco": "coco2017", "lvis": "lvis_v1"}
"""Format to the public set that has it."""

FEDERATED = ("federated", "federated_labelled")
_TAKEN = ("concepts", "pairs", "scenes")


class DataSet(Section):
    """A detection set, under the user's own name.

    ``format``: the form of its annotation files. ``classes``: names of the base and novel ones, or ``all``: those of
    the files, all base; ``open_vocabulary`` and ``supervised`` are the official choices, of COCO 48 base and 17 novel
    or all 80, of LVIS all but the rare or all. ``protocol``: how it is measured, see
    ``regionclip.evaluation.protocols``. ``files``: null for the one that the demo world has in this format.
    """

    format: Literal["coco", "lvis"]
    classes: Annotated[
        Annotated[Literal["open_vocabulary", "supervised", "all"], Tag("choice")] | Annotated[OwnClasses, Tag("own")],
        Discriminator(lambda value: "own" if isinstance(value, (dict, OwnClasses)) else "choice"),
    ]
    protocol: Literal["generalised", "constrained", "closed_set", "federated", "federated_labelled"]
    files: SetFiles | None

    @property
    def public(self) -> str | None:
        """Name of the public set that the files are of, told by the choice of classes; None: one's own."""
        return PUBLIC[self.format] if self.classes in ("open_vocabulary", "supervised") else None

    @property
    def has_novel(self) -> bool:
        """Whether classes are kept from training."""
        return bool(self.classes.novel) if isinstance(self.classes, OwnClasses) else self.classes == "open_vocabulary"

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.files is None and self.classes != "open_vocabulary":
            raise Relation("classes", "the demo world's sets have novel classes: choose open_vocabulary, or name files")
        if self.format == "lvis":
            if self.public is None:
                problem = "files in LVIS's form tell base from novel by frequency: choose open_vocabulary or supervised"
                raise Relation("classes", problem)
            fitting = FEDERATED
        else:
            fitting = ("generalised", "constrained") if self.has_novel else ("closed_set",)
        if self.protocol not in fitting:
            novel = "novel classes" if self.has_novel else "no novel classes"
            problem = f"{self.protocol}, and the set is in the form of {self.format} with {novel}"
            raise Relation("protocol", f"{problem}: choose {' or '.join(fitting)}")
        return self


class CaptionFiles(Section):
    """Captioned images: COCO captions JSON, Karpathy JSON, JSON Lines, TSV, or tar shards."""

    file: Text
    images: Text | None


class Data(Section):
    """Where images, captions and boxes come from: the generated world, or files; a demo may have sets of files too."""

    source: Literal["demo", "files"]
    sets: Annotated[dict[str, DataSet], Field(min_length=1)]
    captions: CaptionFiles | None
    demo: DemoWorld | None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.source == "demo" and self.demo is None:
            raise Relation("demo", "source 'demo' needs this section")
        if self.source == "demo" and self.captions is not None:
            raise Relation("captions", "the demo world has its own captions: null, or let source be files")
        drawn = [of.format for of in self.sets.values() if of.files is None]
        if len(drawn) > len(set(drawn)):
            raise Relation("sets", "the demo world has one set of each format, and two would be the same pictures")
        if odd := [name for name in self.sets if not re.fullmatch("[a-z0-9][a-z0-9_-]{0,39}", name)]:
            problem = "the name is not of lower-case letters, digits, _ and -, at most 40 and no _ or - first"
            raise Relation(f"sets.{odd[0]}", f"{problem}: folders, stages and models are called by it")
        if taken := [name for name in self.sets if name in _TAKEN]:
            raise Relation(f"sets.{taken[0]}", f"the name is taken; others that are: {', '.join(_TAKEN)}")
        if absent := [name for name, of in self.sets.items() if self.source == "files" and of.files is None]:
            raise Relation(f"sets.{absent[0]}.files", "null, and only the demo makes a set")
        return self


class Quarantine(Section):
    """Largest fraction of a file's records that may be bad: they are set aside, and more stop the run."""

    max_fraction: Fraction


class CheckData(Section):
    """What the gate on the data demands beside their contracts.

    ``official`` names the public sets whose published counts the data must have; one of which a part is used on purpose
    is not named. ``box_profile`` is ``box_profile.json`` of an earlier run, which the boxes are compared with.
    """

    official: Distinct[Literal["coco2017", "lvis_v1", "coco_captions", "flickr30k", "cc3m"]]
    box_profile: Text | None
