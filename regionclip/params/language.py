"""Sections concepts, teacher and text_bank."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from regionclip.params.section import Distinct, Positive, Relation, Section, Text
from regionclip.params.training import Schedule


class Concepts(Section):
    """The concept pool: parser, what may modify a noun, and how often a concept must occur."""

    parser: Text
    modifiers: Distinct[Literal["compound", "adjective"]]
    minimum_count: Positive


class VisionTower(Section):
    """open_clip's ``vision_cfg`` of a ModifiedResNet: 32 pixels a place of its attention pool, 64 numbers a head."""

    layers: Annotated[list[Annotated[int, Field(ge=1, le=64)]], Field(min_length=4, max_length=4)]
    width: Annotated[int, Field(ge=2, le=256, multiple_of=2)]
    image_size: Annotated[int, Field(ge=32, le=1024, multiple_of=32)]


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


class Teacher(Section):
    """The CLIP that labels regions: trained here (demo), an open_clip ResNet by name and weights file, or a folder.

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
