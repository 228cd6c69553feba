"""Sections data, quarantine and check_data."""

from __future__ import annotations

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
            problem = (
                f"{most} objects and {self.distractors[1]} distractors of {self.object_size[0]} pixels have no room"
            )
            raise Relation("objects_per_scene", problem)
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


class CocoFiles(Section):
    """COCO's own files, or a data set in their form.

    ``open_vocabulary``: COCO's 48 base and 17 novel classes; ``supervised``: all 80 are base; or own names.
    """

    instances_train: Text
    instances_val: Text
    images_train: Text
    images_val: Text
    classes: Annotated[
        Annotated[Literal["open_vocabulary", "supervised"], Tag("coco")] | Annotated[OwnClasses, Tag("own")],
        Discriminator(lambda value: "own" if isinstance(value, (dict, OwnClasses)) else "coco"),
    ]


class LvisFiles(Section):
    """LVIS's own files; ``images`` holds train2017 and val2017. ``supervised``: the rare classes are base too."""

    instances_train: Text
    instances_val: Text
    images: Text
    classes: Literal["open_vocabulary", "supervised"]


class CaptionFiles(Section):
    """Captioned images: COCO captions JSON, Karpathy JSON, JSON Lines, TSV, or tar shards."""

    file: Text
    images: Text | None


class DataFiles(Section):
    """Real data; what is null is not there."""

    coco: CocoFiles | None
    lvis: LvisFiles | None
    captions: CaptionFiles | None


class Data(Section):
    """Where images, captions and boxes come from: the generated world, or files."""

    source: Literal["demo", "files"]
    sets: Annotated[Distinct[Literal["coco", "lvis"]], Field(min_length=1)]
    demo: DemoWorld | None
    files: DataFiles | None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if getattr(self, self.source) is None:
            raise Relation(self.source, f"source '{self.source}' needs this section")
        absent = [name for name in self.sets if self.source == "files" and getattr(self.files, name) is None]
        if absent:
            raise Relation("sets", f"names {', '.join(absent)}, which files leaves null")
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
