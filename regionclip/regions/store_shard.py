"""One shard of a region store: its Arrow schema, writing it and reading it as memory-mapped views."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from regionclip.errors import InputError
from regionclip.regions.store_contents import CONTENTS, MEND

K_KEY = "concepts_per_region"


class Regions(NamedTuple):
    """The regions of one image.

    Attributes:
        boxes: float32 [n, 4], xyxy in pixels of the original image.
        objectness: float32 [n], raw logits.
        concept_index: uint16 or int32 [n, k], indices into the concept pool, best first; None when k = 0.
        concept_prob: float16 or float32 [n, k], the teacher's probabilities; None when k = 0.
    """

    boxes: np.ndarray
    objectness: np.ndarray
    concept_index: np.ndarray | None = None
    concept_prob: np.ndarray | None = None


def shard_schema(
    metadata: dict[str, str], id_type: pa.DataType, k: int, index_type: pa.DataType, prob_type: pa.DataType
) -> pa.Schema:
    """Return the schema of every shard of a store: one row an image, flat lists, the metadata in key order."""
    fields = [("image_id", id_type), ("boxes", pa.list_(pa.float32())), ("objectness", pa.list_(pa.float32()))]
    if k:
        fields += [("concept_index", pa.list_(index_type)), ("concept_prob", pa.list_(prob_type))]
    return pa.schema(fields, metadata=dict(sorted({**metadata, K_KEY: str(k)}.items())))


def write_shard(path: Path, schema: pa.Schema, image_ids: Sequence[int | str], rows: Sequence[Regions]) -> None:
    """Write images as one Arrow IPC file with one record batch (uncompressed, so that it can be memory-mapped)."""
    columns: list[pa.Array] = [pa.array(image_ids, schema.field("image_id").type)]
    for name in schema.names[1:]:
        values = [np.asarray(getattr(row, name)).reshape(-1) for row in rows]
        offsets = np.cumsum([0] + [len(value) for value in values], dtype=np.int32)
        flat = np.concatenate([np.empty(0, schema.field(name).type.value_type.to_pandas_dtype()), *values])
        columns.append(pa.ListArray.from_arrays(offsets, pa.array(flat, schema.field(name).type.value_type)))
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(pa.record_batch(columns, schema=schema))


class Shard:
    """A memory-mapped shard.

    Args:
        path: The Arrow IPC file.
        rows: The number of images it must have; None takes any.

    Raises:
        InputError: The file is absent, truncated, or has another number of rows.
    """

    def __init__(self, path: Path, rows: int | None = None) -> None:
        self.path = path
        try:
            reader = pa.ipc.open_file(pa.memory_map(str(path)))
            batch = reader.get_batch(0)
            batch.validate(full=True)
        except FileNotFoundError:
            raise InputError("the shard does not exist", file=path, mend=MEND) from None
        except (pa.ArrowException, OSError, IndexError) as error:
            raise InputError(f"the shard cannot be read ({error})", file=path, mend=MEND) from None
        self.schema: pa.Schema = batch.schema
        if rows not in (None, batch.num_rows) or K_KEY.encode() not in (self.schema.metadata or {}):
            raise InputError(
                f"not the shard that {CONTENTS} lists ({batch.num_rows} rows, wanted {rows})", file=path, mend=MEND
            )
        self.rows = batch.num_rows
        self.image_ids: pa.Array = batch.column("image_id")
        lists = {name: batch.column(name) for name in self.schema.names[1:]}
        self._values = {name: column.values.to_numpy(zero_copy_only=True) for name, column in lists.items()}
        self._offsets: np.ndarray = lists["objectness"].offsets.to_numpy(zero_copy_only=True)
        self._check_lengths({name: column.offsets.to_numpy(zero_copy_only=True) for name, column in lists.items()})

    def _check_lengths(self, offsets: dict[str, np.ndarray]) -> None:
        k = int(self.schema.metadata[K_KEY.encode()])
        for name, column in offsets.items():
            width = {"boxes": 4, "objectness": 1}.get(name, k)
            if not np.array_equal(column, self._offsets * width):
                raise InputError("the column does not fit the number of regions", file=self.path, key=name, mend=MEND)

    @property
    def num_regions(self) -> int:
        """The number of regions of all images of the shard."""
        return int(self._offsets[-1])

    def _views(self, start: int, stop: int) -> Regions:
        k = int(self.schema.metadata[K_KEY.encode()])
        boxes = self._values["boxes"][4 * start : 4 * stop].reshape(-1, 4)
        objectness = self._values["objectness"][start:stop]
        if not k:
            return Regions(boxes, objectness)
        index, prob = (self._values[n][k * start : k * stop].reshape(-1, k) for n in ("concept_index", "concept_prob"))
        return Regions(boxes, objectness, index, prob)

    @property
    def counts(self) -> np.ndarray:
        """The number of regions of each image, int32 [rows]."""
        return np.diff(self._offsets)

    def all_regions(self) -> Regions:
        """Return the regions of all images of the shard behind each other, as read-only views."""
        return self._views(0, self.num_regions)

    def regions(self, row: int) -> Regions:
        """Return the regions of the image in a row, as read-only views."""
        return self._views(int(self._offsets[row]), int(self._offsets[row + 1]))

    def table(self) -> pd.DataFrame:
        """Return one row a region: image_id, x1, y1, x2, y2, objectness, and top_concept, top_prob when k > 0."""
        regions = self.all_regions()
        ids = np.repeat(self.image_ids.to_numpy(zero_copy_only=False), self.counts)
        columns = {"image_id": ids, **dict(zip(("x1", "y1", "x2", "y2"), regions.boxes.T, strict=True))}
        columns["objectness"] = regions.objectness
        if regions.concept_index is not None and regions.concept_prob is not None:
            columns |= {
                "top_concept": regions.concept_index[:, 0],
                "top_prob": regions.concept_prob[:, 0].astype(np.float32),
            }
        return pd.DataFrame(columns)
