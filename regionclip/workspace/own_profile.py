"""The params of a user's own data: a profile by the size of the CLIP, with lengths and anchors from the data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from regionclip.params.stages import ANCHOR_SIDE
from regionclip.workspace.own_set import OwnSet
from regionclip.workspace.profiles import complete, composed, render


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
        file: See ``data.captions`` in the params.
        images: Folder of their pictures, or None.
        count: Captions; None where they are too many to count now.
    """

    file: str
    images: str | None
    count: int | None


_EPOCHS, _LONGEST = 12, 90000


def own_profile(
    name: str, own: OwnSet, files: dict[str, str], clip: Clip, captions: Captions | None, student: str | None
) -> str:
    """Return the text of a params.yaml.

    A CLIP of OpenAI's size has the values of the paper; one like the demo's, which learns in minutes on a CPU, those of
    the demo.

    Args:
        name: The data set's name.
        own: What is in it.
        files: instances_train, instances_val, images_train and images_val.
        clip: The teacher.
        captions: What to pretrain on; None takes ``student`` as it is.
        student: A pretrained RegionCLIP, or the CLIP itself; None where captions are given.

    Raises:
        InputError: They do not go together.
    """
    small = clip.image_size < 224
    base = "_own_small" if small else "_own_paper"
    values = composed(base) | {"profile": name}
    for sets in (values["data"]["sets"], values["finetune"]["sets"], values["zero_shot"]["score_threshold"]):
        # Any of them, for what every detection set has.
        template = sets["coco"]
        sets.clear()
        sets[name] = template
    protocol = "constrained" if own.classes.novel else "closed_set"
    values["data"]["sets"][name] |= {"classes": own.classes.model_dump(), "protocol": protocol, "files": files}
    values["rpn"]["dataset"] = name
    if captions is not None:
        values["data"]["captions"] = {"file": captions.file, "images": captions.images}
    # The paper's 100 is for millions of captions.
    counted = captions is not None and captions.count is not None
    values["concepts"]["minimum_count"] = min(100, max(2, captions.count // 1000)) if counted else 100
    source = {"source": "folder"} if clip.model is None else {"source": "open_clip", "model": clip.model}
    values["teacher"] = source | {"weights": clip.path}
    if small:
        # Pictures of three times the CLIP's side, as in the demo.
        short = 3 * clip.image_size
        shorts = [short - short // 12, short, short + short // 12]
        longest = max(values["detection"]["max_size"], 2 * short)
        values["detection"] |= {"train_short_sides": shorts, "test_short_side": short, "max_size": longest}
        values["pretrain"] |= {"scales": shorts, "max_size": longest}
    for section in ("pseudo_labels", "pretrain", "zero_shot", "finetune"):
        values[section]["temperature"] = clip.temperature
    # Anchors' scales: what the middle 80 % of the training boxes have once resized.
    sides = np.quantile(own.sides, (0.1, 0.3, 0.5, 0.7, 0.9)) * values["detection"]["test_short_side"] / ANCHOR_SIDE
    values["rpn"]["anchor_scales"] = sorted({max(0.5, round(float(side), 2)) for side in sides})
    values["pretrain"]["weights"] = student
    values["finetune"]["initialisations"] = ["clip"] if student == clip.path else ["clip", "regionclip"]
    for section in (values["rpn"], values["pretrain"], values["finetune"]["sets"][name]):
        schedule = section["schedule"]
        length = min(_LONGEST, max(100, _EPOCHS * own.images["train"] // schedule["batch_size"]))
        schedule |= {"iterations": length, "warmup_iterations": min(1000, length // 10)}
        schedule["milestones"] = [length * 2 // 3, length * 8 // 9]
    return render(complete(values, "params.yaml"), base)
