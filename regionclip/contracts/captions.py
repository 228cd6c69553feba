"""Contract of captions: COCO captions JSON and WebDataset shards."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from regionclip.contracts.boxes import size_expectations
from regionclip.contracts.checkpoint import Check
from regionclip.contracts.gx import gx, gxe, said
from regionclip.contracts.images import look
from regionclip.contracts.tables import INTEGER, TEXT, read_object, records_table
from regionclip.errors import DataCheckFailed

LONGEST = 1000  # characters; CLIP reads about 300
_AGAIN = "mend the caption, drop its image, or run the stage that wrote it again"
_IMAGES = frozenset({"jpg", "jpeg", "png", "webp"})


class CaptionTables(NamedTuple):
    """The two tables of a COCO captions file.

    Attributes:
        images: file, id, name, width, height, captions (how many).
        captions: file, id, image_id, caption, image_known.
    """

    images: pd.DataFrame
    captions: pd.DataFrame


def read_caption_tables(file: str | Path) -> CaptionTables:
    """Read a COCO captions file.

    Raises:
        InputError: The file is absent or is not JSON.
        DataCheckFailed: A record lacks a key or holds another type in it.
    """
    file = Path(file)
    content = read_object(file)
    keys = {"id": INTEGER, "file_name": TEXT, "width": INTEGER, "height": INTEGER}
    images = records_table(content, "images", file, keys).rename(columns={"file_name": "name"})
    captions = records_table(content, "annotations", file, {"id": INTEGER, "image_id": INTEGER, "caption": TEXT})
    counts = captions["image_id"].value_counts()
    images = images.assign(captions=counts.reindex(images["id"], fill_value=0).to_numpy())
    return CaptionTables(images, captions.assign(image_known=captions["image_id"].isin(images["id"])))


def caption_checks(name: str, tables: CaptionTables) -> list[Check]:
    """Return the checks of a captions file."""
    images = [
        *size_expectations(),
        gxe.ExpectColumnValuesToBeBetween(
            column="captions", min_value=1, meta=said("an image has no caption", "caption the image, or drop it")
        ),
    ]
    captions = [
        gxe.ExpectTableRowCountToBeBetween(min_value=1, meta=said("the file holds no caption", _AGAIN)),
        gxe.ExpectCompoundColumnsToBeUnique(column_list=["file", "id"], meta=said("an id occurs twice", _AGAIN)),
        gxe.ExpectColumnValuesToBeInSet(
            column="image_known", value_set=[True], meta=said("there is no such image", _AGAIN, "image_id")
        ),
        *_text_expectations(),
    ]
    return [
        Check(gx.ExpectationSuite(name=f"{name} images", expectations=images), tables.images, ("file", "id")),
        Check(gx.ExpectationSuite(name=f"{name} captions", expectations=captions), tables.captions, ("file", "id")),
    ]


def read_shards(folder: str | Path, limit: int = 10_000) -> pd.DataFrame:
    """Read the first ``limit`` captioned images of the tar shards in a folder.

    Returns:
        One row a key: file (the tar), key, caption (None without a .txt), has_image, error (why it does not decode).

    Raises:
        DataCheckFailed: The folder holds no shard, or a shard is no tar file or cut short.
    """
    folder = Path(folder)
    shards = sorted(folder.glob("*.tar"))
    if not shards:
        raise DataCheckFailed("there is no .tar shard", file=folder, mend="run the stage that writes it again")
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for shard in shards:
        try:
            _read_shard(shard, rows, limit)
        except (tarfile.TarError, EOFError, OSError) as error:
            problem = f"not a tar file, or cut short ({error})"
            raise DataCheckFailed(problem, file=shard, mend="fetch or write the shard again") from None
    return pd.DataFrame(rows.values(), columns=["file", "key", "caption", "has_image", "error"])


def shard_check(name: str, table: pd.DataFrame) -> Check:
    """Return the check of what `read_shards` read."""
    expectations = [
        gxe.ExpectTableRowCountToBeBetween(min_value=1, meta=said("the shards are empty", _AGAIN)),
        gxe.ExpectColumnValuesToBeInSet(
            column="has_image", value_set=[True], meta=said("there is no image", _AGAIN, "jpg")
        ),
        gxe.ExpectColumnValuesToNotBeNull(column="caption", meta=said("there is no caption", _AGAIN, "txt")),
        gxe.ExpectColumnValuesToBeNull(
            column="error", meta=said("the image does not decode", "write the shard again", "jpg")
        ),
        *_text_expectations(),
    ]
    return Check(gx.ExpectationSuite(name=f"{name} shards", expectations=expectations), table, ("file", "key"))


def _text_expectations() -> list[Any]:
    return [
        gxe.ExpectColumnValuesToMatchRegex(column="caption", regex=r"\S", meta=said("the caption is empty", _AGAIN)),
        gxe.ExpectColumnValuesToMatchRegex(
            column="caption", regex="[A-Za-z]", meta=said("the caption has no Latin letter, so is not English", _AGAIN)
        ),
        gxe.ExpectColumnValueLengthsToBeBetween(
            column="caption", max_value=LONGEST, meta=said(f"the caption has more than {LONGEST} characters", _AGAIN)
        ),
    ]


def _read_shard(shard: Path, rows: dict[tuple[str, str], dict[str, Any]], limit: int) -> None:
    with tarfile.open(shard) as tar:
        for member in tar:
            key, _, extension = member.name.rpartition(".")
            place = (str(shard), key)
            if place not in rows and len(rows) >= limit:
                return
            empty = {"file": str(shard), "key": key, "caption": None, "has_image": False, "error": None}
            row = rows.setdefault(place, empty)
            if extension == "txt":
                row["caption"] = _content(tar, member).decode("utf-8", errors="replace")
            elif extension in _IMAGES:
                row |= {"has_image": True, "error": look(_content(tar, member)).error}


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    content = file.read() if file else b""
    if len(content) != member.size:
        raise EOFError(f"{member.name} has {len(content)} of {member.size} bytes")
    return content
