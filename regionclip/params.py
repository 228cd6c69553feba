"""Typed schema of params.yaml: one model a section; an unknown, missing or ill-typed key stops with its name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator

from regionclip.errors import InputError

Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
Range = tuple[Count, Count]


class Section(BaseModel):
    """A part of params.yaml: immutable, no unknown keys, no silent conversion."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


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


class Concepts(Section):
    """The concept pool: parser, what may modify a noun, and how often a concept must occur."""

    parser: str
    modifiers: list[Literal["compound", "adjective"]]
    minimum_count: Positive


class GradientClip(Section):
    """Largest L2 norm of the gradients: of all together, or of each parameter's, as in the paper's pretraining."""

    norm: Rate
    per: Literal["model", "parameter"]


class Schedule(Section):
    """Optimiser and schedule of one training."""

    iterations: Positive
    batch_size: Positive
    optimizer: Literal["SGD", "AdamW"]
    learning_rate: Rate
    weight_decay: Weight
    warmup_iterations: Count
    milestones: list[Positive]
    clip_gradients: GradientClip | None


class VisionTower(Section):
    """open_clip's ``vision_cfg`` of a ModifiedResNet."""

    layers: Annotated[list[Positive], Field(min_length=4, max_length=4)]
    width: Positive
    image_size: Positive


class TextTower(Section):
    """open_clip's ``text_cfg``."""

    context_length: Positive
    vocab_size: Positive
    width: Positive
    heads: Positive
    layers: Positive


class ClipArchitecture(Section):
    """open_clip's model configuration."""

    embed_dim: Positive
    quick_gelu: bool
    vision_cfg: VisionTower
    text_cfg: TextTower


class Teacher(Section):
    """The CLIP that labels regions: trained here (demo), an open_clip ResNet by name and weights file, or a folder.

    The folder, named by ``weights``, is what open_clip reads as ``local-dir:``.
    """

    source: Literal["train", "open_clip", "folder"]
    model: str | None = None
    weights: str | None = None
    architecture: ClipArchitecture | None = None
    schedule: Schedule | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        needs = {"train": ("architecture", "schedule"), "open_clip": ("model", "weights"), "folder": ("weights",)}
        wanted = needs[self.source]
        missing = [key for key in wanted if getattr(self, key) is None]
        if missing:
            raise ValueError(f"source '{self.source}' needs the keys {', '.join(missing)}")
        return self


class TextBanks(Section):
    """How names become embeddings."""

    templates: Literal["regionclip_81", "photo"]


class Detection(Section):
    """Picture sizes of the detectors, in pixels, and how many pictures a test takes at a time.

    Pictures of several sizes are padded to one, which changes features near the border; the paper's tests take one.
    """

    train_short_sides: Annotated[list[Positive], Field(min_length=1)]
    test_short_side: Positive
    max_size: Positive
    test_batch: Positive
    test_proposals: Positive


class Rpn(Section):
    """Region proposal network: trained on the base boxes of one data set, or taken from ``weights``.

    ``clip_c4`` shares CLIP's first stages; the others are the official offline RPNs on a ResNet-50 of their own, which
    starts from ``backbone_weights``.
    """

    architecture: Literal["clip_c4", "r50_c4", "r50_fpn", "r50_fpn_lsj"]
    weights: str | None
    backbone_weights: str | None
    dataset: Literal["coco", "lvis"]
    augmentation: Literal["multi_scale", "large_scale_jitter"]
    repeat_threshold: Fraction | None
    anchor_scales: Annotated[list[Rate], Field(min_length=1)]
    pre_nms: Positive
    nms_iou: Fraction
    proposals: Positive
    frozen_stages: Annotated[int, Field(ge=0, le=4)]
    schedule: Schedule


class PseudoLabels(Section):
    """Regions of the captioned scenes, labelled by the teacher."""

    regions: Literal["rpn", "random"]
    view: Literal["roi", "crop", "both"]
    crop_context: Annotated[float, Field(ge=1)]
    proposals: Positive
    nms_iou: Fraction
    temperature: Rate
    threshold: Fraction
    top_k: Positive


class CheckPseudoLabels(Section):
    """What the gate before pretraining demands.

    ``min_proposal_recall`` is of the proposals' average recall with 300 an image, over IoU 0.5 to 0.95, on each
    held-out split.
    """

    min_kept_fraction: Fraction
    max_regions: Positive
    min_proposal_recall: Fraction


class LossWeights(Section):
    """Weights of the three pretraining losses; 0 switches a loss off."""

    contrastive: Weight
    distillation: Weight
    image_text: Weight


class Pretrain(Section):
    """Region-text pretraining, or a student that ``weights`` holds already."""

    weights: str | None
    regions_per_image: Positive
    scales: Annotated[list[Positive], Field(min_length=1)]
    max_size: Positive
    interpolation: Literal["bilinear", "bicubic"]
    frozen_stages: Annotated[int, Field(ge=0, le=4)]
    temperature: Rate
    threshold: Fraction
    losses: LossWeights
    schedule: Schedule


