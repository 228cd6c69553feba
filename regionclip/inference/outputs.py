"""What commands write of a run over pictures: a journal that it goes on from, and files that other tools read."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np
import yaml
from pycocotools import mask as coco_mask

from regionclip.data.rejects import Rejects
from regionclip.errors import InputError
from regionclip.files import atomic_dir, atomic_path, write_text
from regionclip.inference.api import RegionCLIP
from regionclip.inference.results import Result, normal, path_below, unicode_of
from regionclip.inference.sources import Opened, boxes_of_picture, is_video, open_source, picture_files

JOURNAL, PICTURES, REJECTED = ".regionclip.jsonl", "pictures", "rejected.jsonl"
FORMATS = {
    "json": ("detections.jsonl",),
    "coco": ("detections.json",),
    "yolo": ("labels", "data.yaml"),
    "csv": ("detections.csv",),
    "set": ("train.json", "val.json"),
}
"""What each format writes into its folder."""
_ROWS = 4096  # regions of a row group
_MEND = "name another folder with --out"


class Pictures(NamedTuple):
    """The pictures of a run.

    Attributes:
        source: What `open_source` takes: paths, or the number of a camera.
        root: The folder that names of pictures start from in what is written.
        files: Those that are known before they are read, which frames are not.
        counted: Whether those are all.
    """

    source: list[str] | int
    root: Path
    files: list[str]
    counted: bool

    @classmethod
    def of(cls, sources: list[str]) -> Pictures:
        """Look at the paths of a command.

        Raises:
            InputError: A folder or glob has no picture.
        """
        if len(sources) == 1 and sources[0].isdecimal() and not Path(sources[0]).exists():
            return cls(int(sources[0]), Path.cwd(), [], counted=False)
        roots, files = [], []
        for source in sources:
            path = Path(source)
            # Of a glob: what stands before its first wildcard.
            while not path.is_dir() and path != path.parent:
                path = path.parent
            roots.append(normal(path))
            files += [] if is_video(source) else map(str, picture_files(source))
        root = Path(os.path.commonpath(roots))
        return cls(sources, root, files, counted=not any(map(is_video, sources)))

    def require_names(self, form: str) -> None:
        """Refuse two pictures of one name, or for YOLO of one name but for its ending: their results would be one."""
        seen: dict[str, str] = {}
        for file in dict.fromkeys(self.files):
            name = str(Path(self.name(file)).with_suffix("")) if form == "yolo" else self.name(file)
            if name in seen:
                mend = "rename one" + (", or take another --format" if form == "yolo" else ", or name it once")
                raise InputError(f"its results would have the name of those of {seen[name]}", file=file, mend=mend)
            seen[name] = file

    def name(self, source: str) -> str:
        """Return a picture's name from the root on, with / between folders; of a frame with its number."""
        return path_below(source, self.root).as_posix()


