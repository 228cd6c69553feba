"""TextBank: names and their text embeddings in one file that knows where it came from; made of other projects' too."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from regionclip.checkpoints.containers import read_container, read_safetensors, save_tensors
from regionclip.errors import InputError
from regionclip.files import atomic_path, parse_json, read_json, read_text, sha256_file
from regionclip.text.class_names import COCO_80, COCO_ALL65, COCO_BASE, COCO_NOVEL, clean_lvis_name

BUILT_IN = {"coco48": COCO_BASE, "coco17": COCO_NOVEL, "coco65": COCO_ALL65, "coco80": COCO_80}
"""Lists of names that need no file: COCO's base, novel, both, all."""

_MEND = "run the stage `text_bank` again"


@dataclass(frozen=True, eq=False)
class TextBank:
    """Text embeddings, one row a name.

    Attributes:
        names: K distinct names.
        embeddings: (K, D) float32 on the CPU, un-normalised (every consumer normalises).
        templates: The prompt templates that each row is the mean of.
        text_model: Name of the CLIP model.
        weights_sha256: SHA-256 of its weights file.
        source: The file it was read from, for messages.

    Raises:
        InputError: The embeddings are not (K, D) float32, a number is not finite, or a name occurs twice.
    """

    names: tuple[str, ...]
    embeddings: Tensor
    templates: tuple[str, ...]
    text_model: str
    weights_sha256: str
    source: Path | None = None

    def __post_init__(self) -> None:
        shape = tuple(self.embeddings.shape)
        # [D] and [1, D] would be broadcast over all classes by a plain copy into a classifier.
        if len(shape) != 2 or shape[0] != len(self.names) or 0 in shape:
            raise self._error(f"got shape {shape}, wanted ({len(self.names)}, D), one row a name", "embeddings")
        if self.embeddings.dtype != torch.float32:
            raise self._error(f"got {self.embeddings.dtype}, wanted torch.float32", "embeddings")
        bad = ~self.embeddings.isfinite().all(dim=1)
        if bad.any():
            row = int(bad.nonzero()[0])
            raise self._error("a number is not finite", "embeddings", record=f"row {row} ({self.names[row]})")
        if len(self._rows) != len(self.names):
            twice = next(name for row, name in enumerate(self.names) if self._rows[name] != row)
            raise self._error("the name occurs twice", "names", record=twice)

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.names)}

    def __len__(self) -> int:
        return len(self.names)

    @property
    def width(self) -> int:
        """D, the width of an embedding."""
        return self.embeddings.shape[1]

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the embeddings' bytes (float32, row by row), in hex."""
        return hashlib.sha256(self.embeddings.contiguous().numpy()).hexdigest()

    def subset(self, names: Sequence[str]) -> TextBank:
        """Return the bank of ``names`` only, in their order.

        Raises:
            InputError: The bank lacks one of them, or one is given twice.
        """
        if missing := [name for name in names if name not in self._rows]:
            raise self._error("the bank has no such name", "names", record=missing[0])
        rows = [self._rows[name] for name in names]
        return replace(self, names=tuple(names), embeddings=self.embeddings[rows])

    def require(
        self, *, width: int | None = None, names: Sequence[str] | None = None, weights_sha256: str | None = None
    ) -> None:
        """Refuse a bank that does not fit its consumer.

        Args:
            width: D of the region embeddings that will be compared with it.
            names: The names that it must hold, in this order.
            weights_sha256: The weights that must have made it.

        Raises:
            InputError: It does not fit; the message says what was got and what was wanted.
        """
        if width is not None and width != self.width:
            mend = "use the text bank that was built with this model's text encoder"
            raise self._error(f"embeddings of width {self.width}, wanted {width}", "embeddings", mend=mend)
        if weights_sha256 is not None and weights_sha256 != self.weights_sha256:
            problem = f"built with weights {self.weights_sha256[:12]}, wanted {weights_sha256[:12]}"
            raise self._error(problem, "weights_sha256")
        if names is not None and tuple(names) != self.names:
            if len(names) != len(self.names):
                raise self._error(f"got {len(self.names)} names, wanted {len(names)}", "names")
            row = next(row for row, name in enumerate(self.names) if name != names[row])
            raise self._error(f"got '{self.names[row]}', wanted '{names[row]}'", "names", record=f"row {row}")

    def save(self, path: str | Path) -> None:
        """Write the bank, atomically: tensor ``embeddings``; names, templates and origin as metadata."""
        metadata = {
            "names": json.dumps(self.names, ensure_ascii=False),
            "templates": json.dumps(self.templates, ensure_ascii=False),
            "text_model": self.text_model,
            "weights_sha256": self.weights_sha256,
            "sha256": self.sha256,
        }
        with atomic_path(path) as beside:
            save_tensors({"embeddings": self.embeddings.contiguous()}, beside, metadata)

    @classmethod
    def load(cls, path: str | Path) -> TextBank:
        """Read a bank.

        Raises:
            InputError: The file is missing or damaged, lacks a key, or its content is refused (see the class).
        """
        path = Path(path)
        if not path.is_file():
            raise InputError("the file does not exist", file=path, mend=_MEND)
        content = read_safetensors(path)
        if "embeddings" not in content.tensors:
            raise InputError("the tensor is missing", file=path, key="embeddings", mend=_MEND)
        known = content.metadata
        for key in ("names", "templates", "text_model", "weights_sha256", "sha256"):
            if key not in known:
                raise InputError("the metadata key is missing", file=path, key=key, mend=_MEND)
        names, templates = (_texts(known[key], key, path) for key in ("names", "templates"))
        bank = cls(names, content.tensors["embeddings"], templates, known["text_model"], known["weights_sha256"], path)
        if bank.sha256 != known["sha256"]:
            raise InputError("the embeddings do not fit their checksum", file=path, key="sha256", mend=_MEND)
        return bank

    def _error(self, problem: str, key: str, record: str | None = None, mend: str = _MEND) -> InputError:
        return InputError(problem, file=self.source, record=record, key=key, mend=mend)


