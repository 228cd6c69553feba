"""Choosing the reader of captioned images by what a path holds."""

from __future__ import annotations

from pathlib import Path

from regionclip.data.captions.base import CaptionedImages
from regionclip.data.captions.coco import CocoCaptions
from regionclip.data.captions.jsonl import JsonLinesCaptions
from regionclip.errors import InputError

_FORMS = "give a COCO captions .json, a .jsonl, a .tar shard, or a folder of shards"


def open_captioned_images(path: str | Path, images: str | Path | None = None) -> CaptionedImages:
    """Open a source of captioned images.

    Args:
        path: COCO captions JSON, JSON Lines, a tar shard, a folder of shards, or a folder with ``captions.json`` or
            ``captions.jsonl``.
        images: Folder that file names start from; default: ``images`` beside a JSON, the folder of a JSON Lines file.

    Raises:
        InputError: Nothing is there, its form is unknown, or it is broken.
    """
    path = Path(path)
    if not path.exists():
        raise InputError("there are no captions", file=path, mend="run the stage that writes them, or mend the path")
    if path.is_dir():
        inside = [path / name for name in ("captions.json", "captions.jsonl") if (path / name).exists()]
        if not inside and not any(path.glob("*.tar")):
            raise InputError("the folder holds no captions", file=path, mend=_FORMS)
        path = inside[0] if inside else path
    if path.is_dir() or path.suffix == ".tar":
        # Imported here because webdataset imports torch, which reading a JSON does not need.
        from regionclip.data.captions.shards import ShardedCaptions

        return ShardedCaptions(path)
    if path.suffix == ".jsonl":
        return JsonLinesCaptions(path, Path(images) if images else path.parent)
    if path.suffix == ".json":
        return CocoCaptions(path, Path(images) if images else path.parent / "images")
    raise InputError(f"captions do not come as '{path.suffix}'", file=path, mend=_FORMS)
