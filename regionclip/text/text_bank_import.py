"""Text embeddings of other projects (one array of rows, names elsewhere) to a TextBank."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from regionclip.checkpoints.containers import read_container
from regionclip.errors import InputError
from regionclip.files import read_json, read_text, sha256_file
from regionclip.text.class_names import COCO_80, COCO_ALL65, COCO_BASE, COCO_NOVEL
from regionclip.text.prompts import clean_lvis_name
from regionclip.text.text_bank import TextBank

BUILT_IN = {"coco48": COCO_BASE, "coco17": COCO_NOVEL, "coco65": COCO_ALL65, "coco80": COCO_80}
"""Lists of names that need no file: COCO's base, novel, both, all."""


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
        raise InputError(
            f"{len(embeddings)} rows of embeddings for the {len(found)} names of {names}",
            file=path,
            mend="give the names that these embeddings were made of, in their order",
        )
    origin = f"unknown (imported from {path.name}, sha256 {sha256_file(path)})"
    return TextBank(found, embeddings, (), text_model=origin, weights_sha256="unknown", source=path)


def read_embeddings(path: str | Path) -> Tensor:
    """Read the embeddings alone: (K, D) float32.

    Raises:
        InputError: The file is damaged or holds anything but one array of floats with two axes.
    """
    content = read_container(path)
    if not isinstance(content, Tensor):
        raise InputError(
            f"holds {len(content.tensors)} named tensors, such as a model's weights; wanted one array of embeddings",
            file=path,
            mend="give a file such as coco_65_cls_emb.pth",
        )
    # A file of shape (D,) would be copied into all rows of a classifier.
    if content.ndim != 2 or 0 in content.shape or not content.is_floating_point():
        raise InputError(
            f"got {content.dtype} of shape {tuple(content.shape)}, wanted floats of shape (K, D), one row a name",
            file=path,
            mend="give embeddings of K names, or reshape those of a single name to (1, D)",
        )
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
    return _names_of_categories(source, rows) if source.suffix == ".json" else _names_of_lines(source)


def _names_of_categories(source: Path, rows: int) -> tuple[str, ...]:
    content = read_json(source)
    try:
        categories = sorted(content["categories"], key=lambda category: category["id"])
        names = tuple(clean_lvis_name(category["name"]) for category in categories)
    except (KeyError, TypeError):
        mend = "give a COCO or LVIS annotation file"
        raise InputError("no list of categories with id and name", file=source, key="categories", mend=mend) from None
    common = tuple(name for name, one in zip(names, categories, strict=True) if one.get("frequency") != "r")
    return common if rows == len(common) else names


def _names_of_lines(source: Path) -> tuple[str, ...]:
    if not source.exists():
        mend = f"give a file, or one of {', '.join(BUILT_IN)}"
        raise InputError("no such file or list of names", file=source, mend=mend)
    names = tuple(line.partition(",")[0].strip() for line in read_text(source).splitlines())
    if not all(names) or not names:
        line = names.index("") + 1 if names else 1
        raise InputError("the line has no name", file=source, record=line, mend="give one name a line")
    return names
