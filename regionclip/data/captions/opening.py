"""Choosing the reader of captioned images by what a path holds."""

from __future__ import annotations

from pathlib import Path

from regionclip.data.captions.base import CaptionedImages
from regionclip.data.captions.coco import CocoCaptions
from regionclip.data.captions.jsonl import JsonLinesCaptions
from regionclip.data.captions.tsv import TsvCaptions
from regionclip.data.rejects import Rejects
from regionclip.errors import InputError

_FORMS = "give a COCO captions .json, a .jsonl, a .tar shard, an images .tsv, or a folder of shards"


def open_captioned_images(
    path: str | Path, images: str | Path | None = None, rejects: Rejects | None = None
) -> CaptionedImages:
    """Open a source of captioned images.

    Args:
        path: COCO captions JSON, JSON Lines, a tar shard, an image TSV, a folder of shards or TSVs, or a folder with
            ``captions.json`` or ``captions.jsonl``.
        images: Folder that file names start from; default: ``images`` beside a JSON, the folder of a JSON Lines file.
        rejects: Takes the bad records; None: they are errors. See `CaptionedImages`.

    Raises:
        InputError: Nothing is there, its form is unknown, or it is broken.
    """
    path = Path(path)
    if not path.exists():
        raise InputError("there are no captions", file=path, mend="run the stage that writes them, or mend the path")
    suffix = path.suffix
    if path.is_dir():
        inside = [path / name for name in ("captions.json", "captions.jsonl") if (path / name).exists()]
        suffix = next((suffix for suffix in (".tar", ".tsv") if any(path.glob(f"*{suffix}"))), None)
        if not inside and suffix is None:
            raise InputError("the folder holds no captions", file=path, mend=_FORMS)
        path, suffix = (inside[0], inside[0].suffix) if inside else (path, suffix)
    if suffix == ".tar":
        # Imported here because webdataset imports torch, which reading a JSON does not need.
        from regionclip.data.captions.shards import ShardedCaptions

        return ShardedCaptions(path, rejects)
    if suffix == ".tsv":
        return TsvCaptions(path, rejects)
    if suffix == ".jsonl":
        return JsonLinesCaptions(path, Path(images) if images else path.parent, rejects)
    if suffix == ".json":
        return CocoCaptions(path, Path(images) if images else path.parent / "images", rejects)
    raise InputError(f"captions do not come as '{suffix}'", file=path, mend=_FORMS)
