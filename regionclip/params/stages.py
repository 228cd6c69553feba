"""Sections of what is trained and measured: schedules, language, regions, transfer."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PlainSerializer, model_validator

from regionclip.params.section import (
    Count,
    Distinct,
    Fraction,
    Pixels,
    Positive,
    Rate,
    Relation,
    Rising,
    Section,
    Stages,
    Steps,
    Temperature,
    Text,
    Weight,
)

ANCHOR_SIDE = 16  # pixels; ``anchor_scales`` of an RPN on one map are times it, on whatever stride


class GradientClip(Section):
    """Largest L2 norm of the gradients: of all together, or of each parameter's, as in the paper's pretraining."""

    norm: Rate
    per: Literal["model", "parameter"]


class Validation(Section):
    """How a training measures itself on a development split, by a number that each stage fixes.

    Every ``interval`` iterations and after the last one, on at most ``images`` pictures; it stops early after
    ``patience`` validations without a gain; null: never.
    """

    interval: Steps
    images: Positive = 1000
    patience: Positive | None = None


class Schedule(Section):
    """Optimiser and schedule of one training; milestones beyond its end do not come into play.

    The rate starts at ``warmup_factor`` times itself and rises in a straight line for ``warmup_iterations``.
    """

    iterations: Steps
    batch_size: Annotated[int, Field(ge=1, le=65536)]
    optimizer: Literal["SGD", "AdamW"]
    learning_rate: Annotated[float, Field(ge=1e-12, le=10)]
    weight_decay: Annotated[float, Field(ge=0, le=10)]
    warmup_iterations: Count
    warmup_factor: Annotated[float, Field(ge=1e-12, le=1)] = 0.001
    milestones: Rising
    clip_gradients: GradientClip | None

    @model_validator(mode="after")
    def _warm_in_time(self) -> Self:
        if self.warmup_iterations > self.iterations:
            problem = f"{self.warmup_iterations}, more than all iterations, {self.iterations}"
            raise Relation("warmup_iterations", problem)
        return self


class ValidatedSchedule(Schedule):
    """The schedule of a training that can validate; null: it does not."""

    validation: Validation | None = None


class PretrainSchedule(ValidatedSchedule):
    """The schedule of pretraining, whose losses compare the regions and pictures of the whole batch.

    ``micro_batch``: pictures whose activations a process holds at a time; null: all of its share of the batch. Losses
    and gradients are the same up to rounding, in less memory and a third more work.
    """

    micro_batch: Positive | None = None


class Concepts(Section):
    """The concept pool: parser, what may modify a noun, and how often a concept must occur."""

    parser: Text
    modifiers: Distinct[Literal["compound", "adjective"]]
    minimum_count: Positive


class VisionTower(Section):
    """open_clip's ``vision_cfg``.

    A ModifiedResNet has blocks of four stages as ``layers`` and 32 pixels a place of its attention pool; a vision
    transformer has one number of them and ``patch_size``. ``head_width``: null is open_clip's, 64.
    """

    layers: Annotated[
        list[Annotated[int, Field(ge=1, le=64)]],
        Field(min_length=1, max_length=4),
        BeforeValidator(lambda value: [value] if type(value) is int else value),
        PlainSerializer(lambda value: value[0] if len(value) == 1 else value),
    ]
    width: Annotated[int, Field(ge=2, le=2048, multiple_of=2)]
    image_size: Annotated[int, Field(ge=32, le=1024)]
    patch_size: Annotated[int, Field(ge=4, le=64)] | None = None
    head_width: Annotated[int, Field(ge=1, le=2048)] | None = None

    @model_validator(mode="after")
    def _whole_patches(self) -> Self:
        resnet = len(self.layers) > 1
        if resnet and (len(self.layers) != 4 or self.width > 256):
            wrong = ("layers", "not of four stages") if len(self.layers) != 4 else ("width", "a ResNet's is up to 256")
            raise Relation(*wrong)
        if not resnet and self.patch_size is None:
            raise Relation("patch_size", "missing, and layers is one number, as a transformer has it")
        if self.image_size % (patch := 32 if resnet else self.patch_size):
            raise Relation("image_size", f"{self.image_size} is no multiple of {patch}")
        if (whole := self.width * (32 if resnet else 1)) % (head := self.head_width or 64):
            raise Relation("head_width", f"{head} does not divide {whole}")
        return self


class TextTower(Section):
    """open_clip's ``text_cfg``; its tokenizer knows 49,408 tokens, two of which begin and end each text."""

    context_length: Annotated[int, Field(ge=3, le=1024)]
    vocab_size: Annotated[int, Field(ge=49408, le=100_000)]
    width: Annotated[int, Field(ge=1, le=2048)]
    heads: Annotated[int, Field(ge=1, le=64)]
    layers: Annotated[int, Field(ge=1, le=64)]

    @model_validator(mode="after")
    def _whole_heads(self) -> Self:
        if self.width % self.heads:
            raise Relation("heads", f"{self.heads} does not divide the width {self.width}")
        return self


