"""Public data sets: the official address, size and checksum of each archive, and what must lie where once unpacked."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

_COCO = "http://images.cocodataset.org"
_LVIS = "https://dl.fbaipublicfiles.com/LVIS"


@dataclass(frozen=True)
class Archive:
    """One file that its publisher offers.

    Attributes:
        name: Name of the file; a mirror holds it under this name.
        url: Official address; None where the publisher gives it only to who asks.
        size: Bytes; None where nobody says.
        checksum: ``md5:HEX`` or ``sha256:HEX``; None where nobody says.
        checksum_by: Who says it, since none of these publishers does.
        into: Folder below the root that it is unpacked into.
        gives: Path below the root -> files there (``.jpg`` of a folder; 1 for a file).
        ask_at: Where to ask for it, when ``url`` is None.
    """

    name: str
    url: str | None
    size: int | None
    checksum: str | None
    checksum_by: str
    into: str
    gives: dict[str, int]
    ask_at: str | None = None


def _coco(path: str, size: int, md5: str, gives: dict[str, int]) -> Archive:
    by = "PaddleDetection; not published by COCO"
    return Archive(path.rpartition("/")[2], f"{_COCO}/{path}", size, f"md5:{md5}", by, "coco", gives)


def _lvis(split: str, size: int, md5: str) -> Archive:
    name, by = f"lvis_v1_{split}.json", "Avalanche; not published by LVIS"
    return Archive(f"{name}.zip", f"{_LVIS}/{name}.zip", size, f"md5:{md5}", by, "lvis", {f"lvis/{name}": 1})


_LISTS = [f"{kind}_{split}2017" for kind in ("instances", "captions") for split in ("train", "val")]
_ANNOTATIONS2017 = _coco(
    "annotations/annotations_trainval2017.zip",
    252907541,
    "f4bbac642086de4f52a3fdda2de5fa2c",
    {f"coco/annotations/{name}.json": 1 for name in _LISTS},
)
_TRAIN2017 = _coco("zips/train2017.zip", 19336861798, "cced6f7f71b7629ddf16f17bbcfab6b2", {"coco/train2017": 118287})
_VAL2017 = _coco("zips/val2017.zip", 815585330, "442b8da7639aecaf257c1dceb8ba8c80", {"coco/val2017": 5000})
_LVIS_TRAIN = _lvis("train", 350264821, "4410d837f71203af226950447ef9d422")
_LVIS_VAL = _lvis("val", 64026968, "87734a7f895990b9552075d7ce723e27")
_KARPATHY = Archive(
    name="caption_datasets.zip",
    url="https://cs.stanford.edu/people/karpathy/deepimagesent/caption_datasets.zip",
    size=36745453,
    checksum="sha256:4cfd70132527b80933105e5829dc9034eaab9573482e2e680abbab6130244817",
    checksum_by="several projects that use it; not published by its author",
    into="flickr30k",
    gives={"flickr30k/dataset_flickr30k.json": 1},
)
_FLICKR_IMAGES = Archive(
    name="flickr30k-images.tar.gz",
    url=None,
    size=None,
    checksum=None,
    checksum_by="not published",
    into="flickr30k",
    gives={"flickr30k/flickr30k-images": 31783},
    ask_at="https://shannon.cs.illinois.edu/DenotationGraph",
)

SOURCES: dict[str, tuple[Archive, ...]] = {
    "coco2017": (_ANNOTATIONS2017, _VAL2017, _TRAIN2017),
    "lvis_v1": (_LVIS_VAL, _LVIS_TRAIN, _VAL2017, _TRAIN2017),
    "coco_captions": (_ANNOTATIONS2017, _TRAIN2017),
    "flickr30k": (_KARPATHY, _FLICKR_IMAGES),
}
"""Data set -> its archives, small ones first; the profiles of COCO and LVIS read them where they are unpacked."""

_COCO_TERMS = "annotations CC BY 4.0, pictures by Flickr's terms of use (https://cocodataset.org/#termsofuse)"
LICENCES = {
    "coco2017": _COCO_TERMS,
    "lvis_v1": f"annotations by the terms at https://www.lvisdataset.org; pictures of COCO: {_COCO_TERMS}",
    "coco_captions": _COCO_TERMS,
    "flickr30k": "the terms at https://shannon.cs.illinois.edu/DenotationGraph",
}
"""Data set -> what its publisher allows, in words."""


def public_set(path: str | Path) -> tuple[str, Path] | None:
    """Return the public data set that has a file or folder of this path's ending, and the root; None for any other."""
    parts = Path(path).parts
    for name, archives in SOURCES.items():
        for given in (Path(place).parts for archive in archives for place in archive.gives):
            if parts[-len(given) :] == given:
                return name, Path(*parts[: -len(given)])
    return None


def fetch_command(path: str | Path) -> str | None:
    """Return the command that would put a file or folder of a public data set there; None for any other place."""
    found = public_set(path)
    return f"regionclip data fetch {found[0]} --root {shlex.quote(found[1].as_posix())}" if found else None


def mend_missing(path: str | Path, otherwise: str) -> str:
    """Return how to mend that a file or folder is not there: the command that fetches it, where there is one."""
    command = fetch_command(path)
    return f"run `{command}`, or mend the path" if command else otherwise
