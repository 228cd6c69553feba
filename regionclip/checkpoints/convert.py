"""Official checkpoints out in the formats used here: an MMDetection checkpoint, or a CLIP folder of open_clip."""

from __future__ import annotations

from pathlib import Path

from regionclip.checkpoints.clip_folder import CONFIG, save_clip
from regionclip.checkpoints.key_maps import MODIFIED_RESNET_TO_DETECTOR
from regionclip.checkpoints.mmengine_files import publish
from regionclip.checkpoints.official import OfficialCheckpoint, read_official
from regionclip.errors import InputError
from regionclip.files import require_own

_MAIN_PART = {"finetuned": "detector", "rpn": "rpn"}


def to_mmdet(file: str | Path, out: str | Path, part: str | None = None) -> str:
    """Write one part of an official checkpoint as an MMDetection checkpoint, loadable with ``weights_only=True``.

    Args:
        file: What `read_official` reads.
        out: The checkpoint: ``state_dict`` and ``meta``.
        part: ``student`` and ``teacher`` fill backbone, shared head and attention pool of a detector, ``rpn``
            MMDetection's ``RPN``, ``detector`` the open-vocabulary Fast R-CNN with its training embeddings. None takes
            what the file was published for.

    Returns:
        What was written, in words.

    Raises:
        InputError: The file is refused or has no such part, or ``out`` is a folder or the file itself.
    """
    out = Path(out)
    if out.is_dir():
        raise InputError("is a folder", file=out, mend="name a file, such as detector.pth")
    if out.exists() and out.samefile(file):
        raise InputError("would be overwritten by what is made of it", file=out, mend="give another name with -o")
    checkpoint = read_official(file)
    if checkpoint.kind == "eva_clip":
        problem, mend = "an EVA02-CLIP, which no detector of ResNets holds", "convert it --to open_clip"
        raise InputError(problem, file=file, key="--to", mend=mend)
    part = part or _MAIN_PART.get(checkpoint.kind, "student")
    if part == "rpn":
        state, architecture = checkpoint.rpn(), checkpoint.rpn_architecture
    elif part == "detector":
        state, architecture = checkpoint.detector(), str(checkpoint.architecture)
    else:
        state = MODIFIED_RESNET_TO_DETECTOR.apply(checkpoint.visual(teacher=part == "teacher"))
        architecture = str(checkpoint.architecture)
    # Official files do not name their classes.
    publish(state, out, {**_origin(checkpoint, part), "architecture": architecture, "classes": []})
    return f"{out}: the {part} ({architecture}) of {checkpoint.path.name}, {len(state)} tensors in MMDetection's names"


def to_open_clip(file: str | Path, out: str | Path, part: str | None = None) -> str:
    """Write student or teacher as a folder for ``open_clip.create_model_from_pretrained("local-dir:OUT")``.

    Args:
        file: What `read_official` reads, with a text encoder.
        out: The folder; an earlier CLIP folder is replaced, any other is left alone.
        part: ``student`` (None is the same) or ``teacher``.

    Returns:
        What was written, in words.

    Raises:
        InputError: The file is refused or has no such part, or ``out`` is something else than a CLIP folder.
    """
    out = Path(out)
    require_own(out, CONFIG)
    if part not in (None, "student", "teacher"):
        raise InputError(f"open_clip has no place for a part '{part}'", key="--part", mend="give student or teacher")
    checkpoint, part = read_official(file), part or "student"
    teacher = part == "teacher"
    state = checkpoint.clip(teacher)
    save_clip(out, checkpoint.clip_config(teacher), state, _origin(checkpoint, part))
    return f"{out}: the {part} ({checkpoint.architecture}) of {checkpoint.path.name}, {len(state)} tensors"


def _origin(checkpoint: OfficialCheckpoint, part: str) -> dict[str, str]:
    return {
        "source": checkpoint.path.name,
        "source_sha256": str(checkpoint.sha256),
        "source_kind": checkpoint.kind,
        "part": part,
    }
