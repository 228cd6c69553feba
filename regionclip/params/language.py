"""Sections concepts, teacher and text_bank."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from regionclip.params.section import Positive, Section
from regionclip.params.training import Schedule


class Concepts(Section):
    """The concept pool: parser, what may modify a noun, and how often a concept must occur."""

    parser: str
    modifiers: list[Literal["compound", "adjective"]]
    minimum_count: Positive


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