class Journal:
    """What a run over pictures has found, a line a picture: a kill loses a batch at most, and the run goes on from it.

    One process at a time has it. With other arguments than before it starts anew, and what was written before goes.

    Args:
        folder: Of all that the run writes.
        arguments: What decides the results, fit for JSON; among them ``batch_size``.
        files: Names of what will be written into the folder.

    Raises:
        InputError: One of these is there and not of an earlier run, or another run writes there.
    """

    def __init__(self, folder: Path, arguments: Mapping[str, Any], files: Collection[str]) -> None:
        self.changed: list[str] = []  # arguments in which an earlier run was another
        self._order: dict[str, None] = {}
        self._places: dict[str, tuple[int, list[int] | None]] = {}
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / JOURNAL
        head = json.loads(json.dumps({"arguments": arguments, "files": sorted(files)}))  # as it is read
        self._handle = file.open("a+b")
        try:
            fcntl.lockf(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            # Some disks know no locks.
            if error.errno in (errno.EACCES, errno.EAGAIN):
                problem = "another run writes into this folder"
                raise InputError(problem, file=folder, mend=f"wait, or {_MEND}") from None
        self._handle.seek(0)
        known = _parsed(self._handle.readline()) or {}
        if strange := sorted(name for name in {*files} - {*known.get("files", ())} if (folder / name).exists()):
            if not known:
                file.unlink()
            raise InputError("it is there already, and not of this command", file=folder / strange[0], mend=_MEND)
        if known == head:
            self._read(arguments["batch_size"])
            return
        if known:
            before, now = known["arguments"], head["arguments"]
            self.changed = [key for key in {**before, **now} if before.get(key) != now.get(key)]
        for path in (folder / name for name in known.get("files", ())):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        self._handle.truncate(0)
        self._append(head)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.close()

    def done(self, source: str) -> bool:
        """Say whether a picture needs no search, and put it into the order of the results."""
        twice = source in self._order
        self._order[source] = None
        return twice or self.knows(source)

    def knows(self, source: str) -> bool:
        """Say whether a picture was searched or set aside, as its file is now."""
        return source in self._places and self._places[source][1] == _stamp(source)

    def add(self, found: Result | InputError) -> None:
        """Write down what was found on a picture, or why it was set aside."""
        if isinstance(found, InputError):
            source = str(found.file or found.record)
            facts = {key: getattr(found, key) for key in ("problem", "record", "key", "mend")}
            line: dict[str, Any] = {"rejected": facts | {"file": found.file and str(found.file)}}
        else:
            source = found.source
            line = {key: getattr(found, key).tolist() for key in ("boxes", "scores", "labels")} | {"size": found.size}
            if found.masks is not None:
                line["masks"] = [row["segmentation"] for row in found.to_coco()]
        stamp = _stamp(source)
        self._places[source] = self._append({"source": source, "stamp": stamp, **line}), stamp

    def end(self) -> None:
        """Note that every picture was searched; what comes later begins with a batch of its own."""
        self._append({"ended": True})

    def results(self, names: tuple[str, ...]) -> Iterator[Result]:
        """Yield what was found, in the order of the pictures, with pixels that are all 0."""
        for line in self._lines():
            if "rejected" in line:
                continue
            width, height = line["size"]
            boxes = np.array(line["boxes"], np.float32).reshape(-1, 4)
            labels, scores = np.array(line["labels"], np.int64), np.array(line["scores"], np.float32)
            pixels, masks = np.broadcast_to(np.uint8(0), (height, width, 3)), None
            if "masks" in line:
                masks = np.array([coco_mask.decode(rle) for rle in line["masks"]], bool).reshape(-1, height, width)
            yield Result(line["source"], pixels, names, boxes, scores, labels, masks)

    def rejected(self) -> Iterator[InputError]:
        """Yield why pictures were set aside."""
        for line in self._lines():
            if "rejected" in line:
                yield InputError(**line["rejected"])

    def _lines(self) -> Iterator[dict[str, Any]]:
        for source in self._order:
            if source in self._places:
                self._handle.seek(self._places[source][0])
                yield json.loads(self._handle.readline())

    def _append(self, line: Mapping[str, Any]) -> int:
        place = self._handle.seek(0, os.SEEK_END)
        self._handle.write(json.dumps(line).encode() + b"\n")
        self._handle.flush()
        return place

    def _read(self, batch_size: int) -> None:
        """Read what is whole, and cut what comes behind the last whole batch.

        Batches are then the same as without the break, and so are the results, to the last digit.
        """
        found, start = [], self._handle.tell()
        ends = [start]
        while line := _parsed(self._handle.readline()):
            if "source" in line:
                found.append((start, line["source"], line["stamp"]))
            start = self._handle.tell()
            if "ended" in line:
                ends = [start]
            elif "size" in line:
                ends.append(start)
        stop = ends[(len(ends) - 1) // batch_size * batch_size]
        self._handle.truncate(stop)
        self._places = {source: (place, stamp) for place, source, stamp in found if place < stop}


def _parsed(line: bytes) -> dict[str, Any] | None:
    """Return a line of the journal, None where a kill or the end of power left it torn."""
    with suppress(ValueError):
        if line.endswith(b"\n") and isinstance(content := json.loads(line), dict):
            return content
    return None


def _stamp(source: str) -> list[int] | None:
    """Return size and time of change of a picture's file, or of its video."""
    for path in (source, source.rpartition("#")[0]):
        with suppress(OSError):
            status = Path(path).stat()
            return [status.st_size, status.st_mtime_ns]
    return None


def search(
    model: RegionCLIP, pictures: Pictures, names: Any, journal: Journal, drawn: Path | None, **settings: Any
) -> Iterator[Result | InputError]:
    """Find objects on the pictures that a journal does not know, write them down, and yield them.

    Args:
        model: Searches.
        pictures: What to search; those that cannot be decoded are set aside.
        names: What to look for.
        journal: Gets what was found.
        drawn: Folder for drawings of the pictures with their boxes; None: they are not drawn.
        settings: Of `RegionCLIP.detect`.
    """
    rejected: list[InputError] = []

    def note(found: Result | InputError) -> Result | InputError:
        # A picture that is written down is not searched again, so its drawing comes first.
        if drawn is not None and isinstance(found, Result):
            drawn.mkdir(exist_ok=True)
            found.plot(drawn, pictures.root)
        journal.add(found)
        return found

    opened = open_source(pictures.source, skip=journal.done)
    for result in model.detect(opened, names, rejected=rejected, **settings):
        yield from map(note, rejected)
        rejected.clear()
        yield note(result)
    yield from map(note, rejected)
    journal.end()


def write_results(
    form: str, folder: Path, pictures: Pictures, journal: Journal, names: tuple[str, ...], val: float = 0.0
) -> None:
    """Write what a journal holds in one of `FORMATS`, and what was set aside; each file whole or not at all.

    Args:
        form: ``json``: a picture a line, as transformers' dicts. ``coco``: one file with images, categories and
            annotations with their score. ``yolo``: a text file a picture, class, box and score, and data.yaml.
            ``csv``: a table. ``set``: two COCO files of a data set, which leave out ``val`` of the pictures and hold
            them.
        folder: Where to.
        pictures: Of the run.
        journal: Of the run.
        names: What was looked for.
        val: Fraction.

    Raises:
        InputError: A data set of fewer than two pictures.
    """
    results = partial(journal.results, names)
    with Rejects(folder / REJECTED, limit=1.0) as rejects:
        for error in journal.rejected():
            rejects.add(error)
    if form == "json":
        lines = ({"source": one.source, "size": one.size, "detections": one.to_hf()} for one in results())
        with atomic_path(folder / FORMATS[form][0]) as beside, _opened(beside) as file:
            file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    elif form == "csv":
        with atomic_path(folder / FORMATS[form][0]) as beside, _opened(beside) as file:
            file.write("source,name,score,x1,y1,x2,y2\n")
            for one in results():
                one.to_dataframe().to_csv(file, header=False, index=False)
    elif form == "yolo":
        with atomic_dir(folder / "labels") as beside:
            for one in results():
                label = (beside / pictures.name(one.source)).with_suffix(".txt")
                label.parent.mkdir(parents=True, exist_ok=True)
                label.write_text(one.to_yolo(), encoding="utf-8")
        about = {"path": str(pictures.root), "train": ".", "val": ".", "nc": len(names), "names": list(names)}
        write_text(folder / "data.yaml", yaml.safe_dump(about, allow_unicode=True, sort_keys=False))
    else:
        found = [pictures.name(one.source) for one in results()]
        held = held_out(found, val) if form == "set" else set()
        for file, chosen in zip(FORMATS[form], ({*found} - held, held), strict=False):
            _write_coco(folder / file, results, names, pictures, chosen)


def held_out(names: list[str], share: float) -> set[str]:
    """Choose pictures by the SHA-256 of their names: more pictures move none from one side to the other.

    Only where a side would be empty the next one is moved there.

    Raises:
        InputError: There are fewer than two pictures.
    """
    if len(names) < 2:
        raise InputError(f"{len(names)} pictures are no data set", key="FOLDER", mend="give two or more that decode")
    places = {name: int(hashlib.sha256(name.encode(errors="replace")).hexdigest()[:8], 16) / 2**32 for name in names}
    ordered = sorted(names, key=places.__getitem__)
    return {ordered[0]} | {name for name in ordered[1:-1] if places[name] < share}


def _write_coco(
    file: Path,
    results: Callable[[], Iterator[Result]],
    names: tuple[str, ...],
    pictures: Pictures,
    chosen: Collection[str],
) -> None:
    """Write the results of chosen pictures as one COCO file, piece by piece: there may be too many for the memory."""
    categories = [{"id": number, "name": name} for number, name in enumerate(names, 1)]

    def numbered() -> Iterator[tuple[int, Result]]:
        return enumerate((one for one in results() if pictures.name(one.source) in chosen), 1)

    def images() -> Iterator[dict[str, Any]]:
        for number, one in numbered():
            width, height = one.size
            yield {"id": number, "file_name": pictures.name(one.source), "width": width, "height": height}

    def annotations() -> Iterator[dict[str, Any]]:
        count = itertools.count(1)
        for number, one in numbered():
            # Clipped to the picture, a box may be left with no area, and COCO has none such.
            for row in one[(one.boxes[:, 2:] > one.boxes[:, :2]).all(axis=1)].to_coco(number):
                yield {"id": next(count), **row, "area": row["bbox"][2] * row["bbox"][3], "iscrowd": 0}

    parts = {"images": images(), "categories": categories, "annotations": annotations()}
    with atomic_path(file) as beside, _opened(beside) as out:
        for number, (key, items) in enumerate(parts.items()):
            out.write(f'{", " if number else "{"}"{key}": [')
            for place, item in enumerate(items):
                out.write((",\n" if place else "\n") + json.dumps(item, ensure_ascii=False))
            out.write("]")
        out.write("}\n")


def _opened(file: Path) -> TextIO:
    """Open a file to write; names of pictures that are no Unicode are escaped, in JSON's way."""
    return file.open("w", encoding="utf-8", errors="backslashreplace", newline="\n")


def write_features(
    model: RegionCLIP,
    opened: Iterable[Opened],
    boxes: Mapping[str, Any] | str,
    most: int,
    file: Path,
    rejected: Rejects,
) -> Iterator[int]:
    """Write features of regions to Parquet: source, box (x1, y1, x2, y2 in pixels), feature; yield rows a picture.

    Args:
        model: Embeds.
        opened: Pictures.
        boxes: Of each file name; or ``proposals``, or ``picture``, the whole of it.
        most: The surest proposals of a picture that count.
        file: To write, a group of rows after the other.
        rejected: Gets the pictures that cannot be decoded or have no boxes given.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    numbers = pa.list_(pa.float32())
    schema = pa.schema({"source": pa.string(), "box": pa.list_(pa.float32(), 4), "feature": numbers})
    waiting: list[dict[str, Any]] = []
    with atomic_path(file) as beside, pq.ParquetWriter(beside, schema) as writer:
        for place, (source, pixels) in enumerate(opened):
            try:
                if isinstance(pixels, InputError):
                    raise pixels
                picture = np.ascontiguousarray(pixels[..., ::-1])
                if isinstance(boxes, Mapping):
                    chosen = boxes_of_picture(boxes, source, place)
                elif boxes == "picture":
                    chosen = np.array([[0, 0, pixels.shape[1], pixels.shape[0]]], np.float32)
                else:
                    chosen = model.proposals(picture, most)
                features = model.features(picture, chosen)
            except InputError as error:
                rejected.add(error)
                yield 0
                continue
            rows = zip(chosen, features, strict=True)
            waiting += [{"source": unicode_of(source), "box": box, "feature": feature} for box, feature in rows]
            if len(waiting) >= _ROWS:
                writer.write_table(pa.Table.from_pylist(waiting, schema))
                waiting.clear()
            yield len(features)
        writer.write_table(pa.Table.from_pylist(waiting, schema))
