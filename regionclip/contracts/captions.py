"""Contract of captions: COCO captions JSON, WebDataset shards, and whatever a reader of captioned images reads."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from regionclip.contracts.gx import WARNING, Check, Expect, check
from regionclip.data.annotations.tables import read_tables
from regionclip.data.captions import CaptionedImages, open_captioned_images
from regionclip.data.captions.base import caption_fault
from regionclip.data.pictures import Looked, look, look_at_files
from regionclip.data.rejects import SUFFIX, Rejects
from regionclip.errors import DataCheckFailed

FEWEST_WORDS, MOST_WORDS = 2, 50  # CLIP reads 77 tokens, about 60 words
_ENGLISH = r"(?i)\b(a|an|the|of|in|on|at|with|and|to|is|are|by|for|from|near|two|his|her|its)\b"
_COLUMNS = ("file", "key", "caption", "has_image", "error", "sha256", "likeness")
_AGAIN = "mend the caption, drop its image, or run the stage that wrote it again"


class CaptionTables(NamedTuple):
    """The two tables of a COCO captions file.

    Attributes:
        images: file, id, name, width, height, captions (how many).
        captions: file, id, image_id, caption, image_known, fault, words.
    """

    images: pd.DataFrame
    captions: pd.DataFrame


def read_caption_tables(file: str | Path) -> CaptionTables:
    """Read a COCO captions file.

    Raises:
        InputError: The file is absent or is not JSON.
        DataCheckFailed: A record lacks a key or holds another type in it.
    """
    keys = {
        "images": {"id": int, "file_name": str, "width": int, "height": int},
        "annotations": {"id": int, "image_id": int, "caption": str},
    }
    images, captions = read_tables(Path(file), keys)
    counts = captions["image_id"].value_counts()
    images = images.rename(columns={"file_name": "name"}).assign(
        captions=counts.reindex(images["id"], fill_value=0).to_numpy()
    )
    return CaptionTables(images, with_faults(captions.assign(image_known=captions["image_id"].isin(images["id"]))))


def with_faults(captions: pd.DataFrame) -> pd.DataFrame:
    """Add what is wrong with each caption, and its number of words."""
    texts = captions["caption"].fillna("")
    return captions.assign(
        fault=captions["caption"].map(caption_fault, na_action="ignore").astype(object),
        words=texts.str.split().str.len(),
    )


def caption_checks(name: str, tables: CaptionTables) -> list[Check]:
    """Return the checks of a captions file."""
    again = "mend the annotation file, or run the stage that wrote it again"
    twice = Expect("an id occurs twice", _AGAIN)
    images = [
        Expect("the file lists no image", again).rows(),
        Expect("an id occurs twice", again).unique("file", "id"),
        Expect("an image occurs twice", again).unique("file", "name"),
        *(Expect("an image has no size", again).between(side, 1) for side in ("width", "height")),
        Expect("an image has no caption", "caption the image, or drop it").between("captions", 1),
    ]
    captions = [
        Expect("the file holds no caption", _AGAIN).rows(),
        twice.unique("file", "id"),
        Expect("there is no such image", _AGAIN, "image_id").among("image_known", [True]),
        *_text_expectations(0),
    ]
    return [
        check(f"{name} images", tables.images, ("file", "id"), images),
        check(f"{name} captions", tables.captions, ("file", "id"), captions),
    ]


def read_shards(folder: Path, limit: int = 10_000) -> pd.DataFrame:
    """Read the first ``limit`` captioned images of the tar shards in a folder; see `read_captioned`.

    Raises:
        InputError: The folder holds no shard.
        DataCheckFailed: A shard is cut short, or a sample is not whole; names the first.
    """
    # Of the pairs none is set aside: what would be stops the gate.
    source = open_captioned_images(folder, rejects=Rejects(folder / f"pairs{SUFFIX}", limit=1))
    table = read_captioned(source, limit)
    for error in source.rejected:
        raise DataCheckFailed(error.problem, file=error.file, record=error.record, key=error.key, mend=error.mend)
    return table


def read_captioned(
    source: CaptionedImages, limit: int | None, workers: int = 2, seen: dict[Path, Looked] | None = None
) -> pd.DataFrame:
    """Read captioned images as the stages after this one do, and look at their files.

    Args:
        source: With its ``rejects`` it sets bad records aside.
        limit: At most so many images, from the first on; None: all.
        workers, seen: See `look_at_files`.

    Returns:
        One row a caption: file (the image's, or what it lies in), key, caption, has_image, error (why it does not
        decode), sha256 and likeness (of the image), and what `with_faults` adds.

    Raises:
        InputError: The source cannot be read, or sets too much aside.
    """
    records = list(islice(source, limit))
    source.check_limit(len(records))
    paths = [record.image for record in records if isinstance(record.image, Path)]
    found = dict(zip(paths, look_at_files(paths, workers, seen), strict=True))
    rows = []
    for record in records:
        span = None if isinstance(record.image, Path) else record.image
        looked = found[record.image] if span is None else look(span)
        file = str(span.file if span else record.image)
        image = (looked.sha256 is not None, looked.error, looked.sha256, looked.likeness)
        rows += [(file, record.key, caption, *image) for caption in record.captions]
    return with_faults(pd.DataFrame(rows, columns=_COLUMNS))


def captioned_check(name: str, table: pd.DataFrame, tolerance: float = 0) -> Check:
    """Return the check of what `read_captioned` read; readers set aside a fraction ``tolerance`` of bad ones."""
    mostly = 1 - tolerance
    expectations = [
        Expect("there is no captioned image", _AGAIN).rows(),
        Expect("there is no image", _AGAIN, "jpg", mostly=mostly).among("has_image", [True]),
        Expect("there is no caption", _AGAIN, "txt", mostly=mostly).some("caption"),
        Expect("the image does not decode", "write it again", "jpg", mostly=mostly).none("error"),
        *_text_expectations(tolerance),
    ]
    return check(name, table, ("file", "key"), expectations)


def _text_expectations(tolerance: float) -> list[Any]:
    """Expect fit captions; warn of what is fit but may not be what CLIP and the parser read: length and language."""
    unfit = "the caption is not fit to learn from"
    length = f"the caption has not {FEWEST_WORDS} to {MOST_WORDS} words"
    foreign = "the caption has no Latin letter, so is not English"
    odd = "most captions have none of the commonest English words"
    return [
        Expect(unfit, _AGAIN, "caption", mostly=1 - tolerance).none("fault"),
        Expect(length, "CLIP reads 77 tokens", "caption", WARNING).between("words", FEWEST_WORDS, MOST_WORDS),
        Expect(foreign, "translate it, or drop it", severity=WARNING).like("caption", "[A-Za-z]"),
        Expect(odd, "the concept parser reads English", severity=WARNING, mostly=0.5).like("caption", _ENGLISH),
    ]
