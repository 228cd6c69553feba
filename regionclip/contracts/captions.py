"""Contract of captions: whatever a reader of captioned images reads, and the sizes of its images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path

import pandas as pd

from regionclip.contracts.gx import WARNING, Check, Expect
from regionclip.data.captions import CaptionedImage, CaptionedImages
from regionclip.data.pictures import Looked, header_size, look, look_at_files
from regionclip.errors import InputError

FEWEST_WORDS, MOST_WORDS = 2, 50  # CLIP reads 77 tokens, about 60 words
_ENGLISH = r"(?i)\b(a|an|the|of|in|on|at|with|and|to|is|are|by|for|from|near|two|his|her|its)\b"
_COLUMNS = ("file", "key", "caption", "has_image", "error", "sha256", "likeness")
_AGAIN = "mend the caption, drop its image, or run the stage that wrote it again"


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
        decode), sha256 and likeness (of the image), words (of the caption, which its reader has found fit).

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
    table = pd.DataFrame(rows, columns=_COLUMNS)
    return table.assign(words=table["caption"].str.split().str.len())


def captioned_check(name: str, table: pd.DataFrame, tolerance: float = 0) -> Check:
    """Return the check of what `read_captioned` read; readers set aside a fraction ``tolerance`` of bad ones.

    A caption that is fit but may not be what CLIP and the parser read, by length or language, is a warning.
    """
    mostly = 1 - tolerance
    length = f"the caption has not {FEWEST_WORDS} to {MOST_WORDS} words"
    foreign = "the caption has no Latin letter, so is not English"
    odd = "most captions have none of the commonest English words"
    expectations = [
        Expect("there is no captioned image", _AGAIN).rows(),
        Expect("there is no image", _AGAIN, "jpg", mostly=mostly).among("has_image", [True]),
        Expect("the image does not decode", "write it again", "jpg", mostly=mostly).none("error"),
        Expect(length, "CLIP reads 77 tokens", "caption", WARNING).between("words", FEWEST_WORDS, MOST_WORDS),
        Expect(foreign, "translate it, or drop it", severity=WARNING).like("caption", "[A-Za-z]"),
        Expect(odd, "the concept parser reads English", severity=WARNING, mostly=0.5).like("caption", _ENGLISH),
    ]
    return Check(name, table, ("file", "key"), expectations)


def header_sizes(records: Iterable[CaptionedImage], id_type: Callable[[str], int | str]) -> pd.DataFrame:
    """Return id (of a key), width and height (pixels) of captioned images, read from headers; NaN where unreadable."""
    rows = []
    for record in records:
        try:
            size: tuple[float, float] = header_size(record.image)
        except InputError:
            size = math.nan, math.nan
        rows.append((id_type(record.key), *size))
    return pd.DataFrame(rows, columns=["id", "width", "height"])
