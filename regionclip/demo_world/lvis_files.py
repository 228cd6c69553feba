"""The LVIS-format set of the demo world: 96 colour-shape classes, a long tail, federated annotations.

Follows the LVIS v1 format (https://www.lvisdataset.org/dataset): every image lists the classes whose absence was
verified and those whose annotation is not exhaustive; a class in neither list nor annotated is unknown there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from regionclip.demo_world.coco_files import INFO, LICENSES, annotation, file_name
from regionclip.demo_world.scenes import SceneRecord
from regionclip.demo_world.seeding import generator
from regionclip.demo_world.vocabulary import KINDS, Kind

Json = dict[str, Any]

# Ids from 1 in alphabetical order of names, as in LVIS.
CLASS_IDS: dict[Kind, int] = {kind: i for i, kind in enumerate(sorted(KINDS, key=lambda k: f"{k.colour}_{k.shape}"), 1)}

_NEGATIVES = 14  # verified absent classes of an image
_UNKNOWN = 0.05  # share of (image, class) pairs that nobody annotated
_NOT_EXHAUSTIVE = 0.3  # share of pairs with several objects of which one is left out
_RARE_MOST, _COMMON_MOST = 10, 100  # training images


def frequency(images: int, factor: float) -> str:
    """Return "r", "c" or "f" for a class with that many training images; ``factor`` scales LVIS's 10 and 100."""
    return "r" if images <= _RARE_MOST * factor else "c" if images <= _COMMON_MOST * factor else "f"


def instances(seed: int, split: str, first_id: int, side: int, records: Sequence[SceneRecord], factor: float) -> Json:
    """Return the annotations of a split of pictures ``side`` pixels wide and high, all classes, without ``categories``.

    Rare classes, by the thresholds of ``frequency`` with ``factor``, keep every annotation.
    """
    rng = generator(seed, f"lvis/{split}/annotators")
    spread = Counter(kind for record in records for kind in {item.kind for item in record.objects})
    images, annotations = [], []
    for image_id, record in enumerate(records, first_id):
        present = Counter(item.kind for item in record.objects)
        common = [kind for kind in present if spread[kind] > 2 * _RARE_MOST * factor]
        unknown = {kind for kind in common if rng.random() < _UNKNOWN}
        partial = {kind for kind in present if present[kind] > 1 and rng.random() < _NOT_EXHAUSTIVE} - unknown
        left_out = dict.fromkeys(partial, 1)
        for item in record.objects:
            if item.kind in unknown or left_out.pop(item.kind, 0):
                continue
            annotations.append(annotation(first_id + len(annotations), image_id, CLASS_IDS[item.kind], item))
        absent = [CLASS_IDS[kind] for kind in KINDS if kind not in present]
        images.append(
            {
                "id": image_id,
                "width": side,
                "height": side,
                "license": 1,
                "date_captured": "",
                "flickr_url": "",
                "coco_url": f"http://images.cocodataset.org/{split}/{file_name(image_id)}",
                "neg_category_ids": sorted(int(i) for i in rng.permutation(absent)[:_NEGATIVES]),
                "not_exhaustive_category_ids": sorted(CLASS_IDS[kind] for kind in partial),
            }
        )
    return {"info": INFO, "licenses": LICENSES, "images": images, "annotations": annotations, "categories": []}


def categories(train: Json, factor: float) -> list[Json]:
    """Return the 96 categories with their counts and frequency in the complete training annotations."""
    objects = Counter(entry["category_id"] for entry in train["annotations"])
    images = Counter(category for _, category in {(e["image_id"], e["category_id"]) for e in train["annotations"]})
    return [
        {
            "id": number,
            "name": f"{kind.colour}_{kind.shape}",
            "synonyms": [f"{kind.colour}_{kind.shape}"],
            "synset": f"{kind.shape}.n.01",
            "def": f"a {kind.shape} that is {kind.colour}",
            "image_count": images[number],
            "instance_count": objects[number],
            "frequency": frequency(images[number], factor),
        }
        for kind, number in CLASS_IDS.items()
    ]


def class_list(entries: list[Json]) -> Json:
    """Return the content of classes.json: novel means rare."""
    classes = [
        {
            "id": entry["id"],
            "name": entry["name"].replace("_", " "),
            "split": "novel" if entry["frequency"] == "r" else "base",
            "frequency": entry["frequency"],
        }
        for entry in entries
    ]
    return {"dataset": "lvis", "classes": classes}


def base_only(complete: Json) -> Json:
    """Return the training annotations: no rare object, nor a word that one is there; all 96 categories stay."""
    rare = {entry["id"] for entry in complete["categories"] if entry["frequency"] == "r"}
    annotations = [entry for entry in complete["annotations"] if entry["category_id"] not in rare]
    images = [
        image | {"not_exhaustive_category_ids": [i for i in image["not_exhaustive_category_ids"] if i not in rare]}
        for image in complete["images"]
    ]
    return complete | {"images": images, "annotations": annotations}
