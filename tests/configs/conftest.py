"""A tiny world under the very paths that the experiment configs name, and configs cut down to it."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config, ConfigDict
from PIL import Image

from regionclip.models.assembly import CONFIGS
from regionclip.regions.store_writer import RegionStoreWriter
from regionclip.text.class_names import COCO_80, COCO_ALL65, COCO_BASE
from regionclip.text.text_bank import TextBank

TRAIN, VAL = (1, 2), (3, 4)
SIZE = (128, 96)  # width, height
BOXES = [[8, 8, 40, 40], [60, 20, 50, 60]]  # xywh
CONCEPTS = 12
WIDTHS = {"rn50": 1024, "rn50x4": 640}
STORES = (
    "coco_train", "coco_val", "coco80_train", "coco80_val", "lvis_train", "lvis_val", "lvis1203_train", "lvis1203_val",
    "zero_shot_coco_val", "zero_shot_lvis_val",
)  # fmt: skip


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four pictures with two boxes each in COCO's and LVIS's forms, proposals and text banks."""
    root = tmp_path_factory.mktemp("world")
    rng = np.random.default_rng(0)
    _write_pictures(root, rng)
    _write_coco(root)
    _write_lvis(root)
    for name in STORES:
        with RegionStoreWriter(root / "data/proposals" / name, {"made_by": "test"}) as writer:
            for image_id in TRAIN + VAL:
                writer.add(image_id, _random_boxes(rng), np.linspace(3, -1, 6, dtype=np.float32))
    lvis = Config.fromfile(CONFIGS / "_base_/datasets/lvis_classes.py").LVIS_ALL
    for model, width in WIDTHS.items():
        for name, names in (("coco65", COCO_ALL65), ("coco80", COCO_80), ("lvis1203", lvis)):
            _bank(root / f"data/text_banks/{name}_{model}.safetensors", names, width)
    return root