def _texts(text: str, key: str, path: Path) -> tuple[str, ...]:
    try:
        value = parse_json(text, file=path)
    except InputError:
        value = None
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise InputError("not a JSON list of texts", file=path, key=key, mend=_MEND)
    return tuple(value)


def import_bank(path: str | Path, names: str | Path) -> TextBank:
    """Make a bank of an embedding file and its names.

    Nothing in such a file says which CLIP and which prompts made it, so the bank says ``unknown`` for its weights.

    Args:
        path: ``.npy``, or ``.pth`` of one tensor: (K, D), one row a name, normalised or not. RegionCLIP publishes
            such files (``coco_65_cls_emb.pth``), Detic and UniDetector too (``lvis_v1_clip_a+cname.npy``).
        names: A key of `BUILT_IN`, or a file; see `read_names`.

    Raises:
        InputError: The file is damaged or no (K, D) array of floats, or the names are others in number.
    """
    path = Path(path)
    embeddings = read_embeddings(path)
    found = read_names(names, len(embeddings))
    if len(found) != len(embeddings):
        problem = f"{len(embeddings)} rows of embeddings for the {len(found)} names of {names}"
        mend = "give the names that these embeddings were made of, in their order"
        raise InputError(problem, file=path, mend=mend)
    origin = f"unknown (imported from {path.name}, sha256 {sha256_file(path)})"
    return TextBank(found, embeddings, (), text_model=origin, weights_sha256="unknown", source=path)


def read_embeddings(path: str | Path) -> Tensor:
    """Read the embeddings alone: (K, D) float32.

    Raises:
        InputError: The file is damaged or holds anything but one array of floats with two axes.
    """
    content = read_container(path)
    if not isinstance(content, Tensor):
        problem = f"holds {len(content.tensors)} named tensors, such as a model's weights; wanted one array"
        raise InputError(f"{problem} of embeddings", file=path, mend="give a file such as coco_65_cls_emb.pth")
    # A file of shape (D,) would be copied into all rows of a classifier.
    if content.ndim != 2 or 0 in content.shape or not content.is_floating_point():
        problem = f"got {content.dtype} of shape {tuple(content.shape)}, wanted floats of shape (K, D), one row a name"
        mend = "give embeddings of K names, or reshape those of a single name to (1, D)"
        raise InputError(problem, file=path, mend=mend)
    return content.float()


def read_names(source: str | Path, rows: int) -> tuple[str, ...]:
    """Read names in the order of embeddings.

    Args:
        source: A key of `BUILT_IN`; a text file of one ``name`` or ``name,count`` a line (official concept pools);
            or a COCO or LVIS JSON, whose categories count in the order of their ids, cleaned as the official code
            does.
        rows: Number of embeddings. If that is the number of an LVIS file's categories without the rare ones, those
            are meant (RegionCLIP's base classes).

    Raises:
        InputError: There is no such file, it has no names, or a line has none.
    """
    if str(source) in BUILT_IN:
        return BUILT_IN[str(source)]
    source = Path(source)
    if source.suffix != ".json":
        if not source.exists():
            mend = f"give a file, or one of {', '.join(BUILT_IN)}"
            raise InputError("no such file or list of names", file=source, mend=mend)
        # A name may hold commas ("pepper, bell"); only a count behind the last one is not of it.
        names = tuple(re.sub(r",\s*\d+\s*$", "", line).strip() for line in read_text(source).splitlines())
        if not all(names) or not names:
            line = names.index("") + 1 if names else 1
            raise InputError("the line has no name", file=source, record=line, mend="give one name a line")
        return names
    content = read_json(source)
    try:
        categories = sorted(content["categories"], key=lambda category: category["id"])
        names = tuple(clean_lvis_name(category["name"]) for category in categories)
    except (KeyError, TypeError):
        mend = "give a COCO or LVIS annotation file"
        raise InputError("no list of categories with id and name", file=source, key="categories", mend=mend) from None
    common = tuple(name for name, one in zip(names, categories, strict=True) if one.get("frequency") != "r")
    return common if rows == len(common) else names
