"""Writes data/scenes for real captions: where they lie, and a manifest; nothing is copied."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from regionclip.data.captions import open_captioned_images
from regionclip.data.layout import CAPTION_SOURCE
from regionclip.files import atomic_dir, sha256_file, write_json

if TYPE_CHECKING:
    from regionclip.data.rejects import Rejects
    from regionclip.params.data import CaptionFiles


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
