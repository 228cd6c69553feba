"""Writes data/coco and data/lvis from real annotation files: splits, class list, manifest, where pictures lie."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from regionclip.data.annotations.annotation_files import Json, picture_name
from regionclip.data.annotations.coco_split import coco_class_list, coco_splits
from regionclip.data.annotations.derived_split import DerivedSplit
from regionclip.data.annotations.lvis_split import lvis_class_list, lvis_splits
from regionclip.data.annotations.quarantine import quarantine_annotations, quarantine_pictures
from regionclip.data.layout import PICTURES, REAL_FILES, DatasetName
from regionclip.data.pictures import SEEN, Looked, save_seen
from regionclip.data.rejects import Rejects
from regionclip.data.sources import mend_missing
from regionclip.errors import InputError
from regionclip.files import atomic_dir, sha256_file, write_json
from regionclip.runtime import workers

if TYPE_CHECKING:
    from regionclip.params import CocoFiles, LvisFiles

_DERIVE = {"coco": (coco_splits, coco_class_list), "lvis": (lvis_splits, lvis_class_list)}


def write_detection_set(
    root: Path,
    name: DatasetName,
    files: CocoFiles | LvisFiles,
    rejects: Rejects | None = None,
    seen: dict[Path, Looked] | None = None,
) -> dict[str, int]:
    """Write ROOT/NAME, whole or not at all; pictures stay where they are.

    It holds ``annotations/`` (one file a split), ``classes.json`` (id, name, split and LVIS's frequency),
    ``pictures.json`` (split -> folder, as ``files`` writes it) and ``manifest.json`` (counts of the sources as they are
    and of what is written, and the SHA-256 of each source and result); with ``rejects`` also ``seen.arrow`` (what the
    pictures showed). The same sources give the same bytes.

    Args:
        root: The folder ``data``.
        name: "coco" or "lvis".
        files: Where annotations and pictures are, and which classes are base.
        rejects: Takes bad records and pictures; None: they are errors, or the gate behind finds them.
        seen: What was seen of pictures before, of another set that shares them; see `look_at_files`.

    Returns:
        Images, annotations and categories of each split, and how many were left out of it; with ``rejects`` also how
        many records were set aside.

    Raises:
        InputError: An annotation file does not fit its split, or pictures are not where they should be.
    """
    chosen = files.classes if isinstance(files.classes, str) else files.classes.model_dump()
    file_names = REAL_FILES[name][files.classes if isinstance(files.classes, str) else "own"]
    counts, sources, sums, pictures, classes = {}, {}, {}, {}, []
    read: dict[Path, dict[str, int]] = {}
    seen, kept = {} if seen is None else seen, {}
    with atomic_dir(root / name) as folder:
        for part in _sound_parts(_DERIVE[name][0](files, _reader(rejects, read)), rejects, seen):
            paths = (part.pictures / picture_name(image) for image in part.content["images"])
            kept |= {path: seen[path] for path in paths if path in seen}
            result = Path("annotations") / f"{file_names[part.name]}.json"
            write_json(folder / result, part.content, indent=None)
            counts |= part.counts()
            sources[part.name] = {"file": part.source.name, "sha256": sha256_file(part.source), **read[part.source]}
            sums[result.as_posix()] = sha256_file(folder / result)
            pictures[part.name] = part.pictures.as_posix()
            if part.name == "val":
                classes = _DERIVE[name][1](part.content["categories"], files.classes)
        write_json(folder / "classes.json", {"dataset": name, "classes": classes})
        write_json(folder / PICTURES, pictures)
        if rejects is not None:
            save_seen(folder / SEEN, kept)
        sums |= {file: sha256_file(folder / file) for file in ("classes.json", PICTURES)}
        about = {"source": "files", "classes": chosen, "counts": counts, "sources": sources, "sha256": sums}
        write_json(folder / "manifest.json", about)
    return counts | ({"rejected": len(rejects)} if rejects is not None else {})


def _sound_parts(
    parts: Iterator[DerivedSplit], rejects: Rejects | None, seen: dict[Path, Looked]
) -> Iterator[DerivedSplit]:
    """Yield the splits without the pictures that are set aside, if they may be; what the others show is in ``seen``."""
    for part in parts:
        _require_pictures(part)
        if rejects is not None:
            sound = quarantine_pictures(part.content, part.pictures, part.source, rejects, workers(), seen)
            yield part._replace(content=sound)
        else:
            yield part


def _reader(rejects: Rejects | None, read: dict[Path, dict[str, int]]) -> Callable[[Json, Path], Json]:
    """Return what notes the sizes of a source in ``read``, and then sets its bad records aside where they may be."""

    def take(content: Json, path: Path) -> Json:
        lists = {part: content.get(part) for part in ("images", "annotations")}
        read[path] = {part: len(records) for part, records in lists.items() if isinstance(records, list)}
        return content if rejects is None else quarantine_annotations(content, path, rejects)

    return take


def _require_pictures(part: DerivedSplit) -> None:
    """Look for one picture of each folder that the annotations name: a wrong path shows before a long run."""
    examples: dict[str, str] = {}
    for name in map(picture_name, part.content["images"]):
        examples.setdefault(str(Path(name).parent), name)
    for example in examples.values():
        if not (part.pictures / example).is_file():
            raise InputError(
                f"the picture '{example}' of {part.source.name} is not there",
                file=part.pictures,
                mend=mend_missing(
                    part.pictures / Path(example).parent, f"give the folder that holds the pictures of '{part.name}'"
                ),
            )
