"""Writing a region store: checks every image's regions and puts the finished folder in its place at the end."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa

from regionclip.errors import InputError
from regionclip.files import atomic_dir, write_json
from regionclip.regions.store import CAPTIONS, CONTENTS, K_KEY, Entry, Regions, caption_key, shard_name


class RegionStoreWriter:
    """Writes a region store; nothing is at ``path`` until the ``with`` block has succeeded.

    Equal input gives equal bytes.

    Args:
        path: The folder to write; one that is there is replaced.
        metadata: What the store was made from (teacher, bank and RPN hashes, temperature, view, ...).
        k: Concepts per region; 0 writes boxes and objectness only.
        shard_rows: Images per shard. A shard is built in memory.
        concepts: Size of the concept pool: indices are checked against it, and up to 65,536 take two bytes, not four.
        caption_width: Width D of the features of the images' captions; 0 writes none.
    """

    def __init__(
        self,
        path: str | Path,
        metadata: dict[str, str],
        k: int = 0,
        shard_rows: int = 8192,
        concepts: int | None = None,
        caption_width: int = 0,
    ) -> None:
        self.path, self.metadata, self.k, self.shard_rows = Path(path), metadata, k, shard_rows
        self.concepts, self.caption_width = concepts, caption_width
        self._id_type: pa.DataType | None = None
        self._seen: set[int | str] = set()
        self._ids: list[int | str] = []
        self._rows: list[Regions] = []
        self._shards: list[Entry] = []
        self._stack = ExitStack()

    def __enter__(self) -> RegionStoreWriter:
        self._folder = self._stack.enter_context(atomic_dir(self.path))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        with self._stack as stack:
            if kind is None:
                self._finish()
                return None
            return stack.__exit__(kind, error, trace)

    def _finish(self) -> None:
        if self._ids or not self._shards:
            self._flush()
        write_contents(self._folder, self._shards)

    def _schema(self) -> pa.Schema:
        """Return the schema of every shard: one row an image, flat lists, the metadata in key order."""
        fields = [("image_id", self._id_type or pa.int64())]
        fields += [(name, pa.list_(pa.float32())) for name in ("boxes", "objectness")]
        if self.k:
            index = pa.uint16() if self.concepts is not None and self.concepts <= 2**16 else pa.int32()
            fields += [("concept_index", pa.list_(index)), ("concept_prob", pa.list_(pa.float32()))]
        if self.caption_width:
            kinds = pa.uint32(), pa.list_(pa.float32(), self.caption_width)
            fields += [(name, pa.list_(kind)) for name, kind in zip(CAPTIONS, kinds, strict=True)]
        return pa.schema(fields, metadata=dict(sorted({**self.metadata, K_KEY: str(self.k)}.items())))

    def add(
        self,
        image_id: int | str,
        boxes: np.ndarray,
        objectness: np.ndarray,
        concept_index: np.ndarray | None = None,
        concept_prob: np.ndarray | None = None,
        captions: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Add one image.

        Args:
            image_id: The id, an integer or a string, of one kind in the whole store.
            boxes: float [n, 4], xyxy in pixels of the original image.
            objectness: float [n], raw logits.
            concept_index: int [n, k], needed when k > 0.
            concept_prob: float [n, k], needed when k > 0.
            captions: Features float [D] of each of its captions, needed when ``caption_width`` is D.

        Raises:
            InputError: A shape, a value, a box or the id is wrong; it names the image and the column.
        """
        image_id = self._checked_id(image_id)
        row = Regions(np.asarray(boxes, np.float32), np.asarray(objectness, np.float32))
        if concept_index is not None and concept_prob is not None:
            row = row._replace(
                concept_index=np.asarray(concept_index), concept_prob=np.asarray(concept_prob, np.float32)
            )
        if captions is not None:
            keys = np.array([caption_key(caption) for caption in captions], np.uint32)
            features = np.array(list(captions.values()), np.float32)
            features = features if captions else features.reshape(0, self.caption_width)
            row = row._replace(caption_keys=keys, caption_features=features)
        self._check(image_id, row)
        self._ids.append(image_id)
        self._rows.append(row)
        if len(self._ids) == self.shard_rows:
            self._flush()

    def _checked_id(self, image_id: int | str) -> int | str:
        value = image_id if isinstance(image_id, str) else int(image_id)
        id_type = pa.string() if isinstance(value, str) else pa.int64()
        if self._id_type not in (None, id_type):
            self._refuse(value, "image_id", f"an id of another kind than the ids before ({self._id_type})")
        if value in self._seen:
            self._refuse(value, "image_id", "the image was added before")
        self._id_type = id_type
        self._seen.add(value)
        return value

    def _check(self, image_id: int | str, row: Regions) -> None:
        n = len(row.boxes)
        shapes = {"boxes": (n, 4), "objectness": (n,)}
        if self.k:
            shapes |= {"concept_index": (n, self.k), "concept_prob": (n, self.k)}
        if self.caption_width:
            m = 0 if row.caption_keys is None else len(row.caption_keys)
            shapes |= dict(zip(CAPTIONS, ((m,), (m, self.caption_width)), strict=True))
        for name, value in row._asdict().items():
            shape = None if value is None else value.shape
            if shape != shapes.get(name):
                self._refuse(image_id, name, f"shape {shape}, wanted {shapes.get(name)}")
            if value is not None and not np.isfinite(value).all():
                self._refuse(image_id, name, "a value is not finite")
        if not (row.boxes[:, 2:] > row.boxes[:, :2]).all():
            self._refuse(image_id, "boxes", "a box without area (x2 must be above x1, y2 above y1)")
        if row.concept_index is not None and row.concept_prob is not None:
            if row.concept_index.dtype.kind not in "iu" or (row.concept_index < 0).any():
                self._refuse(image_id, "concept_index", "not all are integers from 0 on")
            if self.concepts is not None and (row.concept_index >= self.concepts).any():
                self._refuse(image_id, "concept_index", f"an index outside the {self.concepts} concepts")
            if (row.concept_prob < 0).any() or (row.concept_prob > 1 + 1e-3).any():
                self._refuse(image_id, "concept_prob", "a probability outside 0..1")

    def _refuse(self, image_id: int | str, key: str, problem: str) -> None:
        mend = "mend the program that gives the regions; nothing was written"
        raise InputError(problem, file=self.path, record=image_id, key=key, mend=mend)

    def _flush(self) -> None:
        """Write one Arrow IPC file with one record batch, uncompressed, so that it can be memory-mapped."""
        path, schema = self._folder / shard_name(len(self._shards)), self._schema()
        columns: list[pa.Array] = [pa.array(self._ids, schema.field("image_id").type)]
        for name in schema.names[1:]:
            item = schema.field(name).type.value_type
            nested = pa.types.is_fixed_size_list(item)
            width, value_type = (item.list_size, item.value_type) if nested else (1, item)
            values = [getattr(row, name).reshape(-1) for row in self._rows]
            offsets = np.cumsum([0] + [len(value) // width for value in values], dtype=np.int32)
            flat = pa.array(np.concatenate([np.empty(0, value_type.to_pandas_dtype()), *values]), value_type)
            items = pa.FixedSizeListArray.from_arrays(flat, width) if nested else flat
            columns.append(pa.ListArray.from_arrays(offsets, items))
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            writer.write_batch(pa.record_batch(columns, schema=schema))
        regions = sum(len(row.boxes) for row in self._rows)
        self._shards.append(Entry(len(self._ids), regions, path.stat().st_size))
        self._ids, self._rows = [], []


def write_contents(folder: Path, shards: list[Entry]) -> None:
    """Write ``store.json``; a folder is a store once it is there."""
    write_json(folder / CONTENTS, {"shards": [entry._asdict() for entry in shards]})