class ClipArchitecture(Section):
    """open_clip's model configuration."""

    embed_dim: Annotated[int, Field(ge=1, le=4096)]
    quick_gelu: bool
    vision_cfg: VisionTower
    text_cfg: TextTower

    def open_clip(self) -> dict[str, Any]:
        """Return it as open_clip takes it."""
        return self.model_dump(mode="json", exclude_none=True)


class Teacher(Section):
    """The CLIP that labels regions: trained here (demo), one of open_clip's by name and weights file, or a folder.

    The folder, named by ``weights``, is what open_clip reads as ``local-dir:``.
    """

    source: Literal["train", "open_clip", "folder"]
    model: Text | None = None
    weights: Text | None = None
    architecture: ClipArchitecture | None = None
    schedule: Schedule | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        needs = {"train": ("architecture", "schedule"), "open_clip": ("model", "weights"), "folder": ("weights",)}
        wanted = needs[self.source]
        missing = [key for key in wanted if getattr(self, key) is None]
        if missing:
            raise Relation(missing[0], f"source '{self.source}' needs the keys {', '.join(missing)}")
        return self


class TextBanks(Section):
    """How names become embeddings."""

    templates: Literal["regionclip_81", "photo"]


Regions = Annotated[int, Field(ge=1, le=100_000)]
Batch = Annotated[int, Field(ge=1, le=1024)]


def _short_first(short: int, longest: int) -> None:
    if short > longest:
        raise Relation("max_size", f"{longest}, less than a short side, {short}")


class Detection(Section):
    """Picture sizes of the detectors, in pixels, and how many pictures a test takes at a time.

    Pictures of several sizes are padded to one, which changes features near the border; the paper's tests take one.
    ``group_by_aspect``: all pictures of a training's batch are wide, or all are tall, as Detectron2 groups them.
    """

    train_short_sides: Annotated[list[Pixels], Field(min_length=1, max_length=64)]
    test_short_side: Pixels
    max_size: Pixels
    test_batch: Batch
    test_proposals: Regions
    group_by_aspect: bool = True

    @model_validator(mode="after")
    def _sides(self) -> Self:
        _short_first(max(*self.train_short_sides, self.test_short_side), self.max_size)
        return self


class Rpn(Section):
    """Region proposal network: trained on the base boxes of one data set, or taken from ``weights``.

    Teacher and student are measured on ``dataset`` too, on true boxes, where one number is enough.

    ``clip_c4`` shares CLIP's first stages, ``clip_fpn`` a pyramid of a transformer's blocks, as F-ViT; the others are
    the official offline RPNs on a ResNet-50 of their own, which starts from ``backbone_weights``. ``objectness``: what
    training asks of a box: object or not, as in the paper, or its IoU with an object, 0 on background (``quality``).
    """

    architecture: Literal["clip_c4", "clip_fpn", "r50_c4", "r50_fpn", "r50_fpn_lsj"]
    objectness: Literal["classification", "quality"] = "classification"
    weights: Text | None
    backbone_weights: Text | None
    dataset: Text
    augmentation: Literal["multi_scale", "large_scale_jitter"]
    repeat_threshold: Fraction | None
    anchor_scales: Annotated[Distinct[Annotated[float, Field(ge=0.1, le=1000)]], Field(min_length=1, max_length=64)]
    pre_nms: Regions
    nms_iou: Fraction
    proposals: Regions
    frozen_stages: Stages
    schedule: ValidatedSchedule


class PseudoLabels(Section):
    """Regions of the captioned scenes, labelled by the teacher, or by another CLIP, whose folder ``weights`` names.

    The student comes from the teacher either way: concepts and captions, which it is compared with, are the teacher's.
    """

    weights: Text | None = None
    regions: Literal["rpn", "random"]
    view: Literal["roi", "crop", "both"]
    crop_context: Annotated[float, Field(ge=1, le=16)]
    proposals: Regions
    nms_iou: Fraction
    temperature: Temperature
    threshold: Fraction
    top_k: Regions


