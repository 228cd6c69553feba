"""``regionclip data init``: a profile for the user's own data, after a look at all that can be wrong with it."""

from __future__ import annotations

import math
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from regionclip.data.captions import open_captioned_images
from regionclip.errors import InputError
from regionclip.files import read_text
from regionclip.text.prompts import TEMPLATE_SETS, same_to_clip
from regionclip.workspace.own_profile import Captions, Clip, own_profile
from regionclip.workspace.own_set import OwnSet, read_own_set
from regionclip.workspace.profiles import replace_file

_DEFAULT_CLIP = Clip("weights/clip_rn50.safetensors", "RN50-quickgelu", image_size=224, temperature=0.01)


def init(options: Namespace, out: Path) -> tuple[OwnSet, list[str]]:
    """Check the data, then write the profile; a file that is there already is kept beside as ``.before``.

    Args:
        options: Those of the command; paths are written into the profile as they are.
        out: The profile.

    Returns:
        What was found, and the notes that concern the rest of the profile.

    Raises:
        InputError: A file is missing or broken, a name is not among the categories, or options exclude each other.
    """
    if options.captions and options.regionclip:
        raise InputError("--captions and --regionclip exclude each other", mend="a RegionCLIP is pretrained already")
    pictures = {"train": options.images, "val": options.images_val or options.images}
    annotations = {"train": options.train, "val": options.val}
    own = read_own_set(
        {split: Path(file) for split, file in annotations.items()},
        {split: Path(folder) for split, folder in pictures.items()},
        _names(options.base),
        _names(options.novel),
    )
    clip, captions = _clip(options.clip), _captions(options)
    files = {f"instances_{split}": file for split, file in annotations.items()}
    files |= {f"images_{split}": folder for split, folder in pictures.items()}
    student = None if captions else options.regionclip or clip.path
    replace_file(own_profile(options.name, own, files, clip, captions, student), out)
    return own, _notes(own, clip, captions, options.regionclip)


def table(own: OwnSet) -> Table:
    """Return the classes with their numbers of boxes."""
    shown = Table("class", "", "boxes in train", "boxes in val", box=None)
    for group, names in (("base", own.classes.base), ("novel", own.classes.novel)):
        for name in names:
            shown.add_row(name, group, str(own.boxes["train"][name]), str(own.boxes["val"][name]))
    return shown


def _names(file: str | None) -> Sequence[str] | None:
    if file is None:
        return None
    names = [line.strip() for line in read_text(file).splitlines() if line.strip()]
    if not names:
        raise InputError("the file holds no name", file=file, mend="write one class name a line")
    return names


def _clip(path: str | None) -> Clip:
    """Read what the profile needs of a CLIP; imported here because it loads torch."""
    if path is None:
        return _DEFAULT_CLIP
    import open_clip

    from regionclip.checkpoints.official import clip_weights

    config, state = clip_weights(path)
    names = [name for name in open_clip.list_models() if open_clip.get_model_config(name) == config]
    if not Path(path).is_dir() and not names:
        raise InputError("this CLIP is none of those that open_clip names", file=path, mend="give it as a CLIP folder")
    # EVA's own files have other names than open_clip's models, and are read like a folder.
    whole = Path(path).is_dir() or names[0].startswith("EVA")
    temperature = math.exp(-float(state["logit_scale"]))
    # Two digits are as many as matter, and a person can read them.
    return Clip(
        path=path,
        model=None if whole else names[0],
        image_size=config["vision_cfg"]["image_size"],
        temperature=float(f"{temperature:.2g}"),
        context=config["text_cfg"]["context_length"],
    )


def _captions(options: Namespace) -> Captions | None:
    if options.captions is None:
        return None
    path = Path(options.captions)
    source = open_captioned_images(path, options.captions_images)
    counted = path.suffix in {".json", ".jsonl"}
    count = sum(len(record.captions) for record in source) if counted else None
    return Captions(options.captions, options.captions_images, count)


def _notes(own: OwnSet, clip: Clip, captions: Captions | None, student: str | None) -> list[str]:
    import open_clip

    names, tokenizer = [*own.classes.base, *own.classes.novel], open_clip.SimpleTokenizer(context_length=clip.context)
    twins = same_to_clip(names, TEMPLATE_SETS["regionclip_81"], tokenizer)
    same = "it gets the same tokens; rename one"
    notes = [f"CLIP cannot tell '{name}' from '{other}': {same}" for name, other in twins.items()]
    if not Path(clip.path).exists():
        teach = "boxes cannot train one, since a teacher learns from captioned pictures of single objects"
        notes.append(f"there is no CLIP at {clip.path}: put OpenAI's RN50 there, or give yours with --clip; {teach}")
    if captions is not None:
        words = "shards of captions" if captions.count is None else f"{captions.count} captions"
        notes.append(f"pretraining on {words} of {captions.file}")
    elif student is None:
        transferred = "nothing is pretrained, the CLIP itself is transferred to your classes"
        notes.append(f"no --captions and no --regionclip: {transferred}")
    return notes
