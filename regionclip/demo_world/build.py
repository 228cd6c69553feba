"""Builds the demo world: draws every picture, then writes the folders of data/ as their communities write them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol, TypeVar

import cv2
from rich.progress import Progress

from regionclip.artifacts import SETS, annotations
from regionclip.demo_world import coco_files, lvis_files, plans
from regionclip.demo_world.captions import scene_caption
from regionclip.demo_world.manifest import write_manifest
from regionclip.demo_world.pairs import PairTask, render_pair
from regionclip.demo_world.scenes import SceneRecord, SceneTask, render_scene
from regionclip.demo_world.seeding import generator
from regionclip.demo_world.shards import write_shards
from regionclip.demo_world.vocabulary import Kind
from regionclip.files import atomic_dir, write_json

Plan = list[tuple[Kind, ...]]
Task, Result = TypeVar("Task"), TypeVar("Result")

_FIRST_IDS = {"train": 1, "dev": 400_001, "val": 500_001}  # image ids, unique over the splits of a set


class WorldSpec(Protocol):
    """Sizes of the world; ``regionclip.params.data.DemoWorld`` is one."""

    pair_size: int
    scene_size: int
    pairs_train: int
    pairs_val: int
    scenes: int
    coco_train: int
    coco_dev: int
    coco_val: int
    lvis_train: int
    lvis_dev: int
    lvis_val: int
    objects_per_scene: tuple[int, int]
    object_size: tuple[int, int]
    distractors: tuple[int, int]
    jpeg_quality: int
    lvis_frequency_factor: float


@dataclass
class _Studio:
    """Draws pictures, in several processes where there are several."""

    spec: WorldSpec
    seed: int
    map: Callable[..., Iterator[Any]]
    progress: Progress
    left_out: int = 0  # objects that found no place in their scene

    def draw(self, name: str, render: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[Result]:
        """Yield the pictures of ``tasks`` in order."""
        yield from self.progress.track(self.map(render, tasks), total=len(tasks), description=name)

    def pairs(self, name: str, count: int) -> Iterator[Any]:
        """Yield the single-object pictures of set ``name``."""
        tasks = [PairTask(self.seed, name, i, self.spec.pair_size, self.spec.jpeg_quality) for i in range(count)]
        return self.draw(name, render_pair, tasks)

    def scenes(self, name: str, plan: Plan, folder: Path, first_id: int) -> list[SceneRecord]:
        """Draw the scenes of set ``name`` and write the pictures to ``folder``."""
        spec = self.spec
        look = (spec.scene_size, tuple(spec.object_size), tuple(spec.distractors), spec.jpeg_quality)
        tasks = [SceneTask(self.seed, name, i, kinds, *look) for i, kinds in enumerate(plan)]
        folder.mkdir(parents=True)
        records = []
        for image_id, record in enumerate(self.draw(name, render_scene, tasks), first_id):
            (folder / coco_files.file_name(image_id)).write_bytes(record.jpeg)
            record.jpeg = b""
            self.left_out += len(plan[len(records)]) - len(record.objects)
            records.append(record)
        return records


def build_demo_world(
    root: Path, spec: WorldSpec, seed: int, workers: int, sets: Mapping[str, str]
) -> dict[str, dict[str, int]]:
    """Write the demo world to ``root``: pairs/, scenes/, scenes_truth/ and sets/NAME/, each whole or not at all.

    Args:
        root: The folder ``data``.
        spec: Sizes of the world.
        seed: The same seed and sizes give the same bytes, with any number of workers.
        workers: Number of processes that draw.
        sets: Name -> format of its detection sets, ``coco`` or ``lvis``; each format has its own scenes.

    Returns:
        The counts of each manifest, by folder.
    """
    about = {"seed": seed} | {name: getattr(spec, name) for name in WorldSpec.__annotations__}
    with _mapper(workers) as mapper, Progress() as progress:
        parts = {"pairs": (root, _build_pairs), "scenes": (root, _build_scenes)}
        of_format = {"coco": _build_coco, "lvis": _build_lvis}
        parts |= {name: (root / SETS.name, of_format[form]) for name, form in sets.items()}
        counts = {}
        for name, (parent, build) in parts.items():
            with atomic_dir(parent / name) as folder:
                counts[name] = build(_Studio(spec, seed, mapper, progress), folder, root)
                write_manifest(folder, counts[name], about)
    return counts


@contextmanager
def _mapper(workers: int) -> Iterator[Callable[..., Iterator[Any]]]:
    threads = cv2.getNumThreads()
    if workers <= 1:
        cv2.setNumThreads(1)
        yield map
        cv2.setNumThreads(threads)
        return
    with get_context("spawn").Pool(workers, cv2.setNumThreads, (1,)) as pool:
        yield partial(pool.imap, chunksize=16)


def _build_pairs(studio: _Studio, folder: Path, _: Path) -> dict[str, int]:
    sizes = {"train": studio.spec.pairs_train, "val": studio.spec.pairs_val}
    return {split: write_shards(folder / split, studio.pairs(f"pairs/{split}", size)) for split, size in sizes.items()}


def _build_scenes(studio: _Studio, folder: Path, root: Path) -> dict[str, int]:
    spec = studio.spec
    plan = plans.even_plan(studio.seed, "scenes", spec.scenes, spec.objects_per_scene)
    records = studio.scenes("scenes", plan, folder / "images", 1)
    truth = coco_files.instances(1, spec.scene_size, records, with_colour=True)
    captions = _captions(studio.seed, records)
    head = {key: truth[key] for key in ("info", "licenses", "images")}
    write_json(folder / "captions.json", head | {"annotations": captions}, indent=None)
    write_json(root / "scenes_truth" / "instances.json", truth, indent=None)
    write_json(root / "scenes_truth" / "classes.json", coco_files.class_list())
    return {"images": len(records), "captions": len(captions), "objects_left_out": studio.left_out}


def _captions(seed: int, records: list[SceneRecord]) -> list[dict[str, Any]]:
    """Write two captions for each scene."""
    captions = []
    for index, record in enumerate(records):
        rng = generator(seed, "scenes/captions", index)
        for _ in range(2):
            text = scene_caption(rng, record.objects, record.ground)
            captions.append({"id": len(captions) + 1, "image_id": index + 1, "caption": text})
    return captions


def _build_coco(studio: _Studio, folder: Path, _: Path) -> dict[str, int]:
    spec, counts = studio.spec, {}
    for split, size in (("train", spec.coco_train), ("dev", spec.coco_dev), ("val", spec.coco_val)):
        plan = plans.even_plan(studio.seed, f"coco/{split}", size, spec.objects_per_scene)
        records = studio.scenes(f"coco/{split}", plan, folder / split, _FIRST_IDS[split])
        content = coco_files.instances(_FIRST_IDS[split], spec.scene_size, records)
        content = coco_files.base_only(content) if split == "train" else content
        counts |= _write_split(folder, split, content)
    write_json(folder / "classes.json", coco_files.class_list())
    return counts | {"objects_left_out": studio.left_out}


def _build_lvis(studio: _Studio, folder: Path, _: Path) -> dict[str, int]:
    spec, counts, categories = studio.spec, {}, []
    factor = spec.lvis_frequency_factor
    for split, size in (("train", spec.lvis_train), ("dev", spec.lvis_dev), ("val", spec.lvis_val)):
        common = (studio.seed, f"lvis/{split}", size, spec.objects_per_scene)
        plan = plans.long_tail_plan(*common, factor) if split == "train" else plans.flat_plan(*common)
        records = studio.scenes(f"lvis/{split}", plan, folder / split, _FIRST_IDS[split])
        content = lvis_files.instances(studio.seed, split, _FIRST_IDS[split], spec.scene_size, records, factor)
        categories = categories or lvis_files.categories(content, factor)
        content["categories"] = categories
        content = lvis_files.base_only(content) if split == "train" else content
        counts |= _write_split(folder, split, content)
    write_json(folder / "classes.json", lvis_files.class_list(categories))
    return counts | {"objects_left_out": studio.left_out}


def _write_split(folder: Path, split: str, content: dict[str, Any]) -> dict[str, int]:
    write_json(folder / annotations(split), content, indent=None)
    return {f"{split}_images": len(content["images"]), f"{split}_annotations": len(content["annotations"])}
