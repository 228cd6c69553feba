"""Sections data, quarantine and check_data."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from regionclip.params.section import Fraction, Positive, Range, Rate, Section


class DemoWorld(Section):
    """The generated world: sizes in pixels, sets in images."""

    pair_size: Positive
    scene_size: Positive
    pairs_train: Positive
    pairs_val: Positive
    scenes: Positive
    coco_train: Positive
    coco_dev: Positive
    coco_val: Positive
    lvis_train: Positive
    lvis_dev: Positive
    lvis_val: Positive
    objects_per_scene: Range
    object_size: Range
    distractors: Range
    jpeg_quality: Annotated[int, Field(ge=1, le=100)]
    lvis_frequency_factor: Rate


class OwnClasses(Section):
    """Names of a data set's own classes, as its annotation files spell them; without ``novel`` all are base."""

    base: Annotated[list[str], Field(min_length=1)]
    novel: list[str]

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        names = [*self.base, *self.novel]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"each name stands once in base or in novel; more than once: {', '.join(twice)}")
        return self


class CocoFiles(Section):
    """COCO's own files, or a data set in their form.

    ``open_vocabulary``: COCO's 48 base and 17 novel classes; ``supervised``: all 80 are base; or own names.
    """

    instances_train: str
    instances_val: str
    images_train: str
    images_val: str
    classes: Annotated[
        Annotated[Literal["open_vocabulary", "supervised"], Tag("coco")] | Annotated[OwnClasses, Tag("own")],
        Discriminator(lambda value: "own" if isinstance(value, (dict, OwnClasses)) else "coco"),
    ]


class LvisFiles(Section):
    """LVIS's own files; ``images`` holds train2017 and val2017. ``supervised``: the rare classes are base too."""

    instances_train: str
    instances_val: str
    images: str
    classes: Literal["open_vocabulary", "supervised"]


class CaptionFiles(Section):
    """Captioned images: COCO captions JSON, Karpathy JSON, JSON Lines, TSV, or tar shards."""

    file: str
    images: str | None


class DataFiles(Section):
    """Real data; what is null is not there."""

    coco: CocoFiles | None
    lvis: LvisFiles | None
    captions: CaptionFiles | None


class Data(Section):
    """Where images, captions and boxes come from: the generated world, or files."""

    source: Literal["demo", "files"]
    sets: Annotated[list[Literal["coco", "lvis"]], Field(min_length=1)]
    demo: DemoWorld | None
    files: DataFiles | None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if getattr(self, self.source) is None:
            raise ValueError(f"source '{self.source}' needs the section {self.source}")
        absent = [name for name in self.sets if self.source == "files" and getattr(self.files, name) is None]
        if absent:
            raise ValueError(f"sets names {', '.join(absent)}, which files leaves null")
        return self


class Quarantine(Section):
    """Largest fraction of a file's records that may be bad: they are set aside, and more stop the run."""

    max_fraction: Fraction


class CheckData(Section):
    """What the gate on the data demands beside their contracts.

    ``official`` names the public sets whose published counts the data must have; one of which a part is used on purpose
    is not named. ``box_profile`` is ``box_profile.json`` of an earlier run, which the boxes are compared with.
    """

    official: list[Literal["coco2017", "lvis_v1", "coco_captions", "flickr30k", "cc3m"]]
    box_profile: str | None