class ScoreThresholds(Section):
    """Least score of a detection on true boxes and on proposals."""

    gt: Fraction
    rpn: Fraction


class DatasetThresholds(Section):
    """Least scores on each data set."""

    coco: ScoreThresholds
    lvis: ScoreThresholds


class ZeroShot(Section):
    """Detection without fine-tuning."""

    temperature: Rate
    score_mode: Literal["official", "sigmoid"]
    score_threshold: DatasetThresholds
    nms_iou: Fraction


class DatasetFinetune(Section):
    """Transfer to one data set, or a detector that ``weights`` holds already."""

    weights: str | None
    masks: bool
    repeat_threshold: Fraction | None
    background_weight: Weight
    focal_gamma: Weight
    score_threshold: Fraction
    nms: Literal["hard", "soft"]
    nms_iou: Fraction
    max_detections: Positive
    score_mode: Literal["none", "official", "sigmoid"]
    schedule: Schedule


class Finetune(Section):
    """Transfer to open-vocabulary detection from each of ``initialisations``."""

    initialisations: Annotated[list[Literal["clip", "regionclip"]], Field(min_length=1)]
    regions_per_image: Positive
    frozen_stages: Annotated[int, Field(ge=0, le=4)]
    temperature: Rate
    coco: DatasetFinetune | None
    lvis: DatasetFinetune | None


class Evaluation(Section):
    """What is measured: ``val`` for reports, ``dev`` while hyperparameters are chosen.

    ``constrained`` adds COCO's numbers with only the novel and only the base classes in the vocabulary;
    ``lvis_images`` is ``labelled`` where images without annotations are left out, as the official loader does.
    """

    split: Literal["dev", "val"]
    constrained: bool
    lvis_images: Literal["all", "labelled"]


class Params(Section):
    """The whole of params.yaml."""

    profile: str
    seed: Count
    data: Data
    quarantine: Quarantine
    check_data: CheckData
    concepts: Concepts
    teacher: Teacher
    text_bank: TextBanks
    detection: Detection
    rpn: Rpn
    pseudo_labels: PseudoLabels
    check_pseudo_labels: CheckPseudoLabels
    pretrain: Pretrain
    zero_shot: ZeroShot
    finetune: Finetune
    evaluation: Evaluation

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        absent = [name for name in self.data.sets if getattr(self.finetune, name) is None]
        if absent:
            raise ValueError(f"data.sets names {', '.join(absent)}, which finetune leaves null")
        for name in self.data.sets:
            if getattr(self.finetune, name).weights and self.finetune.initialisations != ["regionclip"]:
                raise ValueError(f"finetune.{name}.weights is one detector: finetune.initialisations is [regionclip]")
        if self.data.source == "files" and self.data.files.captions is None and self.pretrain.weights is None:
            raise ValueError("data.files.captions is null, so pretrain.weights must name a RegionCLIP")
        self._official_sets_are_there()
        return self

    def _official_sets_are_there(self) -> None:
        official, detection = self.check_data.official, {"coco2017": "coco", "lvis_v1": "lvis"}
        files = self.data.files if self.data.source == "files" else None
        captioned = [name for name in official if name not in detection]
        there = [name for name, dataset in detection.items() if files and dataset in self.data.sets]
        there += captioned if files and files.captions else []
        absent = [name for name in official if name not in there]
        if absent:
            raise ValueError(f"check_data.official names {', '.join(absent)}, which the data leave out")
        if len(captioned) > 1:
            raise ValueError(f"check_data.official names {' and '.join(captioned)}, and data.files.captions is one set")


def load_params(path: str | Path = "params.yaml") -> Params:
    """Read and check a params file.

    Raises:
        InputError: The file is absent, is not YAML, or has an unknown, missing or ill-typed key; the message names it.
    """
    path = Path(path)
    try:
        # JSON mode of pydantic's strict check takes YAML lists as tuples and whole numbers as floats.
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            "the file does not exist", file=path, mend="run from the folder that holds params.yaml"
        ) from None
    except yaml.YAMLError as error:
        raise InputError(f"not YAML ({' '.join(str(error).split())})", file=path, mend="mend the line named") from None
    return check_params(values, path)


def check_params(values: object, path: str | Path) -> Params:
    """Check the values of a params file; see `load_params`."""
    import json

    try:
        return Params.model_validate_json(json.dumps(values))
    except ValidationError as error:
        first, more = error.errors()[0], error.error_count() - 1
        key = ".".join(str(part) for part in first["loc"]) or "(top level)"
        problem, mend = _explain(first)
        rest = f" (and {more} more)" if more else ""
        raise InputError(f"{problem}{rest}", file=path, key=key, mend=mend) from None


def _explain(error: dict) -> tuple[str, str]:
    if error["type"] == "missing":
        return "the key is missing", "add it, as in the committed params.yaml"
    if error["type"] == "extra_forbidden":
        return "unknown key", "remove it or mend its spelling"
    got = error["input"]
    return f"expected: {error['msg'][0].lower()}{error['msg'][1:]}; got {got!r}", "mend the value"
