"""The profile of a user's own data: a whole params.yaml, with sizes from the CLIP and lengths from the data."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import yaml

from regionclip.params import check_params
from regionclip.workspace.own_set import OwnSet

_STRIDE = 16  # of the feature map that proposals are made on, in pixels


@dataclass(frozen=True)
class Clip:
    """What the profile needs to know of the CLIP.

    Attributes:
        path: A CLIP folder, or a weights file.
        model: Name of open_clip's model for a weights file; None for a folder.
        image_size: Side of the pictures that it was trained on, in pixels.
        temperature: Its softmax temperature.
        context: Tokens that it reads of a text.
    """

    path: str
    model: str | None
    image_size: int
    temperature: float
    context: int = 77


@dataclass(frozen=True)
class Captions:
    """Captioned images for pretraining.

    Attributes:
        file: See ``data.files.captions`` in the params.
        images: Folder of their pictures, or None.
        count: Captions; None where they are too many to count now.
    """

    file: str
    images: str | None
    count: int | None


# What differs between a CLIP of OpenAI's size and one like the demo's, which learns in minutes on a CPU: the values of
# the profiles, but for the pretraining's rate, which is the paper's 0.002 for 96 pictures a step taken down to 16.
_PAPER: dict[str, Any] = {
    "max_size": 1333, "test_proposals": 1000, "pre_nms": 6000, "proposals": 1000, "optimizer": "SGD", "decay": 0.0001,
    "rpn_rate": 0.02, "pretrain_rate": 0.0003, "finetune_rate": 0.002, "batch": 16, "view": "roi", "context": 1.0,
    "label_proposals": 300, "threshold": 0.1, "top_k": 32, "kept": 0.1, "recall": 0.2,
    "pretrain_regions": 100, "image_text": 1.0,
    "interpolation": "bicubic", "frozen": 2, "regions": 512, "score_mode": "none", "zero_shot_mode": "official",
    "nms": "soft", "templates": "regionclip_81", "test_batch": 1,
    "clip_pretrain": "{norm: 5.0, per: parameter}", "clip_detectors": "null",
}  # fmt: skip
_SMALL: dict[str, Any] = {
    "max_size": 320, "test_proposals": 64, "pre_nms": 600, "proposals": 300, "optimizer": "AdamW", "decay": 0.05,
    "rpn_rate": 0.001, "pretrain_rate": 0.0005, "finetune_rate": 0.0003, "batch": 8, "view": "crop", "context": 1.2,
    "label_proposals": 20, "threshold": 0.3, "top_k": 16, "kept": 0.2, "recall": 0.3,
    "pretrain_regions": 16, "image_text": 0.1,
    "interpolation": "bilinear", "frozen": 4, "regions": 32, "score_mode": "sigmoid", "zero_shot_mode": "sigmoid",
    "nms": "hard", "templates": "regionclip_81", "test_batch": 8,
    "clip_pretrain": "{norm: 5.0, per: model}", "clip_detectors": "{norm: 5.0, per: model}",
}  # fmt: skip
_TEMPLATE = Path(__file__).parent / "profile.yaml"
_DEPTHS = {"rpn": 4, "pretrain": 4, "finetune": 6}  # indentation of each schedule in the template
_EPOCHS, _LONGEST = 12, 90000


def write_profile(
    own: OwnSet, files: dict[str, str], clip: Clip, captions: Captions | None, student: str | None
) -> str:
    """Return the text of a params.yaml.

    Args:
        own: The data set.
        files: instances_train, instances_val, images_train and images_val.
        clip: The teacher.
        captions: What to pretrain on; None takes ``student`` as it is.
        student: A pretrained RegionCLIP, or the CLIP itself; None where captions are given.
    """
    small = clip.image_size < 224
    fixed = _SMALL if small else _PAPER
    short = 3 * clip.image_size if small else 800
    shorts = [short - short // 12, short, short + short // 12] if small else [640, 672, 704, 736, 768, 800]
    longest = max(fixed["max_size"], 2 * short if small else 0)
    values = fixed | {
        "files": _indent({**files, "classes": own.classes.model_dump()}),
        "captions": "null" if captions is None else json.dumps({"file": captions.file, "images": captions.images}),
        "minimum_count": _minimum_count(captions),
        "teacher": _teacher(clip),
        "student": json.dumps(student),
        "short": short,
        "shorts": shorts,
        "pretrain_shorts": shorts if small else [short],
        "longest": longest,
        "temperature": clip.temperature,
        "anchors": _anchors(own.sides, short),
        "initialisations": "[clip]" if student == clip.path else "[clip, regionclip]",
        "constrained": "true" if own.classes.novel else "false",
        "stride": _STRIDE,
        **{name: _schedule(name, own.images["train"], fixed) for name in _DEPTHS},
    }
    template = Template(_TEMPLATE.read_text(encoding="utf-8"))
    draft = check_params(yaml.safe_load(template.substitute(values, raw="{}")), "params.yaml")
    raw = [f"\n  {name}: {json.dumps(path, ensure_ascii=False)}" for name, path in draft.raw_paths().items()]
    return template.substitute(values, raw="".join(raw))


def _indent(value: dict[str, Any]) -> str:
    """JSON is YAML; one key a line."""
    return "\n".join(f"      {key}: {json.dumps(item, ensure_ascii=False)}" for key, item in value.items())


def _teacher(clip: Clip) -> str:
    if clip.model is None:
        return f"  source: folder\n  weights: {json.dumps(clip.path)}"
    return f"  source: open_clip\n  model: {clip.model}\n  weights: {json.dumps(clip.path)}"


def _minimum_count(captions: Captions | None) -> int:
    """The paper's 100 is for millions of captions."""
    return 100 if captions is None or captions.count is None else min(100, max(2, captions.count // 1000))


def _anchors(sides: list[float], short: int) -> list[float]:
    """Return the anchors' sides over the stride: what the middle 80 % of the training boxes have once resized."""
    quantiles = np.quantile(sides, (0.1, 0.3, 0.5, 0.7, 0.9)) * short / _STRIDE
    return sorted({max(0.5, round(float(scale), 2)) for scale in quantiles})


def _schedule(name: str, images: int, fixed: dict[str, Any]) -> str:
    iterations = min(_LONGEST, max(100, _EPOCHS * images // fixed["batch"]))
    lines = {
        "iterations": iterations,
        "batch_size": fixed["batch"],
        "optimizer": fixed["optimizer"],
        "learning_rate": fixed[f"{name}_rate"],
        "weight_decay": fixed["decay"],
        "warmup_iterations": min(1000, iterations // 10),
        "milestones": [iterations * 2 // 3, iterations * 8 // 9],
        "clip_gradients": fixed["clip_pretrain" if name == "pretrain" else "clip_detectors"],
    }
    return "\n".join(f"{' ' * _DEPTHS[name]}{key}: {value}" for key, value in lines.items())
