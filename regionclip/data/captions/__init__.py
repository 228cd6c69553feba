"""Captioned images from COCO captions JSON, JSON Lines, WebDataset shards or official TSV, through one interface."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from regionclip.data.captions.base import CaptionedImages
from regionclip.data.captions.json_files import KARPATHY_TRAIN, CocoCaptions, JsonLinesCaptions, KarpathyCaptions
from regionclip.data.captions.shards import ShardedCaptions
from regionclip.data.captions.table import CaptionedImage, CaptionTable
from regionclip.data.captions.tsv import TsvCaptions
from regionclip.data.layout import CAPTION_SOURCE
from regionclip.data.pictures import decode_image
from regionclip.data.rejects import Rejects
from regionclip.data.sources import mend_missing
from regionclip.errors import InputError
from regionclip.files import atomic_dir, sha256_file, write_json

if TYPE_CHECKING:
    from regionclip.params.data import CaptionFiles

__all__ = [
    "CaptionTable",
    "CaptionedImage",
    "CaptionedImages",
    "ImageSpan",
    "decode_image",
    "open_captioned_images",
    "write_caption_source",
]

_FORMS = "give a COCO captions or Karpathy .json, a .jsonl, a .tar shard, an images .tsv, or a folder of shards"
_START = 1 << 20  # bytes; the first image of a Karpathy JSON has its sentences within them


def open_captioned_images(
    path: str | Path,
    images: str | Path | None = None,
    rejects: Rejects | None = None,
    splits: tuple[str, ...] = KARPATHY_TRAIN,
) -> CaptionedImages:
    """Open a source of captioned images.

    Args:
        path: COCO captions JSON, Karpathy JSON, JSON Lines, a tar shard, an image TSV, a folder of
            shards or TSVs, or a folder with ``captions.json`` or ``captions.jsonl``.
        images: Folder that file names start from; default: ``images`` beside a JSON, the folder of a JSON Lines file.
        rejects: Takes the bad records; None: they are errors. See `CaptionedImages`.
        splits: Those of a Karpathy JSON; default: what is trained on.

    Raises:
        InputError: Nothing is there, its form is unknown, or it is broken.
    """
    path = Path(path)
    if not path.exists():
        otherwise = "run the stage that writes them, or mend the path"
        raise InputError("there are no captions", file=path, mend=mend_missing(path, otherwise))
    suffix = path.suffix
    if path.is_dir():
        inside = next((path / name for name in ("captions.json", "captions.jsonl") if (path / name).exists()), None)
        suffix = next((suffix for suffix in (".tar", ".tsv") if any(path.glob(f"*{suffix}"))), None)
        if inside:
            path, suffix = inside, inside.suffix
        elif suffix is None:
            raise InputError("the folder holds no captions", file=path, mend=_FORMS)
    if suffix == ".tar":
        return ShardedCaptions(path, rejects)
    if suffix == ".tsv":
        return TsvCaptions(path, rejects)
    if suffix == ".jsonl":
        return JsonLinesCaptions(path, Path(images) if images else path.parent, rejects)
    if suffix == ".json":
        folder = Path(images) if images else path.parent / "images"
        # Its images hold their sentences; COCO's captions stand in a list of their own.
        with path.open("rb") as content:
            start = content.read(_START)
        if '"sentences"' in start.decode(json.detect_encoding(start), "replace"):
            return KarpathyCaptions(path, folder, splits, rejects)
        return CocoCaptions(path, folder, rejects)
    raise InputError(f"captions do not come as '{suffix}'", file=path, mend=_FORMS)


def write_caption_source(root: Path, files: CaptionFiles | None, rejects: Rejects | None = None) -> dict[str, int]:
    """Write ROOT/scenes: ``source.json`` and ``manifest.json``, or an empty folder where there are no captions.

    Captions of a JSON are counted and their file summed. Shards are listed with their bytes instead: to sum the
    hundreds of gigabytes of CC3M is the work of the stage that fetches them.

    Returns:
        Counts of images and captions, of records left out by reason, and with ``rejects`` of those set aside; or of
        shards and their bytes.

    Raises:
        InputError: There are no captions, they cannot be read, or too many are bad.
    """
    with atomic_dir(root / "scenes") as folder:
        if files is None:
            return {}
        path = Path(files.file)
        source = open_captioned_images(path, files.images, rejects)
        if source.shards:
            sizes = {shard.name: shard.stat().st_size for shard in source.shards}
            counts, about = {"shards": len(sizes), "bytes": sum(sizes.values())}, {"bytes": sizes}
        else:
            table = source.table()
            left_out = {f"left_out_{reason.replace(' ', '_')}": count for reason, count in source.skipped.items()}
            aside = {} if rejects is None else {"rejected": len(source.rejected)}
            counts = {"images": len(table), "captions": len(table.captions), **left_out, **aside}
            about = {"sha256": {source.path.name: sha256_file(source.path)}}
        write_json(folder / CAPTION_SOURCE, {"captions": path.as_posix(), "images": files.images})
        write_json(folder / "manifest.json", {"source": "files", "counts": counts, **about})
    return counts