@pytest.fixture
def in_world(world: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in the tiny world, so that the paths of the configs are right."""
    monkeypatch.chdir(world)
    return world


@pytest.fixture
def experiment(in_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Config]]:
    """A function that reads a config and cuts it down: tiny pictures, few regions, one step, random weights."""
    # A run writes its config down four times, and laying out 1203 class names takes seconds.
    monkeypatch.setattr(Config, "pretty_text", "")
    random_state = torch.get_rng_state()
    torch.manual_seed(0)
    yield lambda name, shallow=False: _cut_down(Config.fromfile(CONFIGS / f"{name}.py"), tmp_path, shallow)
    torch.set_rng_state(random_state)


@pytest.fixture
def labelled(in_world: Path) -> Callable[[str], None]:
    """A function that writes the pseudo labels of a pretraining, by the name of its config."""
    return lambda name: _label(in_world / "artifacts", WIDTHS[name.split("_")[2]], str if "cc3m" in name else int)


def _cut_down(config: Config, work_dir: Path, shallow: bool) -> Config:
    config.work_dir = str(work_dir)
    config.log_level = "ERROR"
    config.default_hooks.checkpoint = None
    config.randomness = {"seed": 0}
    _drop_initial_weights(config.model)
    _for_each_dict(config, _shrink)
    if shallow:
        _for_each_dict(config.model, _flatten)
    for loader in (config.get(f"{part}_dataloader") for part in ("train", "val", "test")):
        if loader is not None:
            loader.update(batch_size=min(loader.batch_size, 2), num_workers=0, persistent_workers=False)
    if config.get("train_cfg"):
        config.train_cfg.max_iters = 1
        if "val_interval" in config.train_cfg:
            config.train_cfg.val_interval = 1
    return config


def _drop_initial_weights(model: ConfigDict) -> None:
    model.pop("init_cfg", None)
    if model.backbone.get("init_cfg"):
        model.backbone.init_cfg = None


def _shrink(part: ConfigDict) -> None:
    """Make pictures and numbers of regions small; nothing else of a config changes."""
    kind = part.get("type")
    if kind == "RandomChoiceResize":
        part.scales = [SIZE]
    elif kind in ("ResizeShortSide", "RandomResize"):
        part.scale = SIZE
    elif kind == "RandomCrop":
        part.crop_size = SIZE[::-1]
    elif kind == "ImageTextRegionDataset":
        part.update(scales=[SIZE[1]], max_size=SIZE[0], regions_per_image=3)
    elif kind == "RandomSampler" and "num" in part:
        part.num = 8
    if "max_per_img" in part:
        part.max_per_img = 10


def _flatten(part: ConfigDict) -> None:
    """One block a stage and one text layer; all widths stay."""
    if part.get("type") == "CLIPResNetC4":
        part.layers = [1, 1, 1]
    elif part.get("type") == "CLIPRes5":
        part.blocks = 1
    elif "text_cfg" in part:
        part.text_cfg.layers = 1


def _for_each_dict(part: Any, change: Callable[[ConfigDict], None]) -> None:
    if isinstance(part, (Config, dict)):
        change(part)
        part = list(part.values())
    if isinstance(part, (list, tuple)):
        for value in part:
            _for_each_dict(value, change)


def _write_pictures(root: Path, rng: np.random.Generator) -> None:
    encoded = {}
    for image_id in TRAIN + VAL:
        pixels = rng.integers(0, 256, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
        path = root / f"datasets/coco/{_folder(image_id)}/{image_id:012d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
        encoded[image_id] = path.read_bytes()
    shard = root / "datasets/cc3m/00000.tar"
    shard.parent.mkdir(parents=True)
    with tarfile.open(shard, "w") as tar:
        for image_id in TRAIN:
            for suffix, content in (("jpg", encoded[image_id]), ("txt", b"two things")):
                entry = tarfile.TarInfo(f"{image_id}.{suffix}")
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))


def _folder(image_id: int) -> str:
    return "train2017" if image_id in TRAIN else "val2017"


def _write_coco(root: Path) -> None:
    for name, images, classes in (
        ("data/coco/annotations/ov_coco_train_base48", TRAIN, COCO_BASE),
        ("data/coco/annotations/ov_coco_val_all65", VAL, COCO_ALL65),
        ("datasets/coco/annotations/instances_train2017", TRAIN, COCO_80),
        ("datasets/coco/annotations/instances_val2017", VAL, COCO_80),
    ):
        categories = [{"id": number, "name": name} for number, name in enumerate(COCO_80, 1) if name in classes]
        _write_annotations(root / f"{name}.json", images, categories)
    captions = [{"id": number, "image_id": number, "caption": "two things"} for number in TRAIN]
    _write(
        root / "datasets/coco/annotations/captions_train2017.json", {"images": _images(TRAIN), "annotations": captions}
    )


def _write_lvis(root: Path) -> None:
    from mmdet.datasets import LVISV1Dataset

    from regionclip.text.prompts import clean_lvis_name

    base = set(Config.fromfile(CONFIGS / "_base_/datasets/lvis_classes.py").LVIS_BASE)
    categories = [
        {"id": number, "name": name, "frequency": "c" if clean_lvis_name(name) in base else "r"}
        for number, name in enumerate(LVISV1Dataset.METAINFO["classes"], 1)
    ]
    for name, images, rare in (
        ("data/lvis/annotations/lvis_v1_train_base866", TRAIN, False),
        ("datasets/lvis/lvis_v1_train", TRAIN, True),
        ("datasets/lvis/lvis_v1_val", VAL, True),
    ):
        kept = [category for category in categories if rare or category["frequency"] != "r"]
        _write_annotations(root / f"{name}.json", images, kept, lvis=True)


def _write_annotations(path: Path, images: Sequence[int], categories: list[dict], lvis: bool = False) -> None:
    """Give each picture a box of the first and of the last class."""
    annotations = [
        {
            "image_id": image_id, "category_id": category["id"], "bbox": box, "area": box[2] * box[3], "iscrowd": 0,
            "segmentation": [_corners(*box)],
        }
        for image_id in images
        for box, category in zip(BOXES, (categories[0], categories[-1]), strict=True)
    ]  # fmt: skip
    for number, annotation in enumerate(annotations, 1):
        annotation["id"] = number
        if lvis:
            del annotation["iscrowd"]
    _write(path, {"images": _images(images, lvis), "annotations": annotations, "categories": categories})


def _images(image_ids: Sequence[int], lvis: bool = False) -> list[dict[str, Any]]:
    images = []
    for image_id in image_ids:
        name = f"{image_id:012d}.jpg"
        image = {"id": image_id, "width": SIZE[0], "height": SIZE[1], "file_name": name}
        if lvis:
            del image["file_name"]
            image["coco_url"] = f"http://images.cocodataset.org/{_folder(image_id)}/{name}"
            image |= {"neg_category_ids": [], "not_exhaustive_category_ids": []}
        images.append(image)
    return images


def _corners(x: float, y: float, width: float, height: float) -> list[float]:
    return [x, y, x + width, y, x + width, y + height, x, y + height]


def _write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def _random_boxes(rng: np.random.Generator) -> np.ndarray:
    """Six boxes, the first near a true one so that a step has a positive region."""
    start = rng.uniform(0, 60, (5, 2))
    boxes = np.concatenate([start, start + rng.uniform(16, 36, (5, 2))], axis=1)
    return np.concatenate([[[9, 9, 47, 47]], boxes]).astype(np.float32)


def _bank(path: Path, names: Sequence[str], width: int) -> TextBank:
    embeddings = torch.randn(len(names), width, generator=torch.Generator().manual_seed(len(names)))
    bank = TextBank(tuple(names), embeddings, ("{}.",), "test", "0" * 64)
    bank.save(path)
    return bank


def _label(root: Path, width: int, kind: type) -> None:
    """Write what the stages text_bank and pseudo_labels write: a concept bank, and labels that index it."""
    rng = np.random.default_rng(0)
    bank = _bank(root / "text_bank/concepts.safetensors", [f"concept {n}" for n in range(CONCEPTS)], width)
    with RegionStoreWriter(root / "pseudo_labels", {"bank_sha256": bank.sha256}, k=2) as writer:
        for image_id in TRAIN:
            index = np.stack([rng.permutation(CONCEPTS)[:2] for _ in range(6)])
            writer.add(kind(image_id), _random_boxes(rng), np.zeros(6), index, np.tile([0.7, 0.2], (6, 1)))