class CheckPseudoLabels(Section):
    """What the gate before pretraining demands.

    ``min_proposal_recall`` is of the proposals' average recall with 300 an image, over IoU 0.5 to 0.95, on each
    held-out split.
    """

    min_kept_fraction: Fraction
    max_regions: Regions
    min_proposal_recall: Fraction


class LossWeights(Section):
    """Weights of the pretraining losses, the paper's three and CLIPSelf's two; 0 switches a loss off."""

    contrastive: Weight
    distillation: Weight
    image_text: Weight
    crop_distillation: Weight = 0.0
    classification: Weight = 0.0

    @model_validator(mode="after")
    def _something_to_learn(self) -> Self:
        if not any(self.model_dump().values()):
            raise Relation("", "all are 0, and nothing would be learned")
        return self


class Pretrain(Section):
    """Region-text pretraining, or a student that ``weights`` holds already.

    ``whole_image_box``: what the image-text loss takes for the whole picture: its own size, or the canvas that the
    batch is padded to, as the official code does. ``wise_ft_alpha``: share of the trained weights in the student, the
    rest being the CLIP's that it came from (WiSE-FT, arXiv:2109.01903).
    """

    weights: Text | None
    regions_per_image: Regions
    scales: Annotated[list[Pixels], Field(min_length=1, max_length=64)]
    max_size: Pixels
    interpolation: Literal["bilinear", "bicubic"]
    whole_image_box: Literal["image", "canvas"] = "canvas"
    frozen_stages: Stages
    temperature: Temperature
    threshold: Fraction
    losses: LossWeights
    wise_ft_alpha: Fraction = 1.0
    schedule: PretrainSchedule

    @model_validator(mode="after")
    def _sides(self) -> Self:
        _short_first(max(self.scales), self.max_size)
        return self


class ScoreThresholds(Section):
    """Least score of a detection on true boxes and on proposals."""

    gt: Fraction
    rpn: Fraction


class ZeroShot(Section):
    """Detection without fine-tuning."""

    temperature: Temperature
    score_mode: Literal["official", "sigmoid"]
    score_threshold: dict[str, ScoreThresholds]
    nms_iou: Fraction


class Fusion(Section):
    """Share of the second head in the scores of base and of novel classes at test; see `models.fused_roi_head`.

    That is the pretrained one, or with pseudo boxes the open branch.
    """

    base: Fraction
    novel: Fraction


class PseudoBoxes(Section):
    """Boxes of novel classes that the pretrained CLIP finds in the training pictures.

    ``score_threshold``: least sqrt(class probability x objectness).
    """

    score_threshold: Fraction


class DatasetFinetune(Section):
    """Transfer to one data set, or a detector that ``weights`` holds already.

    ``pseudo_boxes``: objects of novel classes to learn beside the true base boxes; null: none, as in the paper.
    """

    weights: Text | None
    masks: bool
    repeat_threshold: Fraction | None
    background_weight: Weight
    focal_gamma: Annotated[float, Field(ge=0, le=100)]
    pseudo_boxes: PseudoBoxes | None
    score_threshold: Fraction
    nms: Literal["hard", "soft"]
    nms_iou: Fraction
    max_detections: Regions
    score_mode: Literal["none", "official", "sigmoid"]
    fusion: Fusion | None = None
    box_voting: Fraction | None = None
    schedule: ValidatedSchedule

    @model_validator(mode="after")
    def _boxes_alone(self) -> Self:
        if self.pseudo_boxes is not None and (self.masks or self.fusion is None):
            wrong = "masks is true, and they have none" if self.masks else "fusion is null, which mixes in their head"
            raise Relation("pseudo_boxes", f"not null, but {wrong}")
        return self


class Finetune(Section):
    """Transfer to open-vocabulary detection from each of ``initialisations``."""

    initialisations: Annotated[Distinct[Literal["clip", "regionclip"]], Field(min_length=1)]
    regions_per_image: Regions
    frozen_stages: Stages
    temperature: Temperature
    sets: dict[str, DatasetFinetune]

    @model_validator(mode="after")
    def _one_map(self) -> Self:
        for name, target in self.sets.items():
            if target.fusion is not None and (self.frozen_stages < 4 or target.weights):
                problem = "not null, and the pretrained head needs the map that it was trained on: freeze 4 stages"
                raise Relation(f"sets.{name}.fusion", f"{problem}, and take no detector from weights")
        return self


class Evaluation(Section):
    """What is measured: ``val`` for reports, ``dev`` while hyperparameters are chosen."""

    split: Literal["dev", "val"]
